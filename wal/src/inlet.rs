//! Where callers leave frames: laid out in aligned buffers as the groups they will be.
//!
//! *Owns*: the order of frames, their one copy, the pool of buffers, waking the engine.
//! *Does not own*: headers, places and times: the core's.
//!
//! Invariants
//! 1. LSNs are given out in the order of the appends, under the lock; the queue of those who wait
//!    for an acknowledgement has the same order.
//! 2. Buffers in use and free take at most `pool_bytes`, counted as allocated. Permits for a third
//!    of what is left beside the groups under way can fill no more: of two batches that follow
//!    each other at least one half is filled, and a frame with a buffer of its own less a block.
//! 3. An append allocates nothing once the pool has grown, and copies its bytes once.
//! 4. Whoever leaves something that the engine would take now wakes it, once.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tidewater_types::Lsn;

use crate::acks::{Acks, Append};
use crate::buffer::AlignedBuf;
use crate::config::DeviceWalConfig;
use crate::error::WalError;
use crate::format::group::{HEADER_BYTES, PREFIX_BYTES};
use crate::port::Frame;
use crate::ring::Geometry;
use crate::sync::{Mutex, MutexGuard};

/// Frames in one buffer, with room for a header in front.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) buf: AlignedBuf,
    pub(crate) lsn: Lsn,
    pub(crate) end: Lsn,
    pub(crate) num_frames: u32,
    /// Room its frames take from the callers' budget.
    pub(crate) room: usize,
}

impl Batch {
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.end.0 - self.lsn.0
    }
}

/// Sizes of the pool, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolShape {
    pub(crate) pool_bytes: usize,
    /// Capacity of a buffer; a larger frame gets one of its own.
    pub(crate) batch_bytes: usize,
    pub(crate) align: usize,
    /// Groups under way at a time.
    pub(crate) depth: usize,
}

impl PoolShape {
    /// Buffers as large as a group may be, in whole blocks.
    ///
    /// # Errors
    /// [`WalError::Config`] if the pool has no room for the largest frame beside the groups under
    /// way: blocks may be larger than the settings alone tell.
    pub(crate) fn of(config: &DeviceWalConfig, geometry: &Geometry) -> Result<Self, WalError> {
        let size = |num_bytes: u64| usize::try_from(num_bytes).expect("validated");
        let block = geometry.block_bytes;
        let group_bytes = config.group_bytes_max.min(geometry.group_bytes_max());
        let shape = Self {
            pool_bytes: size(config.pool_bytes),
            batch_bytes: size(group_bytes.max(block) / block * block),
            align: size(block),
            depth: config.depth,
        };
        if shape.room_bytes() < size(geometry.window_bytes) {
            return Err(WalError::Config {
                field: "pool_bytes",
                value: config.pool_bytes,
                expected: "three windows and depth + 2 groups of whole blocks",
            });
        }
        Ok(shape)
    }

    /// Bytes of frames for which permits may be out at a time.
    pub(crate) fn room_bytes(&self) -> usize {
        let under_way = (self.depth + 2) * self.batch_bytes;
        self.pool_bytes.saturating_sub(under_way) / 3
    }
}

#[derive(Debug)]
struct State {
    accepted: Lsn,
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    free: Vec<AlignedBuf>,
    allocated_bytes: usize,
    refusal: Option<WalError>,
    /// The engine would take a batch that is not full.
    eager: bool,
    waker: Option<Waker>,
}

/// The hand-over from callers to the engine.
#[derive(Debug)]
pub(crate) struct Inlet {
    shape: PoolShape,
    acks: Arc<Acks>,
    state: Mutex<State>,
}

impl Inlet {
    pub(crate) fn new(shape: PoolShape, acks: Arc<Acks>, accepted: Lsn) -> Self {
        let state = State {
            accepted,
            open: None,
            sealed: VecDeque::new(),
            free: Vec::new(),
            allocated_bytes: 0,
            refusal: None,
            eager: false,
            waker: None,
        };
        Self {
            shape,
            acks,
            state: Mutex::new(state),
        }
    }

