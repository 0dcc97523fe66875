//! Codecs of data objects.
//!
//! *Owns*: the bytes of header, footer, index and blocks.
//! *Does not own*: I/O; which object is read and what a caller does about damage.
//!
//! *IO: none*

pub(crate) mod block;
pub(crate) mod index;
pub(crate) mod object;
