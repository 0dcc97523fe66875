//! The Tidewater broker: the Kafka protocol in front of shared-storage streams.
//!
//! *Owns*: the `tidewater` command; [`EmbeddedBroker`], the same broker on ports of a caller's. *Does not own*: durability (stream-store and below), the wire
//! codec (tidewater-protocol).
//!
//! Invariants
//! 1. State machines (partition, producer, group) are pure and fed by logs that are streams.
//! 2. Only what works is advertised.
//!
//! *IO: driver*
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")
)]

mod api;
mod banner;
mod broker;
mod cli;
mod compaction;
mod config;
mod coordinator;
mod cost;
mod embed;
mod exit;
mod fsck;
mod group;
mod logging;
mod net;
mod partition;
mod printer;
mod producer;
mod ready;
mod records;
mod refusal;
mod report;
mod serve;
mod signals;
mod stats;
#[cfg(test)]
mod testvectors;
mod topics;
mod wal_tools;

pub use broker::{Facts, OpenError, Parts};
pub use cli::main;
pub use embed::EmbeddedBroker;
pub use net::{Limits, Listener};
