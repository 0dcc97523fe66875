//! Records of the offsets log against bytes made after Kafka's schemas.
//!
//! *Owns*: the tests of `log` and `record`. *Does not own*: the codec's own tests.
//!
//! *IO: none*

use super::super::state::{Group, GroupState};
use super::*;
use crate::testvectors::vectors;

const T: i64 = 1_700_000_000_000;

fn vector(name: &str) -> Bytes {
    let all = vectors(include_str!(
        "../../../../docs/formats/vectors/consumer-offsets-v1.hex"
    ));
    Bytes::from(
        all.into_iter()
            .find(|vector| vector.name == name)
            .expect("the vector is listed")
            .bytes,
    )
}

#[test]
fn an_offset_commit_is_written_as_kafka_writes_it() {
    let mut committed = CommittedOffset {
        offset: 42,
        leader_epoch: 5,
        metadata: "note".to_owned(),
        commit_ms: T,
        expire_ms: None,
    };
    let record = offset_record("my-group", "orders", 7, &committed);
    assert_eq!(record.key, vector("offset-key"));
    assert_eq!(record.value.clone().unwrap(), vector("offset-value"));
    assert_eq!(decode_offset(record.value.unwrap()).unwrap(), committed);
    // Version 1 has an expiry and no leader epoch.
    committed = CommittedOffset {
        leader_epoch: -1,
        metadata: String::new(),
        expire_ms: Some(T + 1000),
        ..committed
    };
    let record = offset_record("my-group", "orders", 7, &committed);
    assert_eq!(
        record.value.clone().unwrap(),
        vector("offset-value-expiring")
    );
    assert_eq!(decode_offset(record.value.unwrap()).unwrap(), committed);
    assert_eq!(
        offset_tombstone("my-group", "orders", 7),
        LogRecord {
            key: vector("offset-key"),
            value: None
        }
    );
}

#[test]
fn keys_say_what_a_record_is_about() {
    let offset = Key::Offset {
        group: "my-group".to_owned(),
        topic: "orders".to_owned(),
        partition: 7,
    };
    assert_eq!(decode_key(vector("offset-key")).unwrap(), offset);
    let mut old = vector("offset-key").to_vec();
    old[1] = 0;
    assert_eq!(decode_key(Bytes::from(old)).unwrap(), offset);
    assert_eq!(
        decode_key(vector("group-key")).unwrap(),
        Key::Group {
            group: "my-group".to_owned()
        }
    );
    assert_eq!(
        decode_key(Bytes::from_static(&[0, 3, 9])).unwrap(),
        Key::Other { kind: 3 }
    );
}

#[test]
fn a_group_is_read_and_written_as_kafka_does() {
    let group = Group::from_value("my-group", decode_group(vector("group-value")).unwrap());
    assert_eq!((group.state, group.generation), (GroupState::Stable, 4));
    assert_eq!(group.static_ids["inst"], "c-1");
    assert!(group.is_leader("c-1"));
    assert_eq!(group.members["c-1"].rebalance_timeout_ms, 300_000);
    assert_eq!(
        group
            .subscribed
            .as_ref()
            .unwrap()
            .iter()
            .collect::<Vec<_>>(),
        ["orders"]
    );
    let record = group.to_record(&group.assignments());
    assert_eq!(record.key, vector("group-key"));
    assert_eq!(record.value.unwrap(), vector("group-value"));

    let empty = Group::from_value(
        "my-group",
        decode_group(vector("group-value-empty")).unwrap(),
    );
    assert_eq!((empty.state, empty.generation), (GroupState::Empty, 5));
    assert_eq!(
        empty.to_record(&[]).value.unwrap(),
        vector("group-value-empty")
    );

    let old = Group::from_value("my-group", decode_group(vector("group-value-v0")).unwrap());
    assert_eq!(
        old.members["c-1"].rebalance_timeout_ms, 45_000,
        "before v1 the session time-out"
    );
    assert_eq!(old.state_since_ms, None);
}

#[test]
fn damaged_and_newer_records_are_refused() {
    assert!(matches!(
        decode_key(Bytes::from_static(&[0])),
        Err(LogError::TooShort { num_bytes: 1 })
    ));
    assert!(matches!(
        decode_offset(Bytes::from_static(&[0, 5, 0])),
        Err(LogError::Version { found: 5 })
    ));
    for name in ["offset-value", "group-value"] {
        let value = vector(name);
        for cut in 2..value.len() {
            let cut = value.slice(..cut);
            let error = if name == "offset-value" {
                decode_offset(cut).err()
            } else {
                decode_group(cut).err()
            };
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Corrupt));
        }
    }
}
