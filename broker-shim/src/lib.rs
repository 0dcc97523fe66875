//! Placeholder
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod records;
#[allow(dead_code, unused_imports, reason = "wired by the API layer later")]
pub(crate) mod producer;
#[cfg(test)]
mod testvectors;
