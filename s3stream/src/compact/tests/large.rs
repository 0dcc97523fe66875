//! Tests of objects that are larger than what a step holds in memory, and of what is joined.
//!
//! *IO: driver (a runtime)*

use super::*;

/// Parts of 700 bytes, and requests of 1 KiB.
fn in_parts() -> TierConfig {
    let mut config = config();
    config.upload.part_bytes = 700;
    config.stream_object_bytes = 2 << 10;
    config.compact.step_bytes = 256 << 10;
    config.compact.read_bytes = 1 << 10;
    config.compact.object_bytes = 128 << 10;
    config
}

/// One stream of `rounds` uploads of 40 entries each, every one an object of about 5 KiB.
async fn one_stream(rig: &Rig, rounds: u64) -> StreamId {
    let stream = rig.stream().await;
    for round in 0..rounds {
        rig.upload(stream, entries(round * 40, 40, 1, 100)).await;
    }
    stream
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_memory_goes_in_parts_while_it_is_made() {
    let rig = Rig::new(in_parts()).await;
    let stream = one_stream(&rig, 18).await;
    assert_eq!(rig.bucket.count(Op::Part, "data/"), 0);
    compact(&rig).await;
    assert_eq!(kinds(&rig, stream), [ObjectKind::Stream]);
    assert_eq!(rig.bucket.count(Op::Complete, "data/"), 1);
    let num_parts = rig.bucket.count(Op::Part, "data/");
    assert!(num_parts > 100_000 / 700, "{num_parts}");
    assert_eq!(read(&rig.tier, stream).await, entries(0, 720, 1, 100));
    assert_sound(&rig).await;
    assert_eq!(compact(&rig).await, 0, "it ends");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_of_a_growing_object_are_resolved() {
    for fault in [
        Fault::LoseAnswer,
        Fault::Vanish,
        Fault::Throttle,
        Fault::Forget,
    ] {
        let rig = Rig::new(in_parts()).await;
        let stream = one_stream(&rig, 8).await;
        for op in [Op::Start, Op::Part, Op::Complete] {
            rig.bucket.script(op, "data/", &[fault; 2]);
        }
        rig.bucket.script(Op::Size, "data/", &[Fault::Vanish]);
        compact(&rig).await;
        assert_eq!(kinds(&rig, stream), [ObjectKind::Stream], "{fault:?}");
        assert_eq!(read(&rig.tier, stream).await, entries(0, 320, 1, 100));
        assert_sound(&rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_middle_gives_up_what_was_sent() {
    let rig = Rig::new(in_parts()).await;
    let stream = one_stream(&rig, 8).await;
    let key = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(stream).unwrap().ranges().nth(5).unwrap();
        range.object.key()
    });
    rig.bucket.flip(&key, 300).await;
    let err = rig.tier.compact_until_done(NODE, rig.node_epoch).await;
    assert!(matches!(err, Err(TierError::Corrupt { object, .. }) if object == key));
    assert!(rig.bucket.count(Op::Part, "data/") > 0);
    assert_eq!(rig.bucket.count(Op::Abort, "data/"), 1);
    assert_eq!(kinds(&rig, stream).len(), 8);
}

/// Sets are as large as uploads, and are joined with neighbours only, whatever their sizes are.
#[tokio::test(start_paused = true)]
async fn full_uploads_are_joined_and_each_byte_is_written_again_once() {
    let mut config = in_parts();
    config.stream_object_bytes = 1 << 20;
    (config.compact.objects_min, config.compact.growth_min) = (16, 8);
    let rig = Rig::new(config).await;
    let streams = [rig.stream().await, rig.stream().await];
    for round in 0..80 {
        for stream in streams {
            let part = entries(round * 40, 40, 1, 100);
            rig.tail.append(stream, Epoch(1), part);
        }
        rig.uploader.flush().await.unwrap();
    }
    compact(&rig).await;
    for stream in streams {
        let all = kinds(&rig, stream);
        assert!(all.len() < 16, "{all:?}");
        assert!(all.iter().all(|kind| *kind == ObjectKind::StreamSet));
        assert_eq!(read(&rig.tier, stream).await, entries(0, 3_200, 1, 100));
    }
    let counters = rig.tier.counters();
    let (sent, again) = (counters.upload_bytes, counters.compaction_bytes_written);
    assert!(again <= sent, "{again} of {sent} bytes");
    assert_sound(&rig).await;
}

/// Streams that are active in turn: what is joined of each follows each other.
#[tokio::test(start_paused = true)]
async fn sets_are_joined_with_their_neighbours() {
    let mut config = config();
    config.compact.object_bytes = 64 << 10;
    config.stream_object_bytes = 1 << 20;
    let rig = Rig::new(config).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(rig.stream().await);
    }
    let mut ends = [0_u64; 4];
    for round in 0..40_usize {
        for (which, stream) in streams.iter().enumerate() {
            // Each is silent in its own rounds; sizes differ.
            if round % 5 == which {
                continue;
            }
            let part = entries(ends[which], 2, 1, 20 + round % 7 * 60);
            ends[which] += 2;
            rig.tail.append(*stream, Epoch(1), part);
        }
        rig.uploader.flush().await.unwrap();
    }
    compact(&rig).await;
    for (which, stream) in streams.iter().enumerate() {
        let read = read(&rig.tier, *stream).await;
        let offsets: Vec<_> = read.iter().map(|entry| entry.base_offset.0).collect();
        assert_eq!(offsets, (0..ends[which]).collect::<Vec<_>>());
    }
    let counters = rig.tier.counters();
    assert_eq!(counters.stream_live, 0, "no run was torn");
    assert!(
        counters.stream_set_live <= 6,
        "{}",
        counters.stream_set_live
    );
    assert_sound(&rig).await;
}

/// Objects whose blocks are full, so that they are copied.
fn copying() -> TierConfig {
    let mut config = in_parts();
    config.block_bytes = 700;
    config.compact.copy_bytes = 1 << 20;
    config
}

#[tokio::test(start_paused = true)]
async fn the_store_copies_what_is_large() {
    let rig = Rig::new(copying()).await;
    let stream = one_stream(&rig, 6).await;
    compact(&rig).await;
    let copies = rig.bucket.count(Op::Copy, "data/");
    assert_eq!(copies, 6, "of the first all but what fills a part");
    let counters = rig.tier.counters();
    let (copied, sent) = (
        counters.compaction_bytes_copied,
        counters.compaction_bytes_written,
    );
    assert!(copied > 5 * sent, "{copied} bytes copied, {sent} sent");
    assert_eq!(kinds(&rig, stream), [ObjectKind::Stream]);
    assert_eq!(read(&rig.tier, stream).await, entries(0, 240, 1, 100));
    assert_sound(&rig).await;
    // What was copied is copied on.
    for round in 6..24 {
        rig.upload(stream, entries(round * 40, 40, 1, 100)).await;
    }
    compact(&rig).await;
    assert_eq!(read(&rig.tier, stream).await, entries(0, 960, 1, 100));
    let again = rig.tier.counters();
    let (copied, sent) = (
        again.compaction_bytes_copied - copied,
        again.compaction_bytes_written - sent,
    );
    assert!(copied > 5 * sent, "{copied} bytes copied, {sent} sent");
    assert!(rig.bucket.count(Op::Copy, "data/") > copies);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_copies_nothing_is_sent_everything() {
    for (op, fault) in [
        (Op::Copy, Fault::Refuse),
        (Op::Complete, Fault::Forget),
        (Op::Copy, Fault::LoseAnswer),
        (Op::Copy, Fault::Vanish),
    ] {
        let rig = Rig::new(copying()).await;
        let stream = one_stream(&rig, 6).await;
        rig.bucket.script(op, "data/", &[fault; 3]);
        compact(&rig).await;
        assert_eq!(kinds(&rig, stream), [ObjectKind::Stream], "{fault:?}");
        assert_eq!(read(&rig.tier, stream).await, entries(0, 240, 1, 100));
        let copied = rig.tier.counters().compaction_bytes_copied;
        let gives_up = [Fault::Refuse, Fault::Forget].contains(&fault);
        assert_eq!(copied == 0, gives_up, "{fault:?}");
        assert_sound(&rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn damage_at_the_edge_of_a_copy_keeps_its_source() {
    let rig = Rig::new(copying()).await;
    let stream = one_stream(&rig, 6).await;
    let key = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(stream).unwrap().ranges().nth(3).unwrap();
        range.object.key()
    });
    // In the first block of the fourth object, which nobody reads.
    rig.bucket.flip(&key, 200).await;
    let err = rig.tier.compact_until_done(NODE, rig.node_epoch).await;
    assert!(
        matches!(&err, Err(TierError::Corrupt { object, .. }) if *object == key),
        "{err:?}"
    );
    assert_eq!(kinds(&rig, stream).len(), 6);
}

/// A source is copied by several requests: each of them is looked at.
#[tokio::test(start_paused = true)]
async fn a_copy_of_a_wrong_place_is_seen_whichever_it_is() {
    let num_copies = {
        let rig = Rig::new(in_small_copies()).await;
        one_stream(&rig, 4).await;
        compact(&rig).await;
        rig.bucket.count(Op::Copy, "data/")
    };
    assert!(num_copies > 12, "{num_copies}");
    for wrong in 0..num_copies {
        let rig = Rig::new(in_small_copies()).await;
        let stream = one_stream(&rig, 4).await;
        let faults = &[Fault::Astray];
        rig.bucket.script_behind(wrong, Op::Copy, "data/", faults);
        compact(&rig).await;
        assert_eq!(rig.bucket.scripted(), 0);
        assert_eq!(kinds(&rig, stream), [ObjectKind::Stream], "{wrong}");
        assert_eq!(read(&rig.tier, stream).await, entries(0, 160, 1, 100));
        assert_sound(&rig).await;
    }
}

fn in_small_copies() -> TierConfig {
    let mut config = copying();
    config.compact.copy_bytes = 1 << 10;
    config
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_went_away_is_no_reason_to_copy_no_more() {
    let rig = Rig::new(copying()).await;
    let stream = one_stream(&rig, 6).await;
    rig.bucket
        .script_behind(2, Op::Copy, "data/", &[Fault::Forget]);
    compact(&rig).await;
    assert_eq!(kinds(&rig, stream), [ObjectKind::Stream]);
    assert!(rig.tier.counters().compaction_bytes_copied > 0);
    assert_eq!(read(&rig.tier, stream).await, entries(0, 240, 1, 100));
    assert_sound(&rig).await;
}

/// A store without copies may say that nothing is there.
#[tokio::test(start_paused = true)]
async fn copies_that_always_find_nothing_are_given_up() {
    let rig = Rig::new(copying()).await;
    let stream = one_stream(&rig, 6).await;
    rig.bucket
        .script(Op::Copy, "data/", &[Fault::Forget; 1_000]);
    compact(&rig).await;
    assert_eq!(kinds(&rig, stream), [ObjectKind::Stream]);
    assert_eq!(rig.tier.counters().compaction_bytes_copied, 0);
    assert_eq!(read(&rig.tier, stream).await, entries(0, 240, 1, 100));
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn copies_that_are_never_answered_are_given_up() {
    for fault in [Fault::LoseAnswer, Fault::Vanish] {
        let rig = Rig::new(copying()).await;
        let stream = one_stream(&rig, 6).await;
        rig.bucket.script(Op::Copy, "data/", &[fault; 1_000]);
        compact(&rig).await;
        assert_eq!(kinds(&rig, stream), [ObjectKind::Stream], "{fault:?}");
        assert_eq!(rig.tier.counters().compaction_bytes_copied, 0);
        assert_eq!(read(&rig.tier, stream).await, entries(0, 240, 1, 100));
    }
}

/// A damaged set between others is no reason to tear the streams in them.
#[tokio::test(start_paused = true)]
async fn nothing_is_joined_across_a_set_that_is_left_alone() {
    let rig = Rig::new(config()).await;
    let streams = two_streams(&rig, 11, 40).await;
    let key = rig.tier.metadata().read(|state| {
        let (_, range) = state.stream(streams[0]).unwrap().ranges().nth(5).unwrap();
        range.object.key()
    });
    rig.bucket.flip(&key, 100).await;
    while let Err(err) = rig.tier.compact_until_done(NODE, rig.node_epoch).await {
        assert!(matches!(err, TierError::Corrupt { .. }), "{err}");
    }
    let counters = rig.tier.counters();
    assert_eq!(counters.stream_live, 0, "no stream was torn");
}
