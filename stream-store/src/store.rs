//! The store: opens on a bucket and a WAL, creates, opens and deletes streams.
//!
//! *Owns*: the public entry. *Does not own*: anything below it.
//!
//! *IO: none* (through ports)

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidewater_bucket::Bucket;
use tidewater_s3stream::{CacheDisk, MetaOp, Metadata, TierCounters};
use tidewater_types::{ClusterId, Env, Epoch, NodeId, StreamId};
use tidewater_wal::{WalCounters, Watermarks};

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::open::{cluster_of, open, open_streams};
use crate::opener::WalOpener;
use crate::release::release;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::uplink;

/// Durable streams on one WAL and one bucket. Clones share it.
#[derive(Clone)]
pub struct StreamStore {
    shared: Arc<Shared>,
    recovery: Option<Arc<str>>,
}

/// Counts and watermarks of a store. Monotonic since it was opened.
#[derive(Clone, Debug)]
pub struct StoreCounters {
    /// Frames, bytes and syncs of the WAL.
    pub wal: WalCounters,
    /// The WAL's stages.
    pub watermarks: Watermarks,
    /// Everything below this LSN is in committed objects.
    pub lsn_uploaded: u64,
    /// Fetches answered from the tail.
    pub reads_from_tail: u64,
    /// Blocks answered from the memory cache.
    pub reads_from_memory: u64,
    /// Blocks read from the cache on a disk.
    pub reads_from_nvme: u64,
    /// Blocks read from the bucket.
    pub reads_from_bucket: u64,
    /// Bytes of memory of what waits for its upload, payloads and what is allocated beside them.
    pub waiting_bytes: u64,
    /// The same and what was accepted and is not durable yet: what
    /// [`StoreConfig::waiting_bytes_max`] bounds.
    pub accepted_bytes: u64,
    /// Bytes of memory of committed entries kept for readers at the tail, which
    /// [`StoreConfig::tail_cache_bytes_max`] bounds.
    pub tail_cache_bytes: u64,
    /// The tier's counts.
    pub tier: TierCounters,
}

impl std::fmt::Debug for StreamStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamStore")
            .field("node", &self.node())
            .finish_non_exhaustive()
    }
}

impl StreamStore {
    /// Opens the store: reads the metadata, recovers the WAL it names, takes the node's next epoch
    /// and starts the uploader. An empty bucket becomes a new cluster.
    ///
    /// # Errors
    /// Whatever forbids to go on, before anything was changed: see [`StoreError`].
    pub async fn open(
        env: Arc<dyn Env>,
        bucket: Arc<dyn Bucket>,
        wal: Box<dyn WalOpener>,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let (shared, report) = open(env, bucket, wal, config).await?;
        Ok(Self {
            shared,
            recovery: report.map(Arc::from),
        })
    }

    /// Keeps blocks that are read again on `disk`, too, and looks there before it asks the bucket.
    /// Whatever happens to the disk costs requests and nothing else.
    ///
    /// # Panics
    /// If the store has such a cache already.
    pub fn attach_cache(&self, disk: Arc<dyn CacheDisk>) {
        self.shared.tier.attach_cache(disk);
    }

