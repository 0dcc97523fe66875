//! Tests of the state machine: rules one by one, then all of them against random transactions.

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_types::{ClusterId, Epoch, NodeId, Offset, OffsetRange, StreamId, WalId};

use super::apply;
use crate::error::Rejection;
use crate::meta::format::{entry, op, snapshot};
use crate::meta::op::{
    MetaOp, MovedSnapshot, NewObject, NewRange, NewSnapshot, Replacement, SourceRange, TargetRange,
};
use crate::meta::state::MetaState;
use crate::object_id::{COMPACTION_COUNTERS, ObjectId, ObjectKind};
use crate::reader::Reader;

pub(super) const NODE: NodeId = NodeId(1);
pub(super) const STREAM: StreamId = StreamId(1);

pub(super) fn range(start: u64, end: u64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end)).unwrap()
}

pub(super) fn object(epoch: u64, counter: u64) -> NewObject {
    let id = ObjectId {
        node: NODE,
        epoch: Epoch(epoch),
        counter,
        nonce: counter.wrapping_mul(7),
    };
    NewObject {
        id,
        kind: ObjectKind::StreamSet,
        size: 1_000,
        index_position: 500,
        footer_crc: 9,
    }
}

pub(super) fn new_range(stream: StreamId, epoch: u64, start: u64, end: u64) -> NewRange {
    let (start, end) = (Offset(start), Offset(end));
    NewRange {
        stream,
        epoch: Epoch(epoch),
        start,
        end,
        timestamp_ms_max: 5,
        object: 0,
    }
}

pub(super) fn commit(counter: u64, ranges: Vec<NewRange>, snapshots: Vec<NewSnapshot>) -> MetaOp {
    MetaOp::CommitUpload {
        node: NODE,
        node_epoch: Epoch(1),
        objects: vec![object(1, counter)],
        ranges,
        snapshots,
    }
}

pub(super) fn snapshot_at(epoch: u64, as_of: u64) -> NewSnapshot {
    let (stream, epoch, as_of) = (STREAM, Epoch(epoch), Offset(as_of));
    NewSnapshot {
        stream,
        epoch,
        as_of,
        object: 0,
        position: 48,
        size: 70,
    }
}

/// Node 1 at epoch 1 owns streams 1 and 2 at epoch 1.
pub(super) fn opened() -> MetaState {
    let mut state = MetaState::new(ClusterId([7; 16]));
    let mut txn = vec![MetaOp::RegisterNode {
        node: NODE,
        epoch: Epoch(1),
    }];
    for stream in [StreamId(1), StreamId(2)] {
        txn.push(MetaOp::CreateStream { stream });
        txn.push(MetaOp::OpenStream {
            stream,
            node: NODE,
            node_epoch: Epoch(1),
            epoch: Epoch(1),
        });
    }
    apply(&mut state, 1, &txn).unwrap();
    state
}

fn rejected(state: &mut MetaState, op: MetaOp) -> Rejection {
    let before = state.clone();
    let (index, reason) = apply(state, 9, &[op]).unwrap_err();
    assert_eq!(
        (index, &*state),
        (0, &before),
        "a rejection changes nothing"
    );
    reason
}

#[test]
fn ids_and_epochs_only_ascend() {
    let mut state = opened();
    let reason = rejected(
        &mut state,
        MetaOp::CreateStream {
            stream: StreamId(2),
        },
    );
    assert_eq!(
        reason,
        Rejection::StreamIdUsed {
            stream: StreamId(2),
            next: StreamId(3)
        }
    );
    apply(
        &mut state,
        2,
        &[MetaOp::CreateStream {
            stream: StreamId(10),
        }],
    )
    .unwrap();
    assert_eq!(state.next_stream_id(), StreamId(11));
    apply(
        &mut state,
        3,
        &[MetaOp::DeleteStream {
            stream: StreamId(10),
        }],
    )
    .unwrap();
    assert!(
        apply(
            &mut state,
            4,
            &[MetaOp::CreateStream {
                stream: StreamId(10)
            }]
        )
        .is_err()
    );
    let open = MetaOp::OpenStream {
        stream: STREAM,
        node: NODE,
        node_epoch: Epoch(1),
        epoch: Epoch(1),
    };
    assert_eq!(
        rejected(&mut state, open),
        Rejection::StreamEpochStale {
            stream: STREAM,
            current: Epoch(1)
        }
    );
    let skip = MetaOp::RegisterNode {
        node: NODE,
        epoch: Epoch(3),
    };
    assert_eq!(
        rejected(&mut state, skip),
        Rejection::NodeEpochNotNext {
            node: NODE,
            current: Epoch(1)
        }
    );
}

