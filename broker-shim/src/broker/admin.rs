//! Creating, growing and deleting topics.
//!
//! *Owns*: the metadata transactions behind a topic, and keeping the registry in step.
//! *Does not own*: the request formats; what a topic's settings mean.
//!
//! Invariants
//! 1. A topic and its streams appear and disappear in one metadata transaction.
//! 2. The registry changes only after the transaction is committed.
//! 3. A broker that was replaced changes nothing: the transaction is refused, and the client told
//!    to look for the controller. One whose topics another node has changes none of them.
//!
//! *IO: none* (through ports)

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{ErrorCode, Uuid};
use tidewater_stream_store::{MetaOp, StoreError};
use tidewater_types::{StreamId, mutant};

use super::Broker;
use crate::compaction;
use crate::partition::Partition;
use crate::refusal::Refusal;
use crate::topics::record::{self, TopicRecord};
use crate::topics::registry::Topic;
use crate::topics::{configs, names};

/// Most partitions of one topic.
pub(crate) const PARTITIONS_MAX: i32 = 10_000;

/// How often a transaction that lost a race is tried again.
const RACES_MAX: usize = 16;

/// A topic to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// −1 for the broker's default.
    pub(crate) num_partitions: i32,
    /// −1 for the broker's default.
    pub(crate) replication: i16,
    pub(crate) configs: BTreeMap<String, String>,
}

/// A topic that was created, or could be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Created {
    pub(crate) id: Uuid,
    pub(crate) num_partitions: i32,
    pub(crate) replication: i16,
}

