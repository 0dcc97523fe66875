//! Tests of compaction and condemnation as the state machine judges them.

use tidewater_types::{Epoch, Offset, StreamId};

use super::apply;
use super::tests::{NODE, STREAM, commit, new_range, object, opened, range, snapshot_at};
use crate::entry::CommitReport;
use crate::error::Rejection;
use crate::meta::op::{MetaOp, MovedSnapshot, NewObject, Replacement, SourceRange, TargetRange};
use crate::meta::state::MetaState;
use crate::object_id::{COMPACTION_COUNTERS, ObjectId, ObjectKind};

fn compacted(counter: u64) -> NewObject {
    NewObject {
        kind: ObjectKind::Stream,
        ..object(1, COMPACTION_COUNTERS + counter)
    }
}

fn source(start: u64, end: u64, counter: u64) -> SourceRange {
    SourceRange {
        start: Offset(start),
        end: Offset(end),
        object: object(1, counter).id,
    }
}

fn target(start: u64, end: u64) -> TargetRange {
    TargetRange {
        start: Offset(start),
        end: Offset(end),
        timestamp_ms_max: 5,
        object: 0,
    }
}

fn replacement(sources: Vec<SourceRange>, targets: Vec<TargetRange>) -> Replacement {
    Replacement {
        stream: STREAM,
        epoch: Epoch(1),
        sources,
        targets,
        snapshot: None,
    }
}

fn replace(counter: u64, replacements: Vec<Replacement>) -> MetaOp {
    MetaOp::ReplaceRanges {
        node: NODE,
        node_epoch: Epoch(1),
        objects: vec![compacted(counter)],
        replacements,
    }
}

/// Stream 1 has [0, 10), [10, 20), [20, 30) in objects 1, 2, 3.
fn uploaded() -> MetaState {
    let mut state = opened();
    for counter in 1..=3 {
        let range = new_range(STREAM, 1, (counter - 1) * 10, counter * 10);
        apply(&mut state, 9, &[commit(counter, vec![range], vec![])]).unwrap();
    }
    state
}

fn whole() -> Vec<SourceRange> {
    vec![source(0, 10, 1), source(10, 20, 2), source(20, 30, 3)]
}

fn ranges(state: &MetaState) -> Vec<(u64, u64, ObjectId)> {
    let stream = state.stream(STREAM).unwrap();
    let ranges = stream.ranges();
    ranges
        .map(|(offsets, range)| (offsets.start().0, offsets.end().0, range.object))
        .collect()
}

fn is_dead(state: &MetaState, id: ObjectId) -> bool {
    state.object(id).unwrap().died_seq.is_some()
}

fn judged(state: &mut MetaState, op: MetaOp) -> Result<CommitReport, Rejection> {
    apply(state, 50, &[op]).map_err(|(_, reason)| reason)
}

#[test]
fn sources_die_when_their_ranges_are_replaced() {
    let mut state = uploaded();
    let op = replace(1, vec![replacement(whole(), vec![target(0, 30)])]);
    let report = judged(&mut state, op).unwrap();
    assert_eq!(report.committed, [(STREAM, range(0, 30))]);
    let new = compacted(1).id;
    assert_eq!(ranges(&state), [(0, 30, new)]);
    assert!((1..=3).all(|counter| is_dead(&state, object(1, counter).id)));
    assert_eq!(state.object(new).unwrap().num_references, 1);
    assert_eq!(state.object(object(1, 1).id).unwrap().died_seq, Some(50));
}

#[test]
fn of_two_compactors_of_the_same_ranges_one_wins() {
    let mut state = uploaded();
    let first = replace(1, vec![replacement(whole(), vec![target(0, 30)])]);
    judged(&mut state, first).unwrap();
    let tail = vec![source(10, 20, 2), source(20, 30, 3)];
    let second = replace(2, vec![replacement(tail, vec![target(10, 30)])]);
    let report = judged(&mut state, second).unwrap();
    assert_eq!(report.dropped, [(STREAM, range(10, 30))]);
    assert_eq!(ranges(&state), [(0, 30, compacted(1).id)]);
    assert!(is_dead(&state, compacted(2).id), "its object is nobody's");
}

