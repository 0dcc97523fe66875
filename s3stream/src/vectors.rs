//! The published vectors decode, encode to the same bytes, or are refused for the reason they state.
//!
//! *Owns*: the checks of docs/formats/vectors. *Does not own*: the codecs.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{ClusterId, Epoch, NodeId, Offset, StreamId, WalId};

use crate::entry::{Entry, StateSnapshot};
use crate::format::block;
use crate::format::index::BlockKind;
use crate::format::mark;
use crate::format::object::{FOOTER_SIZE, HEADER_SIZE, decode_footer, decode_header};
use crate::format::slot::{self, SlotHeader};
use crate::meta::format::{boundary, entry, op, snapshot};
use crate::meta::op::{MetaOp, MovedSnapshot, NewObject, Replacement, SourceRange, TargetRange};
use crate::meta::state::ObjectState;
use crate::object_id::{COMPACTION_COUNTERS, ObjectId, ObjectKind};
use crate::read::source::decode_index;
use crate::reader::FormatError;
use crate::tail::SealedRange;
use crate::upload::encode::encode;
use crate::upload::plan::ObjectPlan;

const STREAM_SET: &str = include_str!("../../docs/formats/vectors/stream-set-object-v1.hex");
const STREAM: &str = include_str!("../../docs/formats/vectors/stream-object-v1.hex");
const STATE: &str = include_str!("../../docs/formats/vectors/state-snapshot-v1.hex");
const LOG: &str = include_str!("../../docs/formats/vectors/metadata-log-v1.hex");
const SNAPSHOT_HEAD: &str =
    include_str!("../../docs/formats/vectors/metadata-snapshot-head-v1.hex");
const SNAPSHOT_PART: &str =
    include_str!("../../docs/formats/vectors/metadata-snapshot-part-v1.hex");
const BOUNDARY: &str = include_str!("../../docs/formats/vectors/metadata-boundary-v1.hex");
const LOG_COMPACTION: &str =
    include_str!("../../docs/formats/vectors/metadata-log-compaction-v1.hex");
const SNAPSHOT: &str = include_str!("../../docs/formats/vectors/metadata-snapshot-v1.hex");

const MARK: &str = include_str!("../../docs/formats/vectors/key-compaction-v1.hex");
const CACHE: &str = include_str!("../../docs/formats/vectors/block-cache-v1.hex");

mod copied;
mod guards;

struct Vector {
    name: String,
    refuse: Option<String>,
    bytes: Bytes,
}

fn parse(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<(String, Option<String>, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# name: ") {
            vectors.push((name.to_owned(), None, Vec::new()));
        } else if let Some(reason) = line.strip_prefix("# refuse: ") {
            vectors.last_mut().unwrap().1 = Some(reason.to_owned());
        } else if !line.starts_with('#') {
            let bytes = line
                .split_whitespace()
                .map(|hex| u8::from_str_radix(hex, 16).unwrap());
            if !line.trim().is_empty() {
                vectors.last_mut().unwrap().2.extend(bytes);
            }
        }
    }
    assert!(
        vectors.iter().any(|vector| vector.1.is_some()),
        "there are negative vectors"
    );
    let vector = |(name, refuse, bytes)| Vector {
        name,
        refuse,
        bytes: Bytes::from(bytes),
    };
    vectors.into_iter().map(vector).collect()
}

fn check<T>(
    text: &str,
    decode: impl Fn(Bytes) -> Result<T, FormatError>,
    encode: impl Fn(T) -> Bytes,
) {
    for Vector {
        name,
        refuse,
        bytes,
    } in parse(text)
    {
        match (decode(bytes.clone()), refuse) {
            (Ok(value), None) => assert_eq!(encode(value), bytes, "{name}"),
            (Err(FormatError::Damaged { what, .. }), Some(reason)) => {
                assert_eq!(what, reason, "{name}")
            }
            (Err(FormatError::Unsupported { .. }), Some(reason)) => {
                assert_eq!("version", reason, "{name}")
            }
            (Ok(_), Some(reason)) => panic!("{name} is not refused: {reason}"),
            (Err(err), None) => panic!("{name} is refused: {err:?}"),
        }
    }
}

const ID: ObjectId = ObjectId {
    node: NodeId(3),
    epoch: Epoch(2),
    counter: 5,
    nonce: 0x1122_3344_5566_7788,
};

