//! Metadata: a pure state machine, and the log in the bucket that feeds it.
//!
//! *Owns*: the parts listed below. *Does not own*: data objects.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod apply;
pub(crate) mod chunk_map;
pub(crate) mod format;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod op;
mod queue;
mod snapshots;
pub(crate) mod state;

#[cfg(test)]
mod tests;