    // --- callers ---

    /// Takes `frame`, for which `room` was reserved.
    pub(crate) fn append(&self, frame: &Frame, room: usize) -> Result<Append, WalError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(refusal) = &state.refusal {
            return Err(refusal.clone());
        }
        let framed = PREFIX_BYTES + frame.num_bytes();
        let fits = |batch: &Batch| batch.buf.len() + framed <= batch.buf.capacity();
        if !state.open.as_ref().is_some_and(fits) {
            state.sealed.extend(state.open.take());
            let buf = state.buffer(&self.shape, HEADER_BYTES + framed);
            state.open = Some(Batch {
                buf,
                lsn: state.accepted,
                end: state.accepted,
                num_frames: 0,
                room: 0,
            });
        }
        let batch = state.open.as_mut().expect("just made");
        let frame_bytes = u32::try_from(frame.num_bytes()).expect("room bounds a frame");
        batch.buf.extend_from_slice(&frame_bytes.to_le_bytes());
        for part in frame.parts() {
            batch.buf.extend_from_slice(part);
        }
        let lsn = batch.end;
        batch.end = lsn
            .checked_add(framed as u64)
            .expect("2^64 bytes are never written");
        batch.num_frames += 1;
        batch.room += room;
        state.accepted = batch.end;
        let append = self.acks.issue(lsn, batch.end);
        if state.eager || !state.sealed.is_empty() {
            wake(guard);
        }
        Ok(append)
    }

    /// How far frames were taken.
    pub(crate) fn accepted(&self) -> Lsn {
        self.state.lock().accepted
    }

    /// Takes no more frames; the first reason counts.
    pub(crate) fn refuse(&self, why: WalError) {
        self.state.lock().refusal.get_or_insert(why);
    }

    /// Wakes the engine if it does not look.
    pub(crate) fn wake(&self) {
        wake(self.state.lock());
    }

    // --- the engine ---

    /// Moves batches to `into` and remembers whom to wake for more: those that are full, and with
    /// `open` also the one that is being filled.
    pub(crate) fn take(&self, waker: &Waker, open: bool, into: &mut VecDeque<Batch>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        into.append(&mut state.sealed);
        state.eager = open;
        if open {
            into.extend(state.open.take());
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|held| held.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
    }

    /// Takes back the buffers of batches that were written.
    pub(crate) fn give_back(&self, bufs: impl IntoIterator<Item = AlignedBuf>) {
        let mut state = self.state.lock();
        for mut buf in bufs {
            if buf.capacity() == self.shape.batch_bytes {
                buf.clear();
                state.free.push(buf);
            } else {
                state.allocated_bytes -= buf.capacity();
            }
        }
    }
}

impl State {
    /// A buffer for `num_bytes` at least, its header's place filled.
    fn buffer(&mut self, shape: &PoolShape, num_bytes: usize) -> AlignedBuf {
        let ordinary = num_bytes <= shape.batch_bytes;
        let mut buf = match self.free.pop() {
            Some(buf) if ordinary => buf,
            other => {
                self.free.extend(other);
                let capacity = if ordinary {
                    shape.batch_bytes
                } else {
                    num_bytes.next_multiple_of(shape.align)
                };
                self.allocated_bytes += capacity;
                while self.allocated_bytes > shape.pool_bytes
                    && let Some(unused) = self.free.pop()
                {
                    self.allocated_bytes -= unused.capacity();
                }
                assert!(
                    self.allocated_bytes <= shape.pool_bytes,
                    "{} bytes of buffers in a pool of {}",
                    self.allocated_bytes,
                    shape.pool_bytes
                );
                AlignedBuf::new(capacity, shape.align)
            }
        };
        buf.set_len(HEADER_BYTES);
        buf
    }
}

/// Wakes the engine after the lock is released: once until it looks again.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
