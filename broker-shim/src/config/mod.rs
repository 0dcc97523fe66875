//! The settings of `tidewater serve`, from flags, environment, file and defaults.
//!
//! *Owns*: every setting's name, default and range; the order in which its
//! sources are asked; what settings may not stand beside each other.
//! *Does not own*: the command line's grammar (`cli`), what a setting does.
//!
//! Invariants
//! 1. A `ServeConfig` is whole and valid: nobody behind this module checks a
//!    setting again, and nothing was clamped.
//! 2. A refused value is named with the place it came from, what was found
//!    there and what is allowed.
//! 3. Reading the environment and the file is the caller's; this is pure.
//!
//! *IO: none*

mod address;
mod error;
mod file;
mod layers;
mod memory;
mod serve;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use address::HostPort;
pub(crate) use error::{ConfigError, Source};
pub(crate) use file::FileValues;
pub(crate) use layers::{Given, Layers, SETTINGS};
pub(crate) use memory::{MEMORY_DEFAULT, Memory};
pub(crate) use serve::{DEFAULT_DATA_DIR, LogFormat, ServeConfig, WalLocation};