impl Broker {
    /// Creates a topic, or only checks whether it could be.
    pub(crate) async fn create_topic(
        &self,
        new: NewTopic,
        validate_only: bool,
    ) -> Result<Created, Refusal> {
        let _admin = self.admin.lock().await;
        let (num_partitions, replication) = self.check_new(&new)?;
        let id = Uuid(self.random_uuid());
        let created = Created {
            id,
            num_partitions,
            replication,
        };
        if validate_only {
            return Ok(created);
        }
        let metadata = self.store.metadata();
        for _ in 0..RACES_MAX {
            let streams = self.next_streams(num_partitions);
            let record = TopicRecord {
                id,
                partitions: streams.clone(),
                replication,
                configs: new.configs.clone(),
            };
            let mut txn: Vec<MetaOp> = streams
                .iter()
                .map(|&stream| MetaOp::CreateStream { stream })
                .collect();
            let value = Bytes::from(record.encode());
            let key = record::key(&new.name);
            txn.push(MetaOp::PutKey {
                key: key.clone(),
                value,
                expected_version: Some(0),
            });
            match metadata.propose(txn).await {
                Ok(()) => return self.serve(new.name, record).await.map(|()| created),
                Err(error) if error.is_conflict() => {
                    if let Some(stored) = self.stored(&new.name)? {
                        // Of a request whose outcome was unknown, or that ended half-way.
                        self.serve(new.name.clone(), stored).await?;
                        let message = format!("topic {} exists", new.name);
                        return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::new(
            ErrorCode::REQUEST_TIMED_OUT,
            "too many brokers create topics at a time",
        ))
    }

    /// The number of partitions and replicas of a topic that may be created.
    fn check_new(&self, new: &NewTopic) -> Result<(i32, i16), Refusal> {
        if let Some(message) = names::refusal(&new.name) {
            return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        if self.topics.by_name(&new.name).is_some() {
            let message = format!("topic {} exists", new.name);
            return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
        }
        if let Some(other) = self.topics.colliding(&new.name) {
            let message = format!(
                "topic {} collides with the existing topic {other}",
                new.name
            );
            return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        let num_partitions = match new.num_partitions {
            -1 => self.facts.default_partitions,
            asked => asked,
        };
        if !(1..=PARTITIONS_MAX).contains(&num_partitions) {
            let message = format!("{num_partitions} partitions, expected 1 to {PARTITIONS_MAX}");
            return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        let replication = if new.replication == -1 {
            1
        } else {
            new.replication
        };
        if replication < 1 {
            let message = format!("replication factor {replication}, expected 1 or more");
            return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        configs::check(&new.configs)
            .map_err(|message| Refusal::new(ErrorCode::INVALID_CONFIG, message))?;
        Ok((num_partitions, replication))
    }

    fn next_streams(&self, count: i32) -> Vec<StreamId> {
        let first = self.store.metadata().read(|state| state.next_stream_id()).0;
        let count = u64::try_from(count).expect("checked to be positive");
        (first..first + count).map(StreamId).collect()
    }

    /// The topic as the metadata knows it.
    fn stored(&self, name: &str) -> Result<Option<TopicRecord>, Refusal> {
        let key = record::key(name);
        let value = self
            .store
            .metadata()
            .read(|state| state.key(&key).map(|(value, _)| value.clone()));
        let decoded = value.map(|value| TopicRecord::decode(&value)).transpose();
        decoded.map_err(|cause| {
            Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("{key}: {cause}"))
        })
    }

    /// Refuses what follows if another node has one of the streams: it would go on with the topic as it
    /// was, and acknowledge records that nobody keeps.
    fn guard(&self, streams: &[StreamId]) -> Vec<MetaOp> {
        if mutant!(117) {
            return Vec::new();
        }
        let node = self.store.node();
        let guards = streams.iter();
        guards
            .map(|&stream| MetaOp::RequireOwner { stream, node })
            .collect()
    }

    /// Opens a committed topic's streams and adds it to the registry.
    async fn serve(&self, name: String, record: TopicRecord) -> Result<(), Refusal> {
        let opened = self.store.open_streams(&record.partitions).await;
        let streams = opened.map_err(|error| match error {
            StoreError::Meta(error) => Refusal::from(error),
            owned @ StoreError::Owned { .. } => {
                Refusal::new(ErrorCode::NOT_CONTROLLER, owned.to_string())
            }
            error => error.into(),
        })?;
        let known = self.topics.by_name(&name);
        let partitions = streams
            .into_iter()
            .enumerate()
            .map(|(index, stream)| {
                let old = known
                    .as_ref()
                    .and_then(|topic| topic.partitions.get(index))
                    .cloned();
                old.unwrap_or_else(|| Arc::new(Partition::new(stream)))
            })
            .collect();
        compaction::apply(&self.topics.insert(Topic::new(name, record, partitions)));
        Ok(())
    }

    /// Grows a topic to `count` partitions, or only checks whether it could be.
    pub(crate) async fn add_partitions(
        &self,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let _admin = self.admin.lock().await;
        let topic = self
            .topics
            .by_name(name)
            .ok_or_else(|| unknown_topic(name))?;
        if name == names::CONSUMER_OFFSETS {
            // A group belongs to the partition that its name and their number tell.
            let message = "the number of partitions of the offsets topic cannot be changed";
            return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        let current = topic.num_partitions();
        if count <= current || count > PARTITIONS_MAX {
            let message = format!(
                "topic {name} has {current} partitions and cannot have {count}: \
                 expected {} to {PARTITIONS_MAX}",
                current + 1
            );
            return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        if validate_only {
            return Ok(());
        }
        let metadata = self.store.metadata();
        let key = record::key(name);
        for _ in 0..RACES_MAX {
            let version = metadata.read(|state| state.key(&key).map(|(_, version)| version));
            let added = self.next_streams(count - current);
            let mut record = topic.record.clone();
            record.partitions.extend(&added);
            let mut txn = self.guard(&topic.record.partitions);
            txn.extend(added.iter().map(|&stream| MetaOp::CreateStream { stream }));
            let value = Bytes::from(record.encode());
            txn.push(MetaOp::PutKey {
                key: key.clone(),
                value,
                expected_version: version,
            });
            match metadata.propose(txn).await {
                Ok(()) => return self.serve(name.to_owned(), record).await,
                Err(error) if error.is_conflict() && !error.is_owned() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::new(
            ErrorCode::REQUEST_TIMED_OUT,
            "too many brokers change topics at a time",
        ))
    }

    /// Deletes a topic with its records.
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), Refusal> {
        let _admin = self.admin.lock().await;
        let topic = self
            .topics
            .by_name(name)
            .ok_or_else(|| unknown_topic(name))?;
        let streams = &topic.record.partitions;
        let mut txn = self.guard(streams);
        txn.push(MetaOp::DeleteKey {
            key: record::key(name),
            expected_version: None,
        });
        txn.extend(
            streams
                .iter()
                .map(|&stream| MetaOp::DeleteStream { stream }),
        );
        match self.store.metadata().propose(txn).await {
            // Deleted by a request whose outcome was unknown, or that ended half-way.
            Err(error) if error.is_conflict() && self.stored(name)?.is_none() => {}
            outcome => outcome?,
        }
        self.topics.remove(name);
        for &stream in streams {
            self.store.forget(stream);
        }
        Ok(())
    }

    /// The topic, created with the broker's defaults if it is absent and `create` is set.
    /// Like Kafka, the request that creates it does not see it yet.
    pub(crate) async fn auto_create(&self, name: &str) -> Result<(), Refusal> {
        let new = NewTopic {
            name: name.to_owned(),
            num_partitions: -1,
            replication: -1,
            configs: BTreeMap::new(),
        };
        match self.create_topic(new, false).await {
            Err(refusal) if refusal.code != ErrorCode::TOPIC_ALREADY_EXISTS => Err(refusal),
            _ => Ok(()),
        }
    }
}

/// The refusal for a topic that does not exist.
pub(crate) fn unknown_topic(name: &str) -> Refusal {
    let message = format!("topic {name} does not exist");
    Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
}
