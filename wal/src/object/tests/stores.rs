//! The WAL on a local directory and on an S3 server, in real time.
//!
//! `TIDEWATER_TEST_S3_ENDPOINT`, `…_BUCKET`, `…_ACCESS_KEY_ID` and `…_SECRET_ACCESS_KEY` name
//! the server, as for the bucket's own tests.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::time::{SystemTime, UNIX_EPOCH};

use tidewater_bucket::{BucketOptions, LocalBucket, MemoryBucket, S3Bucket};

use super::conformance::Objects;
use super::race::{Acked, judge, writer};
use super::*;
use crate::testing::driver::env;

/// Small objects, patient enough for a store under load.
fn config() -> ObjectWalConfig {
    ObjectWalConfig {
        attempt_ms_max: 20_000,
        give_up_ms: 120_000,
        reserve_ms_max: 60_000,
        hedge_ms: 3_000,
        ..ObjectWalConfig::tiny()
    }
}

async fn conforms(bucket: Arc<dyn Bucket>) {
    let config = ObjectWalConfig {
        // The suite waits that long for room that does not come.
        reserve_ms_max: 200,
        ..config()
    };
    let kind = Objects {
        bucket,
        env: env(),
        config,
    };
    crate::conformance::run(&kind, env()).await;
}

async fn races(bucket: Arc<dyn Bucket>, lives: u64) {
    drop(
        open_with(bucket.clone(), env(), config(), OpenMode::Create)
            .await
            .unwrap(),
    );
    let acked = Acked::default();
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let writer = writer(
                bucket.clone(),
                env(),
                config(),
                acked.clone(),
                (number, lives),
            );
            tokio::spawn(writer)
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    judge(bucket, env(), config(), &acked).await;
}

fn s3(name: &str) -> Arc<dyn Bucket> {
    let var = |name: &str| {
        let name = format!("TIDEWATER_TEST_S3_{name}");
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set"))
    };
    let mut options = BucketOptions::default();
    options.endpoint = Some(var("ENDPOINT"));
    options.access_key_id = Some(var("ACCESS_KEY_ID"));
    options.secret_access_key = Some(var("SECRET_ACCESS_KEY"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let prefix = format!("wal-tests/{name}-{}", since.as_nanos());
    Arc::new(S3Bucket::open(&var("BUCKET"), &prefix, &options).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_on_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Arc::new(LocalBucket::open(folder.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_on_memory_under_tokio() {
    conforms(Arc::new(MemoryBucket::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_race_in_memory() {
    races(Arc::new(MemoryBucket::new()), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_race_on_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    races(Arc::new(LocalBucket::open(folder.path()).unwrap()), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn it_conforms_on_s3() {
    conforms(s3("conformance")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server; cargo xtask test runs it"]
async fn eight_writers_race_on_s3() {
    races(s3("race"), 1).await;
}
