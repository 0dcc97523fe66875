//! Objects that go in parts.
//!
//! *IO: driver (a runtime)*

use super::*;

fn in_parts() -> TierConfig {
    TierConfig {
        upload: crate::UploadConfig {
            multipart_bytes: 2_048,
            part_bytes: 700,
            ..crate::UploadConfig::default()
        },
        ..small_config()
    }
}

#[tokio::test(start_paused = true)]
async fn large_objects_go_in_parts_and_small_ones_whole() {
    let rig = Rig::new(in_parts()).await;
    let (small, large) = (rig.stream().await, rig.stream().await);
    rig.tail.append(small, Epoch(1), entries(0, 3, 1, 100));
    rig.upload(large, entries(0, 50, 1, 100)).await;
    assert_eq!(rig.bucket.count(Op::Create, "data/"), 1);
    assert_eq!(rig.bucket.count(Op::Start, "data/"), 1);
    assert!(rig.bucket.count(Op::Part, "data/") > 5);
    assert_eq!(rig.bucket.count(Op::Complete, "data/"), 1);
    let read = rig.tier.fetch(large, Offset(0), 1 << 20).await.unwrap();
    assert_eq!(read.entries, entries(0, 50, 1, 100));
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_of_parts_and_completions_are_resolved() {
    for fault in [
        Fault::LoseAnswer,
        Fault::Vanish,
        Fault::Throttle,
        Fault::NoSpace,
    ] {
        let rig = Rig::new(in_parts()).await;
        let large = rig.stream().await;
        for op in [Op::Start, Op::Part, Op::Complete] {
            rig.bucket.script(op, "data/", &[fault; 2]);
        }
        rig.bucket.script(Op::Size, "data/", &[Fault::Vanish]);
        rig.upload(large, entries(0, 50, 1, 100)).await;
        assert_eq!(end(&rig.tier, large), Offset(50), "{fault:?}");
        assert_eq!(rig.bucket.keys("data/").await.len(), 1, "{fault:?}");
        assert_sound(&rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_parts_that_the_store_lost_begins_anew() {
    let rig = Rig::new(in_parts()).await;
    let large = rig.stream().await;
    rig.bucket
        .script(Op::Complete, "data/", &[Fault::Forget; 2]);
    rig.upload(large, entries(0, 50, 1, 100)).await;
    assert_eq!(rig.bucket.count(Op::Start, "data/"), 3);
    assert_eq!(rig.bucket.keys("data/").await.len(), 1);
    assert_sound(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn parts_that_a_store_does_not_take_are_refused_at_open() {
    let mut config = in_parts();
    config.upload.part_bytes = 32;
    let bucket = FaultyBucket::new();
    let env = crate::testing::TestEnv::shared(1);
    let refused = Tier::open(bucket.clone(), env.clone(), config.clone()).await;
    assert!(matches!(refused, Err(TierError::Meta(_))));
    config.upload.part_bytes = 6 << 30;
    assert!(Tier::open(bucket, env, config).await.is_err());
}
