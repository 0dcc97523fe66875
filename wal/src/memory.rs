//! A WAL in memory: for tests and throw-away clusters.
//!
//! *Owns*: frames until they are trimmed.
//! *Does not own*: durability: "durable" means accepted, and a restart finds nothing.
//!
//! Invariants
//! 1. LSNs and errors are those of the device WAL.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Lsn};

use crate::acks::{Acks, Append};
use crate::error::WalError;
use crate::format::group::PREFIX_BYTES;
use crate::port::{Frame, Wal, WalCounters, Watermarks};
use crate::room::{Permit, Reserve, Room};

struct State {
    /// Frames that are not trimmed: where each ends, and the room it takes.
    frames: VecDeque<(Lsn, Frame, usize)>,
    trimmed: Lsn,
    accepted: Lsn,
    counters: WalCounters,
    closed: bool,
}

/// A WAL that forgets everything when it is dropped.
pub struct MemoryWal {
    room: Arc<Room>,
    acks: Arc<Acks>,
    state: Mutex<State>,
}

impl MemoryWal {
    /// An empty WAL that holds up to `capacity_bytes` of frames that are not trimmed, and lets
    /// `reserve` wait for up to `reserve_ms_max` milliseconds.
    ///
    /// # Panics
    /// If the capacity is 2 GiB or more.
    #[must_use]
    pub fn new(env: Arc<dyn Env>, capacity_bytes: usize, reserve_ms_max: u64) -> Self {
        let capacity_bytes = capacity_bytes.max(PREFIX_BYTES);
        let patience = Duration::from_millis(reserve_ms_max);
        let state = State {
            frames: VecDeque::new(),
            trimmed: Lsn(0),
            accepted: Lsn(0),
            counters: WalCounters::default(),
            closed: false,
        };
        let room = Room::new(env, capacity_bytes, capacity_bytes - PREFIX_BYTES, patience);
        Self {
            room: Arc::new(room),
            acks: Arc::new(Acks::new(Lsn(0))),
            state: Mutex::new(state),
        }
    }
}

impl std::fmt::Debug for MemoryWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryWal")
            .field("watermarks", &self.watermarks())
            .finish_non_exhaustive()
    }
}

impl Wal for MemoryWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.room.take(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.room.try_take(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        let num_bytes = frame.num_bytes();
        assert!(
            num_bytes <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        assert!(permit.is_of(&self.room), "a permit of another log");
        let mut state = self.state.lock();
        if state.closed {
            return Err(WalError::Closed);
        }
        let lsn = state.accepted;
        let end = lsn
            .checked_add((PREFIX_BYTES + num_bytes) as u64)
            .expect("2^64 bytes are never written");
        state.accepted = end;
        state.counters.appends += 1;
        state.counters.bytes += num_bytes as u64;
        state.frames.push_back((end, frame, permit.consume()));
        Ok(self.acks.grant(lsn, end))
    }

    fn trim(&self, up_to: Lsn) {
        let mut room = 0;
        {
            let mut state = self.state.lock();
            state.trimmed = up_to.min(state.accepted).max(state.trimmed);
            while let Some((end, _, held)) = state.frames.front()
                && *end <= state.trimmed
            {
                room += held;
                state.frames.pop_front();
            }
            let num_frames = state.frames.len();
            if num_frames < state.frames.capacity() / 3 {
                state.frames.shrink_to(2 * num_frames);
            }
        }
        self.room.give_back(room);
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let state = self.state.lock();
        let after = state.frames.partition_point(|(end, _, _)| *end <= lsn);
        let found = state.frames.get(after).filter(|(end, frame, _)| {
            end.0 - lsn.0.min(end.0) == (PREFIX_BYTES + frame.num_bytes()) as u64
        });
        let answer = match found {
            _ if lsn < state.trimmed => Err(WalError::Trimmed { lsn }),
            Some((_, frame, _)) => Ok(frame.join()),
            None => Err(WalError::NoFrame { lsn }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn watermarks(&self) -> Watermarks {
        let state = self.state.lock();
        Watermarks {
            trimmed: state.trimmed,
            durable: state.accepted,
            submitted: state.accepted,
            accepted: state.accepted,
        }
    }

    fn counters(&self) -> WalCounters {
        WalCounters {
            full_pool: self.room.num_full(),
            ..self.state.lock().counters
        }
    }

    fn describe(&self) -> String {
        "memory (nothing survives a restart)".to_owned()
    }

    /// Room for three times the frames at most: what is not filled, and what they move from when there
    /// are more of them.
    fn frame_bytes_held(&self) -> usize {
        3 * size_of::<(Lsn, Frame, usize)>()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.state.lock().closed = true;
        self.room.close(WalError::Closed);
        Box::pin(std::future::ready(Ok(())))
    }
}
