//! Everything that is on its way: when it arrives, and what becomes of it.
//!
//! *Owns*: the directions of all connections, partitions, hosts without power, latencies, faults.
//! *Does not own*: who listens where (net.rs), how bytes are read and written (stream.rs).
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::pipe::{Host, Pipe, PipeId, Segment};
use crate::exec::Handle;
use crate::rng::Rng;
use crate::trace::Event;

/// The longest that a transport tries to send a segment again.
const STALL_NS_MAX: u64 = 5_000_000_000;

/// What the network does, rates in so many of 1,000 writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetFaults {
    /// Mean time of one way in nanoseconds.
    pub way_ns: u64,
    /// The connection is reset; what is on its way is lost.
    pub reset: u32,
    /// What was written is lost and sent again much later, by the transport itself: long after the
    /// client has given up and gone on over another connection.
    pub stall: u32,
    /// A write takes only some of the bytes, a read gives only some.
    pub partial: u32,
    /// Bytes of one direction that may be on their way or unread.
    pub window_bytes: usize,
}

impl Default for NetFaults {
    fn default() -> Self {
        Self {
            way_ns: 50_000,
            reset: 0,
            stall: 0,
            partial: 0,
            window_bytes: 64 << 10,
        }
    }
}

/// What is on its way; clones name the same.
#[derive(Clone)]
pub(super) struct Wires {
    pub(super) handle: Handle,
    pub(super) state: Arc<Mutex<State>>,
}

pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) faults: NetFaults,
    pub(super) blocked: BTreeSet<(Host, Host)>,
    /// Hosts without power: nothing there answers.
    pub(super) dark: BTreeSet<Host>,
    pub(super) pipes: BTreeMap<PipeId, Pipe>,
    pub(super) num_connections: u64,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

impl Wires {
    pub(super) fn new(handle: Handle, seed: u64, faults: NetFaults) -> Self {
        let state = State {
            rng: Rng::new(seed, "network"),
            faults,
            blocked: BTreeSet::new(),
            dark: BTreeSet::new(),
            pipes: BTreeMap::new(),
            num_connections: 0,
            counts: BTreeMap::new(),
        };
        Self {
            handle,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The time of one way.
    pub(super) fn way(&self) -> Duration {
        let mut state = self.state.lock();
        let mean = state.faults.way_ns;
        Duration::from_nanos(state.rng.latency(mean))
    }

    /// Takes `segment` in for delivery.
    pub(super) fn send(&self, id: PipeId, segment: Segment) {
        let mut state = self.state.lock();
        let mean = state.faults.way_ns;
        let mut way = state.rng.latency(mean);
        let rate = state.faults.stall;
        if state.rng.chance(rate) {
            way += state.rng.between(10_000_000, STALL_NS_MAX);
            state.count("net_stall");
        }
        let now_ns = self.handle.now().0;
        let Some(pipe) = state.pipes.get_mut(&id) else {
            return;
        };
        pipe.wire.push_back(segment);
        pipe.due_ns = pipe.due_ns.max(now_ns.saturating_add(way));
        let wait = Duration::from_nanos(pipe.due_ns - now_ns);
        drop(state);
        self.pump_after(id, wait);
    }

    pub(super) fn pump_after(&self, id: PipeId, wait: Duration) {
        let net = self.clone();
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.handle.call_after(wait_ns, move || net.pump(id));
    }

    /// The next segment arrives, unless a partition holds it.
    fn pump(&self, id: PipeId) {
        let mut state = self.state.lock();
        let Some(pipe) = state.pipes.get(&id) else {
            return;
        };
        let (from, to) = (pipe.from, pipe.to);
        let (deaf, lost) = (pipe.reader_gone, pipe.lost);
        let (blocked, dark) = (state.is_blocked(from, to), state.is_dark(to));
        let pipe = state.pipes.get_mut(&id).expect("it was there");
        if blocked {
            pipe.stalled += 1;
            return;
        }
        let Some(segment) = pipe.wire.pop_front() else {
            return;
        };
        let len = segment.len();
        let answer = deaf && !dark && !lost && len > 0;
        if !deaf {
            pipe.arrive(segment);
        }
        drop(state);
        self.handle
            .note(Event::Net, id.connection << 1 | u64::from(id.inward), len);
        if answer {
            // Nobody holds this connection any more: the answer is a reset.
            self.break_both(id);
        }
    }

    pub(super) fn break_both(&self, id: PipeId) {
        self.handle
            .line(|| format!("net   {} reset", id.connection));
        let mut state = self.state.lock();
        state.count("net_reset");
        for id in [id, id.back()] {
            if let Some(pipe) = state.pipes.get_mut(&id) {
                pipe.break_off();
            }
        }
    }

    /// Frees a connection that nobody holds any more.
    pub(super) fn release(&self, id: PipeId) {
        let mut state = self.state.lock();
        let gone = |id| {
            state
                .pipes
                .get(&id)
                .is_none_or(|pipe| pipe.reader_gone && pipe.writer_gone && pipe.wire.is_empty())
        };
        if gone(id) && gone(id.back()) {
            state.pipes.remove(&id);
            state.pipes.remove(&id.back());
        }
    }
}

impl State {
    pub(super) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(super) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn is_dark(&self, host: Host) -> bool {
        self.dark.contains(&host)
    }

    /// How much of `len` bytes is taken at once: all, or by a fault only some.
    pub(super) fn some_of(&mut self, len: usize) -> usize {
        let rate = self.faults.partial;
        if len > 1 && self.rng.chance(rate) {
            *self.counts.entry("net_partial").or_default() += 1;
            1 + self.rng.index(len.min(64) - 1)
        } else {
            len
        }
    }
}
