//! Placeholder
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests"))]
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod records;
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod producer;
#[cfg(test)]
mod testvectors;
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod config;
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod exit;
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod net;
