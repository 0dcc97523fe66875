//! Topic names: which are legal, which collide, which are internal.
//!
//! *Owns*: Kafka's rules on names (`org.apache.kafka.common.internals.Topic`).
//!
//! *IO: none*

/// The topic that holds committed offsets and group metadata.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

const NAME_BYTES_MAX: usize = 249;

/// Why `name` cannot be a topic's, in words for the client.
pub(crate) fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the topic name is empty".to_owned());
    }
    if name == "." || name == ".." {
        return Some(format!("the topic name cannot be \"{name}\""));
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "the topic name has {} characters, at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().find(|&c| !legal(c)).map(|c| {
        format!("the topic name holds {c:?}; letters, digits, '.', '_' and '-' are allowed")
    })
}

/// Names that differ only in `.` and `_` would share a metric name in Kafka and are refused there.
pub(crate) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether clients may not write to the topic.
pub(crate) fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == "__transaction_state"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_names_are_legal_and_others_are_named() {
        assert_eq!(refusal("orders.v1_eu-west"), None);
        assert!(refusal("").unwrap().contains("empty"));
        assert!(refusal("..").unwrap().contains(".."));
        assert!(refusal("a b").unwrap().contains("' '"));
        assert!(refusal("ä").unwrap().contains("'ä'"));
        assert_eq!(refusal(&"x".repeat(249)), None);
        assert!(refusal(&"x".repeat(250)).unwrap().contains("250"));
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a-b"), collision_key("a_b"));
    }
}
