//! The simulated network: hosts, addresses, connections that are slow, cut or silent.
//!
//! *Owns*: who listens where, how connections come to be, when hosts are parted and fail.
//! *Does not own*: what is on its way (wires.rs); when a host dies (the scenario says so).
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
mod wires;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_broker::Listener;
use tokio::sync::mpsc;

use crate::exec::{Handle, Tag};
use crate::trace::Event;
pub use pipe::Host;
use pipe::{Pipe, PipeId};
pub use stream::{SimRead, SimWrite};
pub use wires::NetFaults;
use wires::Wires;

/// How long a connection attempt is tried before it is given up.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The network; clones name the same one.
#[derive(Clone)]
pub struct SimNet {
    handle: Handle,
    wires: Wires,
    listeners: Arc<Mutex<Listeners>>,
}

#[derive(Default)]
struct Listeners {
    at: BTreeMap<SocketAddr, Listening>,
    /// The host that each address was last at.
    hosts: BTreeMap<SocketAddr, Host>,
    /// How many there ever were.
    count: u64,
}

struct Listening {
    number: u64,
    host: Host,
    life: Tag,
    queue: mpsc::UnboundedSender<Incoming>,
}

type Incoming = (SimRead, SimWrite, SocketAddr);

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
        Self {
            wires: Wires::new(handle.clone(), seed, faults),
            listeners: Arc::default(),
            handle,
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: NetFaults) {
        self.wires.state.lock().faults = faults;
    }

    /// How often each fault struck.
    #[must_use]
    pub fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        let state = self.wires.state.lock();
        state.counts.iter().map(|(name, n)| (*name, *n)).collect()
    }

    /// The process `life` on `host` listens at `address` from now on; the host has power.
    #[must_use]
    pub fn listen(&self, host: Host, life: Tag, address: SocketAddr) -> SimListener {
        let (queue, incoming) = mpsc::unbounded_channel();
        self.wires.state.lock().dark.remove(&host);
        let mut listeners = self.listeners.lock();
        listeners.count += 1;
        let number = listeners.count;
        let listening = Listening {
            number,
            host,
            life,
            queue,
        };
        listeners.hosts.insert(address, host);
        let replaced = listeners.at.insert(address, listening);
        drop(listeners);
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
            self.handle.sleep(self.wires.way()).await;
            match self.try_connect(from, to) {
                Ok(Some(connected)) => {
                    self.handle.sleep(self.wires.way()).await;
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

    /// `None` if nothing comes back.
    fn try_connect(&self, from: Host, to: SocketAddr) -> io::Result<Option<Connected>> {
        let listeners = self.listeners.lock();
        let listening = listeners
            .at
            .get(&to)
            .map(|found| (found.host, found.life, found.queue.clone()));
        let last = listeners.hosts.get(&to).copied();
        drop(listeners);
        let mut state = self.wires.state.lock();
        let Some((host, life, queue)) = listening else {
            if last.is_some_and(|host| state.is_dark(host)) {
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
            net: self.wires.clone(),
            id,
        }
    }

    fn writer(&self, id: PipeId) -> SimWrite {
        SimWrite {
            net: self.wires.clone(),
            id,
            ended: false,
        }
    }

    /// Nothing gets from `from` to `to` until the network heals; what comes back does.
    pub fn block(&self, from: Host, to: Host) {
        self.wires.state.lock().count("net_partition_one_way");
        self.cut(from, to);
    }

    /// Nothing gets from one host to the other, nor back, until the network heals.
    pub fn part(&self, one: Host, other: Host) {
        self.wires.state.lock().count("net_partition");
        self.cut(one, other);
        self.cut(other, one);
    }

    fn cut(&self, from: Host, to: Host) {
        let mut state = self.wires.state.lock();
        self.handle
            .line(|| format!("net   nothing gets from={} to={}", from.0, to.0));
        state.blocked.insert((from, to));
    }

    /// All partitions end; what was held back goes on.
    pub fn heal(&self) {
        let mut state = self.wires.state.lock();
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
                self.wires.pump_after(id, self.wires.way());
            }
        }
    }

    /// The power of `host` fails while `life` runs there: its connections are silent from now on.
    pub fn power_loss(&self, host: Host, life: Tag) {
        let mut state = self.wires.state.lock();
        state.count("net_half_open");
        state.dark.insert(host);
        for pipe in state.pipes.values_mut() {
            if pipe.life == life {
                pipe.forget(host);
            }
        }
        drop(state);
        let listens = |_: &SocketAddr, found: &mut Listening| found.life != life;
        self.listeners.lock().at.retain(listens);
    }

    /// The connection of `output` vanishes without a word, as if its host had lost its power.
    pub fn vanish(&self, output: &SimWrite) {
        let mut state = self.wires.state.lock();
        state.count("net_client_vanished");
        let host = state.pipes.get(&output.id).map(|pipe| pipe.from);
        for id in [output.id, output.id.back()] {
            if let (Some(host), Some(pipe)) = (host, state.pipes.get_mut(&id)) {
                pipe.forget(host);
                pipe.lost = true;
            }
        }
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
        let mut listeners = self.net.listeners.lock();
        let is_ours = |found: &Listening| found.number == self.number;
        if listeners.at.get(&self.address).is_some_and(is_ours) {
            listeners.at.remove(&self.address);
        }
    }
}
