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
use tokio::sync::{Semaphore, oneshot};

use crate::core::framed_bytes;
use crate::error::WalError;
use crate::format::group::PREFIX_BYTES;
use crate::port::{Append, Frame, Permit, Wal, WalCounters, Watermarks};
use crate::race::race;
use crate::shared::join;

struct State {
    frames: VecDeque<(Lsn, Frame, usize)>,
    watermarks: Watermarks,
    counters: WalCounters,
    closed: bool,
}

/// A WAL that forgets everything when it is dropped.
pub struct MemoryWal {
    env: Arc<dyn Env>,
    patience: Duration,
    capacity_bytes: usize,
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

impl MemoryWal {
    /// An empty WAL that holds up to `capacity_bytes` of frames that are not trimmed, and lets
    /// `reserve` wait for up to `reserve_ms_max` milliseconds.
    #[must_use]
    pub fn new(env: Arc<dyn Env>, capacity_bytes: usize, reserve_ms_max: u64) -> Self {
        let capacity_bytes = capacity_bytes.clamp(PREFIX_BYTES, u32::MAX as usize);
        let state = State {
            frames: VecDeque::new(),
            watermarks: Watermarks::default(),
            counters: WalCounters::default(),
            closed: false,
        };
        Self {
            env,
            patience: Duration::from_millis(reserve_ms_max),
            capacity_bytes,
            room: Arc::new(Semaphore::new(capacity_bytes)),
            state: Mutex::new(state),
        }
    }

    fn room_for(&self, num_bytes: usize) -> Result<u32, WalError> {
        if self.state.lock().closed {
            return Err(WalError::Closed);
        }
        let max = self.capacity_bytes - PREFIX_BYTES;
        if num_bytes > max {
            return Err(WalError::FrameTooLarge { num_bytes, max });
        }
        Ok(u32::try_from(num_bytes + PREFIX_BYTES).expect("bounded by the capacity"))
    }
}

impl std::fmt::Debug for MemoryWal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryWal")
            .field("watermarks", &self.watermarks())
            .finish_non_exhaustive()
    }
}

fn permit(room: &Arc<Semaphore>, num_bytes: usize) -> Permit {
    let room = room.clone();
    Permit::new(num_bytes, move |num_bytes| {
        room.add_permits(num_bytes + PREFIX_BYTES)
    })
}

impl Wal for MemoryWal {
    fn reserve(&self, num_bytes: usize) -> BoxFuture<'static, Result<Permit, WalError>> {
        let needed = self.room_for(num_bytes);
        let (room, wait) = (self.room.clone(), self.env.sleep(self.patience));
        Box::pin(async move {
            match race(room.acquire_many(needed?), wait).await {
                Some(Ok(taken)) => {
                    taken.forget();
                    Ok(permit(&room, num_bytes))
                }
                Some(Err(_)) => Err(WalError::Closed),
                None => Err(WalError::Full),
            }
        })
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        let needed = self.room_for(num_bytes)?;
        self.room
            .try_acquire_many(needed)
            .map_err(|_| WalError::Full)?
            .forget();
        Ok(permit(&self.room, num_bytes))
    }

    fn append(&self, held: Permit, frame: Frame) -> Result<Append, WalError> {
        assert!(
            frame.num_bytes() <= held.num_bytes(),
            "a frame larger than its permit"
        );
        let (done, answer) = oneshot::channel();
        let room = held.num_bytes() + PREFIX_BYTES;
        let mut state = self.state.lock();
        if state.closed {
            return Err(WalError::Closed);
        }
        held.consume();
        let lsn = state.watermarks.accepted;
        let end = lsn
            .checked_add(framed_bytes(&frame))
            .expect("2^64 bytes are never written");
        state.watermarks = Watermarks {
            durable: end,
            submitted: end,
            accepted: end,
            ..state.watermarks
        };
        state.counters.appends += 1;
        state.counters.bytes += frame.num_bytes() as u64;
        state.frames.push_back((lsn, frame, room));
        done.send(Ok(())).ok();
        Ok(Append::new(lsn, end, answer))
    }

    fn trim(&self, up_to: Lsn) {
        let mut room = 0;
        {
            let mut state = self.state.lock();
            let up_to = up_to
                .min(state.watermarks.durable)
                .max(state.watermarks.trimmed);
            state.watermarks.trimmed = up_to;
            while state
                .frames
                .front()
                .is_some_and(|(lsn, frame, _)| lsn.0 + framed_bytes(frame) <= up_to.0)
            {
                room += state.frames.pop_front().map_or(0, |(_, _, room)| room);
            }
        }
        self.room.add_permits(room);
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let state = self.state.lock();
        let answer = match state.frames.binary_search_by_key(&lsn, |(lsn, _, _)| *lsn) {
            _ if lsn < state.watermarks.trimmed => Err(WalError::Trimmed { lsn }),
            Ok(place) => Ok(join(&state.frames[place].1)),
            Err(_) => Err(WalError::NoFrame { lsn }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn watermarks(&self) -> Watermarks {
        self.state.lock().watermarks
    }

    fn counters(&self) -> WalCounters {
        self.state.lock().counters
    }

    fn describe(&self) -> String {
        "memory (nothing survives a restart)".to_owned()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.state.lock().closed = true;
        self.room.close();
        Box::pin(std::future::ready(Ok(())))
    }
}
