//! Behaviour of the simulated store.
//!
//! *IO: none*

use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, Purpose};

use super::{BucketFaults, SimBucket};
use crate::exec::{Executor, Limits, Tag};

const LIMITS: Limits = Limits {
    polls: 1_000_000,
    time: Duration::from_secs(3600),
};

/// Runs `test` against a store with `faults`.
fn with_store<F, T>(
    seed: u64,
    faults: BucketFaults,
    test: impl FnOnce(SimBucket, crate::exec::Handle) -> F,
) -> T
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let executor = Executor::new(seed);
    let store = SimBucket::new(executor.handle(), seed, faults);
    executor
        .run(LIMITS, test(store, executor.handle()))
        .unwrap()
}

fn body(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

#[test]
fn it_conforms_as_every_bucket_does() {
    with_store(1, BucketFaults::default(), async move |store, _| {
        tidewater_bucket::conformance::run(&store, "conformance").await;
        let small = BucketFaults {
            page_keys: 2,
            ..BucketFaults::default()
        };
        store.set_faults(small);
        tidewater_bucket::conformance::run(&store, "small-pages").await;
    });
}

#[test]
fn a_request_can_be_applied_after_its_client_gave_up() {
    let faults = BucketFaults {
        late: 1000,
        ..BucketFaults::default()
    };
    with_store(1, faults, async move |store, handle| {
        let first = store.create(Purpose::Wal, "a", body("old")).await;
        assert!(matches!(first, Err(BucketError::Unknown { .. })));
        assert_eq!(store.object("a"), None);
        handle.sleep(Duration::from_secs(1)).await;
        assert_eq!(store.object("a"), Some(Bytes::from_static(b"old")));
        store.set_faults(BucketFaults::default());
        let again = store.create(Purpose::Wal, "a", body("new")).await;
        assert!(matches!(again, Err(BucketError::Exists { .. })));
        assert_eq!(store.object("a"), Some(Bytes::from_static(b"old")));
    });
}

#[test]
fn a_request_of_a_killed_node_still_lands() {
    with_store(1, BucketFaults::default(), async move |store, handle| {
        let client = store.clone();
        let task = async move { drop(client.create(Purpose::Wal, "a", body("x")).await) };
        handle.spawn(Tag(1), "put", Box::pin(task));
        handle.sleep(Duration::from_micros(10)).await;
        handle.kill(Tag(1));
        handle.sleep(Duration::from_secs(1)).await;
        assert!(store.object("a").is_some());
    });
}

#[test]
fn every_fate_strikes() {
    let faults = BucketFaults {
        throttled: 100,
        never_arrives: 100,
        server_error: 100,
        lost_answer: 100,
        late: 100,
        truncated: 100,
        ..BucketFaults::default()
    };
    let counts = with_store(3, faults, async move |store, _| {
        for number in 0..300 {
            let key = format!("k{number}");
            drop(store.create(Purpose::Upload, &key, body("x")).await);
            drop(store.get(Purpose::Read, &key, None).await);
        }
        store.fault_counts()
    });
    assert_eq!(counts.len(), 6, "{counts:?}");
}

#[test]
fn of_racing_creates_exactly_one_wins() {
    let winners = with_store(5, BucketFaults::default(), async move |store, _| {
        let tries = (0..8).map(|n| {
            let store = store.clone();
            async move {
                store
                    .create(Purpose::Meta, "a", body(&n.to_string()))
                    .await
                    .is_ok()
            }
        });
        futures_util::future::join_all(tries)
            .await
            .into_iter()
            .filter(|won| *won)
            .count()
    });
    assert_eq!(winners, 1);
}

#[test]
fn pages_of_a_listing_follow_each_other_without_a_gap() {
    let faults = BucketFaults {
        page_keys: 4,
        ..BucketFaults::default()
    };
    let keys = with_store(5, faults, async move |store, _| {
        for key in ["a/1", "a/2", "a/3", "a/4", "a/5", "b/1"] {
            store.create(Purpose::Meta, key, body("x")).await.unwrap();
        }
        let (mut keys, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = store
                .list(Purpose::Meta, "a/", after.as_deref())
                .await
                .unwrap();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            after = keys.last().cloned();
            if !page.more {
                return keys;
            }
        }
    });
    assert_eq!(keys, ["a/1", "a/2", "a/3", "a/4", "a/5"]);
}

#[test]
fn a_completion_that_is_late_or_repeated_makes_the_object_once() {
    for seed in 0..20 {
        let late = BucketFaults {
            late: 1000,
            ..BucketFaults::default()
        };
        with_store(seed, BucketFaults::default(), async move |store, handle| {
            let upload = store.create_multipart(Purpose::Upload, "k").await.unwrap();
            let part = tidewater_bucket::Part {
                key: "k",
                upload: &upload,
                number: 1,
            };
            let tags = [store
                .put_part(Purpose::Upload, part, body("part"))
                .await
                .unwrap()];
            store.set_faults(late);
            let first = store
                .complete_multipart(Purpose::Upload, "k", &upload, &tags)
                .await;
            assert!(matches!(first, Err(BucketError::Unknown { .. })));
            handle.sleep(Duration::from_secs(1)).await;
            assert_eq!(store.object("k").unwrap(), "part");
            store.set_faults(BucketFaults::default());
            let again = store
                .complete_multipart(Purpose::Upload, "k", &upload, &tags)
                .await;
            assert!(
                matches!(
                    again,
                    Ok(()) | Err(BucketError::Absent { .. } | BucketError::Exists { .. })
                ),
                "{again:?}"
            );
            // Deleted since: a repeated completion does not bring it back.
            store.delete(Purpose::Gc, "k").await.unwrap();
            let gone = store
                .complete_multipart(Purpose::Upload, "k", &upload, &tags)
                .await;
            assert!(matches!(gone, Err(BucketError::Absent { .. })), "{gone:?}");
            assert_eq!(store.object("k"), None);
        });
    }
}

#[test]
fn a_create_that_meets_another_write_of_its_key_may_be_refused_and_the_last_one_never_is() {
    let faults = BucketFaults {
        conflict: 1000,
        ..BucketFaults::default()
    };
    with_store(1, faults, async move |store, _| {
        let create = |text| store.create(Purpose::Wal, "a", body(text));
        let (first, second) = futures_util::future::join(create("one"), create("two")).await;
        let refused =
            |answer: &Result<(), BucketError>| matches!(answer, Err(BucketError::Throttled { .. }));
        assert!(refused(&first) != refused(&second), "{first:?} {second:?}");
        let expected = if refused(&first) { "two" } else { "one" };
        assert_eq!(store.object("a").unwrap(), expected.as_bytes());
        assert_eq!(store.fault_counts(), [("bucket_conflict", 1)]);
    });
}
