//! Idempotent producers: which batch is new, which was here already, which may not come.
//!
//! *Owns*: the state of every producer that wrote to one partition, its snapshot as
//! of any offset, and the blocks of producer ids.
//! *Does not own*: appending, durability, transactions (their coordinator keeps them).
//!
//! Invariants
//! 1. A batch enters the window when it is appended, before it is durable. Whoever
//!    answers a duplicate waits until the original is durable: a duplicate
//!    acknowledged for a batch that a crash takes back is a lost record.
//! 2. The state as of an offset depends on the appends below it alone.
//!
//! *IO: none*

mod ids;
mod ledger;
mod snapshot;
mod state;

pub(crate) use ids::{IdBlock, IdRefill, ProducerIds};
pub(crate) use ledger::ProducerLedger;
pub(crate) use state::{Decision, ProducerLimits};
