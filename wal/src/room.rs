//! Room for frames: how many bytes a WAL takes from its callers before it has let go of others.
//!
//! *Owns*: the bytes that are free, who waits for them and how long, why nothing is taken.
//! *Does not own*: the memory itself.
//!
//! Invariants
//! 1. Permits never hold more than the capacity together.
//! 2. Who asks while others wait, waits behind them.
//! 3. Taking room that is free allocates nothing.
//!
//! *IO: none*

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, mutant};
use tokio::sync::Semaphore;

use crate::error::{Resource, WalError};
use crate::format::group::PREFIX_BYTES;
use crate::race::race;

/// Bytes a WAL has room for, and the queue of those who want some.
pub struct Room {
    env: Arc<dyn Env>,
    patience: Duration,
    frame_bytes_max: usize,
    /// What a frame takes beside its bytes.
    beside: usize,
    free: Semaphore,
    /// Requests that found no room at once.
    num_full: AtomicU64,
    refuses: AtomicBool,
    refusal: Mutex<Refusal>,
}

#[derive(Default)]
struct Refusal {
    /// For good.
    closed: Option<WalError>,
    /// What frames in hand wait for, if not for the device alone.
    shortage: Option<Resource>,
    /// Nobody new is taken for now.
    full: bool,
}

impl Refusal {
    fn full(&self) -> WalError {
        let what = self.shortage.unwrap_or(Resource::Pool);
        WalError::Full { what }
    }
}

impl Room {
    /// Room for `capacity_bytes` of frames with their length prefixes, the largest frame being of
    /// `frame_bytes_max`; whoever finds none waits for it up to `patience`.
    ///
    /// # Panics
    /// If the largest frame does not fit the capacity, or that is 2 GiB or more.
    #[must_use]
    pub fn new(
        env: Arc<dyn Env>,
        capacity_bytes: usize,
        frame_bytes_max: usize,
        patience: Duration,
    ) -> Self {
        assert!(
            frame_bytes_max + PREFIX_BYTES <= capacity_bytes && capacity_bytes < 1 << 31,
            "frames of {frame_bytes_max} bytes in room for {capacity_bytes}"
        );
        Self {
            env,
            patience,
            frame_bytes_max,
            beside: PREFIX_BYTES,
            free: Semaphore::new(capacity_bytes),
            num_full: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
            refusal: Mutex::default(),
        }
    }

    /// The same where each frame takes `num_bytes` of memory beside its bytes: the largest frame is
    /// smaller by that.
    ///
    /// # Panics
    /// If nothing is left for a frame.
    #[must_use]
    pub fn with_frame_cost(mut self, num_bytes: usize) -> Self {
        let left = self.frame_bytes_max.checked_sub(num_bytes);
        self.frame_bytes_max = left.expect("room for a frame");
        self.beside += num_bytes;
        self
    }

    /// Largest frame in bytes.
    #[must_use]
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// How long `take` waits.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Room for a frame of `num_bytes` at once.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is none now, [`WalError::FrameTooLarge`] if there never is;
    /// what [`Room::close`] was given.
    pub fn try_take(self: &Arc<Self>, num_bytes: usize) -> Result<Permit, WalError> {
        match self.attempt(num_bytes)? {
            Some(permit) => Ok(permit),
            None => Err(self.refusal().unwrap_or_else(|| self.full())),
        }
    }

    /// Room for a frame of `num_bytes`, waited for.
    #[must_use]
    pub fn take(self: &Arc<Self>, num_bytes: usize) -> Reserve {
        match self.attempt(num_bytes) {
            Ok(None) => Reserve::wait(Box::pin(Arc::clone(self).wait(num_bytes))),
            Ok(Some(permit)) => Reserve::ready(Ok(permit)),
            Err(error) => Reserve::ready(Err(error)),
        }
    }

    fn attempt(self: &Arc<Self>, num_bytes: usize) -> Result<Option<Permit>, WalError> {
        let max = self.frame_bytes_max;
        if num_bytes > max {
            return Err(WalError::FrameTooLarge { num_bytes, max });
        }
        if self.refuses.load(Ordering::Acquire)
            && let Some(refusal) = self.refusal()
        {
            return Err(refusal);
        }
        let Ok(taken) = self.free.try_acquire_many(self.held(num_bytes)) else {
            self.num_full.fetch_add(1, Ordering::Relaxed);
            return Ok(mutant!(102).then(|| self.permit(num_bytes)));
        };
        taken.forget();
        Ok(Some(self.permit(num_bytes)))
    }

