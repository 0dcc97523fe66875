//! The entry type: streams in a bucket.
//!
//! *Owns*: how metadata, reads, uploads and deletion are put together.
//! *Does not own*: any of them.
//!
//! *IO: none* (requests go through the bucket port)

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::future::select;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{Env, Epoch, NodeId, Offset, StreamId};

use crate::compact::compactor::Compactor;
use crate::compact::keys::due::Owners;
use crate::config::TierConfig;
use crate::counters::{Counters, TierCounters};
use crate::entry::{Entry, StateSnapshot};
use crate::error::{MetaError, TierError};
use crate::gc::Sweeper;
use crate::gc::orphans::Orphans;
use crate::keyed::KeyOwner;
use crate::meta::log::Metadata;
use crate::object_id::COMPACTION_COUNTERS;
use crate::pace::core::Class;
use crate::pace::paced::Paced;
use crate::read::disk::port::CacheDisk;
use crate::read::disk::store::DiskCache;
use crate::read::fetch::{Fetched, Reads, Sources};
use crate::read::hedge::Hedged;
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::control::Shared;
use crate::upload::pace::Pacer;
use crate::upload::store::ObjectStorer;
use crate::upload::uploader::{UploadLoop, Uploader, Work};

/// Streams in a bucket. Clones share everything.
#[derive(Clone)]
pub struct Tier {
    inner: Arc<Inner>,
}

