//! A stream in a bucket, to be read.
//!
//! *Owns*: appending through a tail in memory, the uploader behind it.
//! *Does not own*: what is measured on it.
//!
//! *IO: through the bucket port*

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tidewater_benches::noise;
use tidewater_bucket::Bucket;
use tidewater_s3stream::{
    CommitReport, Entry, MetaOp, Pending, SealedBatch, SealedRange, Tail, Tier, TierConfig,
    Uploader,
};
use tidewater_types::{BoxFuture, Env, Epoch, NodeId, Offset, StreamId};
use tokio::sync::Notify;

use crate::part::Failure;

pub(crate) const NODE: NodeId = NodeId(1);
pub(crate) const EPOCH: Epoch = Epoch(1);
/// Bytes of an entry: a batch as a producer under load sends it.
pub(crate) const ENTRY_BYTES: usize = 64 << 10;

/// Fills an empty bucket with one stream of `num_bytes` payload bytes in entries of `ENTRY_BYTES`,
/// one record each, and answers the stream.
pub(crate) async fn fill(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    num_bytes: u64,
) -> Result<StreamId, Failure> {
    let filling = Filling::begin(bucket, env).await?;
    let num_entries = num_bytes / ENTRY_BYTES as u64;
    for part in (0..num_entries).collect::<Vec<_>>().chunks(512) {
        filling
            .upload(filling.entries(part.iter().copied()))
            .await?;
    }
    Ok(filling.end().await)
}

/// A stream that grows.
pub(crate) struct Filling {
    stream: StreamId,
    tail: Arc<OneStream>,
    uploader: Uploader,
    noise: Bytes,
}

impl Filling {
    /// A new stream in an empty bucket.
    pub(crate) async fn begin(bucket: Arc<dyn Bucket>, env: Arc<dyn Env>) -> Result<Self, Failure> {
        let tier = Tier::open(bucket, env, TierConfig::default()).await?;
        let stream = tier.metadata().read(|state| state.next_stream_id());
        let ops = vec![
            MetaOp::RegisterNode {
                node: NODE,
                epoch: EPOCH,
            },
            MetaOp::CreateStream { stream },
            MetaOp::OpenStream {
                stream,
                node: NODE,
                node_epoch: EPOCH,
                epoch: EPOCH,
            },
        ];
        tier.metadata().propose(ops).await?;
        let tail = Arc::new(OneStream {
            stream,
            entries: Mutex::default(),
            grew: Notify::new(),
        });
        Ok(Self {
            stream,
            uploader: tier.start_uploader(NODE, EPOCH, tail.clone()),
            tail,
            noise: noise(ENTRY_BYTES),
        })
    }

    /// One record each; they differ, and so do their blocks.
    pub(crate) fn entries(&self, offsets: impl Iterator<Item = u64>) -> Vec<Entry> {
        let entry = |offset: u64| {
            let mut payload = self.noise.to_vec();
            payload[..8].copy_from_slice(&offset.to_le_bytes());
            Entry {
                base_offset: Offset(offset),
                record_count: 1,
                timestamp_ms_max: 1,
                payload: Bytes::from(payload),
            }
        };
        offsets.map(entry).collect()
    }

    /// Appends the entries and waits until they are in objects and committed.
    pub(crate) async fn upload(&self, entries: Vec<Entry>) -> Result<(), Failure> {
        self.tail.append(entries.into_iter());
        Ok(self.uploader.flush().await?)
    }

    pub(crate) async fn end(self) -> StreamId {
        self.uploader.stop().await;
        self.stream
    }
}

/// Durable entries of one stream that wait for their upload.
struct OneStream {
    stream: StreamId,
    /// Those that were not sealed yet.
    entries: Mutex<VecDeque<Entry>>,
    grew: Notify,
}

impl OneStream {
    fn append(&self, entries: impl Iterator<Item = Entry>) {
        self.lock().extend(entries);
        self.grew.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail for OneStream {
    fn pending(&self) -> Pending {
        let entries = self.lock();
        Pending {
            num_bytes: entries.iter().map(|entry| entry.payload.len() as u64).sum(),
            oldest: None,
            streams: usize::from(!entries.is_empty()),
            ..Pending::default()
        }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.grew.notified())
    }

    /// One uploader is started in the life of a tail.
    fn start_over(&self) {}

    fn seal(&self, bytes_max: u64) -> SealedBatch {
        let most = usize::try_from(bytes_max).unwrap_or(usize::MAX) / ENTRY_BYTES;
        let mut waiting = self.lock();
        let most = most.max(1).min(waiting.len());
        let entries: Vec<_> = waiting.drain(..most).collect();
        if entries.is_empty() {
            return SealedBatch::default();
        }
        let range = SealedRange {
            stream: self.stream,
            stream_epoch: EPOCH,
            entries,
            snapshot: None,
        };
        SealedBatch {
            ranges: vec![range],
        }
    }

    fn committed(&self, _report: &CommitReport) {}
}