    /// The cluster the bucket holds.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        cluster_of(&self.shared).0
    }

    /// What it was opened with.
    #[must_use]
    pub fn config(&self) -> &StoreConfig {
        &self.shared.config
    }

    /// The node this store runs as.
    #[must_use]
    pub fn node(&self) -> NodeId {
        cluster_of(&self.shared).1
    }

    /// The node's epoch: one more at each open.
    #[must_use]
    pub fn node_epoch(&self) -> Epoch {
        self.shared.node_epoch
    }

    /// The metadata log: key-value pairs with versions, and atomic transactions. Every transaction
    /// is refused as fenced once the node was opened again elsewhere.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.shared.tier.metadata()
    }

    /// What the WAL is and why it was chosen.
    #[must_use]
    pub fn describe_wal(&self) -> String {
        self.shared.wal.describe()
    }

    /// What the WAL's recovery found, if it had something to recover.
    #[must_use]
    pub fn recovery_report(&self) -> Option<&str> {
        self.recovery.as_deref()
    }

    /// Creates a stream.
    ///
    /// # Errors
    /// Metadata errors.
    pub async fn create(&self) -> Result<StreamId, StoreError> {
        loop {
            let stream = self.metadata().read(|state| state.next_stream_id());
            match self
                .metadata()
                .propose(vec![MetaOp::CreateStream { stream }])
                .await
            {
                Ok(()) => return Ok(stream),
                // Somebody else took the id between the look and the commit.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens a stream with an epoch above all before it. A second call answers the same stream.
    ///
    /// # Errors
    /// [`StoreError::NoStream`]; [`StoreError::Owned`] if another node has it and did not release
    /// it; metadata errors.
    pub async fn open_stream(&self, stream: StreamId) -> Result<Stream, StoreError> {
        let mut opened = self.open_streams(&[stream]).await?;
        Ok(opened.remove(0))
    }

    /// Opens many streams in few metadata transactions; answers in the order given.
    ///
    /// # Errors
    /// Those of [`StreamStore::open_stream`].
    pub async fn open_streams(&self, ids: &[StreamId]) -> Result<Vec<Stream>, StoreError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        open_streams(&self.shared, ids).await?;
        let streams = self.shared.streams.lock();
        ids.iter()
            .map(|id| {
                let inner = streams
                    .get(id)
                    .ok_or(StoreError::NoStream { stream: *id })?;
                Ok(Stream {
                    inner: Arc::clone(inner),
                    shared: Arc::clone(&self.shared),
                })
            })
            .collect()
    }

    /// Gives a stream up: it takes no more appends, what was accepted is made durable and uploaded,
    /// and from then on any node of the cluster may open it, this one too. Until it has, nobody
    /// else can. If it fails, it may be called again.
    ///
    /// # Errors
    /// [`StoreError::NoStream`] if it is not open here, or was deleted; tier and metadata errors;
    /// [`StoreError::Closed`].
    pub async fn release(&self, stream: StreamId) -> Result<(), StoreError> {
        release(&self.shared, stream).await
    }

    /// Deletes a stream. Its offsets can no longer be read; its objects are let go.
    ///
    /// # Errors
    /// [`StoreError::NoStream`]; metadata errors.
    pub async fn delete(&self, stream: StreamId) -> Result<(), StoreError> {
        if !self.metadata().read(|state| state.stream(stream).is_some()) {
            return Err(StoreError::NoStream { stream });
        }
        self.metadata()
            .propose(vec![MetaOp::DeleteStream { stream }])
            .await?;
        self.forget(stream);
        Ok(())
    }

    /// Closes the handles on a stream that a metadata transaction has deleted.
    pub fn forget(&self, stream: StreamId) {
        self.shared.tier.set_key_owner(stream, None);
        if let Some(inner) = self.shared.streams.lock().remove(&stream) {
            *inner.closed.lock() = Some(StoreError::NoStream { stream });
            inner.changed.notify_waiters();
        }
    }

    /// Uploads everything that is durable now; the WAL is trimmed behind it.
    ///
    /// # Errors
    /// Tier errors; [`StoreError::Closed`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        uplink::flush(&self.shared).await
    }

    /// Counts since the store was opened.
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        let shared = &self.shared;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let watermarks = shared.wal.watermarks();
        let queue = shared.queue.lock();
        let lsn_uploaded = queue.trim_point().0.min(watermarks.durable.0);
        let waiting_bytes = queue.waiting_bytes();
        drop(queue);
        StoreCounters {
            wal: shared.wal.counters(),
            watermarks,
            lsn_uploaded,
            reads_from_tail: load(&shared.reads.tail),
            reads_from_memory: load(&shared.reads.memory),
            reads_from_nvme: load(&shared.reads.disk),
            reads_from_bucket: load(&shared.reads.bucket),
            waiting_bytes,
            accepted_bytes: shared.room_taken(),
            tail_cache_bytes: shared.cached.lock().num_bytes(),
            tier: shared.tier.counters(),
        }
    }

    /// Completes when the store has failed for good, with the reason.
    pub async fn failed(&self) -> StoreError {
        self.shared.failed().await
    }

    /// Makes every accepted append durable and visible, stops uploading and closes the WAL.
    /// What is not uploaded stays in the WAL for the next open.
    ///
    /// # Errors
    /// [`StoreError::Wal`] if the WAL cannot be made durable.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.closing.store(true, Ordering::Release);
        // What was accepted may wait for a trim, which an upload alone brings: so uploads go on
        // until the WAL is closed.
        let watermarks = self.shared.wal.watermarks();
        if watermarks.durable < watermarks.accepted {
            uplink::make_room(&self.shared);
        }
        let closed = self.shared.wal.close().await;
        let uploader = self.shared.uploader.lock().take();
        if let Some(uploader) = uploader {
            uploader.stop().await;
        }
        self.shared.fail("closed");
        closed.map_err(StoreError::from)
    }
}
