//! The records of `__consumer_offsets`, as Apache Kafka writes them.
//!
//! *Owns*: the type in front of a key, the version in front of a value, which
//! versions are written.
//! *Does not own*: the messages (`tidewater-protocol`), what they mean.
//!
//! Invariants
//! 1. What is written is what Kafka 4.x writes: keys of type 1 and 2, values v3; an
//!    offset with a retention of its own is v1, the one version that has the field.
//! 2. Keys of types this release does not know are kept and not understood.
//!
//! *Format: docs/formats/consumer-offsets.md* · *IO: none*

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidewater_protocol::messages::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use tidewater_protocol::{DecodeError, Message, encode_to_bytes};
use tidewater_types::ErrorKind;

use super::offsets::CommittedOffset;
use super::outbox::LogRecord;

const OFFSET_COMMIT: i16 = 1;
/// Offset keys of Kafka before 0.9 have the same fields.
const OFFSET_COMMIT_OLD: i16 = 0;
const GROUP_METADATA: i16 = 2;
const VALUE_VERSION: i16 = 3;
const VALUE_VERSION_EXPIRING: i16 = 1;

/// Why a record of the offsets log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// No room for the leading type or version.
    #[error("offsets record has {num_bytes} bytes")]
    TooShort { num_bytes: usize },
    /// A value of a newer release.
    #[error("offsets record value version {found}")]
    Version { found: i16 },
    /// Not the message it should be.
    #[error("offsets record: {0}")]
    Decode(#[from] DecodeError),
}

impl LogError {
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Corrupt,
        }
    }
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Offset {
        group: String,
        topic: String,
        partition: i32,
    },
    Group {
        group: String,
    },
    /// Of a kind this release does not know.
    Other {
        kind: i16,
    },
}

pub(crate) fn decode_key(mut key: Bytes) -> Result<Key, LogError> {
    let kind = leading_i16(&mut key)?;
    Ok(match kind {
        OFFSET_COMMIT_OLD | OFFSET_COMMIT => {
            let key = OffsetCommitKey::decode_exact(key, 0)?;
            Key::Offset {
                group: key.group,
                topic: key.topic,
                partition: key.partition,
            }
        }
        GROUP_METADATA => Key::Group {
            group: GroupMetadataKey::decode_exact(key, 0)?.group,
        },
        kind => Key::Other { kind },
    })
}

pub(crate) fn decode_offset(value: Bytes) -> Result<CommittedOffset, LogError> {
    let value: OffsetCommitValue = decode_value(value)?;
    Ok(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_ms: value.commit_timestamp,
        expire_ms: (value.expire_timestamp != -1).then_some(value.expire_timestamp),
    })
}

pub(crate) fn decode_group(value: Bytes) -> Result<GroupMetadataValue, LogError> {
    decode_value(value)
}

fn decode_value<M: Message>(mut value: Bytes) -> Result<M, LogError> {
    let version = leading_i16(&mut value)?;
    if !M::VERSIONS.contains(version) {
        return Err(LogError::Version { found: version });
    }
    Ok(M::decode_exact(value, version)?)
}

fn leading_i16(bytes: &mut Bytes) -> Result<i16, LogError> {
    let num_bytes = bytes.len();
    bytes
        .try_get_i16()
        .map_err(|_| LogError::TooShort { num_bytes })
}

pub(crate) fn offset_record(
    group: &str,
    topic: &str,
    partition: i32,
    offset: &CommittedOffset,
) -> LogRecord {
    let version = if offset.expire_ms.is_some() {
        VALUE_VERSION_EXPIRING
    } else {
        VALUE_VERSION
    };
    let value = OffsetCommitValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_timestamp: offset.commit_ms,
        expire_timestamp: offset.expire_ms.unwrap_or(-1),
        ..OffsetCommitValue::default()
    };
    LogRecord {
        key: offset_key(group, topic, partition),
        value: Some(prefixed(version, &value, version)),
    }
}

pub(crate) fn offset_tombstone(group: &str, topic: &str, partition: i32) -> LogRecord {
    LogRecord {
        key: offset_key(group, topic, partition),
        value: None,
    }
}

pub(crate) fn group_record(group: &str, value: &GroupMetadataValue) -> LogRecord {
    LogRecord {
        key: group_key(group),
        value: Some(prefixed(VALUE_VERSION, value, VALUE_VERSION)),
    }
}

pub(crate) fn group_tombstone(group: &str) -> LogRecord {
    LogRecord {
        key: group_key(group),
        value: None,
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let key = OffsetCommitKey {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
    };
    prefixed(OFFSET_COMMIT, &key, 0)
}

fn group_key(group: &str) -> Bytes {
    prefixed(
        GROUP_METADATA,
        &GroupMetadataKey {
            group: group.to_owned(),
        },
        0,
    )
}

fn prefixed(prefix: i16, message: &impl Message, version: i16) -> Bytes {
    // Names are bounded by the requests they came in; nothing here exceeds the codec's lengths.
    let body = encode_to_bytes(message, version).expect("group records fit the codec");
    let mut out = BytesMut::with_capacity(2 + body.len());
    out.put_i16(prefix);
    out.extend_from_slice(&body);
    out.freeze()
}

#[cfg(test)]
mod tests;
