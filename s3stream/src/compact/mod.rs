//! Compaction: many small ranges become few large ones.
//!
//! *Owns*: the parts listed below. *Does not own*: metadata, the way an object gets to the bucket.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod compactor;
mod job;
pub(crate) mod keys;
mod merge;
mod pace;
mod plan;
mod prove;
mod read;
mod split;
mod steps;
mod sum;
mod write;

#[cfg(test)]
mod tests;
