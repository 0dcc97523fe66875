//! The vocabulary every Tidewater crate shares.
//!
//! *Owns*: offsets, LSNs, identifiers, epochs, the error kinds a caller acts on,
//! the CRC-32C of every format, and the [`Env`] port through which all code
//! asks for time, sleep, tasks and randomness.
//! *Does not own*: any I/O, any format, any policy.
//!
//! Invariants
//! 1. Nothing in here blocks, allocates without bound or touches a clock.
//! 2. Newtypes do not convert into each other; arithmetic is checked.
//!
//! *IO: none*
#![doc = include_str!("../README.md")]

mod checksum;
mod env;
mod error_kind;
mod ids;
mod mutant;
mod offset;

pub use checksum::crc32c;
pub use env::{BoxFuture, Env, Instant};
pub use error_kind::ErrorKind;
pub use ids::{ClusterId, Epoch, Lsn, NodeId, ParseIdError, StreamId, WalId};
pub use mutant::{mutant_active, set_mutant, sometimes_hit};
#[cfg(feature = "mutants")]
pub use mutant::{sometimes_hits, sometimes_reset};
pub use offset::{Offset, OffsetRange};
