//! A disk that lies within the contract: what is not flushed survives a power failure in any
//! subset of its sectors, and writes of a killed process may land late.
//!
//! *IO: none*

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::env::Rng;
use crate::buffer::AlignedBuf;
use crate::disk::{Completion, Disk, DiskOp};

const SECTOR: usize = 512;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const ENODEV: i32 = 19;

struct Flight {
    id: u64,
    op: DiskOp,
    /// For a flush: the writes completed before it.
    covers: u64,
}

struct Unflushed {
    number: u64,
    position: u64,
    bytes: Vec<u8>,
}

pub(crate) struct State {
    pub(crate) rng: Rng,
    durable: Vec<u8>,
    cached: Vec<u8>,
    unflushed: Vec<Unflushed>,
    completed: u64,
    flights: VecDeque<Flight>,
    late: Vec<(u64, Vec<u8>)>,
    waker: Option<Waker>,
    /// Bytes the file may have.
    pub(crate) space: usize,
    /// No write finds space.
    pub(crate) refusing_writes: bool,
    /// Nothing completes.
    pub(crate) stalled: bool,
    /// Every operation fails: the device is gone.
    pub(crate) removed: bool,
    /// Flushes to fail from now on.
    pub(crate) failing_flushes: u32,
    /// Writes to fail from now on.
    pub(crate) failing_writes: u32,
    /// One write in so many is short; 0 for none.
    pub(crate) short_one_in: u64,
    /// What positions and lengths are multiples of.
    block_bytes: usize,
    /// Numbers of sectors that cannot be read until they are written again.
    bad_sectors: BTreeSet<u64>,
    pub(crate) flushes: u64,
    pub(crate) writes: u64,
}

/// A handle on the model.
#[derive(Clone)]
pub(crate) struct Model(pub(crate) Arc<Mutex<State>>);

impl Model {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(Vec::new(), Rng(seed))
    }

    /// A disk that holds `image`, durably.
    pub(crate) fn of(image: Vec<u8>, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            durable: image.clone(),
            cached: image,
            unflushed: Vec::new(),
            completed: 0,
            flights: VecDeque::new(),
            late: Vec::new(),
            waker: None,
            space: usize::MAX,
            refusing_writes: false,
            stalled: false,
            removed: false,
            failing_flushes: 0,
            failing_writes: 0,
            short_one_in: 0,
            block_bytes: 4096,
            bad_sectors: BTreeSet::new(),
            flushes: 0,
            writes: 0,
        })))
    }

    /// A disk with blocks of that many bytes.
    pub(crate) fn with_blocks(block_bytes: usize) -> Self {
        let model = Self::new(1);
        model.0.lock().block_bytes = block_bytes;
        model
    }

    pub(crate) fn disk(&self) -> Box<dyn Disk> {
        Box::new(self.clone())
    }

    /// What a reader sees.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.0.lock().cached.clone()
    }

    /// Writes and flushes done.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.writes, state.flushes)
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.space = usize::MAX;
        state.short_one_in = 0;
    }

    /// Flips one bit, durably.
    pub(crate) fn flip(&self, position: u64) {
        let mut state = self.0.lock();
        let at = usize::try_from(position).unwrap();
        state.cached[at] ^= 0x40;
        state.durable[at] ^= 0x40;
    }

    /// The sector at `position` cannot be read until it is written again.
    pub(crate) fn spoil(&self, position: u64) {
        let sector = position / SECTOR as u64;
        self.0.lock().bad_sectors.insert(sector);
    }

    /// Puts `bytes` at `position`, durably.
    pub(crate) fn overwrite(&self, position: u64, bytes: &[u8]) {
        let mut state = self.0.lock();
        apply(&mut state.cached, position, bytes);
        apply(&mut state.durable, position, bytes);
    }

    /// Lets operations complete again.
    pub(crate) fn resume(&self) {
        let mut state = self.0.lock();
        state.stalled = false;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// The disk after a power failure.
    pub(crate) fn power_failure(&self) -> Self {
        let mut state = self.0.lock();
        let mut rng = state.rng.clone();
        rng.next();
        let mut image = state.durable.clone();
        let mut lost: Vec<_> = state
            .unflushed
            .drain(..)
            .map(|write| (write.position, write.bytes))
            .collect();
        lost.append(&mut state.late);
        while let Some(flight) = state.flights.pop_front() {
            if let DiskOp::Write { position, buf, .. } = flight.op {
                lost.push((position, buf.as_slice().to_vec()));
            }
        }
        while !lost.is_empty() {
            let place = usize::try_from(rng.below(lost.len() as u64)).unwrap();
            let (position, bytes) = lost.swap_remove(place);
            let how = rng.below(3);
            for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                if how == 0 || (how == 1 && rng.one_in(2)) {
                    apply(&mut image, position + (i * SECTOR) as u64, sector);
                }
            }
        }
        Self::of(image, rng)
    }

    /// The process is gone: what it had in flight lands whenever it likes, or not.
    pub(crate) fn kill(&self) {
        let mut state = self.0.lock();
        while let Some(flight) = state.flights.pop_front() {
            if let DiskOp::Write { position, buf, .. } = flight.op
                && !state.rng.one_in(4)
            {
                state.late.push((position, buf.as_slice().to_vec()));
            }
        }
        state.waker = None;
    }
}

