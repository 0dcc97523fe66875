//! The simulated disk: one device that outlives the processes that open it.
//!
//! *Owns*: operations under way, their times and faults, the lock on the device, and
//! what a kill or a power failure does to all of that.
//! *Does not own*: what is durable (disk/state.rs), the shape of a run (the plan).
//!
//! Invariants
//! 1. Operations complete in any order.
//! 2. A process that is gone submits nothing; what it had submitted may still land.
//! 3. The device opens again only when the last write of its former user has landed or
//!    was cancelled, as `flock` on the same open file description has it; with late
//!    landing (beyond contract) it opens at once.
//! 4. A read buffer holds poison until the read completes, and beyond what it returned.
//!
//! *IO: none*

mod faults;
mod image;
mod port;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use tidewater_wal::{AlignedBuf, Completion};
use tokio::sync::oneshot;

use crate::exec::Handle;
use crate::rng::Rng;
use crate::trace::Event;
use faults::Fault;
pub use faults::{CrashStyle, DiskFaults, DiskShape};
pub use port::SimDisk;
use state::Layers;

/// What unread memory holds.
const POISON: u8 = 0xa5;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A device; clones name the same one.
#[derive(Clone)]
pub struct Device {
    handle: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    shape: DiskShape,
    faults: DiskFaults,
    rng: Rng,
    layers: Layers,
    /// The user the device is open for.
    session: u64,
    open: bool,
    late_landing: bool,
    pending: BTreeMap<u64, Pending>,
    next_pending: u64,
    completions: VecDeque<Completion>,
    waker: Option<Waker>,
    num_ops: u64,
    misdirect_next: bool,
    /// Who wants to know that this many operations were taken.
    watch: Option<(u64, oneshot::Sender<()>)>,
    counts: BTreeMap<Fault, u64>,
}

struct Pending {
    id: u64,
    session: u64,
    op: Op,
}

enum Op {
    Read {
        position: u64,
        buf: AlignedBuf,
    },
    Write {
        number: u64,
        buf: AlignedBuf,
        durable: bool,
    },
    Flush {
        mark: u64,
    },
}

impl Device {
    /// An empty device whose faults and latencies follow from `seed`.
    #[must_use]
    pub fn new(handle: Handle, seed: u64, shape: DiskShape, faults: DiskFaults) -> Self {
        let layers = Layers::new(shape.sector_bytes);
        Self::with_layers(handle, Rng::new(seed, "disk"), shape, faults, layers)
    }

    fn with_layers(
        handle: Handle,
        rng: Rng,
        shape: DiskShape,
        faults: DiskFaults,
        layers: Layers,
    ) -> Self {
        let state = State {
            shape,
            faults,
            rng,
            layers,
            session: 0,
            open: false,
            late_landing: false,
            pending: BTreeMap::new(),
            next_pending: 0,
            completions: VecDeque::new(),
            waker: None,
            num_ops: 0,
            misdirect_next: false,
            watch: None,
            counts: BTreeMap::new(),
        };
        Self {
            handle,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Opens the device, or `None` while another process, or a write of one, holds it.
    #[must_use]
    pub fn open(&self) -> Option<SimDisk> {
        let mut state = self.state.lock();
        if !state.late_landing && (state.open || !state.pending.is_empty()) {
            return None;
        }
        state.open = true;
        state.session += 1;
        Some(SimDisk::new(
            self.clone(),
            state.session,
            state.shape.block_bytes,
        ))
    }

    /// Power fails: nothing under way completes, what no flush covers lands as `style` says.
    pub fn power_loss(&self, style: CrashStyle) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.count(Fault::PowerLoss);
        let gone = state.end_session();
        state.pending.clear();
        state.layers.crash(style, &mut state.rng);
        drop(guard);
        drop(gone);
        self.handle.line(|| format!("disk  power loss {style:?}"));
    }

    /// The process is killed: the cache stays, each write under way lands late or never.
    pub fn kill(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.count(Fault::Kill);
        let gone = state.end_session();
        let State {
            pending,
            rng,
            layers,
            ..
        } = state;
        pending.retain(|_, pending| match &pending.op {
            Op::Write { number, .. } if rng.chance(500) => {
                layers.cancel(*number);
                false
            }
            Op::Write { .. } => true,
            Op::Flush { .. } => rng.chance(500),
            Op::Read { .. } => false,
        });
        drop(guard);
        drop(gone);
        self.handle.line(|| "disk  process killed".to_owned());
    }

    /// Lets the device open while writes of a former life are under way (a volume that was
    /// attached elsewhere without a fence).
    pub fn set_late_landing(&self, late: bool) {
        self.state.lock().late_landing = late;
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: DiskFaults) {
        self.state.lock().faults = faults;
    }

    /// A copy of the device after a power failure now, on another executor, without faults.
    #[must_use]
    pub fn fork(&self, handle: Handle, seed: u64, style: CrashStyle) -> Self {
        let state = self.state.lock();
        let mut layers = state.layers.clone();
        let mut rng = Rng::new(seed, "fork");
        layers.crash(style, &mut rng);
        layers.unprotect_all();
        Self::with_layers(handle, rng, state.shape, DiskFaults::default(), layers)
    }

    /// The bytes of `position..position + len` that survive the worst crash.
    #[must_use]
    pub fn durable_bytes(&self, position: u64, len: usize) -> Vec<u8> {
        self.state.lock().layers.durable.bytes(position, len)
    }

    /// Notes that the blocks of `start..end` hold acknowledged bytes: writing anything else
    /// there is a violation until [`Device::unprotect_all`].
    pub fn protect(&self, start: u64, end: u64) {
        let mut state = self.state.lock();
        let block = state.shape.block_bytes;
        state.layers.protect(start, end, block);
    }

    /// Forgets what was protected.
    pub fn unprotect_all(&self) {
        self.state.lock().layers.unprotect_all();
    }

    /// The first write over a protected block, if there was one.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        self.state.lock().layers.violation.clone()
    }

