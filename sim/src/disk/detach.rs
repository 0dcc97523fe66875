//! A volume that is detached and attached elsewhere while the process that used it lives on.
//!
//! *Owns*: what such a process sees of its disk, errors alone, and what it left under way.
//! *Does not own*: the device and its next user.
//!
//! Invariants
//! 1. Nothing that a detached user submits reaches the device; with late landing, what it had
//!    submitted may do so when the next user is at work.
//! 2. Every operation of a detached user ends, with an error.
//!
//! *IO: none*

use tidewater_wal::AlignedBuf;

use super::device::Device;
use super::faults::{CrashStyle, Fault};
use super::ops::{Detached, Op, Pending, State, Stray, failed};
use super::state::Write;

impl Device {
    /// The volume goes elsewhere: what no flush covers lands as `style` says, the process that has
    /// it open lives on and hears errors, and the device is free for the next one.
    ///
    /// Whether anybody had it open.
    pub fn detach(&self, style: CrashStyle) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.open {
            return false;
        }
        state.count(Fault::Detached);
        state.late_landing = state.rng.chance(state.faults.late_landing);
        let strays = state.stray_writes();
        state.crash(style);
        let pending = std::mem::take(&mut state.pending).into_values();
        let mut completions = std::mem::take(&mut state.completions);
        completions.extend(pending.map(|pending| {
            let buf = match pending.op {
                Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                Op::Flush { .. } => None,
            };
            failed(pending.id, buf)
        }));
        let waker = state.waker.take();
        let num_bytes = state.layers.cache.num_bytes();
        let detached = Detached {
            completions,
            waker: None,
            num_bytes,
        };
        let session = state.session;
        state.detached.insert(session, detached);
        state.open = false;
        drop(guard);
        self.land_late(strays);
        self.tell(|| format!("disk  detached {style:?}"));
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl State {
    /// Some of the writes under way, which the detachment does not stop; their users hear nothing of
    /// them but the error that all hear.
    fn stray_writes(&mut self) -> Vec<Stray> {
        let mut strays = Vec::new();
        if !self.late_landing {
            return strays;
        }
        for pending in self.pending.values() {
            let Op::Write { number, buf, .. } = &pending.op else {
                continue;
            };
            if !self.rng.chance(500) {
                continue;
            }
            self.layers.transfer(*number, buf.as_slice(), || true);
            if let Some(write) = self.layers.writes.remove(number) {
                let mut copy = AlignedBuf::new(buf.capacity(), self.shape.block_bytes);
                copy.extend_from_slice(&write.data);
                let op = Op::Write {
                    number: 0,
                    buf: copy,
                    durable: false,
                };
                strays.push((write, Pending { op, ..*pending }));
            }
        }
        strays
    }

    /// Puts a stray write back; the number of its operation.
    pub(super) fn take_back(&mut self, write: Write, mut pending: Pending) -> (u64, Pending) {
        if let Op::Write { number, .. } = &mut pending.op {
            *number = self.layers.submit(write.position, &write.data);
        }
        let number = self.next_pending;
        self.next_pending += 1;
        (number, pending)
    }
}
