//! The S3 adapter in front of the simulated bucket: what a real server on this machine never does, through
//! real connections.
//!
//! *Owns*: that the adapter conforms on a store that keeps S3's rules to the letter; that it never
//! tells more than the store knows, whatever goes wrong; that a store of streams loses nothing behind it.
//! *Does not own*: a real server (`bucket/tests/s3.rs`), each answer by itself
//! (`bucket/src/object_store/tests.rs`).
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod front;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use front::{Front, Outcome};
use tidewater_bucket::{Bucket, BucketError, Part, PartTag, Purpose, S3Bucket, conformance};
use tidewater_sim::{BucketFaults, Rng};
use tidewater_stream_store::{
    AppendRequest, ObjectWalConfig, ObjectWalOpener, StoreConfig, StreamStore, TokioEnv,
};
use tidewater_types::Offset;

const WHY: Purpose = Purpose::Wal;
const MIB: usize = 1 << 20;

fn rough() -> BucketFaults {
    BucketFaults {
        throttled: 30,
        never_arrives: 30,
        server_error: 30,
        lost_answer: 60,
        late: 30,
        truncated: 40,
        upload_forgotten: 100,
        page_keys: 3,
        ..BucketFaults::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_adapter_conforms_on_a_store_that_keeps_every_rule() {
    let front = Front::start(1).await;
    conformance::run(&front.client(1000), "t").await;
    conformance::listings_sort_a_slash_as_a_byte(&front.client(1000), "slash").await;
    let small = front.client(2);
    conformance::listings_are_sorted_and_complete(&small, "pages").await;
    conformance::listings_resume_after_a_key(&small, "pages").await;
}

/// Sends an object in parts of these sizes.
async fn in_parts(bucket: &S3Bucket, key: &str, sizes: &[usize]) -> Result<(), BucketError> {
    let upload = bucket.create_multipart(WHY, key).await?;
    let mut tags: Vec<PartTag> = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        let part = Part {
            key,
            upload: &upload,
            number,
        };
        let body = vec![Bytes::from(vec![7; *size])];
        tags.push(bucket.put_part(WHY, part, body).await?);
    }
    bucket.complete_multipart(WHY, key, &upload, &tags).await
}

#[tokio::test]
async fn parts_that_the_store_does_not_take_are_refused_by_name() {
    let front = Front::start(2).await;
    let bucket = front.client(1000);
    in_parts(&bucket, "fine", &[6 * MIB, 5 * MIB, 1])
        .await
        .unwrap();
    let small = in_parts(&bucket, "small", &[5 * MIB, MIB, 5 * MIB]).await;
    let told = small.unwrap_err().to_string();
    assert!(told.contains("EntityTooSmall"), "{told}");
    front.bucket.set_faults(BucketFaults {
        parts_equal: true,
        ..BucketFaults::default()
    });
    in_parts(&bucket, "equal", &[5 * MIB, 5 * MIB, 1])
        .await
        .unwrap();
    let unequal = in_parts(&bucket, "unequal", &[6 * MIB, 5 * MIB, 1]).await;
    assert!(
        matches!(unequal, Err(BucketError::Refused { .. })),
        "{unequal:?}"
    );
    assert_eq!(bucket.size(WHY, "fine").await.unwrap(), 11 * MIB as u64 + 1);
    assert!(matches!(
        bucket.size(WHY, "small").await,
        Err(BucketError::Absent { .. })
    ));
}

/// A word for what a caller may conclude.
fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(BucketError::Exists { .. }) => "exists",
        Err(BucketError::Absent { .. }) => "absent",
        Err(BucketError::Throttled { .. }) => "throttled",
        Err(BucketError::Unknown { .. }) => "unknown",
        Err(BucketError::NoSpace { .. }) => "no space",
        Err(BucketError::Refused { .. }) => "refused",
        Err(BucketError::Short { .. }) => "short",
    }
}

