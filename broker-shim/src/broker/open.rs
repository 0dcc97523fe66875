//! Opening a broker: the store, then every topic the metadata names.
//!
//! *Owns*: the order of opening. *Does not own*: configuration, sockets.
//!
//! Invariants
//! 1. All streams are opened in one metadata transaction, however many topics there are.
//!
//! *IO: none* (through ports)

use std::path::PathBuf;
use std::sync::Arc;

use tidewater_stream_store::{StoreConfig, StoreError, StreamStore, WalOpener, bucket::Metered};
use tidewater_types::Env;

use super::{Broker, Facts, IdSource};
use crate::compaction;
use crate::partition::Partition;
use crate::topics::record::{BadRecord, KEY_PREFIX, TopicRecord};
use crate::topics::registry::{Registry, Topic};

/// Why a broker cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A topic's record cannot be read.
    #[error("metadata key {key}: {cause}")]
    Topic {
        /// The key.
        key: String,
        /// Why.
        cause: BadRecord,
    },
}

/// What a broker is opened from.
pub struct Parts {
    /// Time, tasks, randomness.
    pub env: Arc<dyn Env>,
    /// Where objects and metadata lie.
    pub bucket: Arc<Metered>,
    /// The write-ahead log.
    pub wal: Box<dyn WalOpener>,
    /// Where the WAL lies if it is on a device.
    pub device_wal: Option<PathBuf>,
    /// The store's settings.
    pub config: StoreConfig,
    /// All but the cluster id, which the store tells.
    pub facts: Facts,
}

impl Broker {
    /// Opens the store and the topics on it.
    pub(crate) async fn open(parts: Parts) -> Result<Arc<Self>, OpenError> {
        let Parts {
            env,
            bucket,
            wal,
            device_wal,
            config,
            mut facts,
        } = parts;
        let store = StreamStore::open(Arc::clone(&env), bucket.clone(), wal, config).await?;
        facts.cluster_id = store.cluster_id().to_string();
        let topics = open_topics(&store).await?;
        Ok(Arc::new(Self {
            store,
            bucket,
            started: env.now(),
            env,
            facts,
            topics,
            producer_ids: IdSource::default(),
            device_wal,
            checking: tokio::sync::Mutex::default(),
            admin: tokio::sync::Mutex::default(),
        }))
    }
}

async fn open_topics(store: &StreamStore) -> Result<Registry, OpenError> {
    let records: Result<Vec<(String, TopicRecord)>, OpenError> = store.metadata().read(|state| {
        let stored = state.keys_with_prefix(KEY_PREFIX);
        stored
            .map(|(key, value, _)| match TopicRecord::decode(value) {
                Ok(record) => Ok((key[KEY_PREFIX.len()..].to_owned(), record)),
                Err(cause) => Err(OpenError::Topic {
                    key: key.to_owned(),
                    cause,
                }),
            })
            .collect()
    });
    let records = records?;
    let streams: Vec<_> = records
        .iter()
        .flat_map(|(_, record)| record.partitions.clone())
        .collect();
    let mut opened = store.open_streams(&streams).await?.into_iter();
    let registry = Registry::default();
    for (name, record) in records {
        let own = opened.by_ref().take(record.partitions.len());
        let partitions = own.map(|stream| Arc::new(Partition::new(stream))).collect();
        compaction::apply(&registry.insert(Topic::new(name, record, partitions)));
    }
    Ok(registry)
}
