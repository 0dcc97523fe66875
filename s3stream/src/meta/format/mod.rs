//! Codecs of the metadata log.
//!
//! *Owns*: the bytes of log entries, operations and metadata snapshots.
//! *Does not own*: the order of entries, their judgement.
//!
//! *IO: none*

pub(crate) mod boundary;
pub(crate) mod entry;
mod field;
pub(crate) mod op;
mod owner;
pub(crate) mod replace;
pub(crate) mod sections;
pub(crate) mod snapshot;
