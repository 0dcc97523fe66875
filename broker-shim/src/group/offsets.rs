//! Committed offsets.
//!
//! *Owns*: the offsets of all groups of one partition of the offsets topic.
//! *Does not own*: whether a commit is allowed, durability: what is in here is durable.
//!
//! *IO: none*

use std::collections::BTreeMap;

/// An offset a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    /// −1 for none.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) commit_ms: i64,
    /// When it expires, if the commit asked for a retention of its own.
    pub(crate) expire_ms: Option<i64>,
}

type Partitions = BTreeMap<i32, CommittedOffset>;

/// All committed offsets: group → topic → partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetStore {
    groups: BTreeMap<String, BTreeMap<String, Partitions>>,
}

impl OffsetStore {
    pub(crate) fn put(
        &mut self,
        group: String,
        topic: String,
        partition: i32,
        offset: CommittedOffset,
    ) {
        self.groups
            .entry(group)
            .or_default()
            .entry(topic)
            .or_default()
            .insert(partition, offset);
    }

    pub(crate) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// All offsets of a group, by topic and partition.
    pub(crate) fn of_group(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.groups
            .get(group)
            .into_iter()
            .flatten()
            .flat_map(|(topic, partitions)| {
                partitions
                    .iter()
                    .map(move |(partition, offset)| (topic.as_str(), *partition, offset))
            })
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }
}
