//! Counts requests and bytes of a bucket by purpose.
//!
//! *Owns*: the counters `bucket_requests{op,purpose}` and `bucket_bytes{direction,purpose}`.
//! *Does not own*: publishing them.
//!
//! Invariants
//! 1. Counters only grow.
//! 2. Every attempt counts, whatever came of it: stores charge for it.
//!
//! *IO: none*

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidewater_types::BoxFuture;

use crate::port::{
    Bucket, BucketError, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};

const PURPOSES: [Purpose; 7] = [
    Purpose::Wal,
    Purpose::Meta,
    Purpose::Upload,
    Purpose::Read,
    Purpose::Compaction,
    Purpose::Gc,
    Purpose::Fsck,
];
const OPS: [&str; 10] = [
    "create", "get", "size", "delete", "list", "start", "part", "copy", "complete", "abort",
];
const DIRECTIONS: [&str; 2] = ["out", "in"];

/// One counter at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// `bucket_requests` or `bucket_bytes`.
    pub name: &'static str,
    /// (`op` or `direction`, its value), (`purpose`, its value). Ops are `create`, `get`,
    /// `size`, `delete`, `list`, and `start`, `part`, `copy`, `complete`, `abort` of objects in
    /// parts; directions are `out` (bodies handed to `create` and `put_part`) and `in` (bodies
    /// that `get` returned). What the store copies itself moves no bytes here.
    pub labels: [(&'static str, &'static str); 2],
    /// Requests, or bytes.
    pub value: u64,
}

#[derive(Debug, Default)]
struct Row {
    requests: [AtomicU64; OPS.len()],
    bytes: [AtomicU64; DIRECTIONS.len()],
}

/// A bucket that counts what goes through it.
pub struct Metered {
    inner: Arc<dyn Bucket>,
    rows: [Row; PURPOSES.len()],
}

impl Metered {
    /// Counts what goes through `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            rows: std::array::from_fn(|_| Row::default()),
        }
    }

    /// All counters that are not zero, in a fixed order.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for (purpose, row) in PURPOSES.iter().zip(&self.rows) {
            let requests = OPS
                .iter()
                .zip(&row.requests)
                .map(|(op, n)| ("bucket_requests", "op", op, n));
            let bytes = DIRECTIONS
                .iter()
                .zip(&row.bytes)
                .map(|(direction, n)| ("bucket_bytes", "direction", direction, n));
            for (name, label, label_value, counted) in requests.chain(bytes) {
                let value = counted.load(Ordering::Relaxed);
                if value > 0 {
                    let labels = [(label, *label_value), ("purpose", purpose.name())];
                    counters.push(Counter {
                        name,
                        labels,
                        value,
                    });
                }
            }
        }
        counters
    }

    fn row(&self, purpose: Purpose) -> &Row {
        &self.rows[match purpose {
            Purpose::Wal => 0,
            Purpose::Meta => 1,
            Purpose::Upload => 2,
            Purpose::Read => 3,
            Purpose::Compaction => 4,
            Purpose::Gc => 5,
            Purpose::Fsck => 6,
        }]
    }

    fn count_request(&self, purpose: Purpose, op: usize) {
        self.row(purpose).requests[op].fetch_add(1, Ordering::Relaxed);
    }

    fn count_bytes(&self, purpose: Purpose, direction: usize, num_bytes: usize) {
        self.row(purpose).bytes[direction].fetch_add(num_bytes as u64, Ordering::Relaxed);
    }
}

impl Bucket for Metered {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.count_request(purpose, 0);
            self.count_bytes(purpose, 0, body.iter().map(Bytes::len).sum());
            self.inner.create(purpose, key, body).await
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            self.count_request(purpose, 1);
            let body = self.inner.get(purpose, key, range).await?;
            self.count_bytes(purpose, 1, body.len());
            Ok(body)
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move {
            self.count_request(purpose, 2);
            self.inner.size(purpose, key).await
        })
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.count_request(purpose, 3);
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
            self.count_request(purpose, 4);
            self.inner.list(purpose, prefix, after).await
        })
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        self.inner.multipart()
    }

    fn create_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        self.count_request(purpose, 5);
        self.inner.create_multipart(purpose, key)
    }

    fn put_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        self.count_request(purpose, 6);
        self.count_bytes(purpose, 0, body.iter().map(Bytes::len).sum());
        self.inner.put_part(purpose, part, body)
    }

    fn copy_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        self.count_request(purpose, 7);
        self.inner.copy_part(purpose, part, source, range)
    }

    fn complete_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.count_request(purpose, 8);
        self.inner.complete_multipart(purpose, key, upload, parts)
    }

    fn abort_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.count_request(purpose, 9);
        self.inner.abort_multipart(purpose, key, upload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::memory::MemoryBucket;

    fn metered() -> Metered {
        Metered::new(Arc::new(MemoryBucket::new()))
    }

    #[tokio::test]
    async fn a_metered_bucket_conforms() {
        conformance::run(&metered(), "t").await;
    }

    #[tokio::test]
    async fn attempts_and_bytes_are_counted_by_purpose() {
        let bucket = metered();
        let body = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
        bucket
            .create(Purpose::Wal, "k", body.clone())
            .await
            .unwrap();
        bucket.create(Purpose::Wal, "k", body).await.unwrap_err();
        bucket.get(Purpose::Read, "k", Some(1..4)).await.unwrap();
        bucket.get(Purpose::Read, "absent", None).await.unwrap_err();
        bucket.size(Purpose::Fsck, "k").await.unwrap();
        bucket.list(Purpose::Gc, "", None).await.unwrap();
        bucket.delete(Purpose::Gc, "k").await.unwrap();
        let counted: Vec<String> = bucket
            .counters()
            .iter()
            .map(|c| format!("{} {} {} {}", c.name, c.labels[0].1, c.labels[1].1, c.value))
            .collect();
        assert_eq!(
            counted,
            [
                "bucket_requests create wal 2",
                "bucket_bytes out wal 10",
                "bucket_requests get read 2",
                "bucket_bytes in read 3",
                "bucket_requests delete gc 1",
                "bucket_requests list gc 1",
                "bucket_requests size fsck 1",
            ]
        );
    }

    #[test]
    fn every_purpose_has_the_row_of_its_name() {
        let bucket = metered();
        for (at, purpose) in PURPOSES.into_iter().enumerate() {
            assert!(
                std::ptr::eq(bucket.row(purpose), &bucket.rows[at]),
                "{purpose:?}"
            );
        }
    }
}
