//! Reads of committed streams.
//!
//! *Owns*: the parts listed below. *Does not own*: metadata, uploads.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod cache;
pub(crate) mod fetch;
mod retain;
pub(crate) mod source;

#[cfg(test)]
mod tests;
