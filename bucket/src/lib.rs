//! One attempt on an object store.
//!
//! *Owns*: the [`Bucket`] port, its adapters (S3, local directory, memory), the
//! bucket URL, the counters of requests and bytes, and the conformance suite that
//! every implementation runs.
//! *Does not own*: retries, hedging and read-back (they live above, where the
//! simulator sees each attempt), and what the objects hold.
//!
//! Invariants
//! 1. One call of the port is at most one request to the store.
//! 2. No adapter replaces an object.
//! 3. Secrets appear in no message and in no `Debug` output.
//!
//! *IO: none here; the adapters are drivers*
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")
)]

mod config;
pub mod conformance;
mod error;
mod file;
mod key;
mod local;
mod memory;
mod metered;
mod object_store;
mod open;
mod parts;
mod port;
mod probe;
mod schedule;
mod url;

pub use config::BucketOptions;
pub use error::{OpenError, ParseUrlError};
pub use file::read_at;
pub use key::{KEY_BYTES_MAX, KeyProblem, check_key, check_prefix};
pub use local::{DirectoryState, LocalBucket};
pub use memory::MemoryBucket;
pub use metered::{Counter, Metered};
pub use object_store::S3Bucket;
pub use open::open;
pub use port::{
    Bucket, BucketError, ListEntry, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
pub use probe::{ProbeError, probe};
pub use schedule::behind_others;
pub use url::BucketUrl;
