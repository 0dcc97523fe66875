//! The simulated network: hosts, addresses, connections that are slow, cut or silent.
//!
//! *Owns*: who listens where, partitions, the fate of each connection, latencies.
//! *Does not own*: what is said on a connection; when a host dies (the scenario says so).
//!
//! Invariants
//! 1. A direction of a connection delivers its bytes in order, each once, up to where it breaks.
//! 2. A process that is killed closes its connections; one whose power fails says nothing, and its
//!    peers learn of it only when they send and it is up again.
//! 3. A partition delays what is on its way, in the directions it blocks, until it heals.
//! 4. A new listener takes an address over; what an older one accepted stays the older one's.
//!
//! *IO: none*

mod pipe;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidewater_broker::Listener;
use tokio::sync::mpsc;

use crate::exec::{Handle, Tag};
use crate::rng::Rng;
use crate::trace::Event;
use pipe::{Pipe, Segment};
pub use stream::{SimRead, SimWrite};

/// How long a connection attempt is tried before it is given up.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest that a transport tries to send a segment again.
const STALL_NS_MAX: u64 = 5_000_000_000;

/// A machine with an address: partitions stand between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

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

/// The network; clones name the same one.
#[derive(Clone)]
pub struct SimNet {
    handle: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    faults: NetFaults,
    listeners: BTreeMap<SocketAddr, Listening>,
    num_listened: u64,
    blocked: BTreeSet<(Host, Host)>,
    /// Hosts without power: nothing there answers.
    dark: BTreeSet<Host>,
    pipes: BTreeMap<PipeId, Pipe>,
    num_connections: u64,
    counts: BTreeMap<&'static str, u64>,
}

struct Listening {
    number: u64,
    host: Host,
    life: Tag,
    queue: mpsc::UnboundedSender<Incoming>,
}

type Incoming = (SimRead, SimWrite, SocketAddr);

/// One direction of a connection: its number, and whether it leads to who listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PipeId {
    connection: u64,
    inward: bool,
}

impl PipeId {
    fn back(self) -> Self {
        Self {
            inward: !self.inward,
            ..self
        }
    }
}

/// A connection as the one who opened it sees it.
pub struct Connected {
    /// What the other side sends.
    pub input: SimRead,
    /// What the other side is sent.
    pub output: SimWrite,
    /// The life of the node that answers.
    pub life: Tag,
}

impl SimNet {
    /// A network whose latencies and faults follow from `seed`.
    #[must_use]
    pub fn new(handle: Handle, seed: u64, faults: NetFaults) -> Self {
        let state = State {
            rng: Rng::new(seed, "network"),
            faults,
            listeners: BTreeMap::new(),
            num_listened: 0,
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

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: NetFaults) {
        self.state.lock().faults = faults;
    }

    /// How often each fault struck.
    #[must_use]
    pub fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        let state = self.state.lock();
        state.counts.iter().map(|(name, n)| (*name, *n)).collect()
    }

