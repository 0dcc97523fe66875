//! Codecs of what the store writes into the write-ahead log.
//!
//! *Owns*: the frame head. *Does not own*: checksums; the WAL's group covers the frame.
//! *Format: docs/formats/store-frame.md*
//! *IO: none*

pub(crate) mod frame;
