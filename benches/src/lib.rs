//! What the benches share: rows, raw limits, a clock.
//!
//! *Owns*: the form of a measurement and where it is written; the raw I/O that measurements are
//! compared with.
//! *Does not own*: what is measured (`benches/`), and any judgement: no bench fails for being slow.
//!
//! Invariants
//! 1. A limit is measured in the same run, on the same file system, in turns with the thing itself.
//!
//! *IO: driver*

mod env;
mod place;
mod quiet;
mod raw;
mod sample;
mod summary;
mod table;

pub use env::BenchEnv;
pub use place::{Place, rounds};
pub use quiet::Quiet;
pub use raw::{Batch, RawFile, RawRun, read_sequentially};
pub use sample::{Cpu, Latencies, Rounds};
pub use summary::Row;
pub use table::print;
