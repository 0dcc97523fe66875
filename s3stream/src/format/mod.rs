//! Codecs of data objects, and of the slots of the disk cache.
//!
//! *Owns*: the bytes of header, footer, index, blocks and slots.
//! *Does not own*: I/O; which object is read and what a caller does about damage.
//!
//! *IO: none*

pub(crate) mod block;
pub(crate) mod index;
pub(crate) mod object;
pub(crate) mod slot;
