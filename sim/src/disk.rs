//! The simulated disk: one device that outlives the processes that open it.
//!
//! *Owns*: operations under way, their times and faults, the lock on the device, and
//! what a kill or a power failure does to all of that.
//! *Does not own*: what is durable (state.rs), the shape of a run (the plan).
//!
//! Invariants
//! 1. Operations complete in any order.
//! 2. A process that is gone submits nothing; what it had submitted may still land.
//! 3. The device opens again only when the last write of its former user has landed or
//!    was cancelled, as `flock` on the same open file description has it; with late
//!    landing (beyond contract) it opens at once.
//! 4. A write is read from its buffer when it completes, as a device does by DMA.
//! 5. A read buffer holds poison until the read completes, and beyond what it returned.
//!
//! *IO: none*

mod beyond;
mod detach;
mod device;
pub(crate) mod faults;
pub(crate) mod image;
mod ops;
mod port;
mod state;

pub use device::{Device, SimDisk};
pub use faults::{CrashStyle, DiskFaults, DiskShape};

#[cfg(test)]
mod tests;
