//! What every kind of write-ahead log must do, as checks that panic.
//!
//! *Owns*: the suite. Every kind in this crate runs it, on every device mode and on the
//! simulator's disk; a [`Wal`] of one's own runs it too (`examples/custom_wal.rs`).
//! *Does not own*: faults and power failures; run it on storage that is well.
//!
//! Invariants
//! 1. No check measures time: what takes long on a slow device passes on it.
//! 2. It needs no runtime: waiting and tasks are the environment's that the kind is given.
//!
//! *IO: none*

mod acks;
mod ends;
mod frames;
mod kind;
mod pressure;
mod support;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::sync::Arc;

use tidewater_types::Env;

use kind::Logs;

pub use kind::{Kind, Reopened};
#[cfg(test)]
pub(crate) use support::frame_bytes;

/// Runs all checks on logs that `kind` makes; `env` waits and runs tasks.
///
/// # Panics
/// When the kind does not conform; the message says how.
pub async fn run(kind: &dyn Kind, env: Arc<dyn Env>) {
    let logs = &Logs::new(kind, env);
    frames::what_goes_in_comes_out(logs).await;
    frames::lsns_count_frames_and_a_constant(logs).await;
    frames::the_largest_frame_fits_and_one_byte_more_does_not(logs).await;
    frames::only_frames_are_read(logs).await;
    frames::trims_only_rise(logs).await;
    acks::futures_complete_in_lsn_order(logs).await;
    acks::a_dropped_future_takes_nothing_back(logs).await;
    acks::appenders_side_by_side_see_the_chain(logs).await;
    acks::counters_count(logs).await;
    pressure::room_is_waited_for_and_given_back(logs).await;
    pressure::a_full_log_goes_on_after_a_trim(logs).await;
    ends::closing_makes_durable_and_refuses(logs).await;
    ends::two_logs_do_not_meet(logs).await;
    ends::a_restart_finds_what_was_acknowledged(logs).await;
}