#[test]
fn a_fenced_node_changes_nothing() {
    let mut state = opened();
    apply(
        &mut state,
        2,
        &[MetaOp::RegisterNode {
            node: NODE,
            epoch: Epoch(2),
        }],
    )
    .unwrap();
    let fenced = Rejection::NodeFenced {
        node: NODE,
        current: Epoch(2),
    };
    assert_eq!(
        rejected(
            &mut state,
            commit(1, vec![new_range(STREAM, 1, 0, 5)], vec![])
        ),
        fenced
    );
    let set = MetaOp::SetNodeWal {
        node: NODE,
        node_epoch: Epoch(1),
        wal: Some(WalId([1; 16])),
    };
    assert_eq!(rejected(&mut state, set), fenced);
    let open = MetaOp::OpenStream {
        stream: STREAM,
        node: NODE,
        node_epoch: Epoch(1),
        epoch: Epoch(2),
    };
    assert_eq!(rejected(&mut state, open), fenced);
}

#[test]
fn the_named_wal_outlives_a_registration() {
    let mut state = opened();
    let wal = Some(WalId([1; 16]));
    apply(
        &mut state,
        2,
        &[MetaOp::SetNodeWal {
            node: NODE,
            node_epoch: Epoch(1),
            wal,
        }],
    )
    .unwrap();
    apply(
        &mut state,
        3,
        &[MetaOp::RegisterNode {
            node: NODE,
            epoch: Epoch(2),
        }],
    )
    .unwrap();
    assert_eq!(state.node(NODE).unwrap().wal, wal);
}

#[test]
fn a_commit_is_judged_per_stream() {
    let mut state = opened();
    let gone = StreamId(3);
    let ranges = vec![
        new_range(StreamId(1), 1, 0, 5),
        new_range(StreamId(2), 1, 3, 5),
        new_range(gone, 1, 0, 5),
    ];
    let report = apply(&mut state, 2, &[commit(1, ranges, vec![])]).unwrap();
    assert_eq!(report.committed, [(StreamId(1), range(0, 5))]);
    assert_eq!(
        report.dropped,
        [(StreamId(2), range(3, 5)), (gone, range(0, 5))]
    );
    assert_eq!(state.stream(StreamId(1)).unwrap().end, Offset(5));
    assert_eq!(state.stream(StreamId(2)).unwrap().end, Offset(0));
}

#[test]
fn a_range_of_an_older_stream_epoch_is_dropped() {
    let mut state = opened();
    let open = MetaOp::OpenStream {
        stream: STREAM,
        node: NODE,
        node_epoch: Epoch(1),
        epoch: Epoch(2),
    };
    apply(&mut state, 2, &[open]).unwrap();
    let report = apply(
        &mut state,
        3,
        &[commit(
            1,
            vec![new_range(STREAM, 1, 0, 5)],
            vec![snapshot_at(1, 0)],
        )],
    )
    .unwrap();
    assert_eq!(report.dropped, [(STREAM, range(0, 5))]);
    assert_eq!(state.stream(STREAM).unwrap().snapshot, None);
    // The object nobody references is dead from the start.
    assert_eq!(state.object(object(1, 1).id).unwrap().died_seq, Some(3));
}

#[test]
fn a_repeated_commit_never_moves_the_end() {
    let mut state = opened();
    apply(
        &mut state,
        2,
        &[commit(1, vec![new_range(STREAM, 1, 0, 5)], vec![])],
    )
    .unwrap();
    apply(
        &mut state,
        3,
        &[commit(2, vec![new_range(STREAM, 1, 5, 9)], vec![])],
    )
    .unwrap();
    let again = rejected(
        &mut state,
        commit(1, vec![new_range(STREAM, 1, 0, 5)], vec![]),
    );
    assert!(matches!(again, Rejection::ObjectReused { .. }));
    let report = apply(
        &mut state,
        4,
        &[commit(3, vec![new_range(STREAM, 1, 0, 5)], vec![])],
    )
    .unwrap();
    assert_eq!(report.dropped, [(STREAM, range(0, 5))]);
    assert_eq!(state.stream(STREAM).unwrap().end, Offset(9));
}