    /// Flips one bit at `position`, in the durable image and in the cache.
    pub fn rot(&self, position: u64, bit: u8) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.count(Fault::BitRot);
        for image in [&mut state.layers.durable, &mut state.layers.cache] {
            let byte = image.bytes(position, 1).first().copied().unwrap_or(0);
            image.write(position, &[byte ^ (1 << (bit % 8))]);
        }
        drop(guard);
        self.handle.line(|| format!("disk  bit rot at {position}"));
    }

    /// Whether the next write lands at another block (beyond contract).
    pub fn misdirect_next(&self, armed: bool) {
        self.state.lock().misdirect_next = armed;
    }

    /// Empties the device: another one stands in its place.
    pub fn wipe(&self) {
        let mut state = self.state.lock();
        state.pending.clear();
        state.layers = Layers::new(state.shape.sector_bytes);
        drop(state);
        self.handle.line(|| "disk  wiped".to_owned());
    }

    /// Completes when `num_ops` more operations were taken; one caller at a time.
    #[must_use]
    pub fn after_ops(&self, num_ops: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        state.watch = Some((state.num_ops.saturating_add(num_ops), sender));
        receiver
    }

    /// Bytes the device has now.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        self.state.lock().layers.cache.num_bytes()
    }

    /// Operations taken since the device was made.
    #[must_use]
    pub fn num_ops(&self) -> u64 {
        self.state.lock().num_ops
    }

    /// How often each fault struck, by name.
    #[must_use]
    pub fn fault_counts(&self) -> Vec<(&'static str, u64)> {
        self.state
            .lock()
            .counts
            .iter()
            .map(|(fault, count)| (fault.name(), *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn submit(&self, session: u64, id: u64, op: tidewater_wal::DiskOp) {
        let mut state = self.lock();
        if state.session != session || !state.open {
            return;
        }
        state.num_ops += 1;
        let taken = state.num_ops;
        let reached = state.watch.take_if(|(num_ops, _)| taken >= *num_ops);
        let (op, what, at) = state.start(op);
        let mean = match op {
            Op::Flush { .. } => state.shape.flush_ns,
            _ => state.shape.write_ns,
        };
        let wait = state.rng.latency(mean);
        let number = state.next_pending;
        state.next_pending += 1;
        state.pending.insert(number, Pending { id, session, op });
        drop(state);
        self.handle.note(Event::Disk, at, id);
        self.handle
            .line(|| format!("disk  submit {what} at={at} id={id}"));
        if let Some((_, watcher)) = reached {
            // Nobody may be waiting any more.
            _ = watcher.send(());
        }
        let device = self.clone();
        self.handle.call_after(wait, move || device.finish(number));
    }

    /// The time of an operation has come.
    fn finish(&self, number: u64) {
        let mut state = self.lock();
        let Some(pending) = state.pending.remove(&number) else {
            return;
        };
        let (result, buf) = match pending.op {
            Op::Read { position, buf } => state.finish_read(position, buf),
            Op::Write {
                number,
                buf,
                durable,
            } => state.finish_write(number, buf, durable),
            Op::Flush { mark } => (state.finish_flush(mark), None),
        };
        let moved = result.as_ref().map_or(u64::MAX, |moved| *moved as u64);
        let waker = if state.open && state.session == pending.session {
            state.completions.push_back(Completion {
                id: pending.id,
                result,
                buf,
            });
            state.waker.take()
        } else {
            None
        };
        drop(state);
        self.handle.note(Event::Disk, moved, pending.id);
        self.handle
            .line(|| format!("disk  done id={} moved={}", pending.id, moved.cast_signed()));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self, session: u64) {
        let mut state = self.lock();
        let gone = if state.session == session {
            state.end_session()
        } else {
            Vec::new()
        };
        drop(state);
        drop(gone);
    }
}

impl State {
    fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    fn strikes(&mut self, fault: Fault, per_mille: u32) -> bool {
        let strikes = self.rng.chance(per_mille);
        if strikes {
            self.count(fault);
        }
        strikes
    }

    /// The user is gone; what must be dropped outside the lock.
    #[must_use]
    fn end_session(&mut self) -> Vec<Completion> {
        self.open = false;
        self.waker = None;
        self.completions.drain(..).collect()
    }

    fn start(&mut self, op: tidewater_wal::DiskOp) -> (Op, &'static str, u64) {
        match op {
            tidewater_wal::DiskOp::Read { position, mut buf } => {
                port::poison(&mut buf);
                (Op::Read { position, buf }, "read", position)
            }
            tidewater_wal::DiskOp::Write {
                position,
                buf,
                durable,
            } => {
                let block = self.shape.block_bytes as u64;
                let data = port::filled(&buf);
                assert!(
                    position.is_multiple_of(block) && (data.len() as u64).is_multiple_of(block),
                    "write of {} bytes at {position} is not aligned to {block}",
                    data.len()
                );
                let mut target = position;
                let misdirected = self.rng.chance(self.faults.misdirected_write);
                if misdirected || std::mem::take(&mut self.misdirect_next) {
                    *self.counts.entry(Fault::MisdirectedWrite).or_default() += 1;
                    target = self.astray(position, block);
                } else {
                    // A write that goes astray is the disk's fault, not the writer's.
                    self.layers.check_protected(position, data);
                }
                let number = self.layers.submit(target, data);
                (
                    Op::Write {
                        number,
                        buf,
                        durable,
                    },
                    if durable { "dsync" } else { "write" },
                    position,
                )
            }
            tidewater_wal::DiskOp::Flush => {
                let mark = self.layers.flush_mark();
                (Op::Flush { mark }, "flush", mark)
            }
        }
    }

    /// Where a write that should land at `position` lands instead: near in front of it, where
    /// its own kind lies, or anywhere.
    fn astray(&mut self, position: u64, block: u64) -> u64 {
        let before = (position / block).min(64);
        if before > 0 && self.rng.chance(500) {
            return position - (1 + self.rng.below(before)) * block;
        }
        self.rng.below(self.layers.cache.num_bytes() / block) * block
    }

    fn finish_read(&mut self, position: u64, mut buf: AlignedBuf) -> Ended {
        if self.strikes(Fault::ReadEio, self.faults.read_eio) {
            return (Err(io::Error::from_raw_os_error(EIO)), Some(buf));
        }
        let stale = self.strikes(Fault::StaleRead, self.faults.stale_read);
        let mut limit = buf.capacity();
        let sectors = limit / self.shape.sector_bytes;
        if sectors > 1 && self.strikes(Fault::ShortRead, self.faults.short_read) {
            limit = self.rng.index(sectors) * self.shape.sector_bytes;
        }
        let image = if stale {
            &self.layers.durable
        } else {
            &self.layers.cache
        };
        let moved = port::fill(&mut buf, |bytes| image.read(position, &mut bytes[..limit]));
        (Ok(moved), Some(buf))
    }

    fn finish_write(&mut self, number: u64, buf: AlignedBuf, durable: bool) -> Ended {
        let len = port::filled(&buf).len();
        if self.strikes(Fault::WriteEio, self.faults.write_eio) {
            self.layers.fail(number, &mut self.rng);
            return (Err(io::Error::from_raw_os_error(EIO)), Some(buf));
        }
        if self.strikes(Fault::Enospc, self.faults.enospc) {
            self.layers.cancel(number);
            return (Err(io::Error::from_raw_os_error(ENOSPC)), Some(buf));
        }
        let sectors = len / self.shape.sector_bytes;
        let mut moved = len;
        if sectors > 1 && self.strikes(Fault::ShortWrite, self.faults.short_write) {
            moved = self.rng.index(sectors) * self.shape.sector_bytes;
        }
        self.layers.complete(number, moved);
        if durable {
            self.layers.make_durable(number);
        }
        (Ok(moved), Some(buf))
    }

    fn finish_flush(&mut self, mark: u64) -> io::Result<usize> {
        if self.strikes(Fault::FlushEio, self.faults.flush_eio) {
            self.layers.flush_failed(mark);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if !self.strikes(Fault::LyingFlush, self.faults.lying_flush) {
            self.layers.flush(mark);
        }
        Ok(0)
    }
}

/// How an operation ended: bytes moved, and the buffer given back.
type Ended = (io::Result<usize>, Option<AlignedBuf>);

#[cfg(test)]
mod tests;
