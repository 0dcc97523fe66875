//! The S3 adapter against a real store.
//!
//! `TIDEWATER_TEST_S3_ENDPOINT`, `TIDEWATER_TEST_S3_BUCKET`,
//! `TIDEWATER_TEST_S3_ACCESS_KEY_ID` and `TIDEWATER_TEST_S3_SECRET_ACCESS_KEY` name the
//! store. Each test works below a prefix of its own, which nobody used before.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, BucketOptions, Purpose, S3Bucket, conformance};

fn var(name: &str) -> String {
    let name = format!("TIDEWATER_TEST_S3_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set"))
}

fn options() -> BucketOptions {
    let mut options = BucketOptions::default();
    options.endpoint = Some(var("ENDPOINT"));
    options.access_key_id = Some(var("ACCESS_KEY_ID"));
    options.secret_access_key = Some(var("SECRET_ACCESS_KEY"));
    options
}

fn opened(name: &str, options: &BucketOptions) -> S3Bucket {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock past 1970");
    let prefix = format!("bucket-tests/{name}-{}", since.as_nanos());
    S3Bucket::open(&var("BUCKET"), &prefix, options).expect("open")
}

#[tokio::test]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn a_real_store_conforms() {
    conformance::run(&opened("conformance", &options()), "t").await;
}

#[tokio::test]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn listings_of_a_real_store_are_whole_in_small_pages() {
    let mut options = options();
    options.list_page = 2;
    let bucket = opened("pages", &options);
    conformance::listings_are_sorted_and_complete(&bucket, "t").await;
    conformance::listings_resume_after_a_key(&bucket, "t").await;
}

#[tokio::test]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn a_listing_is_sorted_or_refused() {
    let bucket = opened("order", &options());
    for key in ["a-b", "a.b", "a/b", "a0"] {
        bucket
            .create(Purpose::Wal, key, vec![])
            .await
            .expect("create");
    }
    match bucket.list(Purpose::Wal, "", None).await {
        Ok(page) => assert!(page.entries.is_sorted_by(|a, b| a.key < b.key), "{page:?}"),
        // SeaweedFS sorts directories by their name without the slash.
        Err(outcome) => assert!(
            matches!(outcome, BucketError::Refused { .. }),
            "{outcome:?}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn of_eight_writers_on_connections_of_their_own_one_wins() {
    let options = options();
    let prefix = format!("t/{}", std::process::id());
    let first = opened("race", &options);
    // Clients that share nothing, as those of several nodes.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock past 1970");
    let base = format!("bucket-tests/nodes-{}", since.as_nanos());
    for number in 0..4 {
        let mut writers = Vec::new();
        for writer in 0..8 {
            let bucket = S3Bucket::open(&var("BUCKET"), &base, &options).expect("open");
            writers.push(tokio::spawn(async move {
                let key = format!("key-{number}");
                let body = vec![Bytes::from(format!("writer {writer}"))];
                loop {
                    let outcome = bucket.create(Purpose::Wal, &key, body.clone()).await;
                    if !matches!(outcome, Err(BucketError::Throttled { .. })) {
                        return outcome;
                    }
                }
            }));
        }
        let mut won = 0;
        for writer in writers {
            match writer.await.expect("a writer panicked") {
                Ok(()) => won += 1,
                Err(BucketError::Exists { .. }) => {}
                Err(other) => panic!("key {number}: {other}"),
            }
        }
        assert_eq!(won, 1, "key {number}");
    }
    conformance::of_racing_creates_exactly_one_wins(&first, &prefix, 8, 2).await;
}

#[tokio::test]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn a_wrong_secret_and_a_missing_bucket_are_refused() {
    let mut wrong = options();
    wrong.secret_access_key = Some("not-the-secret".to_owned());
    let refused = opened("wrong", &wrong)
        .create(Purpose::Wal, "k", vec![])
        .await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
    let missing = S3Bucket::open("tidewater-no-such-bucket", "", &options()).expect("open");
    for outcome in [
        missing.create(Purpose::Wal, "k", vec![]).await,
        missing.get(Purpose::Wal, "k", None).await.map(drop),
        missing.list(Purpose::Wal, "", None).await.map(drop),
    ] {
        assert!(
            matches!(outcome, Err(BucketError::Refused { .. })),
            "{outcome:?}"
        );
    }
}
