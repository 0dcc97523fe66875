//! What the coordinator tells without changing anything.
//!
//! *Owns*: OffsetFetch, DescribeGroups and ListGroups over one partition's groups.
//! *Does not own*: filters and authorisation; the API layer has them.
//!
//! *IO: none*

use super::super::offsets::CommittedOffset;
use super::super::types::{GroupDescription, ListedGroup};
use super::Coordinator;

impl Coordinator {
    /// The committed offset of one partition; `None` is answered as −1 without error.
    #[cfg(test)]
    pub(crate) fn fetch(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<&CommittedOffset> {
        self.offsets.get(group, topic, partition)
    }

    /// All committed offsets of a group, by topic and partition.
    pub(crate) fn fetch_all(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.offsets.of_group(group)
    }

    /// A group for DescribeGroups; `None` is "Dead", from v6 on with error 69.
    pub(crate) fn describe(&self, group: &str) -> Option<GroupDescription> {
        self.groups.get(group).map(super::Group::describe)
    }

    /// All groups, by name.
    pub(crate) fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.values().map(|group| ListedGroup {
            group: group.id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
        })
    }
}
