//! Locks and atomics, which loom can take the place of.
//!
//! *Owns*: the choice between parking_lot and std, and loom's models of them.
//!
//! *IO: none*

#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(feature = "loom")]
pub(crate) use loom::sync::{Condvar as Bell, Mutex as BellMutex};
#[cfg(feature = "loom")]
pub(crate) use loom::thread::yield_now;
#[cfg(not(feature = "loom"))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::atomic::AtomicU64;
// std's: it wakes all who wait with one system call, where parking_lot's needs one for each.
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{Condvar as Bell, Mutex as BellMutex};
#[cfg(not(feature = "loom"))]
pub(crate) use std::thread::yield_now;

pub(crate) use std::sync::atomic::Ordering;

/// Loom's mutex with parking_lot's interface.
#[cfg(feature = "loom")]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(feature = "loom")]
pub(crate) type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

#[cfg(feature = "loom")]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no holder panicked")
    }
}