    /// The process `life` on `host` listens at `address` from now on; the host has power.
    #[must_use]
    pub fn listen(&self, host: Host, life: Tag, address: SocketAddr) -> SimListener {
        let (queue, incoming) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        state.num_listened += 1;
        let number = state.num_listened;
        state.dark.remove(&host);
        let listening = Listening {
            number,
            host,
            life,
            queue,
        };
        let replaced = state.listeners.insert(address, listening);
        drop(state);
        drop(replaced);
        SimListener {
            net: self.clone(),
            address,
            number,
            incoming,
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody listens there, or nothing answers.
    pub async fn connect(&self, from: Host, to: SocketAddr) -> io::Result<Connected> {
        let deadline = self.handle.now().after(CONNECT_TIME_MAX);
        loop {
            self.handle.sleep(self.way()).await;
            match self.try_connect(from, to) {
                Ok(Some(connected)) => {
                    self.handle.sleep(self.way()).await;
                    return Ok(connected);
                }
                // A SYN is lost and sent again.
                Ok(None) => self.handle.sleep(Duration::from_millis(200)).await,
                Err(error) => return Err(error),
            }
            if self.handle.now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn way(&self) -> Duration {
        let mut state = self.state.lock();
        let mean = state.faults.way_ns;
        Duration::from_nanos(state.rng.latency(mean))
    }

    /// `None` if nothing comes back.
    fn try_connect(&self, from: Host, to: SocketAddr) -> io::Result<Option<Connected>> {
        let mut state = self.state.lock();
        let listening = state
            .listeners
            .get(&to)
            .map(|found| (found.host, found.life, found.queue.clone()));
        let Some((host, life, queue)) = listening else {
            // The address belongs to one host alone in this model.
            if !state.dark.is_empty() {
                return Ok(None);
            }
            state.count("net_refused");
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        if state.is_blocked(from, host) || state.is_blocked(host, from) || state.is_dark(host) {
            return Ok(None);
        }
        state.num_connections += 1;
        let connection = state.num_connections;
        let inward = PipeId {
            connection,
            inward: true,
        };
        let outward = inward.back();
        state.pipes.insert(inward, Pipe::new(from, host, life));
        state.pipes.insert(outward, Pipe::new(host, from, life));
        drop(state);
        self.handle.note(Event::Net, connection, 0);
        self.handle
            .line(|| format!("net   {connection} from={} life={}", from.0, life.0));
        let theirs = (self.reader(inward), self.writer(outward));
        let peer = SocketAddr::from(([10, 1, 0, 0], u16::try_from(from.0).unwrap_or(0)));
        if queue.send((theirs.0, theirs.1, peer)).is_err() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Some(Connected {
            input: self.reader(outward),
            output: self.writer(inward),
            life,
        }))
    }

    fn reader(&self, id: PipeId) -> SimRead {
        SimRead {
            net: self.clone(),
            id,
        }
    }

    fn writer(&self, id: PipeId) -> SimWrite {
        SimWrite {
            net: self.clone(),
            id,
            ended: false,
        }
    }

    /// Nothing gets from `from` to `to` until the network heals.
    pub fn block(&self, from: Host, to: Host) {
        let mut state = self.state.lock();
        state.count("net_partition");
        self.handle
            .line(|| format!("net   nothing gets from={} to={}", from.0, to.0));
        state.blocked.insert((from, to));
    }

    /// All partitions end; what was held back goes on.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.blocked.clear();
        let stalled: Vec<(PipeId, u32)> = state
            .pipes
            .iter_mut()
            .filter(|(_, pipe)| pipe.stalled > 0)
            .map(|(id, pipe)| (*id, std::mem::take(&mut pipe.stalled)))
            .collect();
        drop(state);
        for (id, count) in stalled {
            for _ in 0..count {
                self.pump_after(id, self.way());
            }
        }
    }

    /// The power of `host` fails while `life` runs there: its connections are silent from now on.
    pub fn power_loss(&self, host: Host, life: Tag) {
        let mut state = self.state.lock();
        state.count("net_half_open");
        state.dark.insert(host);
        state.listeners.retain(|_, found| found.life != life);
        for pipe in state.pipes.values_mut() {
            if pipe.life == life {
                pipe.forget(host);
            }
        }
    }

    /// The connection of `output` vanishes without a word, as if its host had lost its power.
    pub fn vanish(&self, output: &SimWrite) {
        let mut state = self.state.lock();
        state.count("net_client_vanished");
        let host = state.pipes.get(&output.id).map(|pipe| pipe.from);
        for id in [output.id, output.id.back()] {
            if let (Some(host), Some(pipe)) = (host, state.pipes.get_mut(&id)) {
                pipe.forget(host);
                pipe.lost = true;
            }
        }
    }

    /// Takes `segment` in for delivery.
    fn send(&self, id: PipeId, segment: Segment) {
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

    fn pump_after(&self, id: PipeId, wait: Duration) {
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

    fn break_both(&self, id: PipeId) {
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
    fn release(&self, id: PipeId) {
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
    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains(&(from, to))
    }

    fn is_dark(&self, host: Host) -> bool {
        self.dark.contains(&host)
    }
}

/// The listener of one life of a node.
pub struct SimListener {
    net: SimNet,
    address: SocketAddr,
    number: u64,
    incoming: mpsc::UnboundedReceiver<Incoming>,
}

impl Listener for SimListener {
    type Input = SimRead;
    type Output = SimWrite;

    async fn accept(&mut self) -> io::Result<Incoming> {
        match self.incoming.recv().await {
            Some(next) => Ok(next),
            // Another life has taken the address.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = self.net.state.lock();
        let is_ours = |found: &Listening| found.number == self.number;
        if state.listeners.get(&self.address).is_some_and(is_ours) {
            state.listeners.remove(&self.address);
        }
    }
}