/// A whole object, taken apart into what it was made of.
fn decode_object(bytes: Bytes) -> Result<ObjectPlan, FormatError> {
    let (footer, footer_crc) = decode_footer(bytes.slice(bytes.len() - FOOTER_SIZE..))?;
    let object = ObjectState {
        kind: footer.kind,
        size: bytes.len() as u64,
        index_position: footer.index_position,
        footer_crc,
        num_references: 1,
        died_seq: None,
    };
    let rows = decode_index(bytes.slice(footer.index_position as usize..), ID, &object)?.rows;
    assert_eq!(
        decode_header(bytes.slice(..HEADER_SIZE))?,
        (ID, footer.kind)
    );
    let mut ranges: Vec<SealedRange> = Vec::new();
    for row in rows {
        if ranges.last().is_none_or(|range| range.stream != row.stream) {
            let (stream, stream_epoch) = (row.stream, Epoch(1));
            ranges.push(SealedRange {
                stream,
                stream_epoch,
                entries: Vec::new(),
                snapshot: None,
            });
        }
        let range = ranges.last_mut().unwrap();
        let part =
            bytes.slice(row.position as usize..(row.position + u64::from(row.size)) as usize);
        if row.kind == BlockKind::Data {
            range
                .entries
                .extend(block::decode_data(part, &row)?.entries_from(Offset(0)));
        } else {
            let state = block::decode_snapshot(part, row.stream, row.base_offset, ID.nonce)?;
            range.snapshot = Some(StateSnapshot {
                as_of: row.base_offset,
                bytes: state,
            });
        }
    }
    Ok(ObjectPlan {
        kind: footer.kind,
        ranges,
    })
}

fn encode_object(plan: ObjectPlan) -> Bytes {
    Bytes::from(encode(ID, &plan, 200).body.concat())
}

#[test]
fn stream_set_objects() {
    check(STREAM_SET, decode_object, |plan| {
        assert_eq!(plan, stream_set());
        encode_object(plan)
    });
}

#[test]
fn stream_objects() {
    check(STREAM, decode_object, |plan| {
        assert_eq!(plan, stream_object());
        encode_object(plan)
    });
}

#[test]
fn state_snapshots() {
    let decode = |bytes| block::decode_snapshot(bytes, StreamId(7), Offset(1_003), ID.nonce);
    check(STATE, decode, |state| {
        assert_eq!(state, "state");
        Bytes::from(
            block::encode_snapshot(StreamId(7), ID.nonce, 48, Offset(1_003), state)
                .parts
                .concat(),
        )
    });
}

#[test]
fn metadata_log_entries() {
    check(
        LOG,
        |bytes| entry::decode(bytes, 3),
        |found| {
            assert_eq!((found.header, &found.txns), (log_header(), &log_txns()));
            let txns: Vec<_> = found.txns.iter().map(|txn| op::encode_txn(txn)).collect();
            entry::encode(&found.header, txns.iter().map(|txn| &txn[..])).0
        },
    );
}

#[test]
fn metadata_snapshots_in_parts() {
    let head = |bytes| snapshot::decode_head(bytes, 9);
    let first = parse(SNAPSHOT_HEAD).remove(0).bytes;
    let with_parts = head(first.clone()).unwrap();
    let part = |bytes| snapshot::decode_part(bytes, &with_parts, 0);
    check(SNAPSHOT_PART, part, |sections| {
        snapshot::encode_part(9, with_parts.nonce, 0, &sections).0
    });
    let sections = part(parse(SNAPSHOT_PART).remove(0).bytes).unwrap();
    check(SNAPSHOT_HEAD, head, |head| {
        let mut reader = head.reader();
        reader.feed(sections.clone()).unwrap();
        reader.feed(head.rest.clone()).unwrap();
        let state = reader.finish().unwrap();
        assert_eq!(state.stream(StreamId(7)).unwrap().end, Offset(1_004));
        snapshot::encode_head(&state, head.nonce, &head.parts, &head.rest)
    });
}

#[test]
fn deletion_boundaries() {
    check(
        BOUNDARY,
        |bytes| boundary::decode(bytes, 9),
        |(cluster, writer)| {
            assert_eq!((cluster.0, writer), (*b"cluster-id-16byt", 0x0102));
            boundary::encode(9, cluster, writer)
        },
    );
}

#[test]
fn metadata_log_entries_of_compaction() {
    check_entries(LOG_COMPACTION, &compaction_txns());
}

fn check_entries(vectors: &str, expected: &[Vec<MetaOp>]) {
    check(
        vectors,
        |bytes| entry::decode(bytes, 3),
        |found| {
            assert_eq!((found.header, &found.txns[..]), (log_header(), expected));
            let txns: Vec<_> = found.txns.iter().map(|txn| op::encode_txn(txn)).collect();
            entry::encode(&found.header, txns.iter().map(|txn| &txn[..])).0
        },
    );
}

#[test]
fn metadata_snapshots() {
    check(
        SNAPSHOT,
        |bytes| snapshot::decode(bytes, 9),
        |state| {
            assert_eq!(state.stream(StreamId(7)).unwrap().end, Offset(1_004));
            assert_eq!(state.dead_objects().count(), 1);
            snapshot::encode(&state)
        },
    );
}

fn batch(base_offset: u64, record_count: u32, payload: &'static [u8]) -> Entry {
    let timestamp_ms_max = 1_700_000_000_123;
    Entry {
        base_offset: Offset(base_offset),
        record_count,
        timestamp_ms_max,
        payload: Bytes::from_static(payload),
    }
}

