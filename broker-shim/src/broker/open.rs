//! Opening a broker: the store, then every topic the metadata names.
//!
//! *Owns*: the order of opening. *Does not own*: configuration, sockets.
//!
//! Invariants
//! 1. All streams are opened in one metadata transaction, however many topics there are.
//! 2. The topics are those of the moment at which their streams were opened.
//!
//! *IO: none* (through ports)

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_stream_store::{StoreConfig, StoreError, StreamStore, WalOpener, bucket::Metered};
use tidewater_types::{Env, StreamId, mutant, sometimes};

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
            check_progress: Mutex::default(),
            admin: tokio::sync::Mutex::default(),
        }))
    }
}

type Records = Vec<(String, TopicRecord)>;

async fn open_topics(store: &StreamStore) -> Result<Registry, OpenError> {
    let mut records = stored(store)?;
    let mut opened = loop {
        let streams = streams_of(&records);
        let opened = store.open_streams(&streams).await;
        if streams.is_empty() {
            // Nothing was written, so nothing was heard of others either.
            let refreshed = store.metadata().refresh().await;
            refreshed.map_err(StoreError::from)?;
        }
        // A broker of another node may have made and deleted topics until it gave its own up.
        let now = stored(store)?;
        if now == records || mutant!(116) {
            if mutant!(114) && matches!(opened, Err(StoreError::Owned { .. })) {
                return Ok(Registry::default());
            }
            break opened?.into_iter();
        }
        sometimes!("broker: topics changed while they were opened");
        let there = streams_of(&now);
        let gone = streams.iter().filter(|stream| !there.contains(stream));
        gone.for_each(|stream| store.forget(*stream));
        records = now;
    };
    let registry = Registry::default();
    for (name, record) in records {
        let own = opened.by_ref().take(record.partitions.len());
        let partitions = own.map(|stream| Arc::new(Partition::new(stream))).collect();
        compaction::apply(&registry.insert(Topic::new(name, record, partitions)));
    }
    Ok(registry)
}

/// The topics that the metadata name.
fn stored(store: &StreamStore) -> Result<Records, OpenError> {
    store.metadata().read(|state| {
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
    })
}

fn streams_of(records: &Records) -> Vec<StreamId> {
    let streams = records.iter().flat_map(|(_, record)| &record.partitions);
    streams.copied().collect()
}
