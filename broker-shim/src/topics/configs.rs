//! Topic and broker configuration keys: names, types, defaults, what is valid.
//!
//! *Owns*: the table that CreateTopics checks against and DescribeConfigs answers from.
//! *Does not own*: what the values do; the keys that act are read through `TopicConfig`.
//!
//! Invariants
//! 1. Every key a Kafka topic has is known; a key without effect here is accepted and shown.
//! 2. A value that was stored has passed `check`.
//!
//! *IO: none*

use std::collections::BTreeMap;

use tidewater_stream_store::keyed::KeyPolicy;

/// Kafka's `ConfigType` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text, one of these if there are any.
    Text(&'static [&'static str]),
    /// Whole number of at most 31 bits, from the first to the last.
    Int(i64, i64),
    /// Whole number, from the first to the last.
    Long(i64, i64),
    /// Decimal number between 0 and 1.
    Ratio,
    /// Comma-separated texts, each one of these if there are any.
    List(&'static [&'static str]),
}

impl Kind {
    /// The number DescribeConfigs gives for the type.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text(_) => 2,
            Self::Int(..) => 3,
            Self::Long(..) => 5,
            Self::Ratio => 6,
            Self::List(_) => 7,
        }
    }

    /// Whether `value` is valid; what would be, if not.
    pub(crate) fn check(self, value: &str) -> Result<(), String> {
        let one_of = |value: &str, all: &[&str]| all.is_empty() || all.contains(&value);
        let in_range = |first: i64, last: i64| {
            value
                .trim()
                .parse::<i64>()
                .is_ok_and(|number| first <= number && number <= last)
        };
        let (valid, expected) = match self {
            Self::Boolean => (
                value == "true" || value == "false",
                "true or false".to_owned(),
            ),
            Self::Text(all) => (one_of(value, all), format!("one of {}", all.join(", "))),
            Self::Int(first, last) | Self::Long(first, last) => (
                in_range(first, last),
                format!("a whole number from {first} to {last}"),
            ),
            Self::Ratio => {
                let valid = value
                    .parse::<f64>()
                    .is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
                (valid, "a number from 0 to 1".to_owned())
            }
            Self::List(all) => {
                let valid = value.split(',').map(str::trim).all(|item| {
                    (item.is_empty() && !all.contains(&item)) == value.is_empty()
                        && (item.is_empty() || one_of(item, all))
                });
                (valid, format!("a list of {}", all.join(", ")))
            }
        };
        if valid { Ok(()) } else { Err(expected) }
    }
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
}

const I32_LAST: i64 = i32::MAX as i64;
const I64_LAST: i64 = i64::MAX;
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
    }
}

/// Every key of a topic in Apache Kafka 4.x with its default.
pub(crate) const TOPIC_KEYS: &[Key] = &[
    key(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
    ),
    key("compression.gzip.level", Kind::Int(-1, 9), "-1"),
    key("compression.lz4.level", Kind::Int(1, 17), "9"),
    key("compression.type", Kind::Text(CODECS), "producer"),
    key("compression.zstd.level", Kind::Int(-131_072, 22), "3"),
    key("delete.retention.ms", Kind::Long(0, I64_LAST), "86400000"),
    key("file.delete.delay.ms", Kind::Long(0, I64_LAST), "60000"),
    key(
        "flush.messages",
        Kind::Long(1, I64_LAST),
        "9223372036854775807",
    ),
    key("flush.ms", Kind::Long(0, I64_LAST), "9223372036854775807"),
    key(
        "follower.replication.throttled.replicas",
        Kind::List(&[]),
        "",
    ),
    key("index.interval.bytes", Kind::Int(0, I32_LAST), "4096"),
    key("leader.replication.throttled.replicas", Kind::List(&[]), ""),
    key("local.retention.bytes", Kind::Long(-2, I64_LAST), "-2"),
    key("local.retention.ms", Kind::Long(-2, I64_LAST), "-2"),
    key(
        "max.compaction.lag.ms",
        Kind::Long(1, I64_LAST),
        "9223372036854775807",
    ),
    key("max.message.bytes", Kind::Int(0, I32_LAST), "1048588"),
    key(
        "message.timestamp.after.max.ms",
        Kind::Long(0, I64_LAST),
        "3600000",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::Long(0, I64_LAST),
        "9223372036854775807",
    ),
    key(
        "message.timestamp.type",
        Kind::Text(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
    ),
    key("min.cleanable.dirty.ratio", Kind::Ratio, "0.5"),
    key("min.compaction.lag.ms", Kind::Long(0, I64_LAST), "0"),
    key("min.insync.replicas", Kind::Int(1, I32_LAST), "1"),
    key("preallocate", Kind::Boolean, "false"),
    key("remote.log.copy.disable", Kind::Boolean, "false"),
    key("remote.log.delete.on.disable", Kind::Boolean, "false"),
    key("remote.storage.enable", Kind::Boolean, "false"),
    key("retention.bytes", Kind::Long(-1, I64_LAST), "-1"),
    key("retention.ms", Kind::Long(-1, I64_LAST), "604800000"),
    key(
        "segment.bytes",
        Kind::Int(1024 * 1024, I32_LAST),
        "1073741824",
    ),
    key("segment.index.bytes", Kind::Int(4, I32_LAST), "10485760"),
    key("segment.jitter.ms", Kind::Long(0, I64_LAST), "0"),
    key("segment.ms", Kind::Long(1, I64_LAST), "604800000"),
    key("unclean.leader.election.enable", Kind::Boolean, "false"),
];

/// The key called `name`.
pub(crate) fn topic_key(name: &str) -> Option<&'static Key> {
    TOPIC_KEYS.iter().find(|key| key.name == name)
}