fn stream_set() -> ObjectPlan {
    let state = StateSnapshot {
        as_of: Offset(1_003),
        bytes: Bytes::from_static(b"state"),
    };
    let first = vec![
        batch(1_000, 2, b"first"),
        batch(1_002, 1, b"second"),
        batch(1_003, 1, &[0x5a; 100]),
    ];
    let seven = SealedRange {
        stream: StreamId(7),
        stream_epoch: Epoch(1),
        entries: first,
        snapshot: Some(state),
    };
    let entries = vec![batch(0, 1, b"")];
    let nine = SealedRange {
        stream: StreamId(9),
        stream_epoch: Epoch(1),
        entries,
        snapshot: None,
    };
    ObjectPlan {
        kind: ObjectKind::StreamSet,
        ranges: vec![seven, nine],
    }
}

fn stream_object() -> ObjectPlan {
    let entries = vec![batch(40, 2, b"first"), batch(42, 1, b"second")];
    let range = SealedRange {
        stream: StreamId(7),
        stream_epoch: Epoch(1),
        entries,
        snapshot: None,
    };
    ObjectPlan {
        kind: ObjectKind::Stream,
        ranges: vec![range],
    }
}

fn log_header() -> entry::EntryHeader {
    entry::EntryHeader {
        seq: 3,
        cluster: ClusterId(*b"cluster-id-16byt"),
        writer: 0x0102,
        nonce: 0x0304,
        node: Some((NodeId(3), Epoch(2))),
        previous_crc: 0xaabb_ccdd,
        written_ms: 1_700_000_000_123,
    }
}

fn log_txns() -> Vec<Vec<MetaOp>> {
    let (node, node_epoch, stream) = (NodeId(3), Epoch(2), StreamId(7));
    let uploaded = encode(ID, &stream_set(), 200);
    let commit = MetaOp::CommitUpload {
        node,
        node_epoch,
        objects: vec![uploaded.object],
        ranges: uploaded.ranges,
        snapshots: uploaded.snapshots,
    };
    let key = || "key".to_owned();
    vec![
        vec![
            MetaOp::RegisterNode {
                node,
                epoch: node_epoch,
            },
            MetaOp::SetNodeWal {
                node,
                node_epoch,
                wal: Some(WalId(*b"wal-id--16-bytes")),
            },
            MetaOp::SetNodeWal {
                node,
                node_epoch,
                wal: None,
            },
        ],
        vec![
            MetaOp::CreateStream { stream },
            MetaOp::OpenStream {
                stream,
                node,
                node_epoch,
                epoch: Epoch(1),
            },
        ],
        vec![commit],
        vec![
            MetaOp::TrimStream {
                stream,
                epoch: Epoch(1),
                start: Offset(1_001),
            },
            MetaOp::DeleteStream {
                stream: StreamId(9),
            },
            MetaOp::PutKey {
                key: key(),
                value: Bytes::from_static(b"value"),
                expected_version: Some(0),
            },
            MetaOp::DeleteKey {
                key: key(),
                expected_version: None,
            },
            MetaOp::RemoveObjects { objects: vec![ID] },
        ],
    ]
}

fn compaction_txns() -> Vec<Vec<MetaOp>> {
    let (node, node_epoch) = (NodeId(3), Epoch(2));
    let object = |counter| ObjectId { counter, ..ID };
    let source = |start, end, counter| SourceRange {
        start: Offset(start),
        end: Offset(end),
        object: object(counter),
    };
    let target = TargetRange {
        start: Offset(1_000),
        end: Offset(1_010),
        timestamp_ms_max: 1_700_000_000_123,
        object: 0,
    };
    let snapshot = MovedSnapshot {
        from: object(5),
        from_position: 48,
        object: 0,
        position: 600,
        size: 69,
    };
    let replacement = Replacement {
        stream: StreamId(7),
        epoch: Epoch(1),
        sources: vec![source(1_000, 1_004, 5), source(1_004, 1_010, 6)],
        targets: vec![target],
        snapshot: Some(snapshot),
    };
    let compacted = NewObject {
        id: object(COMPACTION_COUNTERS + 1),
        kind: ObjectKind::Stream,
        size: 1_000,
        index_position: 700,
        footer_crc: 0x0102_0304,
    };
    let condemn = |counter| MetaOp::CondemnObjects {
        node,
        epoch: node_epoch,
        counter,
    };
    let replace = MetaOp::ReplaceRanges {
        node,
        node_epoch,
        objects: vec![compacted],
        replacements: vec![replacement],
    };
    vec![
        vec![replace],
        vec![condemn(9), condemn(COMPACTION_COUNTERS + 4)],
    ]
}

#[test]
fn slot_headers_of_the_block_cache() {
    let decode = |bytes: Bytes| slot::decode(bytes, 4096);
    check(CACHE, decode, |header| slot::encode(&header));
    let sound = parse(CACHE).remove(0).bytes;
    let object = ObjectId {
        node: NodeId(1),
        epoch: Epoch(2),
        counter: 3,
        nonce: 0x0405_0607_0809_0a0b,
    };
    let expected = SlotHeader {
        object,
        block_position: 64,
        payload_size: 5,
        payload_crc: tidewater_types::crc32c(&[b"block"]),
        slot_position: 4096,
        sequence: 7,
    };
    assert_eq!(decode(sound), Ok(expected));
}

#[test]
fn marks_of_key_compaction() {
    check(MARK, mark::decode, |mark| mark::encode(&mark));
}
