//! A store with limits on what it asks of its bucket, in virtual time.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListPage, MemoryBucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, ObjectWalConfig, ObjectWalOpener, StoreConfig, Stream, StreamStore, TierConfig,
    TokioEnv,
};
use tidewater_types::{BoxFuture, Env, Instant};

const KIB: u64 = 1 << 10;
const BYTES_OUT_PER_S: u64 = 1_024 * KIB;
const REQUESTS_PER_S: u64 = 40;
const UPLOAD_BYTES: u64 = 256 * KIB;
const ENTRY_BYTES: u64 = 64 * KIB;
const APPEND_BYTES: usize = 8 << 10;
const SECONDS: u64 = 60;

/// The clock of a paused runtime.
struct VirtualEnv {
    tokio: TokioEnv,
    began: tokio::time::Instant,
}

impl Env for VirtualEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.began.elapsed().as_nanos()).unwrap())
    }

    fn wall_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.tokio.sleep(wait)
    }

    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>) {
        self.tokio.spawn(label, task);
    }

    fn random(&self, _: &'static str) -> u64 {
        7
    }
}

#[derive(Clone, Copy)]
struct Request {
    at: Duration,
    purpose: Purpose,
    bytes_out: u64,
}

/// A bucket that answers after 20 ms and remembers who asked when.
struct Log {
    inner: MemoryBucket,
    began: tokio::time::Instant,
    requests: Mutex<Vec<Request>>,
    /// Bytes of the WAL's entries that were created.
    logged: Mutex<u64>,
}

impl Log {
    async fn begin(&self, purpose: Purpose, bytes_out: u64) {
        let at = self.began.elapsed();
        self.requests.lock().push(Request {
            at,
            purpose,
            bytes_out,
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Bucket for Log {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let bytes_out = body.iter().map(|part| part.len() as u64).sum();
            self.begin(purpose, bytes_out).await;
            self.inner.create(purpose, key, body).await?;
            if purpose == Purpose::Wal {
                *self.logged.lock() += bytes_out;
            }
            Ok(())
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            self.begin(purpose, 0).await;
            self.inner.get(purpose, key, range).await
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move {
            self.begin(purpose, 0).await;
            self.inner.size(purpose, key).await
        })
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.begin(purpose, 0).await;
            self.inner.delete(purpose, key).await
        })
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(async move {
            self.begin(purpose, 0).await;
            self.inner.list(purpose, prefix, after).await
        })
    }
}

async fn open(env: Arc<VirtualEnv>, bucket: Arc<Log>) -> StreamStore {
    let mut tier = TierConfig {
        upload_bytes: UPLOAD_BYTES,
        upload_age: Duration::from_secs(1),
        delete_delay: Duration::from_secs(5),
        ..TierConfig::default()
    };
    tier.pace.bytes_out_per_s = BYTES_OUT_PER_S;
    tier.pace.requests_per_s = REQUESTS_PER_S;
    let config = StoreConfig {
        tier,
        waiting_bytes_max: 4 << 20,
        append_bytes_max: 1 << 20,
        append_wait_ms_max: 600_000,
        ..StoreConfig::default()
    };
    let wal = ObjectWalOpener {
        bucket: bucket.clone(),
        node: config.node,
        config: ObjectWalConfig {
            object_bytes_max: ENTRY_BYTES,
            reserve_ms_max: 600_000,
            ..ObjectWalConfig::default()
        },
        env: env.clone(),
    };
    StreamStore::open(env, bucket, Box::new(wal), config)
        .await
        .unwrap()
}

/// Appends as fast as acknowledgements come; bytes acknowledged.
async fn produce(stream: Stream, bucket: Arc<Log>, acked: Arc<Mutex<u64>>) {
    loop {
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: APPEND_BYTES,
        };
        let payload = Bytes::from(vec![b'x'; APPEND_BYTES]);
        let appended = stream.append(request, |_| payload).await.unwrap();
        stream.wait_durable(appended.end_offset).await.unwrap();
        let mut acked = acked.lock();
        *acked += APPEND_BYTES as u64;
        let logged = *bucket.logged.lock();
        assert!(*acked <= logged, "{acked} acknowledged, {logged} logged");
    }
}

/// The most that any time of so many seconds saw.
fn peak(requests: &[Request], seconds: u64, count: impl Fn(&Request) -> u64) -> u64 {
    let window = Duration::from_secs(seconds);
    let (mut sum, mut first, mut most) = (0, 0, 0);
    for request in requests {
        sum += count(request);
        while requests[first].at + window < request.at {
            sum -= count(&requests[first]);
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_limited_store_stays_within_its_limits_slows_producers_and_acknowledges_nothing_early() {
    let began = tokio::time::Instant::now();
    let tokio = TokioEnv::current();
    let env = Arc::new(VirtualEnv { tokio, began });
    let bucket = Arc::new(Log {
        inner: MemoryBucket::new(),
        began,
        requests: Mutex::default(),
        logged: Mutex::default(),
    });
    let store = open(env, bucket.clone()).await;
    let acked = Arc::<Mutex<u64>>::default();
    let mut streams = Vec::new();
    for _ in 0..64 {
        let id = store.create().await.unwrap();
        streams.push(store.open_stream(id).await.unwrap());
    }
    // All at once: beside those that produce already a commit waits long for its turn.
    for stream in streams {
        tokio::spawn(produce(stream, bucket.clone(), acked.clone()));
    }
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let requests = bucket.requests.lock().clone();
    // What each share began last may go beyond its limit.
    let largest = |purposes: &[Purpose]| {
        let of = requests.iter().filter(|it| purposes.contains(&it.purpose));
        of.map(|it| it.bytes_out).max().unwrap_or(0)
    };
    let last = largest(&[Purpose::Upload, Purpose::Meta])
        + 2 * largest(&[Purpose::Compaction])
        + largest(&[Purpose::Wal]);
    for seconds in [1, 5, 20] {
        let out = peak(&requests, seconds, |request| request.bytes_out);
        // And a tenth of a second of each share was saved up.
        let most = BYTES_OUT_PER_S * seconds + BYTES_OUT_PER_S / 5 + last;
        assert!(
            out <= most,
            "{out} bytes in {seconds} s, {last} of the last"
        );
        let count = peak(&requests, seconds, |_| 1);
        let most = REQUESTS_PER_S * seconds + REQUESTS_PER_S / 5 + 3;
        assert!(count <= most, "{count} requests in {seconds} s");
    }
    let of = |purpose: Purpose| {
        let of = requests.iter().filter(|it| it.purpose == purpose);
        of.map(|it| it.bytes_out).sum::<u64>()
    };
    // Each byte goes out twice, and neither way starves the other.
    let acked = *acked.lock();
    let third = BYTES_OUT_PER_S * SECONDS / 3;
    assert!(
        (third..BYTES_OUT_PER_S * SECONDS / 2 + 4 * KIB * KIB).contains(&acked),
        "{acked}"
    );
    assert!(of(Purpose::Upload) > acked / 2, "{}", of(Purpose::Upload));
}
