//! Topics: their names, configuration, stored form, and the registry of those that exist.
//!
//! *Owns*: everything about a topic but its records.
//! *Does not own*: streams (stream-store), request handling (api).
//!
//! *IO: none*

pub(crate) mod configs;
pub(crate) mod names;
pub(crate) mod record;
pub(crate) mod registry;
