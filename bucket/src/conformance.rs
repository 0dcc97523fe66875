//! What every implementation of the port must do, as checks that panic.
//!
//! *Owns*: the suite. All adapters run it, the simulator's bucket too.
//! *Does not own*: faults; run it on a store that is well.
//!
//! It needs no runtime of its own: concurrent requests are polled by one task.
//!
//! *IO: none*

mod attempts;
mod parts;

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::key::KEY_BYTES_MAX;
use crate::port::{Bucket, BucketError, ListEntry};
use attempts::{PURPOSE, create, delete, get, list, list_from, size};

/// Runs all checks on keys below `prefix`, under which nothing may exist yet.
///
/// # Panics
/// When the implementation does not conform; the message says how.
pub async fn run(bucket: &dyn Bucket, prefix: &str) {
    created_objects_read_back(bucket, prefix).await;
    a_taken_key_is_never_replaced(bucket, prefix).await;
    of_racing_creates_exactly_one_wins(bucket, prefix, 8, 2).await;
    ranges_are_exact(bucket, prefix).await;
    absent_objects_are_absent(bucket, prefix).await;
    deleted_objects_are_gone(bucket, prefix).await;
    listings_are_sorted_and_complete(bucket, prefix).await;
    listings_resume_after_a_key(bucket, prefix).await;
    odd_keys_are_refused(bucket).await;
    parts::run(bucket, prefix).await;
}

