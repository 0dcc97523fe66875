//! Reads of committed streams.
//!
//! *Owns*: the parts listed below. *Does not own*: metadata, uploads.
//!
//! *IO: none* (requests go through the bucket port)

mod ahead;
pub(crate) mod cache;
pub(crate) mod disk;
pub(crate) mod fetch;
mod flight;
pub(crate) mod hedge;
mod loader;
mod prefetch;
mod retain;
mod runs;
pub(crate) mod source;

#[cfg(test)]
mod tests;
