//! Uploads: from the tail to committed objects.
//!
//! *Owns*: the parts listed below. *Does not own*: the tail, the metadata log.
//!
//! *IO: none* (requests go through the bucket port)

pub(crate) mod commits;
mod committer;
pub(crate) mod control;
pub(crate) mod copies;
pub(crate) mod encode;
pub(crate) mod growing;
pub(crate) mod pace;
pub(crate) mod parts;
pub(crate) mod plan;
mod sealer;
pub(crate) mod store;
pub(crate) mod uploader;

#[cfg(test)]
mod tests;
