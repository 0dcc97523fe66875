//! The stored form of a topic: JSON in the key-value part of the metadata log.
//!
//! *Owns*: keys and values under `topic/`. *Does not own*: when they are written.
//!
//! Invariants
//! 1. `decode(encode(topic)) == topic`, and encoding is deterministic.
//!
//! *Format: docs/formats/broker-metadata.md*
//! *IO: none*

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewater_protocol::Uuid;
use tidewater_types::{ClusterId, StreamId};

const VERSION: u32 = 1;

/// Prefix of the keys of topics.
pub(crate) const KEY_PREFIX: &str = "topic/";

/// The key of the topic `name`.
pub(crate) fn key(name: &str) -> String {
    format!("{KEY_PREFIX}{name}")
}

/// A topic as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicRecord {
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<StreamId>,
    pub(crate) replication: i16,
    pub(crate) configs: BTreeMap<String, String>,
}

/// Why a stored topic cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by a newer version.
    #[error("topic record has version {found}, this program reads {VERSION}")]
    Newer { found: u32 },
    /// Not what was written.
    #[error("topic record is damaged: {what}")]
    Corrupt { what: String },
}

impl BadRecord {
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    id: String,
    partitions: Vec<u64>,
    replication: i16,
    configs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

impl TopicRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            v: VERSION,
            id: ClusterId(self.id.0).to_string(),
            partitions: self.partitions.iter().map(|stream| stream.0).collect(),
            replication: self.replication,
            configs: self.configs.clone(),
        };
        serde_json::to_vec(&stored).expect("texts and numbers are JSON")
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        let corrupt = |error: &dyn std::fmt::Display| BadRecord::Corrupt {
            what: error.to_string(),
        };
        let VersionOnly { v } = serde_json::from_slice(value).map_err(|error| corrupt(&error))?;
        if v > VERSION {
            return Err(BadRecord::Newer { found: v });
        }
        let stored: Stored = serde_json::from_slice(value).map_err(|error| corrupt(&error))?;
        // Cluster and topic ids have the same text form.
        let id: ClusterId = stored.id.parse().map_err(|error| corrupt(&error))?;
        if stored.v == 0 || stored.partitions.is_empty() || stored.replication < 1 {
            return Err(corrupt(&"v, partitions or replication out of range"));
        }
        Ok(Self {
            id: Uuid(id.0),
            partitions: stored.partitions.into_iter().map(StreamId).collect(),
            replication: stored.replication,
            configs: stored.configs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let newer = br#"{"v":2,"id":"x","shards":[]}"#;
        assert_eq!(
            TopicRecord::decode(newer),
            Err(BadRecord::Newer { found: 2 })
        );
        for bad in [
            &b"{}"[..],
            b"\xff",
            br#"{"v":1,"id":"AAAAAAAAAAAAAAAAAAAAAA","partitions":[],"replication":1,"configs":{}}"#,
            br#"{"v":1,"id":"short","partitions":[1],"replication":1,"configs":{}}"#,
        ] {
            assert!(matches!(TopicRecord::decode(bad), Err(BadRecord::Corrupt { .. })));
        }
    }

    #[test]
    fn the_vector_decodes_and_encodes_to_the_same_bytes() {
        let text = include_str!("../../../docs/formats/vectors/broker-metadata-v1.hex");
        let bytes: Vec<u8> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let topic = TopicRecord::decode(&bytes).unwrap();
        assert_eq!(topic.partitions, [StreamId(7), StreamId(8)]);
        assert_eq!(topic.configs["cleanup.policy"], "compact");
        assert_eq!(topic.encode(), bytes);
    }

    proptest! {
        #[test]
        fn topics_round_trip(
            id in any::<[u8; 16]>(),
            partitions in proptest::collection::vec(any::<u64>(), 1..20),
            replication in 1i16..,
            configs in proptest::collection::btree_map(".*", ".*", 0..5),
        ) {
            let partitions = partitions.into_iter().map(StreamId).collect();
            let topic = TopicRecord { id: Uuid(id), partitions, replication, configs };
            prop_assert_eq!(TopicRecord::decode(&topic.encode()).unwrap(), topic);
        }
    }
}
