//! What the engine tells of a device in trouble.
//!
//! *Owns*: the counts of operations that failed, were slow or short; what frames wait for.
//! *Does not own*: what follows from it (`core.rs`, `plan.rs`).
//!
//! Invariants
//! 1. Every operation is counted when it ends, also after the log was poisoned.
//!
//! *IO: none*

use std::io;

use tidewater_types::{Instant, sometimes};

use super::{Core, Flight, Purpose, is_no_space};
use crate::error::Resource;

impl Core {
    /// What frames wait for, if not for the device alone: space, or a trim. A segment that is on
    /// its way is waited for, however slow the device is.
    pub(crate) fn blocked(&self) -> Option<Resource> {
        let waits = self.ring_full || (!self.pending.is_empty() && !self.ring.is_ready());
        if self.no_space || (waits && self.growth_refused) {
            return Some(Resource::Disk);
        }
        let comes =
            self.zeroing.is_some() || self.slots.is_busy() || self.ring.wants_growth(1).is_some();
        (waits && !comes).then_some(Resource::Ring)
    }

    /// Counts the end of an operation, whatever follows from it; answers whether it was slow.
    pub(super) fn count(
        &mut self,
        now: Instant,
        flight: &Flight,
        result: &Result<usize, io::Error>,
    ) -> bool {
        let counters = &mut self.counters;
        let is_slow = now.since(flight.begun) >= self.tuning.slow_op;
        if is_slow {
            sometimes!("wal: a slow operation ended");
            counters.slow_ops += 1;
        }
        match result {
            Ok(_) if flight.purpose == Purpose::Flush => {}
            Ok(num_bytes) => counters.short_writes += u64::from(*num_bytes < flight.num_bytes),
            Err(_) if flight.purpose == Purpose::Flush => counters.sync_errors += 1,
            Err(cause) if is_no_space(cause) => counters.no_space += 1,
            Err(_) => counters.write_errors += 1,
        }
        is_slow
    }
}
