//! What waits to run: ready tasks, and events in the order of their times.
//!
//! *Owns*: wakers, the ready set, the order of the event heap.
//! *Does not own*: tasks, time, the choice among those that are ready (exec.rs).
//!
//! Invariants
//! 1. A task is in the ready set at most once.
//! 2. Of two events the earlier comes first; at the same time the one scheduled first.
//!
//! *IO: none*

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Ready {
    pub(super) queue: Mutex<Vec<TaskKey>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TaskKey {
    pub(super) slot: usize,
    pub(super) generation: u32,
}

pub(super) struct TaskWaker {
    pub(super) key: TaskKey,
    pub(super) queued: AtomicBool,
    pub(super) ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.queue.lock().push(self.key);
        }
    }
}

pub(super) enum Due {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
}

pub(super) struct Scheduled {
    pub(super) at_ns: u64,
    pub(super) number: u64,
    pub(super) due: Due,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    /// The earliest event is the greatest, as `BinaryHeap` pops the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at_ns, other.number).cmp(&(self.at_ns, self.number))
    }
}
