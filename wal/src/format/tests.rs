//! Vectors, flipped bits, and whatever bytes there may be.
//!
//! *IO: reads docs/formats/vectors*

use proptest::prelude::*;
use tidewater_types::{ClusterId, Epoch, Lsn, NodeId, WalId};

use super::group::{self, GroupHeader, GroupKind, HEADER_BYTES};
use super::superblock::{EPOCHS_MAX, EpochStart, SLOT_POSITIONS, Seal, Superblock, TrimPoint};
use super::{Flaw, VERSION};
use crate::testing::vector;

fn wal_id() -> WalId {
    WalId(*b"0123456789abcdef")
}

fn superblock() -> Superblock {
    Superblock {
        sequence: 9,
        cluster: ClusterId(*b"a cluster's name"),
        node: NodeId(3),
        wal: wal_id(),
        block_bytes: 4096,
        segment_bytes: 8 << 20,
        segment_count: 128,
        window_bytes: 4 << 20,
        trim: TrimPoint {
            lsn: Lsn(5000),
            group_lsn: Lsn(4900),
            position: 0x12000,
            epoch: Epoch(1),
        },
        seal: Some(Seal {
            lsn: Lsn(7000),
            position: 0x15000,
        }),
        epochs: vec![
            EpochStart {
                epoch: Epoch(1),
                lsn: Lsn(0),
                position: 0x10000,
            },
            EpochStart {
                epoch: Epoch(2),
                lsn: Lsn(6000),
                position: 0x14000,
            },
        ],
    }
}

fn group_bytes(kind: GroupKind, frames: &[&[u8]]) -> (GroupHeader, Vec<u8>) {
    let mut bytes = vec![0; HEADER_BYTES];
    for frame in frames {
        bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(frame);
    }
    let header = GroupHeader {
        kind,
        payload_bytes: u32::try_from(bytes.len() - HEADER_BYTES).unwrap(),
        num_frames: u32::try_from(frames.len()).unwrap(),
        position: 0x12000,
        lsn: Lsn(4900),
        epoch: Epoch(1),
        durable: Lsn(4800),
        next: 0x0081_0000,
        wal: wal_id(),
    };
    header.encode_into(&mut bytes);
    (header, bytes)
}

#[test]
fn superblock_vector_decodes_and_encodes_to_the_same_bytes() {
    let bytes = vector("wal-superblock.hex");
    let decoded = Superblock::decode(&bytes, SLOT_POSITIONS[1]).unwrap();
    assert_eq!(decoded, superblock());
    assert_eq!(decoded.encode(SLOT_POSITIONS[1]), bytes);
}

#[test]
fn group_vectors_decode_and_encode_to_the_same_bytes() {
    let cases: [(&str, GroupKind, &[&[u8]]); 3] = [
        (
            "wal-group-data.hex",
            GroupKind::Data,
            &[b"one", b"", b"three"],
        ),
        ("wal-group-mark.hex", GroupKind::Mark, &[]),
        ("wal-group-skip.hex", GroupKind::Skip, &[]),
    ];
    for (name, kind, frames) in cases {
        let bytes = vector(name);
        let (header, expected) = group_bytes(kind, frames);
        assert_eq!(group::decode(&bytes), Ok(header), "{name}");
        assert_eq!(bytes, expected, "{name}");
        let found: Vec<_> = group::frames(&header, &bytes[HEADER_BYTES..])
            .map(|(lsn, place)| (lsn, bytes[HEADER_BYTES..][place].to_vec()))
            .collect();
        assert_eq!(found.len(), frames.len());
        if kind == GroupKind::Data {
            assert_eq!(found[2], (Lsn(4900 + 7 + 4), b"three".to_vec()));
        }
    }
}

#[test]
fn negative_vectors_are_refused_for_their_reason() {
    let slot = |name: &str| Superblock::decode(&vector(name), 0).unwrap_err();
    assert_eq!(slot("wal-bad-superblock-newer.hex"), Flaw::Newer(2));
    assert_eq!(slot("wal-bad-superblock-checksum.hex"), Flaw::Checksum);
    assert_eq!(
        slot("wal-bad-superblock-epochs.hex"),
        Flaw::Field("epochs out of order")
    );
    let group = |name: &str| group::decode(&vector(name)).unwrap_err();
    assert_eq!(group("wal-bad-group-payload.hex"), Flaw::Checksum);
    assert_eq!(group("wal-bad-group-newer.hex"), Flaw::Newer(2));
    assert_eq!(
        group("wal-bad-group-frames.hex"),
        Flaw::Field("frames that do not fill the payload")
    );
}

#[test]
fn every_flipped_bit_of_a_group_is_noticed() {
    let (_, bytes) = group_bytes(GroupKind::Data, &[b"one", b"two"]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(group::decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_superblock_is_noticed() {
    let bytes = superblock().encode(0);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::decode(&flipped, 0).is_err(), "bit {bit}");
    }
}

#[test]
fn a_slot_is_valid_only_where_it_was_written() {
    let bytes = superblock().encode(SLOT_POSITIONS[1]);
    assert_eq!(
        Superblock::decode(&bytes, 0),
        Err(Flaw::Field("written for another position"))
    );
    assert_eq!(Superblock::decode(&[0; 4096], 0), Err(Flaw::Blank));
    assert_eq!(
        Superblock::decode(&bytes[..4095], SLOT_POSITIONS[1]),
        Err(Flaw::Short)
    );
}

#[test]
fn a_slot_has_room_for_the_epochs_it_promises() {
    let epochs = (0..EPOCHS_MAX as u64)
        .map(|n| EpochStart {
            epoch: Epoch(n + 1),
            lsn: Lsn(n * 10),
            position: 0x10000,
        })
        .collect();
    let full = Superblock {
        epochs,
        ..superblock()
    };
    let bytes = full.encode(0);
    assert_eq!(bytes.len(), super::superblock::SLOT_BYTES);
    assert_eq!(Superblock::decode(&bytes, 0), Ok(full));
    assert_eq!(VERSION, 1);
}

proptest! {
    #[test]
    fn groups_of_any_frames_round_trip(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20)) {
        let parts: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let (header, bytes) = group_bytes(GroupKind::Data, &parts);
        prop_assert_eq!(group::decode(&bytes), Ok(header));
        let found: Vec<_> = group::frames(&header, &bytes[HEADER_BYTES..]).map(|(_, place)| bytes[HEADER_BYTES..][place].to_vec()).collect();
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), magic in 0..3u8) {
        if bytes.len() >= 16 {
            match magic {
                1 => bytes[..4].copy_from_slice(b"TWgr"),
                2 => bytes[..8].copy_from_slice(b"TWwalsb\0"),
                _ => {}
            }
        }
        let _ = group::decode(&bytes);
        let _ = GroupHeader::decode_length(&bytes);
        let _ = Superblock::decode(&bytes, 0);
    }

    #[test]
    fn a_right_checksum_over_wrong_fields_never_panics(at in 4usize..80, value in any::<u8>()) {
        let (_, mut bytes) = group_bytes(GroupKind::Data, &[b"one", b"two"]);
        bytes[at] = value;
        let num_bytes = bytes.len();
        let checksum = tidewater_types::crc32c(&[&bytes[..8], &bytes[12..num_bytes]]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        let _ = group::decode(&bytes);
        let mut bytes = superblock().encode(0);
        bytes[at + 8] = value;
        let checksum = tidewater_types::crc32c(&[&bytes[..4092]]);
        bytes[4092..].copy_from_slice(&checksum.to_le_bytes());
        let _ = Superblock::decode(&bytes, 0);
    }
}
