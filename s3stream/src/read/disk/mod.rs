//! A cache of blocks on a disk of this machine, behind the one in memory.
//!
//! *Owns*: the port on the disk, what is kept and where, the checks on what comes back.
//! *Does not own*: the blocks; the bucket does. Whatever is lost here costs a request.
//!
//! *IO: driver/ alone*

pub(crate) mod driver;
mod ghost;
pub(crate) mod port;
mod ring;
pub(crate) mod store;

#[cfg(test)]
mod tests;
