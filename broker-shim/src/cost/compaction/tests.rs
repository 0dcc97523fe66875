//! Examples that were computed by hand.
//!
//! *IO: none*

use super::*;

const KIB: f64 = 1_024.0;

/// The settings of a broker of 512 MiB, with round numbers: a split is worth 8 MiB a stream.
fn rules() -> Rules {
    Rules {
        objects_min: 16.0,
        growth_min: 8.0,
        object_bytes: 1_024.0 * MIB,
        step_bytes: 16.0 * MIB,
        read_bytes: 8.0 * MIB,
        read_bytes_min: 512.0 * KIB,
        copy_bytes: 256.0 * MIB,
        part_bytes: 8.0 * MIB,
        block_bytes: 512.0 * KIB,
        stream_object_bytes: 8.0 * MIB,
        split_window_bytes: 16_384.0 * MIB,
        split_joined: false,
        split_read_bytes_min: 256.0 * KIB,
        split_stream_bytes: 8.0 * MIB,
        split_commit_bytes: 256.0 * MIB,
        snapshot_entries: 1_000.0,
    }
}

fn sets(streams: f64, stream_bytes: f64, per_lane: f64) -> Objects {
    Objects {
        is_set: true,
        is_joined: false,
        lanes: 1.0,
        per_lane,
        streams,
        stream_bytes,
    }
}

fn own(stream_bytes: f64, per_lane: f64) -> Objects {
    Objects {
        is_set: false,
        is_joined: false,
        lanes: 1.0,
        per_lane,
        streams: 1.0,
        stream_bytes,
    }
}

fn used(uploaded: Objects, rules: &Rules) -> Usage {
    let mut usage = Usage::default();
    add(uploaded, rules, &mut usage);
    usage
}

fn requests(usage: &Usage, op: &str, purpose: &str) -> f64 {
    let of = usage
        .requests()
        .filter(|row| (row.0, row.1) == (op, purpose));
    of.map(|row| row.2).sum()
}

fn near(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() < 0.01,
        "{found}, not {expected}"
    );
}

#[test]
fn sets_wait_for_a_split_and_are_taken_apart_once() {
    // 32 sets of 100 streams of 256 KiB make 100 objects of 8 MiB.
    let sets = sets(100.0, 256.0 * KIB, 32.0);
    assert_eq!(rules().step(&sets), Some(Step::Split(32.0)));
    let usage = used(sets, &rules());
    // 800 MiB in and out, once.
    near(usage.bytes_in(), 800.0 * MIB);
    near(requests(&usage, "create", "compaction"), 100.0);
    assert_eq!(requests(&usage, "part", "compaction"), 0.0);
    // Of each set its index, and two streams at a time; of each object its index.
    near(
        requests(&usage, "get", "compaction"),
        32.0 * (1.0 + 50.0) + 100.0,
    );
    // A commit for 256 MiB each, one entry that forgets 32 sets, and a thousandth for snapshots.
    near(requests(&usage, "create", "meta"), 5.005);
    assert_eq!(requests(&usage, "delete", "gc"), 100.0);
    let meta: f64 = usage
        .bytes()
        .filter(|row| row.1 == "meta")
        .map(|row| row.2)
        .sum();
    near(usage.bytes_out() - meta, 800.0 * MIB);
}

#[test]
fn too_few_for_a_step_stay_as_they_are() {
    let usage = used(sets(100.0, 256.0 * KIB, 31.0), &rules());
    assert_eq!(usage, Usage::default());
}

#[test]
fn where_sets_are_not_split_they_are_joined_by_sixteen() {
    let rules = Rules {
        split_window_bytes: 0.0,
        ..rules()
    };
    // 4 MiB with 16 streams of 256 KiB: to 64 MiB, in which a stream has 4 MiB.
    let first = sets(16.0, 256.0 * KIB, 16.0);
    assert_eq!(rules.step(&first), Some(Step::Join(16.0)));
    let usage = used(first, &rules);
    near(usage.bytes_in(), 64.0 * MIB);
    // A set is 4 MiB, and a sixteenth of the memory 1 MiB: its index, and four requests.
    near(requests(&usage, "get", "compaction"), 16.0 * 5.0 + 1.0);
    let [start, parts, complete] =
        ["start", "part", "complete"].map(|op| requests(&usage, op, "compaction"));
    assert_eq!([start, parts, complete], [1.0, 9.0, 1.0]);
    assert_eq!(requests(&usage, "delete", "gc"), 1.0);
    let second = sets(16.0, 4.0 * MIB, 16.0);
    assert_eq!(
        rules.step(&second),
        Some(Step::Join(8.0)),
        "half of an object, with the indices"
    );
}

#[test]
fn streams_that_are_too_many_for_a_split_are_joined_before() {
    // 64 sets at most are split: 100 KiB of a stream make 6.25 MiB.
    let first = sets(150.0, 100.0 * KIB, 16.0);
    assert_eq!(rules().step(&first), Some(Step::Join(16.0)));
    let joined = Objects {
        is_joined: true,
        ..sets(150.0, 1_600.0 * KIB, 6.0)
    };
    assert_eq!(
        rules().step(&joined),
        None,
        "written twice, and so it stays"
    );
    let rules = Rules {
        split_joined: true,
        ..rules()
    };
    assert_eq!(rules.step(&joined), Some(Step::Split(6.0)));
}

#[test]
fn objects_of_a_stream_are_strung_together_by_copies() {
    // 16 of 16 MiB: of the first one request is read, 15 blocks, and sent as a part; its rest and all others
    // the store copies.
    let objects = own(16.0 * MIB, 16.0);
    let usage = used(objects, &rules());
    let copies = requests(&usage, "copy", "compaction");
    assert_eq!(copies, 16.0);
    assert_eq!(requests(&usage, "start", "compaction"), 1.0);
    let out: f64 = usage
        .bytes()
        .filter(|row| (row.0, row.1) == ("out", "compaction"))
        .map(|row| row.2)
        .sum();
    near(out, 7.5 * MIB + 16.0 * 32.0 * ROW_BYTES);
    // An index each, that request, a look at two blocks of each copy, the index of what was made.
    let gets = requests(&usage, "get", "compaction");
    assert_eq!(gets, 16.0 + 1.0 + 32.0 + 1.0);
    // 256 MiB: four of them are half of an object, and only eight are worth it.
    assert_eq!(rules().step(&own(256.0 * MIB, 9.0)), None);
    assert_eq!(rules().step(&own(127.0 * MIB, 9.0)), Some(Step::Grow(8.0)));
}

#[test]
fn small_objects_of_a_stream_are_read_whole() {
    let objects = own(512.0 * KIB, 16.0);
    let usage = used(objects, &rules());
    assert_eq!(requests(&usage, "get", "compaction"), 16.0 + 1.0);
    assert_eq!(requests(&usage, "create", "compaction"), 1.0);
    near(usage.bytes_in(), 8.0 * MIB);
}