struct Inner {
    paced: Paced,
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: TierConfig,
    reads: Arc<Reads>,
    /// The compactor of the node epoch that this process acts under: ids are given by it alone.
    compactor: Mutex<Option<Arc<Compactor>>>,
    /// The owners of streams that are compacted by key.
    owners: Arc<Owners>,
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
        check_parts(&*bucket, &config)?;
        let paced = Paced::new(bucket, Arc::clone(&env), &config.pace);
        let bucket: Arc<dyn Bucket> = Arc::new(paced.clone());
        let metadata =
            Metadata::open(Arc::clone(&bucket), Arc::clone(&env), config.meta.clone()).await?;
        let counters = Arc::<Counters>::default();
        let sources = sources(&paced, &env, &config, &counters);
        let reads = Arc::new(Reads::new(metadata, sources, &config, counters));
        Ok(Self {
            inner: Arc::new(Inner {
                paced,
                bucket,
                env,
                config,
                reads,
                compactor: Mutex::default(),
                owners: Arc::default(),
            }),
        })
    }

    /// Keeps blocks that are read again on `disk`, too, and looks there before it asks the bucket.
    /// What an earlier life left there is found in the background. Damage costs a request.
    ///
    /// # Panics
    /// If the tier has such a cache already.
    pub fn attach_cache(&self, disk: Arc<dyn CacheDisk>) {
        let Inner {
            env, config, reads, ..
        } = &*self.inner;
        let counters = Arc::clone(&reads.counters);
        let cache = DiskCache::start(disk, Arc::clone(env), &config.read, counters);
        reads.loader.attach(cache);
    }

    /// `bucket` within the limits of this tier (`pace`), where requests go ahead of all others: for a
    /// write-ahead log in it. Requests never wait there, [`Bucket::turn`] does.
    #[must_use]
    pub fn ahead(&self, bucket: Arc<dyn Bucket>) -> Arc<dyn Bucket> {
        Arc::new(self.inner.paced.ahead(bucket))
    }

    /// As after a restart: blocks in memory are forgotten.
    #[cfg(test)]
    pub(crate) fn forget_blocks(&self) {
        self.inner.reads.loader.forget_all();
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

    /// Up to which offset the stream may be trimmed so that every record below is older than
    /// `older_than_ms` (milliseconds since the Unix epoch), or so that at least `bytes_max` bytes
    /// of blocks stay: the greater of the two. It is the start of a block, or the committed end
    /// if all of it is too old; the start of the stream if nothing is. What is not committed yet
    /// does not count. Reads indices only.
    ///
    /// # Errors
    /// [`TierError::UnknownStream`]; damage; a bucket that does not answer.
    pub async fn trim_point(
        &self,
        stream: StreamId,
        older_than_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Result<Offset, TierError> {
        let reads = &self.inner.reads;
        reads.trim_point(stream, older_than_ms, bytes_max).await
    }

    /// The last committed state of the stream's owner.
    ///
    /// # Errors
    /// [`TierError::UnknownStream`]; damage; a bucket that does not answer.
    pub async fn snapshot(&self, stream: StreamId) -> Result<Option<StateSnapshot>, TierError> {
        self.inner.reads.snapshot(stream).await
    }

    /// Uploads what `tail` holds, in the background, until the uploader is stopped or dropped or
    /// the node is fenced. Dead objects are deleted and small ones joined as long. One uploader a
    /// node epoch.
    pub fn start_uploader(&self, node: NodeId, node_epoch: Epoch, tail: Arc<dyn Tail>) -> Uploader {
        let Inner {
            bucket,
            env,
            config,
            reads,
            ..
        } = &*self.inner;
        let pacer = Pacer::new(
            Arc::clone(env),
            config.upload.pace_percent,
            config.upload_age,
        );
        let shared = Shared::new(Arc::clone(&pacer));
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
            purpose: Purpose::Upload,
            upload: config.upload.clone(),
            parallel: config.upload_parallel,
            pacer,
            copies: Arc::default(),
        };
        let background = Arc::downgrade(&tail);
        let upload = UploadLoop::new(Work {
            shared: Arc::clone(&shared),
            metadata: reads.metadata.clone(),
            storer,
            tail,
            env: Arc::clone(env),
            config: config.clone(),
        });
        let sweeper = Sweeper {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            metadata: reads.metadata.clone(),
            counters: Arc::clone(&reads.counters),
            delay: config.delete_delay,
            retry: config.meta.clone(),
        };
        env.spawn("s3stream: uploader", Box::pin(upload.run()));
        let sweep = until_stopped(Arc::clone(&shared), sweeper.run());
        env.spawn("s3stream: sweeper", Box::pin(sweep));
        if config.compact.background {
            let compactor = self.compactor(node, node_epoch);
            let compact = async move { compactor.run(background).await };
            let compact = until_stopped(Arc::clone(&shared), compact);
            env.spawn("s3stream: compactor", Box::pin(compact));
            let orphans = until_stopped(Arc::clone(&shared), self.orphans().run());
            env.spawn("s3stream: orphans", Box::pin(orphans));
        }
        Uploader::new(shared)
    }

    /// Compacts what `node` owns until nothing is to be done, beside what the background does.
    /// How many steps that took.
    ///
    /// # Errors
    /// [`TierError::Fenced`]; damage; a bucket that does not answer. What was committed until
    /// then holds.
    pub async fn compact_until_done(
        &self,
        node: NodeId,
        node_epoch: Epoch,
    ) -> Result<u64, TierError> {
        self.compactor(node, node_epoch).until_done(None).await
    }

    /// Compacts the stream by key from now on, or no more. `owner` says when, and reads its entries.
    pub fn set_key_owner(&self, stream: StreamId, owner: Option<Arc<dyn KeyOwner>>) {
        self.inner.owners.set(stream, owner);
    }

    /// Deletes objects that were uploaded and never committed; how many. It lists all data
    /// objects, and takes as long as an orphan must have been seen (`compact.orphan_age`) and
    /// `delete_delay`. In the background it is done after many objects were written.
    ///
    /// # Errors
    /// A bucket that does not answer.
    pub async fn sweep_orphans(&self) -> Result<u64, TierError> {
        self.orphans().sweep().await
    }

    fn orphans(&self) -> Orphans {
        let Inner {
            bucket,
            env,
            config,
            reads,
            ..
        } = &*self.inner;
        Orphans {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            metadata: reads.metadata.clone(),
            counters: Arc::clone(&reads.counters),
            retry: config.meta.clone(),
            age: config.compact.orphan_age,
            delay: config.delete_delay,
            objects_min: config.compact.orphan_objects,
            orphans_max: config.compact.orphans_max,
        }
    }

    fn compactor(&self, node: NodeId, node_epoch: Epoch) -> Arc<Compactor> {
        let mut current = self.inner.compactor.lock();
        if let Some(known) = current
            .as_ref()
            .filter(|known| known.is_of(node, node_epoch))
        {
            return Arc::clone(known);
        }
        let Inner {
            bucket,
            env,
            config,
            reads,
            ..
        } = &*self.inner;
        let source = Source {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            config: config.meta.clone(),
            purpose: Purpose::Compaction,
        };
        let storer = ObjectStorer {
            bucket: Arc::clone(bucket),
            env: Arc::clone(env),
            retry: config.meta.clone(),
            counters: Arc::clone(&reads.counters),
            node,
            node_epoch,
            block_bytes: config.block_bytes,
            last_counter: AtomicU64::new(COMPACTION_COUNTERS),
            purpose: Purpose::Compaction,
            upload: config.upload.clone(),
            parallel: config.upload_parallel,
            // Its own pace is that of its reads.
            pacer: Pacer::new(Arc::clone(env), 0, Duration::ZERO),
            copies: Arc::default(),
        };
        storer.skip_condemned(&reads.metadata);
        let made = Arc::new(Compactor::new(
            reads.metadata.clone(),
            source,
            storer,
            Arc::clone(&self.inner.owners),
            config,
        ));
        *current = Some(Arc::clone(&made));
        made
    }

    #[cfg(test)]
    pub(crate) fn source(&self) -> &Source {
        &self.inner.reads.sources.catch_up
    }

    /// What was done since the tier was opened, and what it holds.
    #[must_use]
    pub fn counters(&self) -> TierCounters {
        let reads = &self.inner.reads;
        let written = reads.metadata.entries_written();
        let (block_cache_bytes, index_cache_bytes) = reads.num_bytes();
        let counted = reads
            .metadata
            .read(|state| reads.counters.snapshot(state, written));
        TierCounters {
            block_cache_bytes,
            index_cache_bytes,
            ..counted
        }
    }
}