#[test]
fn trim_releases_whole_ranges_and_keeps_the_one_it_cuts() {
    let mut state = opened();
    for (counter, start) in [(1, 0), (2, 5), (3, 10)] {
        apply(
            &mut state,
            2,
            &[commit(
                counter,
                vec![new_range(STREAM, 1, start, start + 5)],
                vec![],
            )],
        )
        .unwrap();
    }
    apply(
        &mut state,
        3,
        &[MetaOp::TrimStream {
            stream: STREAM,
            epoch: Epoch(1),
            start: Offset(7),
        }],
    )
    .unwrap();
    let stream = state.stream(STREAM).unwrap();
    assert_eq!(
        stream
            .ranges()
            .map(|(offsets, _)| offsets)
            .collect::<Vec<_>>(),
        [range(5, 10), range(10, 15)]
    );
    assert_eq!(state.dead_objects().collect::<Vec<_>>(), [object(1, 1).id]);
    // A trim back is no trim.
    apply(
        &mut state,
        4,
        &[MetaOp::TrimStream {
            stream: STREAM,
            epoch: Epoch(1),
            start: Offset(2),
        }],
    )
    .unwrap();
    assert_eq!(state.stream(STREAM).unwrap().start, Offset(7));
    let stale = MetaOp::TrimStream {
        stream: STREAM,
        epoch: Epoch(2),
        start: Offset(9),
    };
    assert!(matches!(
        rejected(&mut state, stale),
        Rejection::StreamEpochStale { .. }
    ));
}

#[test]
fn a_start_ahead_of_the_end_keeps_uploads_contiguous() {
    let mut state = opened();
    apply(
        &mut state,
        2,
        &[MetaOp::TrimStream {
            stream: STREAM,
            epoch: Epoch(1),
            start: Offset(7),
        }],
    )
    .unwrap();
    let report = apply(
        &mut state,
        3,
        &[commit(1, vec![new_range(STREAM, 1, 0, 5)], vec![])],
    )
    .unwrap();
    assert_eq!(report.committed, [(STREAM, range(0, 5))]);
    assert_eq!(state.stream(STREAM).unwrap().ranges().count(), 0);
    assert_eq!(state.dead_objects().count(), 1);
    apply(
        &mut state,
        4,
        &[commit(2, vec![new_range(STREAM, 1, 5, 10)], vec![])],
    )
    .unwrap();
    let stream = state.stream(STREAM).unwrap();
    assert_eq!(
        (stream.start, stream.end, stream.ranges().count()),
        (Offset(7), Offset(10), 1)
    );
}

#[test]
fn a_snapshot_is_taken_up_to_the_committed_end_and_replaces_the_older_one() {
    let mut state = opened();
    let ahead = commit(1, vec![new_range(STREAM, 1, 0, 5)], vec![snapshot_at(1, 6)]);
    apply(&mut state, 2, &[ahead]).unwrap();
    assert_eq!(state.stream(STREAM).unwrap().snapshot, None);
    apply(&mut state, 3, &[commit(2, vec![], vec![snapshot_at(1, 5)])]).unwrap();
    assert_eq!(
        state.stream(STREAM).unwrap().snapshot.unwrap().as_of,
        Offset(5)
    );
    apply(&mut state, 4, &[commit(3, vec![], vec![snapshot_at(1, 4)])]).unwrap();
    assert_eq!(
        state.stream(STREAM).unwrap().snapshot.unwrap().object,
        object(1, 2).id
    );
    apply(&mut state, 5, &[commit(4, vec![], vec![snapshot_at(1, 5)])]).unwrap();
    assert_eq!(
        state.stream(STREAM).unwrap().snapshot.unwrap().object,
        object(1, 4).id
    );
    let dead: Vec<_> = state.dead_objects().map(|id| id.counter).collect();
    assert_eq!(dead, [2, 3]);
}

