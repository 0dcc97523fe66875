//! The topics that exist, by name and by id.
//!
//! *Owns*: the in-memory picture of what the metadata log holds under `topic/`.
//! *Does not own*: changing it durably (broker/admin.rs does, then tells the registry).
//!
//! Invariants
//! 1. A topic is either in both maps or in none.
//! 2. A `Topic` never changes; a change puts a new one in its place that shares the partitions.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidewater_protocol::Uuid;

use super::configs::TopicConfig;
use super::names;
use super::record::TopicRecord;
use crate::partition::Partition;

/// One topic as this broker serves it.
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) record: TopicRecord,
    pub(crate) config: TopicConfig,
    pub(crate) partitions: Vec<Arc<Partition>>,
}

impl Topic {
    pub(crate) fn new(name: String, record: TopicRecord, partitions: Vec<Arc<Partition>>) -> Self {
        assert_eq!(
            record.partitions.len(),
            partitions.len(),
            "a stream a partition"
        );
        let config = TopicConfig::from_stored(&record.configs);
        Self {
            name,
            record,
            config,
            partitions,
        }
    }

    /// The partition with this index.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.partitions.get(index))
    }

    /// How many partitions there are, as the wire counts them.
    pub(crate) fn num_partitions(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("the number of partitions is bounded")
    }
}

/// The topics.
#[derive(Default)]
pub(crate) struct Registry {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: BTreeMap<[u8; 16], Arc<Topic>>,
}

impl Registry {
    /// The topic called `name`.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.maps.read().by_name.get(name).cloned()
    }

    /// The topic with this id.
    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.maps.read().by_id.get(&id.0).cloned()
    }

    /// All topics by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.maps.read().by_name.values().cloned().collect()
    }

    /// A topic other than `name` whose name collides with it.
    pub(crate) fn colliding(&self, name: &str) -> Option<String> {
        let key = names::collision_key(name);
        let maps = self.maps.read();
        let other = |other: &&String| *other != name && names::collision_key(other) == key;
        maps.by_name.keys().find(other).cloned()
    }

    /// Adds a topic or puts it in the place of the one with its name.
    pub(crate) fn insert(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut maps = self.maps.write();
        if let Some(old) = maps.by_name.insert(topic.name.clone(), Arc::clone(&topic)) {
            maps.by_id.remove(&old.record.id.0);
        }
        maps.by_id.insert(topic.record.id.0, Arc::clone(&topic));
        topic
    }

    /// Removes a topic.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Topic>> {
        let mut maps = self.maps.write();
        let topic = maps.by_name.remove(name)?;
        maps.by_id.remove(&topic.record.id.0);
        Some(topic)
    }
}
