//! A volume that is detached and attached elsewhere while the process that used it lives on.
//!
//! *Owns*: what such a process sees of its disk: errors alone.
//! *Does not own*: the device and its next user.
//!
//! Invariants
//! 1. Nothing that a detached user submits reaches the device.
//! 2. Every operation of a detached user ends, with an error.
//!
//! *IO: none*

use super::device::Device;
use super::faults::{CrashStyle, Fault};
use super::ops::{Detached, Op, failed};

impl Device {
    /// The volume goes elsewhere: what no flush covers lands as `style` says, the process that has
    /// it open lives on and hears errors, and the device is free for the next one.
    ///
    /// Whether anybody had it open.
    pub fn detach(&self, style: CrashStyle) -> bool {
        let mut state = self.lock();
        if !state.open {
            return false;
        }
        state.count(Fault::Detached);
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
        drop(state);
        self.tell(|| format!("disk  detached {style:?}"));
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}
