//! Codecs of data objects, and what all codecs of this crate share.
//!
//! *Owns*: bounded reading of little-endian fields, the verdicts of a decoder.
//! *Does not own*: I/O; which object is read and what a caller does about damage.
//!
//! *IO: none*

pub(crate) mod block;
pub(crate) mod index;
pub(crate) mod object;
pub(crate) mod reader;
