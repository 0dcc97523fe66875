//! Who may ask the bucket, and when.
//!
//! *Owns*: the parts listed below. *Does not own*: requests and retries.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod core;
pub(crate) mod paced;
mod rate;