#[test]
fn an_object_dies_with_its_last_reference_and_only_then_goes() {
    let mut state = opened();
    let id = object(1, 1).id;
    let ranges = vec![
        new_range(StreamId(1), 1, 0, 5),
        new_range(StreamId(2), 1, 0, 5),
    ];
    apply(&mut state, 2, &[commit(1, ranges, vec![snapshot_at(1, 5)])]).unwrap();
    assert_eq!(state.object(id).unwrap().num_references, 3);
    apply(
        &mut state,
        3,
        &[MetaOp::DeleteStream {
            stream: StreamId(1),
        }],
    )
    .unwrap();
    let reason = rejected(&mut state, MetaOp::RemoveObjects { objects: vec![id] });
    assert_eq!(reason, Rejection::ObjectLive { object: id.key() });
    apply(
        &mut state,
        4,
        &[MetaOp::DeleteStream {
            stream: StreamId(2),
        }],
    )
    .unwrap();
    assert_eq!(state.object(id).unwrap().died_seq, Some(4));
    apply(
        &mut state,
        5,
        &[MetaOp::RemoveObjects { objects: vec![id] }],
    )
    .unwrap();
    assert_eq!(state.object(id), None);
    // Another sweeper was slower, and a stale commit cannot bring the id back.
    apply(
        &mut state,
        6,
        &[MetaOp::RemoveObjects { objects: vec![id] }],
    )
    .unwrap();
    assert!(matches!(
        rejected(&mut state, commit(1, vec![], vec![])),
        Rejection::ObjectReused { .. }
    ));
}

#[test]
fn malformed_operations_are_rejected() {
    let mut state = opened();
    let inverted = rejected(
        &mut state,
        commit(1, vec![new_range(STREAM, 1, 5, 0)], vec![]),
    );
    assert!(matches!(inverted, Rejection::Malformed { .. }));
    let mut foreign = new_range(STREAM, 1, 0, 5);
    foreign.object = 1;
    assert!(matches!(
        rejected(&mut state, commit(1, vec![foreign], vec![])),
        Rejection::Malformed { .. }
    ));
    let key = MetaOp::PutKey {
        key: String::new(),
        value: Bytes::new(),
        expected_version: None,
    };
    assert!(matches!(
        rejected(&mut state, key),
        Rejection::Malformed { .. }
    ));
}

#[test]
fn a_key_that_was_deleted_never_gets_an_old_version_again() {
    let mut state = opened();
    let put = |expected_version| MetaOp::PutKey {
        key: "k".to_owned(),
        value: Bytes::new(),
        expected_version,
    };
    apply(&mut state, 2, &[put(Some(0))]).unwrap();
    let (_, first) = state.key("k").unwrap();
    apply(
        &mut state,
        3,
        &[MetaOp::DeleteKey {
            key: "k".to_owned(),
            expected_version: Some(first),
        }],
    )
    .unwrap();
    apply(&mut state, 4, &[put(Some(0))]).unwrap();
    assert!(state.key("k").unwrap().1 > first);
    assert!(matches!(
        rejected(&mut state, put(Some(first))),
        Rejection::KeyVersion { .. }
    ));
}

#[test]
fn a_stream_is_taken_from_no_other_owner_until_that_one_gives_it_up() {
    let mut state = opened();
    let take = |node, epoch| {
        let (stream, node) = (STREAM, NodeId(node));
        vec![
            MetaOp::RequireOwner { stream, node },
            MetaOp::OpenStream {
                stream,
                node,
                node_epoch: Epoch(1),
                epoch: Epoch(epoch),
            },
        ]
    };
    let release = |epoch| MetaOp::ReleaseStream {
        stream: STREAM,
        epoch: Epoch(epoch),
    };
    let other = MetaOp::RegisterNode {
        node: NodeId(2),
        epoch: Epoch(1),
    };
    apply(&mut state, 2, &[other]).unwrap();
    let owned = Rejection::StreamOwned {
        stream: STREAM,
        owner: NODE,
    };
    assert_eq!(apply(&mut state, 3, &take(2, 2)), Err((0, owned)));
    apply(&mut state, 3, &take(1, 2)).unwrap();
    assert!(matches!(
        rejected(&mut state, release(1)),
        Rejection::StreamEpochStale { .. }
    ));
    apply(&mut state, 4, &[release(2)]).unwrap();
    assert_eq!(state.stream(STREAM).unwrap().owner, None);
    apply(&mut state, 5, &take(2, 3)).unwrap();
    assert_eq!(state.stream(STREAM).unwrap().owner, Some(NodeId(2)));
}