/// What is wrong with a topic's configuration, in words for the client.
pub(crate) fn check(configs: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in configs {
        let key = topic_key(name).ok_or_else(|| format!("unknown topic config name: {name}"))?;
        key.kind.check(value).map_err(|expected| {
            format!("invalid value {value:?} for configuration {name}: expected {expected}")
        })?;
    }
    Ok(())
}

/// The settings of a topic that act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub(crate) max_message_bytes: usize,
    pub(crate) timestamp_before_ms_max: i64,
    pub(crate) timestamp_after_ms_max: i64,
    pub(crate) log_append_time: bool,
    pub(crate) compacted: bool,
    /// When a compacted topic is compacted.
    pub(crate) keys: KeyPolicy,
}

impl TopicConfig {
    /// Reads the acting settings out of what was stored; defaults for the rest.
    pub(crate) fn from_stored(configs: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            let default = topic_key(name).map_or("", |key| key.default);
            configs.get(name).map_or(default, String::as_str)
        };
        // What was stored has passed `check`, so the fallbacks are never taken.
        let number = |name: &str| text(name).trim().parse::<i64>().unwrap_or(i64::MAX);
        Self {
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(usize::MAX),
            timestamp_before_ms_max: number("message.timestamp.before.max.ms"),
            timestamp_after_ms_max: number("message.timestamp.after.max.ms"),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            compacted: text("cleanup.policy")
                .split(',')
                .any(|policy| policy.trim() == "compact"),
            keys: KeyPolicy {
                lag_ms_min: number("min.compaction.lag.ms"),
                lag_ms_max: number("max.compaction.lag.ms"),
                dirty_permille: permille(text("min.cleanable.dirty.ratio")),
                few_ms_max: number("segment.ms"),
                delete_retention_ms: number("delete.retention.ms"),
            },
        }
    }
}

/// A number from 0 to 1 in thousandths.
fn permille(ratio: &str) -> u32 {
    let ratio: f64 = ratio.trim().parse().unwrap_or(1.0);
    (0..1_000)
        .find(|permille| f64::from(*permille) >= ratio * 1_000.0 - 1e-6)
        .unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn every_default_is_valid() {
        for key in TOPIC_KEYS {
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
        }
        assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name));
    }

    #[test]
    fn wrong_values_are_named_with_what_is_valid() {
        let refused = |pair| check(&configs(&[pair])).unwrap_err();
        assert!(refused(("retention.ms", "soon")).contains("whole number from -1"));
        assert!(refused(("cleanup.policy", "compact,shred")).contains("compact, delete"));
        assert!(refused(("cleanup.polizei", "x")).contains("cleanup.polizei"));
        assert!(refused(("preallocate", "yes")).contains("true or false"));
        assert_eq!(
            check(&configs(&[("cleanup.policy", "compact, delete")])),
            Ok(())
        );
        assert_eq!(check(&configs(&[("max.message.bytes", " 10 ")])), Ok(()));
    }

    #[test]
    fn settings_that_act_are_read() {
        let config = TopicConfig::from_stored(&configs(&[
            ("max.message.bytes", "2000"),
            ("cleanup.policy", "delete,compact"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.compaction.lag.ms", "5"),
            ("min.cleanable.dirty.ratio", "0.125"),
            ("segment.ms", "100"),
        ]));
        assert_eq!(
            config.keys,
            KeyPolicy {
                lag_ms_min: 5,
                lag_ms_max: i64::MAX,
                dirty_permille: 125,
                few_ms_max: 100,
                delete_retention_ms: 86_400_000,
            }
        );
        assert_eq!(config.max_message_bytes, 2000);
        assert!(config.compacted && config.log_append_time);
        let default = TopicConfig::from_stored(&BTreeMap::new());
        assert_eq!(default.max_message_bytes, 1_048_588);
        assert_eq!(default.timestamp_after_ms_max, 3_600_000);
        assert!(!default.compacted && !default.log_append_time);
        let permilles = ["0", "0.5", "0.0001", "1.0", "1"].map(permille);
        assert_eq!(permilles, [0, 500, 1, 1_000, 1_000]);
    }
}