/// Bodies of no bytes, of several parts and of 5 MiB come back as they went in.
///
/// # Panics
/// When they do not.
pub async fn created_objects_read_back(bucket: &dyn Bucket, prefix: &str) {
    let big: Vec<Bytes> = (0..80_u8)
        .map(|n| Bytes::from(vec![n; 64 * 1024]))
        .collect();
    let parts = |texts: &[&'static str]| texts.iter().map(|t| Bytes::from(*t)).collect();
    let bodies: [(&str, Vec<Bytes>); 4] = [
        ("none", vec![]),
        ("empty", parts(&["", ""])),
        ("parts", parts(&["one", "", "two", "three"])),
        ("big", big),
    ];
    for (name, body) in bodies {
        let key = format!("{prefix}/back/{name}");
        let whole: Vec<u8> = body.concat();
        create(bucket, &key, body)
            .await
            .unwrap_or_else(|e| panic!("create {key}: {e}"));
        let read = get(bucket, &key, None)
            .await
            .unwrap_or_else(|e| panic!("get {key}: {e}"));
        assert!(
            read == whole,
            "{key}: {} bytes in, {} other bytes out",
            whole.len(),
            read.len()
        );
        assert_eq!(
            size(bucket, &key).await,
            Ok(whole.len() as u64),
            "size of {key}"
        );
    }
}

/// A second create answers `Exists` and changes nothing.
///
/// # Panics
/// When it does not.
pub async fn a_taken_key_is_never_replaced(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/taken");
    create(bucket, &key, vec![Bytes::from_static(b"first")])
        .await
        .expect("create");
    for body in [&b"second"[..], b"first", b""] {
        let again = create(bucket, &key, vec![Bytes::from_static(body)]).await;
        assert_eq!(again, Err(BucketError::Exists { key: key.clone() }));
    }
    assert_eq!(
        get(bucket, &key, None).await,
        Ok(Bytes::from_static(b"first"))
    );
}

/// `writers` create each of `num_keys` keys at once; one is told `Ok`, and its body stays.
///
/// # Panics
/// When none or several win, or the body is another one's.
pub async fn of_racing_creates_exactly_one_wins(
    bucket: &dyn Bucket,
    prefix: &str,
    writers: usize,
    num_keys: usize,
) {
    for number in 0..num_keys {
        let key = format!("{prefix}/race/{number}");
        let body = |writer: usize| Bytes::from(format!("writer {writer}").repeat(writer * 100 + 1));
        let key_of_all = &key;
        let outcomes = join_all(
            (0..writers)
                .map(|writer| async move { create(bucket, key_of_all, vec![body(writer)]).await }),
        )
        .await;
        let mut winners = Vec::new();
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(()) => winners.push(writer),
                Err(BucketError::Exists { .. }) => {}
                Err(other) => panic!("{key}: writer {writer}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "{key}: winners {winners:?}");
        let read = get(bucket, &key, None).await.expect("get");
        assert!(
            read == body(winners[0]),
            "{key}: not the body of writer {}",
            winners[0]
        );
    }
}

/// A range is answered in full or as `Short`, also an empty one.
///
/// # Panics
/// When it is not.
pub async fn ranges_are_exact(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/ranges");
    let body: Vec<u8> = (0..=255).cycle().take(1000).collect();
    create(bucket, &key, vec![Bytes::from(body.clone())])
        .await
        .expect("create");
    for range in [
        0..1_u64,
        0..1000,
        500..501,
        999..1000,
        10..900,
        0..0,
        7..7,
        1000..1000,
    ] {
        let read = get(bucket, &key, Some(range.clone())).await;
        let wanted = Bytes::copy_from_slice(&body[range.start as usize..range.end as usize]);
        assert_eq!(read, Ok(wanted), "{key} {range:?}");
    }
    for range in [
        0..1001_u64,
        999..1001,
        1000..1001,
        5000..5001,
        5000..5000,
        0..u64::MAX,
    ] {
        match get(bucket, &key, Some(range.clone())).await {
            Err(BucketError::Short {
                start, end, size, ..
            }) => {
                assert_eq!((start, end), (range.start, range.end));
                assert!(size < end, "{key} {range:?}: short, but its size is {size}");
            }
            other => panic!("{key} {range:?}: {other:?}"),
        }
    }
    let backwards = Range { start: 5, end: 4 };
    let refused = get(bucket, &key, Some(backwards)).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
}

/// What was never created is `Absent`, next to other objects and in no directory at all.
///
/// # Panics
/// When it is not.
pub async fn absent_objects_are_absent(bucket: &dyn Bucket, prefix: &str) {
    create(bucket, &format!("{prefix}/absent/here"), vec![])
        .await
        .expect("create");
    for name in [
        "absent/not-here",
        "absent/her",
        "absent/here.x",
        "nowhere/at/all",
    ] {
        let key = format!("{prefix}/{name}");
        let absent = BucketError::Absent { key: key.clone() };
        assert_eq!(get(bucket, &key, None).await, Err(absent.clone()));
        assert_eq!(get(bucket, &key, Some(0..1)).await, Err(absent.clone()));
        assert_eq!(get(bucket, &key, Some(0..0)).await, Err(absent.clone()));
        assert_eq!(size(bucket, &key).await, Err(absent.clone()));
        let deleted = delete(bucket, &key).await;
        assert!(deleted == Ok(()) || deleted == Err(absent), "{deleted:?}");
    }
}

/// A deleted object is gone from reads and listings, and its key is free.
///
/// # Panics
/// When it is not.
pub async fn deleted_objects_are_gone(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/deleted/one");
    let other = format!("{prefix}/deleted/two");
    for key in [&key, &other] {
        create(bucket, key, vec![Bytes::from_static(b"before")])
            .await
            .expect("create");
    }
    delete(bucket, &key).await.expect("delete");
    assert_eq!(
        get(bucket, &key, None).await,
        Err(BucketError::Absent { key: key.clone() })
    );
    let left = list(bucket, &format!("{prefix}/deleted/")).await;
    assert_eq!(
        left,
        [ListEntry {
            key: other,
            size: 6
        }]
    );
    create(bucket, &key, vec![Bytes::from_static(b"after")])
        .await
        .expect("create again");
    assert_eq!(
        get(bucket, &key, None).await,
        Ok(Bytes::from_static(b"after"))
    );
}

/// Listings ascend bytewise and hold what starts with the prefix, slash or not.
///
/// # Panics
/// When they do not.
pub async fn listings_are_sorted_and_complete(bucket: &dyn Bucket, prefix: &str) {
    let base = format!("{prefix}/list");
    let names = ["z", "b/2", "b/10", "b/1", "a", "b0/x", "c/d/e/f", "B", "_"];
    for (size, name) in names.iter().enumerate() {
        let body = Bytes::from(vec![7; size]);
        create(bucket, &format!("{base}/{name}"), vec![body])
            .await
            .expect("create");
    }
    let wanted = |start: &str| {
        let mut wanted: Vec<ListEntry> = names
            .iter()
            .enumerate()
            .map(|(size, name)| ListEntry {
                key: format!("{base}/{name}"),
                size: size as u64,
            })
            .filter(|entry| entry.key.starts_with(start))
            .collect();
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        wanted
    };
    for start in [
        "/", "/b", "/b/", "/b/1", "/c/d/", "/c/d/e/f", "/z", "/nothing", "/b/1/no",
    ] {
        let start = format!("{base}{start}");
        assert_eq!(
            list(bucket, &start).await,
            wanted(&start),
            "listing of {start}"
        );
    }
}

/// `after` is exclusive and need not be a key that exists, only one that could.
///
/// # Panics
/// When it is not so.
pub async fn listings_resume_after_a_key(bucket: &dyn Bucket, prefix: &str) {
    let base = format!("{prefix}/after");
    let keys: Vec<String> = ["a/1", "a/3", "b", "c/1", "c/2"]
        .map(|n| format!("{base}/{n}"))
        .into();
    for key in &keys {
        create(bucket, key, vec![]).await.expect("create");
    }
    let cases = [
        ("", 0),
        ("/a/1", 1),
        ("/a/2", 1),
        ("/a/3", 2),
        ("/a0", 2),
        ("/c/1", 4),
    ];
    for (after, first) in cases.into_iter().chain([("/c/2", 5), ("/z", 5)]) {
        let after = format!("{base}{after}");
        let left = list_from(bucket, &format!("{base}/"), Some(after.clone())).await;
        let left: Vec<&String> = left.iter().map(|entry| &entry.key).collect();
        assert_eq!(
            left,
            keys[first..].iter().collect::<Vec<_>>(),
            "after {after}"
        );
    }
}

/// Keys that some store could not hold are refused by all.
///
/// # Panics
/// When one is not.
pub async fn odd_keys_are_refused(bucket: &dyn Bucket) {
    let long = "k".repeat(KEY_BYTES_MAX + 1);
    let odd = [
        "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".tmp/a",
    ];
    for key in odd
        .into_iter()
        .chain(["a b", "ä", "a\\b", "a\nb", "a%2Fb", "a\0", &long])
    {
        let outcomes = [
            create(bucket, key, vec![]).await,
            get(bucket, key, None).await.map(drop),
            size(bucket, key).await.map(drop),
            delete(bucket, key).await,
        ];
        for outcome in outcomes {
            assert!(
                matches!(outcome, Err(BucketError::Refused { .. })),
                "{key:?}: {outcome:?}"
            );
        }
    }
    for prefix in ["/", "../", "a//", "a*"] {
        let outcome = bucket.list(PURPOSE, prefix, None).await;
        assert!(
            matches!(outcome, Err(BucketError::Refused { .. })),
            "{prefix:?}: {outcome:?}"
        );
    }
}

/// `a` and `a/b` are never both taken. Not in [`run`]: S3 itself allows it.
///
/// # Panics
/// When both can be created.
pub async fn key_is_never_also_a_directory(bucket: &dyn Bucket, prefix: &str) {
    let (upper, lower) = (format!("{prefix}/u"), format!("{prefix}/l"));
    let below_upper = format!("{upper}/x/y");
    let below_lower = format!("{lower}/x/y");
    create(bucket, &upper, vec![]).await.expect("create");
    create(bucket, &below_lower, vec![]).await.expect("create");
    for key in [&below_upper, &lower, &format!("{lower}/x")] {
        let outcome = create(bucket, key, vec![]).await;
        assert!(
            matches!(outcome, Err(BucketError::Refused { .. })),
            "{key}: {outcome:?}"
        );
        assert_eq!(
            get(bucket, key, None).await,
            Err(BucketError::Absent { key: key.clone() })
        );
        assert_eq!(
            delete(bucket, key).await,
            Err(BucketError::Absent { key: key.clone() })
        );
    }
    assert_eq!(get(bucket, &upper, None).await, Ok(Bytes::new()));
    assert_eq!(get(bucket, &below_lower, None).await, Ok(Bytes::new()));
}

/// A slash sorts as the byte it is: `a-b`, `a.b`, `a/b`, `a0`, and `a` comes before all.
///
/// Not in [`run`]: stores that keep directories sort `a/b` first, which their adapter must
/// notice and refuse, and skip `a/b` when asked for what comes after `a`.
///
/// # Panics
/// When the order is another one.
pub async fn listings_sort_a_slash_as_a_byte(bucket: &dyn Bucket, prefix: &str) {
    let base = format!("{prefix}/slash");
    let keys: Vec<String> = ["a-b", "a.b", "a/b", "a0"]
        .map(|n| format!("{base}/{n}"))
        .into();
    for key in keys.iter().rev() {
        create(bucket, key, vec![]).await.expect("create");
    }
    for after in [None, Some(format!("{base}/a"))] {
        let listed = list_from(bucket, &format!("{base}/"), after).await;
        let listed: Vec<String> = listed.into_iter().map(|entry| entry.key).collect();
        assert_eq!(listed, keys);
    }
}
