//! The device: its lock, its users, kills and power failures.
//!
//! *Owns*: sessions, the times of operations, forks.
//! *Does not own*: what an operation does (ops.rs), durability (state.rs).
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use tidewater_types::sometimes;
use tidewater_wal::Completion;
use tokio::sync::oneshot;

use super::faults::{CrashStyle, DiskFaults, DiskShape, Fault};
use super::image::Image;
use super::ops::{Op, Pending, State, Stray, crash_layers};
use super::state::{Layers, Name};
use crate::exec::Handle;
use crate::rng::Rng;
use crate::trace::Event;

/// Time that a slow operation takes beyond its ordinary one.
const SLOW_NS_MIN: u64 = 200_000_000;
const SLOW_NS_MAX: u64 = 4_000_000_000;

/// A device; clones name the same one.
#[derive(Clone)]
pub struct Device {
    handle: Handle,
    state: Arc<Mutex<State>>,
}

impl Device {
    /// An empty device whose faults and latencies follow from `seed`.
    #[must_use]
    pub fn new(handle: Handle, seed: u64, shape: DiskShape, faults: DiskFaults) -> Self {
        let layers = Layers::blank(&shape);
        Self::with_layers(handle, Rng::new(seed, "disk"), shape, faults, layers)
    }

    /// A device that holds `image`, all of it durable, without faults.
    pub(crate) fn with_image(handle: Handle, seed: u64, shape: DiskShape, image: Image) -> Self {
        let layers = Layers::of_image(shape.sector_bytes, image);
        let (rng, faults) = (Rng::new(seed, "disk"), DiskFaults::default());
        Self::with_layers(handle, rng, shape, faults, layers)
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
            removed: None,
            misdirect_next: false,
            lie_next: false,
            older: None,
            stale_at: None,
            since_astray: Vec::new(),
            bad_sectors: BTreeSet::new(),
            recent: VecDeque::new(),
            watch: None,
            counts: BTreeMap::new(),
            detached: BTreeMap::new(),
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
        if state.open || !(state.late_landing || state.pending.is_empty()) {
            return None;
        }
        state.open = true;
        state.session += 1;
        if state.removed.take().is_some() {
            sometimes!("disk: a removed device came back");
        }
        if state.layers.name == Name::Missing {
            // What a creation that did not come to its end left is emptied.
            state.layers = Layers::blank(&state.shape);
        }
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
        state.crash(style);
        state.pending.clear();
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
        state.late_landing = state.rng.chance(state.faults.late_landing);
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
        crash_layers(&mut layers, &state.pending, style, &mut rng);
        layers.unprotect_all();
        Self::with_layers(handle, rng, state.shape, DiskFaults::default(), layers)
    }

    /// The bytes of `position..position + len` that survive the worst crash.
    #[must_use]
    pub fn durable_bytes(&self, position: u64, len: usize) -> Vec<u8> {
        self.state.lock().layers.durable.bytes(position, len)
    }

    /// All that survives the worst crash.
    pub(crate) fn durable_image(&self) -> Image {
        self.state.lock().layers.durable.clone()
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

    /// The sector at `position` cannot be read until it is written again.
    pub fn spoil(&self, position: u64) {
        let mut state = self.state.lock();
        let bad = state.sectors(position, 1);
        state.bad_sectors.extend(bad);
        drop(state);
        self.handle
            .line(|| format!("disk  bad sector at {position}"));
    }

    /// Whether the next write lands at another block (beyond contract).
    pub fn misdirect_next(&self, armed: bool) {
        self.state.lock().misdirect_next = armed;
    }

    /// First bytes of each write taken since the last one that went astray, or since the start.
    #[must_use]
    pub fn heads_since_astray(&self) -> Vec<[u8; 4]> {
        self.state.lock().since_astray.clone()
    }

    /// Empties the device: another one stands in its place.
    pub fn wipe(&self) {
        let mut state = self.state.lock();
        state.pending.clear();
        state.bad_sectors.clear();
        state.layers = Layers::blank(&state.shape);
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

    /// Whether the device is gone for the life that has it open.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.state.lock().removed.is_some()
    }

    /// Whether there is something to open: a file with a name, or a device that was written.
    #[must_use]
    pub fn exists(&self) -> bool {
        let state = self.state.lock();
        state.layers.name != Name::Missing && state.layers.cache.num_bytes() > 0
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn submit(&self, session: u64, id: u64, op: tidewater_wal::DiskOp) {
        let mut state = self.lock();
        if let Some(user) = state.detached.get_mut(&session) {
            user.fail(id, op);
            let waker = user.waker.take();
            drop(state);
            return waker.into_iter().for_each(Waker::wake);
        }
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
        let mut wait = state.rng.latency(mean);
        let per_mille = state.faults.slow;
        if state.strikes(Fault::Slow, per_mille) {
            wait += state.rng.between(SLOW_NS_MIN, SLOW_NS_MAX);
        }
        let removed = state.removal_strikes();
        let held = self.handle.is_told().then(|| op.values_held());
        let number = state.next_pending;
        state.next_pending += 1;
        state.pending.insert(number, Pending { id, session, op });
        drop(state);
        self.handle.note(Event::Disk, at, id);
        self.handle.line(|| {
            format!(
                "disk  submit {what} at={at} id={id}{}",
                held.unwrap_or_default()
            )
        });
        if removed {
            self.handle.line(|| "disk  removed".to_owned());
        }
        if let Some((_, watcher)) = reached {
            // Nobody may be waiting any more.
            _ = watcher.send(());
        }
        let device = self.clone();
        self.handle.call_after(wait, move || device.finish(number));
    }

    /// Writes of a user whose volume went elsewhere land there all the same, later.
    pub(super) fn land_late(&self, strays: Vec<Stray>) {
        for (write, pending) in strays {
            let mut state = self.lock();
            let (number, pending) = state.take_back(write, pending);
            state.pending.insert(number, pending);
            let mean = state.shape.write_ns;
            let wait = state.rng.latency(mean);
            drop(state);
            let device = self.clone();
            self.handle.call_after(wait, move || device.finish(number));
        }
    }

    /// The time of an operation has come.
    fn finish(&self, number: u64) {
        let mut state = self.lock();
        let Some(pending) = state.pending.remove(&number) else {
            return;
        };
        let is_write = matches!(pending.op, Op::Write { .. });
        if is_write && state.open && state.session != pending.session {
            state.count(Fault::LateLanding);
        }
        let (result, buf) = state.finish(pending.op);
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

    /// Adds a line to what a replay tells.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        self.handle.line(line);
    }

    pub(super) fn close(&self, session: u64) {
        let mut state = self.lock();
        if let Some(user) = state.detached.remove(&session) {
            drop(state);
            return drop(user);
        }
        let gone = if state.session == session {
            state.end_session()
        } else {
            Vec::new()
        };
        drop(state);
        drop(gone);
    }
}

/// A device as one process has it open. Dropping it closes it.
pub struct SimDisk {
    pub(super) device: Device,
    pub(super) session: u64,
    pub(super) block_bytes: usize,
}

impl SimDisk {
    fn new(device: Device, session: u64, block_bytes: usize) -> Self {
        Self {
            device,
            session,
            block_bytes,
        }
    }
}
