//! Codecs of data objects, of the slots of the disk cache, and of the mark of key compaction.
//!
//! *Owns*: the bytes of header, footer, index, blocks, slots and marks.
//! *Does not own*: I/O; which object is read and what a caller does about damage.
//!
//! *IO: none*

pub(crate) mod block;
pub(crate) mod index;
pub(crate) mod mark;
pub(crate) mod object;
pub(crate) mod slot;