async fn until_stopped(shared: Arc<Shared>, work: impl Future<Output = ()>) {
    let (stopped, work) = (std::pin::pin!(shared.stopped()), std::pin::pin!(work));
    select(stopped, work).await;
}

/// A store that takes parts must take the configured ones: better refused now than at the first
/// large object.
fn check_parts(bucket: &dyn Bucket, config: &TierConfig) -> Result<(), MetaError> {
    let part_bytes = config.upload.part_bytes;
    let refused = bucket
        .multipart()
        .filter(|limits| !(limits.part_bytes_min..=limits.part_bytes_max).contains(&part_bytes));
    match refused {
        Some(_) => Err(MetaError::InvalidConfig {
            field: "upload.part_bytes",
            range: "what the bucket takes as a part (S3: 5 MiB to 5 GiB)",
        }),
        None => Ok(()),
    }
}

/// The ways of readers to the bucket: slow requests are sent twice, on one budget.
fn sources(
    paced: &Paced,
    env: &Arc<dyn Env>,
    config: &TierConfig,
    counters: &Arc<Counters>,
) -> Sources {
    let tail: Arc<dyn Bucket> = Arc::new(paced.of_class(Class::Tail));
    let tail = Hedged::new(tail, Arc::clone(env), &config.read, Arc::clone(counters));
    let catch_up = tail.over(Arc::new(paced.of_class(Class::CatchUp)));
    let source = |bucket: Hedged| Source {
        bucket: Arc::new(bucket),
        env: Arc::clone(env),
        config: config.meta.clone(),
        purpose: Purpose::Read,
    };
    Sources {
        tail: source(tail),
        catch_up: source(catch_up),
    }
}