#[test]
fn a_stream_that_moved_on_is_dropped_and_the_others_are_replaced() {
    let mut state = uploaded();
    let other = StreamId(2);
    let range_of_other = new_range(other, 1, 0, 4);
    judged(&mut state, commit(4, vec![range_of_other], vec![])).unwrap();
    let reopened = MetaOp::OpenStream {
        stream: STREAM,
        node: NODE,
        node_epoch: Epoch(1),
        epoch: Epoch(2),
    };
    judged(&mut state, reopened).unwrap();
    let of_other = Replacement {
        stream: other,
        ..replacement(vec![source(0, 4, 4)], vec![target(0, 4)])
    };
    let of_none = Replacement {
        stream: StreamId(77),
        ..of_other.clone()
    };
    let stale = replacement(whole(), vec![target(0, 30)]);
    let report = judged(&mut state, replace(1, vec![stale, of_other, of_none])).unwrap();
    assert_eq!(report.committed, [(other, range(0, 4))]);
    assert_eq!(
        report.dropped,
        [(STREAM, range(0, 30)), (StreamId(77), range(0, 4))]
    );
    assert_eq!(ranges(&state).len(), 3);
}

#[test]
fn targets_cover_exactly_the_sources() {
    let wrong = [
        (whole(), vec![target(0, 29)]),
        (whole(), vec![target(1, 30)]),
        (whole(), vec![target(0, 10), target(11, 30)]),
        (whole(), vec![target(0, 10), target(9, 30)]),
        (whole(), vec![]),
        (vec![], vec![]),
        (
            vec![source(0, 10, 1), source(20, 30, 3)],
            vec![target(0, 30)],
        ),
        (vec![source(0, 0, 1)], vec![target(0, 0)]),
    ];
    for (sources, targets) in wrong {
        let mut state = uploaded();
        let before = state.clone();
        let op = replace(1, vec![replacement(sources, targets)]);
        let reason = judged(&mut state, op).unwrap_err();
        assert!(matches!(reason, Rejection::Malformed { .. }), "{reason}");
        assert_eq!(state, before);
    }
}

#[test]
fn a_target_below_the_start_is_not_taken_in() {
    let mut state = uploaded();
    let trim = MetaOp::TrimStream {
        stream: STREAM,
        epoch: Epoch(1),
        start: Offset(5),
    };
    judged(&mut state, trim).unwrap();
    let targets = vec![target(0, 5), target(5, 30)];
    judged(&mut state, replace(1, vec![replacement(whole(), targets)])).unwrap();
    assert_eq!(ranges(&state), [(5, 30, compacted(1).id)]);
}

#[test]
fn a_trimmed_source_drops_the_replacement() {
    let mut state = uploaded();
    let trim = MetaOp::TrimStream {
        stream: STREAM,
        epoch: Epoch(1),
        start: Offset(10),
    };
    judged(&mut state, trim).unwrap();
    let op = replace(1, vec![replacement(whole(), vec![target(0, 30)])]);
    assert_eq!(judged(&mut state, op).unwrap().dropped.len(), 1);
    assert_eq!(ranges(&state).len(), 2);
}