/// One request of any kind.
async fn any(bucket: &S3Bucket, rng: &mut Rng) -> (&'static str, Outcome) {
    let key = format!("k/{}", rng.below(40));
    let upload = tidewater_bucket::MultipartId(format!("upload-{}", rng.below(8)));
    let part = Part {
        key: &key,
        upload: &upload,
        number: 1,
    };
    let body = || vec![Bytes::from(vec![3; 100])];
    match rng.below(9) {
        0 | 1 => ("create", bucket.create(WHY, &key, body()).await),
        2 => ("get", bucket.get(WHY, &key, None).await.map(drop)),
        3 => {
            let range = rng.below(90)..100 + rng.below(20);
            ("range", bucket.get(WHY, &key, Some(range)).await.map(drop))
        }
        4 => ("size", bucket.size(WHY, &key).await.map(drop)),
        5 => ("delete", bucket.delete(WHY, &key).await),
        6 => ("list", bucket.list(WHY, "k/", None).await.map(drop)),
        7 => ("start", bucket.create_multipart(WHY, &key).await.map(drop)),
        _ => ("part", bucket.put_part(WHY, part, body()).await.map(drop)),
    }
}

#[tokio::test]
async fn whatever_goes_wrong_the_adapter_tells_what_the_store_knows_and_asks_once() {
    let front = Front::start(3).await;
    front.bucket.set_faults(rough());
    let (bucket, mut rng) = (front.client(1000), Rng::new(3, "requests"));
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..1_500 {
        let (what, told) = any(&bucket, &mut rng).await;
        let truth = front.outcomes();
        assert_eq!(
            truth.len(),
            1,
            "request {number}, {what}: {told:?} of {truth:?}"
        );
        let (told, truth) = (kind(&told), kind(&truth[0]));
        // S3 answers a delete of nothing as one of something.
        let is_same = told == truth || (what, told, truth) == ("delete", "ok", "absent");
        assert!(is_same, "request {number}, {what}: {truth}, told as {told}");
        seen.insert((what, truth));
    }
    for what in [
        "create", "get", "range", "size", "delete", "list", "start", "part",
    ] {
        for truth in ["ok", "throttled", "unknown"] {
            assert!(seen.contains(&(what, truth)), "{what}: never {truth}");
        }
    }
    assert!(seen.contains(&("create", "exists")) && seen.contains(&("range", "short")));
}

async fn open(front: &Front) -> StreamStore {
    let bucket: Arc<dyn Bucket> = Arc::new(front.client(1000));
    let mut config = StoreConfig {
        tail_cache_bytes_max: 0,
        ..StoreConfig::default()
    };
    config.tier.upload_age = Duration::from_millis(50);
    config.tier.upload.multipart_bytes = 6 << 20;
    config.tier.upload.part_bytes = 5 << 20;
    config.tier.meta.snapshot_entries = 3;
    // A burst of throttling can outlast the default of eight.
    config.tier.meta.read_attempts = 20;
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: Arc::clone(&bucket),
        node: config.node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    let opened = StreamStore::open(env, bucket, Box::new(wal), config).await;
    opened.expect("the store opens")
}

fn entry(number: u64) -> Bytes {
    let size = if number.is_multiple_of(8) { MIB } else { 200 };
    let mut bytes = vec![u8::try_from(number % 251).expect("small"); size];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_behind_it_serves_every_acknowledged_record_after_a_restart() {
    const ENTRIES: u64 = 160;
    let front = Front::start(4).await;
    front.bucket.set_faults(BucketFaults {
        page_keys: 1000,
        ..rough()
    });
    let store = open(&front).await;
    let id = store.create().await.expect("a stream");
    let stream = store.open_stream(id).await.expect("the stream");
    for number in 0..ENTRIES {
        let payload = entry(number);
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: payload.len(),
        };
        let appended = stream.append(request, |_| payload).await.expect("room");
        assert_eq!(appended.base_offset, Offset(number));
        let durable = stream.wait_durable(appended.end_offset).await;
        durable.expect("acknowledged");
    }
    drop(stream);
    store.close().await.expect("it closes");
    let store = open(&front).await;
    let stream = store.open_stream(id).await.expect("the stream");
    let (mut next, mut read) = (Offset(0), Vec::new());
    while next < stream.high_watermark() {
        let fetched = stream.fetch(next, 4 << 20).await.expect("it is there");
        next = fetched.entries.last().expect("something").end_offset();
        read.extend(fetched.entries.into_iter().map(|entry| entry.payload));
    }
    assert_eq!(read.len() as u64, ENTRIES);
    for (number, bytes) in (0..).zip(&read) {
        assert!(*bytes == entry(number), "entry {number}");
    }
    let struck: Vec<_> = front.bucket.fault_counts();
    assert!(
        struck.iter().filter(|(_, count)| *count > 0).count() >= 5,
        "{struck:?}"
    );
    store.close().await.expect("it closes");
}
