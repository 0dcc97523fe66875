//! Durable streams on a write-ahead log and a bucket.
//!
//! *Owns*: the order of appends, the moment of acknowledgement, reads across tail and objects,
//! recovery.
//! *Does not own*: the WAL, the objects, the metadata log; what a payload means.
//!
//! Invariants (docs/watermarks.md)
//! 1. trimmed ≤ uploaded ≤ durable ≤ submitted ≤ accepted.
//! 2. visible ≤ durable: nothing that a crash could take back is served or acknowledged.
//!
//! *IO: driver* (driver.rs alone)
#![doc = include_str!("../README.md")]

mod chunks;
mod config;
mod cost;
mod driver;
mod error;
mod format;
mod fsck;
mod open;
mod opener;
mod owner;
mod queue;
mod release;
mod retention;
mod shared;
mod store;
mod stream;
mod tail;
mod uplink;

pub use config::StoreConfig;
pub use driver::{DeviceWalOpener, TokioEnv};
pub use error::StoreError;
pub use format::frame::FrameHead;
pub use fsck::{Fsck, FsckFinding, FsckReport};
pub use opener::{
    FrameSink, MemoryWalOpener, ObjectWalOpener, OpenedWal, WalExpectation, WalOpener,
};
pub use shared::StateSource;
pub use store::{StoreCounters, StreamStore};
pub use stream::{AppendRequest, Appended, Fetched, ReadSource, Reservation, Stream};
// What a caller of the store needs of the crates below, so that it links only this one.
pub use tidewater_bucket as bucket;
pub use tidewater_s3stream::{
    CacheDisk, Entry, MetaError, MetaOp, Metadata, StateSnapshot, TierConfig, keyed,
};
pub use tidewater_wal::inspect as wal_inspect;
#[cfg(target_os = "linux")]
pub use tidewater_wal::{Calibration, calibrate, calibrate_device};
pub use tidewater_wal::{DeviceWalConfig, ObjectWalConfig, WalError, WalMode};
