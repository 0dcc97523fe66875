//! Vectors, flipped bits, keys, and whatever bytes there may be.
//!
//! *IO: reads docs/formats/vectors*

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_types::{ClusterId, Epoch, Lsn, NodeId, WalId};

use super::entry::{HEADER_BYTES, Header, Kind, TrimPoint, decode, frames};
use super::{Place, key, place_of, prefix};
use crate::format::Flaw;
use crate::testing::vector;

fn place(epoch: u64, seq: u64) -> Place {
    Place::new(Epoch(epoch), seq)
}

fn blank(kind: Kind, place: Place) -> Header {
    let writer = if kind.is_owners() {
        place.epoch
    } else {
        Epoch(place.epoch.0 + 1)
    };
    Header {
        kind,
        cluster: ClusterId(*b"a cluster's name"),
        node: NodeId(3),
        wal: WalId(*b"0123456789abcdef"),
        place,
        writer,
        nonce: *b"writer's nonce..",
        num_frames: 0,
        payload_bytes: 0,
        lsn: Lsn(0),
        durable: Lsn(0),
        durable_seq: 0,
        trim: TrimPoint::default(),
    }
}

fn marked(kind: Kind, seq: u64, payload: &[u8], num_frames: u32) -> Header {
    Header {
        num_frames,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        lsn: Lsn(4900),
        durable: Lsn(4800),
        durable_seq: seq - 2,
        trim: TrimPoint {
            lsn: Lsn(4100),
            place: place(1, 5),
            entry_lsn: Lsn(4096),
        },
        ..blank(kind, place(2, seq))
    }
}

fn payload(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn whole(header: &Header, payload: &[u8]) -> Vec<u8> {
    let payload = Bytes::copy_from_slice(payload);
    [header.encode(std::slice::from_ref(&payload)), payload].concat()
}

fn cases() -> Vec<(&'static str, Header, Vec<u8>)> {
    let data = payload(&[b"one", b"", b"three"]);
    let start = Kind::Start {
        window: 16,
        founding: Epoch(1),
    };
    vec![
        ("object-wal-start.hex", blank(start, place(1, 0)), vec![]),
        (
            "object-wal-state.hex",
            marked(Kind::State, 8, &[], 0),
            vec![],
        ),
        ("object-wal-data.hex", marked(Kind::Data, 9, &data, 3), data),
        (
            "object-wal-fence.hex",
            blank(Kind::Fence, place(2, 10)),
            vec![],
        ),
        (
            "object-wal-barrier.hex",
            blank(Kind::Barrier, place(2, 26)),
            vec![],
        ),
        (
            "object-wal-bridge.hex",
            blank(Kind::Bridge { to: Epoch(1) }, place(3, 2)),
            vec![],
        ),
    ]
}

#[test]
fn vectors_decode_and_encode_to_the_same_bytes() {
    for (name, header, payload) in cases() {
        let bytes = vector(name);
        assert_eq!(decode(&bytes, header.place), Ok(header), "{name}");
        assert_eq!(whole(&header, &payload), bytes, "{name}");
    }
}

#[test]
fn negative_vectors_are_refused_for_their_reason() {
    let refused = |name: &str| decode(&vector(name), place(2, 9)).unwrap_err();
    assert_eq!(refused("object-wal-bad-payload.hex"), Flaw::Checksum);
    assert_eq!(refused("object-wal-bad-newer.hex"), Flaw::Newer(2));
    assert_eq!(
        decode(&vector("object-wal-bad-bridge.hex"), place(3, 2)),
        Err(Flaw::Field("bridge out of place"))
    );
    assert_eq!(
        refused("object-wal-bad-frames.hex"),
        Flaw::Field("frames that do not fill the payload")
    );
    assert_eq!(
        refused("object-wal-bad-marks.hex"),
        Flaw::Field("marks out of order")
    );
    assert_eq!(
        decode(&vector("object-wal-bad-window.hex"), place(1, 0)).unwrap_err(),
        Flaw::Field("window out of range")
    );
}

#[test]
fn an_entry_is_valid_only_at_its_own_key() {
    for (name, header, payload) in cases() {
        let bytes = whole(&header, &payload);
        let other = place(header.place.epoch.0, header.place.seq + 1);
        assert_eq!(
            decode(&bytes, other),
            Err(Flaw::Field("written for another key")),
            "{name}"
        );
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    for (name, header, payload) in cases() {
        let bytes = whole(&header, &payload);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, header.place).is_err(), "{name} bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(
                decode(&bytes[..len], header.place).is_err(),
                "{name} cut at {len}"
            );
        }
    }
}

#[test]
fn a_fence_of_the_epoch_itself_is_refused() {
    let header = Header {
        writer: Epoch(2),
        ..blank(Kind::Fence, place(2, 10))
    };
    assert_eq!(
        decode(&whole(&header, &[]), header.place),
        Err(Flaw::Field("writer or number that does not fit the kind"))
    );
}

#[test]
fn keys_name_their_place_and_sort_as_it_does() {
    let node = NodeId(7);
    let places = [
        place(1, 0),
        place(1, 9),
        place(1, 10),
        place(2, 0),
        place(10, 3),
    ];
    let keys: Vec<_> = places.iter().map(|place| key(node, *place)).collect();
    assert!(keys.is_sorted());
    for (place, key) in places.iter().zip(&keys) {
        assert_eq!(place_of(node, key), Some(*place));
        assert_eq!(place_of(NodeId(8), key), None);
        assert!(key.starts_with(&prefix(node)));
    }
    assert_eq!(
        keys[1],
        "wal/0000000007/00000000000000000001/00000000000000000009"
    );
    for odd in [
        "",
        "1/2",
        "wal/0000000007/1/2",
        "wal/0000000007/00000000000000000001/+0000000000000000009",
    ] {
        assert_eq!(place_of(node, odd), None, "{odd}");
    }
}

proptest! {
    #[test]
    fn entries_of_any_frames_round_trip(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let parts: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let payload = payload(&parts);
        let header = marked(Kind::Data, 9, &payload, u32::try_from(bodies.len()).unwrap());
        let bytes = whole(&header, &payload);
        prop_assert_eq!(decode(&bytes, header.place), Ok(header));
        let found: Vec<_> = frames(&bytes[HEADER_BYTES..]).map(|(_, at)| payload[at].to_vec()).collect();
        prop_assert_eq!(found, bodies);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in any::<bool>(), at in 12usize..400, value in any::<u8>()) {
        if magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(b"TWoe");
        }
        let _ = decode(&bytes, place(2, 9));
        // A right checksum over wrong fields.
        let data = payload(&[b"one", b"two"]);
        let mut bytes = whole(&marked(Kind::Data, 9, &data, 2), &data);
        let at = 12 + at % (bytes.len() - 12);
        bytes[at] = value;
        let checksum = tidewater_types::crc32c(&[&bytes[..8], &bytes[12..]]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        let _ = decode(&bytes, place(2, 9));
    }
}