#[test]
fn a_snapshot_moves_along_unless_a_newer_one_was_committed() {
    let moved = |mut of: Replacement| {
        of.snapshot = Some(MovedSnapshot {
            from: object(1, 4).id,
            from_position: 48,
            object: 0,
            position: 900,
            size: 70,
        });
        of
    };
    let with_snapshot = || {
        let mut state = uploaded();
        let upload = commit(
            4,
            vec![new_range(STREAM, 1, 30, 40)],
            vec![snapshot_at(1, 40)],
        );
        judged(&mut state, upload).unwrap();
        state
    };
    let sources = || [whole(), vec![source(30, 40, 4)]].concat();
    let op = || replace(1, vec![moved(replacement(sources(), vec![target(0, 40)]))]);
    let mut state = with_snapshot();
    judged(&mut state, op()).unwrap();
    let snapshot = state.stream(STREAM).unwrap().snapshot.unwrap();
    assert_eq!((snapshot.object, snapshot.position), (compacted(1).id, 900));
    assert_eq!(snapshot.as_of, Offset(40));
    assert!(is_dead(&state, object(1, 4).id));
    assert_eq!(state.object(compacted(1).id).unwrap().num_references, 2);

    let mut state = with_snapshot();
    let newer = commit(
        5,
        vec![new_range(STREAM, 1, 40, 50)],
        vec![snapshot_at(1, 50)],
    );
    judged(&mut state, newer).unwrap();
    judged(&mut state, op()).unwrap();
    let snapshot = state.stream(STREAM).unwrap().snapshot.unwrap();
    assert_eq!(snapshot.object, object(1, 5).id);
}

#[test]
fn uploads_and_compactions_commit_in_their_own_order() {
    let mut state = uploaded();
    let replacements = |start| {
        let counter = start / 10 + 1;
        let sources = vec![source(start, start + 10, counter)];
        vec![replacement(sources, vec![target(start, start + 10)])]
    };
    judged(&mut state, replace(2, replacements(0))).unwrap();
    judged(
        &mut state,
        commit(4, vec![new_range(STREAM, 1, 30, 40)], vec![]),
    )
    .unwrap();
    judged(&mut state, replace(3, replacements(10))).unwrap();
    let reason = judged(&mut state, replace(1, replacements(20))).unwrap_err();
    assert!(matches!(reason, Rejection::ObjectReused { .. }));
    let swapped = MetaOp::ReplaceRanges {
        node: NODE,
        node_epoch: Epoch(1),
        objects: vec![object(1, 9)],
        replacements: replacements(20),
    };
    let reason = judged(&mut state, swapped).unwrap_err();
    assert!(matches!(reason, Rejection::ObjectReused { .. }), "{reason}");
}

#[test]
fn a_condemned_object_is_never_committed() {
    let condemn = |epoch, counter| MetaOp::CondemnObjects {
        node: NODE,
        epoch: Epoch(epoch),
        counter,
    };
    let next = |counter| commit(counter, vec![new_range(STREAM, 1, 30, 40)], vec![]);
    let mut state = uploaded();
    judged(&mut state, condemn(1, 6)).unwrap();
    // One that names less takes nothing back, and one of another epoch does nothing.
    judged(&mut state, condemn(1, 2)).unwrap();
    judged(&mut state, condemn(0, 99)).unwrap();
    let reason = judged(&mut state, next(6)).unwrap_err();
    assert!(matches!(reason, Rejection::ObjectReused { .. }));
    judged(&mut state, condemn(1, COMPACTION_COUNTERS + 3)).unwrap();
    let op = replace(3, vec![replacement(whole(), vec![target(0, 30)])]);
    judged(&mut state, op).unwrap_err();
    judged(&mut state, next(7)).unwrap();
    let op = replace(4, vec![replacement(whole(), vec![target(0, 30)])]);
    judged(&mut state, op).unwrap();
    let reason = judged(&mut state, condemn(2, 1)).unwrap_err();
    assert!(matches!(reason, Rejection::NodeEpochNotNext { .. }));
}

#[test]
fn a_fenced_compactor_changes_nothing() {
    let mut state = uploaded();
    let register = MetaOp::RegisterNode {
        node: NODE,
        epoch: Epoch(2),
    };
    judged(&mut state, register).unwrap();
    let op = replace(1, vec![replacement(whole(), vec![target(0, 30)])]);
    let reason = judged(&mut state, op).unwrap_err();
    assert!(matches!(reason, Rejection::NodeFenced { .. }));
}
