//! Every message in every version against another codec, `kafka-protocol`.
//!
//! *Owns*: agreement byte for byte, in both directions, on random values and on defaults.
//!
//! *Does not own*: bytes that are no message (`bounded_memory`), fixed vectors (`golden`).
//!
//! *IO: none*

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol as oracle;
use proptest::prelude::*;
use tidewater_protocol::testing::{Arbitrary, Entropy};
use tidewater_protocol::{Message, encode_to_bytes, for_each_message, messages};

/// Calls `$check::<Ours, Theirs>()` for each message both know. The oracle has no schemas for the
/// records of `__consumer_offsets`; those are left to the round trip and the golden vectors.
macro_rules! each_pair {
    ($check:ident($($arg:expr),*), OffsetCommitKey) => {};
    ($check:ident($($arg:expr),*), OffsetCommitValue) => {};
    ($check:ident($($arg:expr),*), GroupMetadataKey) => {};
    ($check:ident($($arg:expr),*), GroupMetadataValue) => {};
    ($check:ident($($arg:expr),*), $name:ident) => {
        $check::<messages::$name, kafka_protocol::messages::$name>($($arg),*)
    };
}

fn versions<Ours: Message, Theirs: oracle::Message>() -> impl Iterator<Item = i16> {
    (Ours::VERSIONS.min..=Ours::VERSIONS.max)
        .filter(|v| Theirs::VERSIONS.min <= *v && *v <= Theirs::VERSIONS.max)
}

fn to_theirs_and_back<Ours, Theirs>(seed: u64)
where
    Ours: Message + Arbitrary + PartialEq + std::fmt::Debug,
    Theirs: oracle::Message + oracle::Encodable + oracle::Decodable,
{
    for version in versions::<Ours, Theirs>() {
        let context = format!("{} v{version} seed {seed}", Ours::NAME);
        let value = Ours::arbitrary(&mut Entropy::new(seed), version);
        let bytes = encode_to_bytes(&value, version).expect(&context);
        let mut rest = bytes.clone();
        let theirs = Theirs::decode(&mut rest, version).expect(&context);
        assert!(
            rest.is_empty(),
            "{context}: the oracle left {} bytes",
            rest.len()
        );
        let mut again = BytesMut::new();
        theirs.encode(&mut again, version).expect(&context);
        assert_eq!(again, bytes, "{context}");
        assert_eq!(
            Ours::decode_exact(again.freeze(), version).as_ref(),
            Ok(&value),
            "{context}"
        );
    }
}

fn defaults_agree<Ours, Theirs>() -> usize
where
    Ours: Message + PartialEq + std::fmt::Debug,
    Theirs: oracle::Message + oracle::Encodable + oracle::Decodable + Default,
{
    versions::<Ours, Theirs>()
        .map(|version| {
            let context = format!("{} v{version}", Ours::NAME);
            let mut theirs = BytesMut::new();
            Theirs::default()
                .encode(&mut theirs, version)
                .expect(&context);
            let theirs = theirs.freeze();
            let ours = encode_to_bytes(&Ours::default(), version).expect(&context);
            assert_eq!(ours, theirs, "{context}");
            assert_eq!(
                Ours::decode_exact(theirs, version),
                Ok(Ours::default()),
                "{context}"
            );
        })
        .count()
}

fn round_trip<Ours: Message + Arbitrary + PartialEq + std::fmt::Debug>(seed: u64) {
    for version in Ours::VERSIONS.min..=Ours::VERSIONS.max {
        let context = format!("{} v{version} seed {seed}", Ours::NAME);
        let value = Ours::arbitrary(&mut Entropy::new(seed), version);
        let mut bytes = encode_to_bytes(&value, version).expect(&context);
        assert_eq!(
            Ours::decode_exact(bytes.clone(), version).as_ref(),
            Ok(&value),
            "{context}"
        );
        // What stands behind the message is not its business.
        let mut longer = BytesMut::from(&bytes[..]);
        longer.extend_from_slice(b"next");
        let mut longer = longer.freeze();
        assert_eq!(
            Ours::decode(&mut longer, version).as_ref(),
            Ok(&value),
            "{context}"
        );
        assert_eq!(longer, Bytes::from_static(b"next"), "{context}");
        // A message never ends before its last byte. (ListGroups v0 has none at all.)
        if bytes.len() > 1 {
            bytes.truncate(bytes.len() - 1);
            assert!(Ours::decode(&mut bytes, version).is_err(), "{context}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_values_agree_with_the_oracle_in_both_directions(seed: u64) {
        macro_rules! all {
            ($($name:ident),*) => { $( each_pair!(to_theirs_and_back(seed), $name); )* };
        }
        for_each_message!(all);
    }

    #[test]
    fn what_was_encoded_decodes_equal(seed: u64) {
        macro_rules! all {
            ($($name:ident),*) => { $( round_trip::<messages::$name>(seed); )* };
        }
        for_each_message!(all);
    }
}

#[test]
fn defaults_agree_with_the_oracle_in_every_version() {
    let mut pairs = 0;
    macro_rules! all {
        ($($name:ident),*) => { $( pairs += default_pairs!($name); )* };
    }
    macro_rules! default_pairs {
        (OffsetCommitKey) => {
            0
        };
        (OffsetCommitValue) => {
            0
        };
        (GroupMetadataKey) => {
            0
        };
        (GroupMetadataValue) => {
            0
        };
        ($name:ident) => {
            defaults_agree::<messages::$name, kafka_protocol::messages::$name>()
        };
    }
    for_each_message!(all);
    // Guards against a filter that silently compares nothing.
    assert!(pairs > 250, "only {pairs} message versions were compared");
}
