//! The entry type: streams in a bucket.
//!
//! *Owns*: how metadata, reads, uploads and deletion are put together.
//! *Does not own*: any of them.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::select;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{Env, Epoch, NodeId, Offset, StreamId};

use crate::config::TierConfig;
use crate::counters::TierCounters;
use crate::entry::{Entry, StateSnapshot};
use crate::error::{MetaError, TierError};
use crate::gc::Sweeper;
use crate::meta::log::Metadata;
use crate::read::fetch::{Fetched, Reads};
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::store::ObjectStorer;
use crate::upload::uploader::{Shared, UploadLoop, Uploader};

/// Streams in a bucket. Clones share everything.
#[derive(Clone)]
pub struct Tier {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: TierConfig,
    reads: Reads,
}

impl Tier {
    /// Opens the bucket's metadata; an empty bucket becomes a new cluster.
    ///
    /// # Errors
    /// A configuration out of range, damaged metadata, a bucket that does not answer.
    pub async fn open(
        bucket: Arc<dyn Bucket>,
        env: Arc<dyn Env>,
        config: TierConfig,
    ) -> Result<Self, TierError> {
        config.validate().map_err(|err| MetaError::InvalidConfig {
            field: err.field,
            range: err.range,
        })?;
        let metadata =
            Metadata::open(Arc::clone(&bucket), Arc::clone(&env), config.meta.clone()).await?;
        let source = Source {
            bucket: Arc::clone(&bucket),
            env: Arc::clone(&env),
            config: config.meta.clone(),
            purpose: Purpose::Read,
        };
        let reads = Reads::new(metadata, source, &config);
        Ok(Self {
            inner: Arc::new(Inner {
                bucket,
                env,
                config,
                reads,
            }),
        })
    }

    /// The metadata of the cluster.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.inner.reads.metadata
    }

    /// Whole entries from `offset` on, of about `bytes_max` payload bytes: the entry that holds
    /// `offset` comes first even if it begins before it or is larger than `bytes_max`. Empty at
    /// the committed end.
    ///
    /// # Errors
    /// [`TierError::OutOfRange`] below the start and above the committed end; damage.
    pub async fn fetch(
        &self,
        stream: StreamId,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Fetched, TierError> {
        self.inner.reads.fetch(stream, offset, bytes_max).await
    }

    /// The first entry that ends above `from` (and above the stream's start) and holds a record
    /// of `timestamp_ms` or later; `None` if no committed entry does. Reads indices and one block.
    ///
    /// # Errors
    /// [`TierError::UnknownStream`]; damage; a bucket that does not answer.
    pub async fn find_timestamp(
        &self,
        stream: StreamId,
        from: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<Entry>, TierError> {
        self.inner
            .reads
            .find_timestamp(stream, from, timestamp_ms)
            .await
    }

    /// The last committed state of the stream's owner.
    ///
    /// # Errors
    /// [`TierError::UnknownStream`]; damage; a bucket that does not answer.
    pub async fn snapshot(&self, stream: StreamId) -> Result<Option<StateSnapshot>, TierError> {
        self.inner.reads.snapshot(stream).await
    }

    /// Uploads what `tail` holds, in the background, until the uploader is stopped or dropped or
    /// the node is fenced. Dead objects are deleted as long. One uploader a node epoch.
    pub fn start_uploader(&self, node: NodeId, node_epoch: Epoch, tail: Arc<dyn Tail>) -> Uploader {
        let Inner {
            bucket,
            env,
            config,
            reads,
        } = &*self.inner;
        let shared = Arc::<Shared>::default();
        let known = reads.metadata.read(|state| state.node(node).copied());
        let last_counter = known
            .filter(|known| known.epoch == node_epoch)
            .map_or(0, |known| known.objects_committed);
        let storer = ObjectStorer {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            retry: config.meta.clone(),
            counters: Arc::clone(&reads.counters),
            node,
            node_epoch,
            block_bytes: config.block_bytes,
            last_counter: AtomicU64::new(last_counter),
        };
        let upload = UploadLoop {
            shared: Arc::clone(&shared),
            metadata: reads.metadata.clone(),
            storer,
            tail,
            env: Arc::clone(env),
            config: config.clone(),
        };
        let sweeper = Sweeper {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            metadata: reads.metadata.clone(),
            counters: Arc::clone(&reads.counters),
            delay: config.delete_delay,
            retry: config.meta.clone(),
        };
        let stop = Arc::clone(&shared);
        let sweep = async move {
            let (stopped, sweep) = (
                std::pin::pin!(stop.stopped()),
                std::pin::pin!(sweeper.run()),
            );
            select(stopped, sweep).await;
        };
        env.spawn("s3stream: uploader", Box::pin(upload.run()));
        env.spawn("s3stream: sweeper", Box::pin(sweep));
        Uploader::new(shared)
    }

    /// What was done since the tier was opened, and what it holds.
    #[must_use]
    pub fn counters(&self) -> TierCounters {
        let reads = &self.inner.reads;
        let written = reads.metadata.entries_written();
        reads
            .metadata
            .read(|state| reads.counters.snapshot(state, written))
    }
}