fn apply(image: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let at = usize::try_from(position).unwrap();
    if image.len() < at + bytes.len() {
        image.resize(at + bytes.len(), 0);
    }
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What a device that is no longer there answers.
fn gone(id: u64, op: DiskOp) -> Completion {
    let buf = match op {
        DiskOp::Read { buf, .. } | DiskOp::Write { buf, .. } => Some(buf),
        DiskOp::Flush => None,
    };
    let result = Err(io::Error::from_raw_os_error(ENODEV));
    Completion { id, result, buf }
}

impl State {
    fn land(&mut self, position: u64, bytes: Vec<u8>) {
        apply(&mut self.cached, position, &bytes);
        self.completed += 1;
        self.unflushed.push(Unflushed {
            number: self.completed,
            position,
            bytes,
        });
    }

    fn flush(&mut self, covers: u64) -> io::Result<usize> {
        self.flushes += 1;
        let fails = self.failing_flushes > 0;
        let (covered, rest) = self
            .unflushed
            .drain(..)
            .partition::<Vec<_>, _>(|write| write.number <= covers);
        self.unflushed = rest;
        if fails {
            // The pages are marked clean: they stay readable and are never written.
            self.failing_flushes -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        for write in covered {
            apply(&mut self.durable, write.position, &write.bytes);
        }
        Ok(0)
    }

    fn write(&mut self, position: u64, buf: &AlignedBuf, durable: bool) -> io::Result<usize> {
        self.writes += 1;
        if self.failing_writes > 0 {
            self.failing_writes -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let end = usize::try_from(position).unwrap() + buf.len();
        if self.refusing_writes || (end > self.space && end > self.cached.len()) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let mut num_bytes = buf.len();
        if self.short_one_in > 0 && self.rng.one_in(self.short_one_in) {
            num_bytes =
                usize::try_from(self.rng.below(buf.len() as u64 / SECTOR as u64)).unwrap() * SECTOR;
        }
        let bytes = buf.as_slice()[..num_bytes].to_vec();
        let written = sectors(position, num_bytes);
        self.bad_sectors.retain(|sector| !written.contains(sector));
        if durable {
            apply(&mut self.durable, position, &bytes);
            apply(&mut self.cached, position, &bytes);
        } else {
            self.land(position, bytes);
        }
        Ok(num_bytes)
    }

    fn read(&mut self, position: u64, buf: &mut AlignedBuf) -> io::Result<usize> {
        if self
            .bad_sectors
            .range(sectors(position, buf.capacity()))
            .next()
            .is_some()
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let at = usize::try_from(position).unwrap().min(self.cached.len());
        let num_bytes = buf.capacity().min(self.cached.len() - at);
        buf.as_mut_slice()[..num_bytes].copy_from_slice(&self.cached[at..at + num_bytes]);
        buf.set_len(num_bytes);
        Ok(num_bytes)
    }
}

fn sectors(position: u64, num_bytes: usize) -> std::ops::Range<u64> {
    let sector = SECTOR as u64;
    position / sector..(position + num_bytes as u64).div_ceil(sector)
}

impl Disk for Model {
    fn block_size(&self) -> usize {
        self.0.lock().block_bytes
    }

    fn num_bytes(&self) -> u64 {
        self.0.lock().cached.len() as u64
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        let mut state = self.0.lock();
        let covers = state.completed;
        state.flights.push_back(Flight { id, op, covers });
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut state = self.0.lock();
        if !state.late.is_empty() && state.rng.one_in(8) {
            let place = state.rng.next() as usize % state.late.len();
            let (position, bytes) = state.late.swap_remove(place);
            state.land(position, bytes);
        }
        if state.flights.is_empty() || state.stalled {
            return None;
        }
        if state.rng.one_in(3) {
            state.waker.as_ref().unwrap().wake_by_ref();
            return None;
        }
        let place = state.rng.next() as usize % state.flights.len();
        let Flight { id, op, covers } = state.flights.remove(place).unwrap();
        if state.removed {
            return Some(gone(id, op));
        }
        let (result, buf) = match op {
            DiskOp::Read { position, mut buf } => (state.read(position, &mut buf), Some(buf)),
            DiskOp::Write {
                position,
                buf,
                durable,
            } => (state.write(position, &buf, durable), Some(buf)),
            DiskOp::Flush => (state.flush(covers), None),
        };
        Some(Completion { id, result, buf })
    }

    fn set_waker(&mut self, waker: &Waker) {
        self.0.lock().waker = Some(waker.clone());
    }

    fn describe(&self) -> String {
        "model".to_owned()
    }
}