    async fn wait(self: Arc<Self>, num_bytes: usize) -> Result<Permit, WalError> {
        let sleep = self.env.sleep(self.patience);
        match race(self.free.acquire_many(self.held(num_bytes)), sleep).await {
            Some(Ok(taken)) => {
                taken.forget();
                Ok(self.permit(num_bytes))
            }
            Some(Err(_)) => Err(self.refusal().unwrap_or(WalError::Closed)),
            None => Err(self.full()),
        }
    }

    fn held(&self, num_bytes: usize) -> u32 {
        u32::try_from(num_bytes + self.beside).expect("bounded by the capacity")
    }

    fn full(&self) -> WalError {
        self.refusal.lock().full()
    }

    fn permit(self: &Arc<Self>, num_bytes: usize) -> Permit {
        Permit {
            num_bytes,
            room: Some(Arc::clone(self)),
        }
    }

    fn refusal(&self) -> Option<WalError> {
        let refusal = self.refusal.lock();
        let full = refusal.full.then(|| refusal.full());
        refusal.closed.clone().or(full)
    }

    /// Gives the room of frames back that were taken with permits since used up.
    pub fn give_back(&self, num_bytes: usize) {
        if num_bytes > 0 {
            self.free.add_permits(num_bytes);
        }
    }

    /// How many requests found no room at once: they waited, or were refused.
    #[must_use]
    pub fn num_full(&self) -> u64 {
        self.num_full.load(Ordering::Relaxed)
    }

    /// What the frames in hand wait for, if not for the device alone; [`WalError::Full`] names it.
    /// With `full`, everybody new is refused without a wait.
    pub fn set_shortage(&self, of: Option<Resource>, full: bool) {
        let mut refusal = self.refusal.lock();
        refusal.shortage = of;
        refusal.full = full;
        let refuses = full || refusal.closed.is_some();
        self.refuses.store(refuses, Ordering::Release);
    }

    /// Refuses everybody, those who wait too, with `why`. The first reason counts.
    pub fn close(&self, why: WalError) {
        let mut refusal = self.refusal.lock();
        refusal.closed.get_or_insert(why);
        self.refuses.store(true, Ordering::Release);
        drop(refusal);
        self.free.close();
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("free", &self.free.available_permits())
            .finish_non_exhaustive()
    }
}

/// Room for one frame, taken before the caller fixes the frame's place in an order of its own.
///
/// Dropping an unused permit gives the room back.
#[derive(Debug)]
pub struct Permit {
    num_bytes: usize,
    room: Option<Arc<Room>>,
}

impl Permit {
    /// The room held, in bytes of frame.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// Whether it was taken from `room`.
    #[must_use]
    pub fn is_of(&self, room: &Arc<Room>) -> bool {
        self.room
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, room))
    }

    /// Uses the permit up: the WAL accounts for the room from now on, and gives that many bytes
    /// back with [`Room::give_back`] when it has let go of the frame.
    #[must_use]
    pub fn consume(mut self) -> usize {
        let room = self.room.take().expect("there until it is used up");
        self.num_bytes + room.beside
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            room.give_back(self.num_bytes + room.beside);
        }
    }
}

/// A permit that is waited for. Dropping it leaves the queue.
pub struct Reserve(State);

enum State {
    Ready(Option<Result<Permit, WalError>>),
    Waiting(BoxFuture<'static, Result<Permit, WalError>>),
}

impl Reserve {
    /// One that is decided.
    #[must_use]
    pub fn ready(answer: Result<Permit, WalError>) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// One that `wait` decides.
    #[must_use]
    pub fn wait(wait: BoxFuture<'static, Result<Permit, WalError>>) -> Self {
        Self(State::Waiting(wait))
    }
}

impl Future for Reserve {
    type Output = Result<Permit, WalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(answer.take().expect("polled after its end")),
            State::Waiting(wait) => wait.as_mut().poll(cx),
        }
    }
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserve").finish_non_exhaustive()
    }
}
