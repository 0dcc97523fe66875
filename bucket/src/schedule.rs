//! The place of long work among the threads of a machine.
//!
//! *Owns*: asking the scheduler that all others go first.
//! *Does not own*: the work.
//!
//! Invariants
//! 1. It is a wish: work is done, and done right, whatever the system says to it.
//! 2. The thread has the slice that it had before afterwards, also if work panics.
//!
//! *IO: driver*

/// Less work than on so many bytes, some 20 µs, is done before anybody waits for it.
pub(crate) const STEP_BYTES: usize = 64 << 10;

/// Does `work` on so many bytes so that any other thread that wakes up has the core at once, where the
/// system can do so (Linux from 6.12 on). Elsewhere whoever wakes up waits until the time slice of
/// this thread ends: some milliseconds, which the thread of a write-ahead log would add to what it
/// acknowledges.
#[cfg(target_os = "linux")]
pub fn behind_others<T>(num_bytes: usize, work: impl FnOnce() -> T) -> T {
    if num_bytes <= STEP_BYTES {
        return work();
    }
    let _before = linux::Slice::lengthen();
    give_way();
    work()
}

/// Does `work`: this system has no such wish.
#[cfg(not(target_os = "linux"))]
pub fn behind_others<T>(_num_bytes: usize, work: impl FnOnce() -> T) -> T {
    work()
}

/// Lets those go first who wait for the core already: only who wakes up later takes it by itself.
pub(crate) fn give_way() {
    std::thread::yield_now();
}

#[cfg(target_os = "linux")]
mod linux {
    use libc::{SYS_sched_getattr, SYS_sched_setattr, sched_attr};

    /// Nanoseconds. A thread with a shorter slice than the one that runs takes its place when it wakes
    /// up (`PREEMPT_SHORT`); usual ones have some milliseconds.
    const SLICE: u64 = 20_000_000;

    /// A long slice; the thread has what it had before when this is dropped.
    pub(super) struct Slice(sched_attr);

    impl Slice {
        /// `None` if nothing was changed.
        pub(super) fn lengthen() -> Option<Self> {
            let before = get()?;
            // Other policies mean something else by it, and whoever chose one had reasons.
            if before.sched_policy != libc::SCHED_OTHER as u32 {
                return None;
            }
            let longer = sched_attr {
                sched_runtime: SLICE,
                ..before
            };
            set(&longer).then_some(Self(before))
        }
    }

    impl Drop for Slice {
        fn drop(&mut self) {
            set(&self.0);
        }
    }

    pub(super) fn get() -> Option<sched_attr> {
        let size = size_of::<sched_attr>() as u32;
        let mut attr = sched_attr {
            size,
            sched_policy: 0,
            sched_flags: 0,
            sched_nice: 0,
            sched_priority: 0,
            sched_runtime: 0,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel writes at most `size` bytes to `attr`, which is as large.
        let got = unsafe { libc::syscall(SYS_sched_getattr, 0, &raw mut attr, size, 0) };
        (got == 0).then_some(attr)
    }

    /// Whether the thread is so now.
    fn set(attr: &sched_attr) -> bool {
        // SAFETY: the kernel reads as many bytes as `attr.size` says, which is its size.
        let set = unsafe { libc::syscall(SYS_sched_setattr, 0, &raw const *attr, 0) };
        set == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{STEP_BYTES, behind_others};

    #[test]
    fn work_is_done_and_the_thread_is_what_it_was() {
        assert_eq!(behind_others(STEP_BYTES, || 5), 5);
        assert_eq!(behind_others(STEP_BYTES + 1, || 5), 5);
        #[cfg(target_os = "linux")]
        {
            let slice = || super::linux::get().map(|attr| (attr.sched_runtime, attr.sched_nice));
            let before = slice();
            let within = behind_others(STEP_BYTES + 1, slice);
            assert_eq!(slice(), before);
            // Older systems tell 0, and change nothing.
            if before.is_some_and(|(slice, _)| slice > 0) {
                assert!(within > before, "{within:?} {before:?}");
            }
        }
    }
}
