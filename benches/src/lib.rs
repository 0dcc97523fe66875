//! What the benches share: rows, raw limits, a clock, a target, a picture.
//!
//! *Owns*: the form of a measurement and where it is written; the raw I/O that measurements are
//! compared with.
//! *Does not own*: what is measured (`benches/`), and any judgement: no bench fails for being slow.
//!
//! Invariants
//! 1. A limit is measured in the same run, on the same file system, in turns with the thing itself.
//!
//! *IO: driver*

mod batch;
mod client;
mod copied;
mod env;
mod gets;
mod options;
mod page_cache;
mod park;
mod place;
mod plot;
mod precise;
mod quiet;
mod raw;
mod raw_bucket;
mod read;
mod record;
mod registered;
mod sample;
mod slow_bucket;
mod summary;
mod table;
mod target;

pub use batch::batch;
pub use client::{Client, Failure, Fetched, until_good};
pub use copied::Copied;
pub use env::BenchEnv;
pub use gets::{GetLog, Gets, replay_gets};
pub use options::Options;
pub use page_cache::forget_pages;
pub use park::block_on;
pub use place::{Place, rounds};
pub use plot::plot_appends;
pub use precise::Precise;
pub use quiet::Quiet;
pub use raw::{Batch, RawFile, RawRun, Sync, noise};
pub use raw_bucket::replay_creates;
pub use read::read_sequentially;
pub use record::{Observed, record};
pub use sample::{Cpu, Latencies, Rounds};
pub use slow_bucket::{Creates, SlowBucket};
pub use summary::Row;
pub use table::print;
pub use target::{Target, Whole};
