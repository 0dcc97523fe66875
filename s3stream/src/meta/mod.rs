//! Metadata: a pure state machine, and the log in the bucket that feeds it.
//!
//! *Owns*: the parts listed below. *Does not own*: data objects.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod apply;
pub(crate) mod boundary;
pub(crate) mod chunk_map;
mod collect;
mod collecting;
mod commit;
pub(crate) mod format;
mod fresh;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod op;
mod pace;
mod queue;
mod snapshots;
pub(crate) mod state;
mod store;
mod turns;
pub(crate) mod watch;
pub(crate) mod watched;
mod watchers;

#[cfg(test)]
mod tests;
