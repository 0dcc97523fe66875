//! A store on a device WAL in a folder, for tests.
//!
//! *Owns*: the harness. *IO: driver*
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

pub(crate) mod checked;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, MemoryBucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, Appended, DeviceWalConfig, DeviceWalOpener, StoreConfig, StoreError, Stream,
    StreamStore, TierConfig, TokioEnv,
};
use tidewater_types::{BoxFuture, Offset};

/// All that a bucket holds.
pub(crate) type Objects = BTreeMap<String, Bytes>;

pub(crate) async fn objects_of(bucket: &dyn Bucket) -> Objects {
    let page = bucket.list(Purpose::Fsck, "", None).await.unwrap();
    assert!(!page.more);
    let mut objects = Objects::new();
    for entry in page.entries {
        let body = bucket.get(Purpose::Fsck, &entry.key, None).await.unwrap();
        objects.insert(entry.key, body);
    }
    objects
}

pub(crate) async fn bucket_of(objects: &Objects) -> Arc<dyn Bucket> {
    let bucket = MemoryBucket::new();
    for (key, body) in objects {
        let created = bucket.create(Purpose::Upload, key, vec![body.clone()]);
        created.await.unwrap();
    }
    Arc::new(bucket)
}

/// A bucket whose uploads can be held up.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) inner: Arc<MemoryBucket>,
    pub(crate) closed: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

impl Bucket for Gate {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        if purpose == Purpose::Upload && self.closed.load(Ordering::SeqCst) {
            let key = key.to_owned();
            return Box::pin(async { Err(BucketError::Throttled { key }) });
        }
        self.inner.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        self.inner.get(purpose, key, range)
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.inner.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.inner.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.inner.list(purpose, prefix, after)
    }
}

/// Runs one life of a process: its tasks end with it, nothing is closed.
pub(crate) fn life<R>(body: impl AsyncFnOnce() -> R) -> R {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(body())
}

/// Uploads only when asked to.
pub(crate) fn quiet() -> StoreConfig {
    let tier = TierConfig {
        upload_age: Duration::from_secs(3600),
        ..TierConfig::default()
    };
    StoreConfig {
        tier,
        ..StoreConfig::default()
    }
}

pub(crate) async fn open_with(
    folder: &Path,
    gate: &Gate,
    config: StoreConfig,
) -> Result<StreamStore, StoreError> {
    let env = Arc::new(TokioEnv::current());
    let wal = DeviceWalOpener {
        path: folder.join("wal"),
        config: DeviceWalConfig::default(),
        env: env.clone(),
    };
    StreamStore::open(env, Arc::new(gate.clone()), Box::new(wal), config).await
}

pub(crate) async fn open(folder: &Path, gate: &Gate) -> StreamStore {
    open_with(folder, gate, quiet()).await.unwrap()
}

/// Appends one entry of `text`, which counts as many records as it has bytes.
pub(crate) async fn append(stream: &Stream, text: &str, timestamp_ms: i64) -> Appended {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    let request = AppendRequest {
        record_count: u32::try_from(text.len()).unwrap(),
        timestamp_ms_max: timestamp_ms,
        num_bytes: payload.len(),
    };
    let appended = stream.append(request, |_| payload).await.unwrap();
    stream.wait_durable(appended.end_offset).await.unwrap();
    appended
}

/// Everything that can be read, as (base offset, text).
pub(crate) async fn read_all(stream: &Stream) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let mut offset = stream.start();
    while offset < stream.high_watermark() {
        for entry in stream.fetch(offset, 1 << 20).await.unwrap().entries {
            offset = entry.end_offset();
            all.push((
                entry.base_offset.0,
                String::from_utf8(entry.payload.to_vec()).unwrap(),
            ));
        }
    }
    all
}

/// The texts and where they should be.
pub(crate) fn placed(texts: &[&str]) -> Vec<(u64, String)> {
    let mut offset = Offset(0);
    texts
        .iter()
        .map(|text| {
            let base = offset.0;
            offset = offset.checked_add(text.len() as u64).unwrap();
            (base, (*text).to_owned())
        })
        .collect()
}
