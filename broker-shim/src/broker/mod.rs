//! The broker: the store, the topics on it, and what request handlers share.
//!
//! *Owns*: what exists while a broker runs.
//! *Does not own*: sockets (net), request formats (api), the rules of topics, records,
//! producers and groups (their modules).
//!
//! *IO: none* (through ports)

mod admin;
mod open;
mod producer_ids;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_stream_store::{StreamStore, bucket::Metered};
use tidewater_types::{Env, Instant};

pub(crate) use admin::{NewTopic, unknown_topic};
pub use open::{OpenError, Parts};
pub(crate) use producer_ids::IdSource;

use crate::topics::registry::Registry;

/// What the broker is, for answers to clients.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its id, 0 or more.
    pub node_id: i32,
    /// The host clients connect to.
    pub host: String,
    /// The port clients connect to.
    pub port: u16,
    /// The cluster's id; whatever a caller sets is replaced when the broker opens.
    pub cluster_id: String,
    /// Partitions of a topic that is created without a number of them.
    pub default_partitions: i32,
    /// Partitions of the offsets topic when this broker creates it.
    pub offsets_partitions: i32,
    /// Most bytes of records in an answer to one fetch, if the first batch is not larger.
    pub response_bytes_max: usize,
    /// Whether asking for a topic creates it.
    pub auto_create_topics: bool,
}

/// Bytes that a check has looked at, and how many there are; 0 until that is known.
pub(crate) type CheckProgress = Box<dyn Fn() -> (u64, u64) + Send>;

/// A running broker.
pub(crate) struct Broker {
    pub(crate) store: StreamStore,
    pub(crate) bucket: Arc<Metered>,
    pub(crate) env: Arc<dyn Env>,
    /// When it was opened.
    pub(crate) started: Instant,
    pub(crate) facts: Facts,
    pub(crate) topics: Registry,
    pub(crate) producer_ids: IdSource,
    /// Where the WAL lies if it is on a device.
    pub(crate) device_wal: Option<PathBuf>,
    /// Held while the broker checks its data.
    pub(crate) checking: tokio::sync::Mutex<()>,
    /// How far that check is, while there is one.
    pub(crate) check_progress: Mutex<Option<CheckProgress>>,
    /// Held while topics are created, changed or deleted.
    admin: tokio::sync::Mutex<()>,
}

impl Broker {
    /// Sixteen random bytes.
    pub(crate) fn random_uuid(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.env.random("uuid").to_be_bytes());
        bytes[8..].copy_from_slice(&self.env.random("uuid").to_be_bytes());
        bytes
    }
}