fn any_owner_op() -> impl Strategy<Value = MetaOp> {
    prop_oneof![
        (1u64..4).prop_map(|epoch| MetaOp::RequireNode {
            node: NODE,
            node_epoch: Epoch(epoch)
        }),
        (1u64..5, 1u32..3).prop_map(|(stream, node)| MetaOp::RequireOwner {
            stream: StreamId(stream),
            node: NodeId(node)
        }),
        (1u64..5, 1u64..4).prop_map(|(stream, epoch)| MetaOp::ReleaseStream {
            stream: StreamId(stream),
            epoch: Epoch(epoch)
        }),
    ]
}

fn any_op() -> impl Strategy<Value = MetaOp> {
    let (stream, epoch, offset) = (1u64..5, 1u64..4, 0u64..20);
    let range = (stream.clone(), epoch.clone(), offset.clone(), 1u64..6).prop_map(
        |(stream, epoch, start, len)| new_range(StreamId(stream), epoch, start, start + len),
    );
    let snapshot =
        (epoch.clone(), offset.clone()).prop_map(|(epoch, as_of)| snapshot_at(epoch, as_of));
    let upload = (
        1u64..4,
        1u64..40,
        prop::collection::vec(range, 0..4),
        prop::collection::vec(snapshot, 0..2),
    );
    let others = prop_oneof![
        epoch.clone().prop_map(|epoch| MetaOp::RegisterNode {
            node: NODE,
            epoch: Epoch(epoch)
        }),
        (epoch.clone(), any::<Option<[u8; 16]>>()).prop_map(|(epoch, wal)| MetaOp::SetNodeWal {
            node: NODE,
            node_epoch: Epoch(epoch),
            wal: wal.map(WalId)
        }),
        stream.clone().prop_map(|stream| MetaOp::CreateStream {
            stream: StreamId(stream)
        }),
        (stream.clone(), epoch.clone(), epoch.clone()).prop_map(|(stream, node_epoch, epoch)| {
            MetaOp::OpenStream {
                stream: StreamId(stream),
                node: NODE,
                node_epoch: Epoch(node_epoch),
                epoch: Epoch(epoch),
            }
        }),
        (stream.clone(), epoch, offset).prop_map(|(stream, epoch, start)| MetaOp::TrimStream {
            stream: StreamId(stream),
            epoch: Epoch(epoch),
            start: Offset(start)
        }),
        stream.prop_map(|stream| MetaOp::DeleteStream {
            stream: StreamId(stream)
        }),
        ("[ab]", any::<Option<u8>>()).prop_map(|(key, version)| MetaOp::PutKey {
            key,
            value: Bytes::from_static(b"value"),
            expected_version: version.map(|version| u64::from(version % 4))
        }),
        "[ab]".prop_map(|key| MetaOp::DeleteKey {
            key,
            expected_version: None
        }),
        (1u64..4, 1u64..40).prop_map(|(epoch, counter)| MetaOp::RemoveObjects {
            objects: vec![object(epoch, counter).id]
        }),
    ];
    prop_oneof![
        9 => others,
        3 => any_owner_op(),
        6 => upload.prop_map(|(epoch, counter, ranges, snapshots)| MetaOp::CommitUpload {
            node: NODE,
            node_epoch: Epoch(epoch),
            objects: vec![object(epoch, counter)],
            ranges,
            snapshots
        }),
    ]
}

/// Replaces the ranges of every stream by one.
fn compact_all(state: &MetaState, counter: u64) -> Option<MetaOp> {
    let node_epoch = state.node(NODE)?.epoch;
    let mut new = object(node_epoch.0, COMPACTION_COUNTERS + 1 + counter);
    new.kind = ObjectKind::Stream;
    let replacements = state.streams().filter_map(|(stream, known)| {
        let sources: Vec<_> = known
            .ranges()
            .map(|(offsets, range)| SourceRange {
                start: offsets.start(),
                end: offsets.end(),
                object: range.object,
            })
            .collect();
        let target = TargetRange {
            start: sources.first()?.start,
            end: sources.last()?.end,
            timestamp_ms_max: 5,
            object: 0,
        };
        let snapshot = known.snapshot.map(|old| MovedSnapshot {
            from: old.object,
            from_position: old.position,
            object: 0,
            position: 900,
            size: 1,
        });
        Some(Replacement {
            stream,
            epoch: known.epoch,
            sources,
            targets: vec![target],
            snapshot,
        })
    });
    Some(MetaOp::ReplaceRanges {
        node: NODE,
        node_epoch,
        objects: vec![new],
        replacements: replacements.collect(),
    })
}

