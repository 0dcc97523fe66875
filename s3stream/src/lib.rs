//! Streams in an object store.
//!
//! *Owns*: data objects and their formats, the metadata log, uploads, reads with
//! a memory cache, late deletion, fsck.
//! *Does not own*: the write-ahead log (it comes in through the [`Tail`] port),
//! attempts on the object store (the `Bucket` port), order and acknowledgements.
//!
//! Invariants
//! 1. Data object first: an offset exists in the metadata only once the object
//!    that holds it was confirmed.
//! 2. Object keys are never used twice; objects are immutable.
//! 3. Every byte that is handed out was checked against a checksum that hangs on
//!    the metadata.
//! 4. Nothing is requested while nothing is to be done.
//!
//! *IO: none* (requests go through the bucket port)
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")
)]

mod backoff;
mod compact;
mod config;
mod counters;
mod entry;
mod error;
mod format;
mod fsck;
mod gc;
pub mod keyed;
mod meta;
#[cfg(all(test, feature = "mutants"))]
mod mutants;
mod object_id;
mod pace;
mod read;
mod reader;
mod tail;
#[cfg(test)]
mod testing;
mod tier;
mod upload;
#[cfg(test)]
mod vectors;

pub use config::{MetaConfig, TierConfig, UploadConfig};
pub use counters::TierCounters;
pub use entry::{CommitReport, Entry, StateSnapshot};
pub use error::{MetaError, Rejection, TierError};
pub use fsck::{Finding, FindingKind, FsckOptions, FsckProgress, FsckReport, Severity, fsck};
pub use meta::log::Metadata;
pub use meta::op::{MetaOp, NewObject, NewRange};
pub use meta::state::MetaState;
pub use meta::watch::Watch;
pub use meta::watched::Watched;
pub use object_id::{ObjectId, ObjectKind};
pub use read::disk::driver::file::CacheFile;
#[cfg(all(feature = "uring", target_os = "linux"))]
pub use read::disk::driver::uring::UringCacheFile;
pub use read::disk::port::CacheDisk;
pub use read::fetch::Fetched;
pub use tail::{Pending, SealedBatch, SealedRange, Tail};
pub use tier::Tier;
pub use upload::uploader::Uploader;
