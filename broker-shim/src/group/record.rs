//! A group as a record of the offsets log, and back.
//!
//! *Owns*: which fields of a group are stored. *Does not own*: the bytes (`log`).
//!
//! Invariants
//! 1. A group read back has the members, assignments and generation it had; time-outs
//!    start anew when loading ends.
//!
//! *IO: none*

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use tidewater_protocol::Message;
use tidewater_protocol::messages::group_metadata_value::MemberMetadata;
use tidewater_protocol::messages::{ConsumerProtocolSubscription, GroupMetadataValue};

use super::log;
use super::member::Member;
use super::outbox::LogRecord;
use super::state::{Group, GroupState, Wait};
use super::types::{Now, Protocol};

const CONSUMER: &str = "consumer";

impl Group {
    /// The group's record with these assignments.
    pub(crate) fn to_record(&self, assignments: &[(String, Bytes)]) -> LogRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(id, member): (&String, &Member)| MemberMetadata {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            // A leader that names a member twice means the last.
            assignment: assignments
                .iter()
                .rfind(|(to, _)| to == id)
                .map(|(_, bytes)| bytes.clone())
                .unwrap_or_default(),
        };
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: self.members.iter().map(member).collect(),
        };
        log::group_record(&self.id, &value)
    }

    /// The group a record tells of.
    pub(crate) fn from_value(id: &str, value: GroupMetadataValue) -> Self {
        let mut group = Self::new(id);
        group.state = if value.members.is_empty() {
            GroupState::Empty
        } else {
            GroupState::Stable
        };
        group.state_since_ms =
            (value.current_state_timestamp != -1).then_some(value.current_state_timestamp);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol = value.protocol;
        group.leader = value.leader;
        for stored in value.members {
            if let Some(instance_id) = &stored.group_instance_id {
                group
                    .static_ids
                    .insert(instance_id.clone(), stored.member_id.clone());
            }
            let rebalance_timeout_ms = if stored.rebalance_timeout == -1 {
                stored.session_timeout
            } else {
                stored.rebalance_timeout
            };
            let name = group.protocol.clone().unwrap_or_default();
            let member = Member {
                group_instance_id: stored.group_instance_id,
                client_id: stored.client_id,
                client_host: stored.client_host,
                session_timeout_ms: stored.session_timeout,
                rebalance_timeout_ms,
                protocols: vec![Protocol {
                    name,
                    metadata: stored.subscription,
                }],
                assignment: stored.assignment,
                is_new: false,
                awaiting_join: None,
                awaiting_sync: None,
                session_ends_ms: None,
            };
            group.members.insert(stored.member_id, member);
        }
        group.subscribed = group.subscribed_topics();
        group
    }

    /// Loading is over: members have a session's time to be heard of.
    pub(crate) fn loaded(&mut self, now: Now) {
        self.wait = Wait::Nothing;
        for member in self.members.values_mut() {
            member.renew_session(now.ms);
        }
    }

    /// The topics a consumer group's members subscribe to, if their metadata says.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let mut metadata = member.metadata(protocol);
            // The version; every version starts as version 0 does.
            metadata.try_get_i16().ok()?;
            topics.extend(
                ConsumerProtocolSubscription::decode(&mut metadata, 0)
                    .ok()?
                    .topics,
            );
        }
        Some(topics)
    }
}