pub(super) fn check_invariants(state: &MetaState) {
    let mut references = std::collections::BTreeMap::<ObjectId, u64>::new();
    for (_, stream) in state.streams() {
        let mut next = None;
        for (offsets, range) in stream.ranges() {
            assert!(
                next.is_none_or(|next| next == offsets.start()),
                "contiguous"
            );
            assert!(offsets.end() > stream.start, "only what is above the start");
            next = Some(offsets.end());
            *references.entry(range.object).or_default() += 1;
        }
        match next {
            Some(end) => assert_eq!(end, stream.end),
            None => assert!(stream.start >= stream.end),
        }
        if let Some(snapshot) = stream.snapshot {
            assert!(snapshot.as_of <= stream.end);
            *references.entry(snapshot.object).or_default() += 1;
        }
    }
    for (id, object) in state.objects() {
        assert_eq!(object.num_references, references.remove(&id).unwrap_or(0));
        assert_eq!(object.died_seq.is_some(), object.num_references == 0);
        assert_eq!(state.dead.contains(&id), object.num_references == 0);
    }
    assert!(references.is_empty(), "references name known objects");
}

proptest! {
    #[test]
    fn invariants_hold_whatever_is_proposed(
        txns in prop::collection::vec((prop::collection::vec(any_op(), 1..4), any::<bool>()), 0..60)
    ) {
        let mut state = opened();
        for (index, (txn, compact)) in txns.iter().enumerate() {
            let before = state.clone();
            let ends: Vec<_> = state.streams().map(|(id, stream)| (id, stream.end, stream.start)).collect();
            if apply(&mut state, index as u64 + 2, txn).is_err() {
                prop_assert_eq!(&state, &before, "a rejected transaction changes nothing");
            }
            check_invariants(&state);
            if *compact && let Some(op) = compact_all(&state, index as u64) {
                let report = apply(&mut state, index as u64 + 2, &[op]).unwrap();
                prop_assert_eq!(report.dropped, []);
                check_invariants(&state);
            }
            for (id, end, start) in ends {
                if let Some(stream) = state.stream(id) {
                    prop_assert!(stream.end >= end && stream.start >= start);
                }
            }
        }
        state.seq = 61;
        let bytes = snapshot::encode(&state);
        let decoded = snapshot::decode(bytes.clone(), 61).unwrap();
        prop_assert_eq!(&decoded, &state);
        prop_assert_eq!(snapshot::encode(&decoded), bytes);
    }

    #[test]
    fn transactions_round_trip(txn in prop::collection::vec(any_op(), 0..8)) {
        let bytes = op::encode_txn(&txn);
        let mut reader = Reader::new(Bytes::from(bytes));
        prop_assert_eq!(op::decode_txn(&mut reader).unwrap(), txn);
        reader.finish().unwrap();
    }

    #[test]
    fn damaged_bytes_never_decode(
        txn in prop::collection::vec(any_op(), 0..8), at in any::<prop::sample::Index>(), flip in 1u8..=255
    ) {
        let header = entry::EntryHeader {
            seq: 3, cluster: ClusterId([1; 16]), writer: 4, nonce: 5, node: None, previous_crc: 6, written_ms: 7,
        };
        let encoded = op::encode_txn(&txn);
        let (bytes, _) = entry::encode(&header, std::iter::once(&encoded[..]));
        prop_assert_eq!(entry::decode(bytes.clone(), 3).unwrap().txns, [txn]);
        let mut damaged = bytes.to_vec();
        damaged[at.index(bytes.len())] ^= flip;
        prop_assert!(entry::decode(Bytes::from(damaged), 3).is_err());
        prop_assert!(entry::decode(bytes.slice(..at.index(bytes.len())), 3).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        // Behind a checksum that holds: only the structure protects.
        let mut reader = Reader::new(Bytes::from(bytes.clone()));
        let _txn = op::decode_txn(&mut reader);
        let _state = snapshot::decode(Bytes::from(bytes), 0);
    }
}
