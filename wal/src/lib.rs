//! A write-ahead log: opaque frames in, durable LSNs out.
//!
//! *Owns*: the [`Wal`] port and its kinds; the [`Disk`] port below them.
//! *Does not own*: what is in a frame, and when it is no longer needed.
//!
//! Invariants
//! 1. An acknowledged frame survives a power failure, or the WAL says loudly why not.
//!
//! *Format: docs/formats/wal.md, docs/formats/object-wal.md* · *IO: driver*
#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests"))]

mod acks;
mod buffer;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod core;
mod device;
mod disk;
mod driver;
mod engine;
mod error;
mod format;
mod index;
mod inlet;
pub mod inspect;
mod io;
mod memory;
mod object;
mod opening;
mod port;
mod race;
mod recovery;
mod ring;
mod room;
mod shared;
mod slots;
mod sync;
#[cfg(test)]
mod testing;

pub use acks::{Acks, Append};
pub use buffer::AlignedBuf;
pub use config::{ConfigError, DeviceWalConfig, Identity, OpenMode, WalMode};
pub use device::DeviceWal;
pub use disk::{Completion, Disk, DiskOp};
#[cfg(target_os = "linux")]
pub use driver::{Calibration, Sample, calibrate, calibrate_device, claim_device};
pub use driver::{peek_identity, set_aside};
pub use error::{Resource, WalError};
pub use memory::MemoryWal;
pub use object::{ObjectWal, ObjectWalConfig, TakeoverReport};
pub use port::{FRAME_HEAD_BYTES_MAX, Frame, Wal, WalCounters, Watermarks};
pub use recovery::RecoveryReport;
pub use room::{Permit, Reserve, Room};
