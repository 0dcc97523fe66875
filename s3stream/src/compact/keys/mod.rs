//! Key compaction: of each key the newest record stays, and holes where the others were.
//!
//! *Owns*: the parts listed below. *Does not own*: what records mean (`keyed`), metadata.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod due;
mod filter;
mod group;
mod hash;
pub(crate) mod map;
mod pass;

#[cfg(test)]
mod tests;
