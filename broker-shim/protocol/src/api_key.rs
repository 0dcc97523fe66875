//! `ApiKey`: the APIs this crate knows.
//!
//! *Owns*: key, name, versions and first flexible version of each API, generated from `schema/`.
//!
//! *Does not own*: what a broker advertises; that is a choice of the broker within these versions.
//!
//! *IO: none*

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));
