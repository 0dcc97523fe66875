//! Doubles for the tests of this crate.
//!
//! *Owns*: an environment on tokio's paused clock, a bucket with scripted faults, a tail in memory.
//! *Does not own*: the checks.
//!
//! *IO: none*

mod entries;
pub(crate) mod keyed;
mod tail;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{
    Bucket, BucketError, ListPage, MemoryBucket, MultipartId, MultipartLimits, Part, PartTag,
    Purpose,
};
use tidewater_types::{BoxFuture, Env, Epoch, Instant, NodeId, StreamId};

use crate::{Entry, MetaOp, Metadata, Tier, TierConfig, Uploader};
pub(crate) use entries::{entries, entry};
pub(crate) use tail::MemoryTail;

/// Tokio's clock (paused in tests: a sleep takes no time) and a counter for randomness.
pub(crate) struct TestEnv {
    start: tokio::time::Instant,
    random: AtomicU64,
}

impl TestEnv {
    pub(crate) fn shared(seed: u64) -> Arc<dyn Env> {
        Arc::new(Self {
            start: tokio::time::Instant::now(),
            random: AtomicU64::new(seed),
        })
    }
}

impl Env for TestEnv {
    fn now(&self) -> Instant {
        Instant::default().after(self.start.elapsed())
    }

    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        self.random
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    }
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Applied, and the answer is lost.
    LoseAnswer,
    /// Never arrives.
    Vanish,
    /// Times out now and is applied by `deliver_late`.
    Late,
    Throttle,
    Refuse,
    NoSpace,
    /// A read comes back with its last byte missing.
    Truncate,
    /// The store forgets the upload in parts that the request is about.
    Forget,
    /// A copy takes what lies a byte in front of what it should.
    Astray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Create,
    Get,
    Size,
    Delete,
    List,
    Start,
    Part,
    Copy,
    Complete,
    Abort,
}

/// What the next requests of a kind on keys that begin so meet.
type Rule = (Op, &'static str, VecDeque<Option<Fault>>);

/// A bucket in memory with scripted faults and counted requests.
pub(crate) struct FaultyBucket {
    store: MemoryBucket,
    script: Mutex<Vec<Rule>>,
    late: Mutex<Vec<(String, Vec<Bytes>)>>,
    log: Mutex<Vec<(Op, String)>>,
}

impl FaultyBucket {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryBucket::with_list_page(3),
            script: Mutex::default(),
            late: Mutex::default(),
            log: Mutex::default(),
        })
    }

    /// The next requests of this kind on keys that begin so meet these faults, one each.
    pub(crate) fn script(&self, op: Op, prefix: &'static str, faults: &[Fault]) {
        self.script_behind(0, op, prefix, faults);
    }

    /// The same, once so many of these requests went well.
    pub(crate) fn script_behind(
        &self,
        num_fine: usize,
        op: Op,
        prefix: &'static str,
        faults: &[Fault],
    ) {
        let fine = std::iter::repeat_n(None, num_fine);
        let faults = fine.chain(faults.iter().copied().map(Some)).collect();
        self.script.lock().push((op, prefix, faults));
    }

    /// Faults that are still to come.
    pub(crate) fn scripted(&self) -> usize {
        self.script
            .lock()
            .iter()
            .map(|(_, _, faults)| faults.len())
            .sum()
    }

    /// Applies the creates that were late.
    pub(crate) async fn deliver_late(&self) -> Vec<Result<(), BucketError>> {
        let mut outcomes = Vec::new();
        let late = std::mem::take(&mut *self.late.lock());
        for (key, body) in late {
            outcomes.push(self.store.create(Purpose::Meta, &key, body).await);
        }
        outcomes
    }

    /// How many requests of this kind were made on keys that begin so.
    pub(crate) fn count(&self, op: Op, prefix: &str) -> usize {
        self.log
            .lock()
            .iter()
            .filter(|(done, key)| *done == op && key.starts_with(prefix))
            .count()
    }

    pub(crate) fn requests(&self) -> Vec<(Op, String)> {
        self.log.lock().clone()
    }

    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self
                .store
                .list(Purpose::Fsck, prefix, after.as_deref())
                .await
                .unwrap();
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            if !page.more {
                return keys;
            }
            after = keys.last().cloned();
        }
    }

    pub(crate) async fn bytes(&self, key: &str) -> Bytes {
        self.store.get(Purpose::Fsck, key, None).await.unwrap()
    }

    /// Replaces an object, or removes it.
    pub(crate) async fn tamper(&self, key: &str, bytes: Option<Bytes>) {
        match self.store.delete(Purpose::Fsck, key).await {
            Ok(()) | Err(BucketError::Absent { .. }) => {}
            Err(err) => panic!("{err}"),
        }
        if let Some(bytes) = bytes {
            self.store
                .create(Purpose::Fsck, key, vec![bytes])
                .await
                .unwrap();
        }
    }

    /// Inverts one byte of an object.
    pub(crate) async fn flip(&self, key: &str, position: usize) {
        let mut bytes = self.bytes(key).await.to_vec();
        bytes[position] ^= 0xff;
        self.tamper(key, Some(Bytes::from(bytes))).await;
    }

    /// Makes a request unless it never arrives, and loses its answer if that is the fault.
    async fn faulted<T>(
        &self,
        fault: Option<Fault>,
        key: &str,
        request: BoxFuture<'_, Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        match fault {
            None => request.await,
            Some(Fault::LoseAnswer) => {
                let _outcome = request.await;
                Err(error(Fault::LoseAnswer, key))
            }
            Some(fault) => Err(error(fault, key)),
        }
    }

    fn fault(&self, op: Op, key: &str) -> Option<Fault> {
        self.log.lock().push((op, key.to_owned()));
        let mut script = self.script.lock();
        let rule = script.iter_mut().find(|(on, prefix, faults)| {
            *on == op && key.starts_with(prefix) && !faults.is_empty()
        });
        rule.and_then(|(_, _, faults)| faults.pop_front().flatten())
    }
}

fn error(fault: Fault, key: &str) -> BucketError {
    let key = key.to_owned();
    let cause = "scripted".to_owned();
    match fault {
        Fault::Throttle => BucketError::Throttled { key },
        Fault::Refuse => BucketError::Refused { key, cause },
        Fault::NoSpace => BucketError::NoSpace { key, cause },
        _ => BucketError::Unknown { key, cause },
    }
}

impl Bucket for FaultyBucket {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            match self.fault(Op::Create, key) {
                None => self.store.create(purpose, key, body).await,
                Some(Fault::LoseAnswer) => {
                    let _outcome = self.store.create(purpose, key, body).await;
                    Err(error(Fault::LoseAnswer, key))
                }
                Some(Fault::Late) => {
                    self.late.lock().push((key.to_owned(), body));
                    Err(error(Fault::Late, key))
                }
                Some(fault) => Err(error(fault, key)),
            }
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            match self.fault(Op::Get, key) {
                None => self.store.get(purpose, key, range).await,
                Some(Fault::Truncate) => {
                    let bytes = self.store.get(purpose, key, range).await?;
                    Ok(bytes.slice(..bytes.len() - 1))
                }
                Some(fault) => Err(error(fault, key)),
            }
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move {
            match self.fault(Op::Size, key) {
                None => self.store.size(purpose, key).await,
                Some(fault) => Err(error(fault, key)),
            }
        })
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            match self.fault(Op::Delete, key) {
                None => self.store.delete(purpose, key).await,
                Some(fault) => Err(error(fault, key)),
            }
        })
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(async move {
            match self.fault(Op::List, prefix) {
                None => self.store.list(purpose, prefix, after).await,
                Some(fault) => Err(error(fault, prefix)),
            }
        })
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        self.store.multipart()
    }

    fn create_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(async move {
            let fault = self.fault(Op::Start, key);
            self.faulted(fault, key, self.store.create_multipart(purpose, key))
                .await
        })
    }

    fn put_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move {
            let fault = self.fault(Op::Part, part.key);
            self.faulted(fault, part.key, self.store.put_part(purpose, part, body))
                .await
        })
    }

    fn copy_part<'a>(
        &'a self,
        purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move {
            let mut fault = self.fault(Op::Copy, part.key);
            let is_astray = fault.take_if(|fault| *fault == Fault::Astray).is_some();
            let astray = u64::from(is_astray);
            let range = range.start - astray..range.end - astray;
            if fault.take_if(|fault| *fault == Fault::Forget).is_some() {
                let (key, upload) = (part.key, part.upload);
                self.store.abort_multipart(purpose, key, upload).await?;
            }
            let request = self.store.copy_part(purpose, part, source, range);
            self.faulted(fault, part.key, request).await
        })
    }

    fn complete_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let mut fault = self.fault(Op::Complete, key);
            if fault.take_if(|fault| *fault == Fault::Forget).is_some() {
                self.store.abort_multipart(purpose, key, upload).await?;
            }
            let request = self.store.complete_multipart(purpose, key, upload, parts);
            self.faulted(fault, key, request).await
        })
    }

    fn abort_multipart<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let fault = self.fault(Op::Abort, key);
            self.faulted(fault, key, self.store.abort_multipart(purpose, key, upload))
                .await
        })
    }
}

pub(crate) const NODE: NodeId = NodeId(1);

/// Small limits, so that few bytes make many blocks and objects; sets are not split: that would take the
/// faults that a test has prepared for something else.
pub(crate) fn small_config() -> TierConfig {
    let mut config = TierConfig {
        block_bytes: 512,
        stream_object_bytes: 4_096,
        upload_age: Duration::from_secs(3_600),
        ..TierConfig::default()
    };
    config.compact.split_window_bytes = 0;
    config
}

/// A tier with a registered node and its uploader.
pub(crate) struct Rig {
    pub(crate) bucket: Arc<FaultyBucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) tier: Tier,
    pub(crate) tail: Arc<MemoryTail>,
    pub(crate) uploader: Uploader,
    pub(crate) node_epoch: Epoch,
}

impl Rig {
    pub(crate) async fn new(config: TierConfig) -> Self {
        Self::on(FaultyBucket::new(), 1, config).await
    }

    /// Opens a bucket as the next life of the node.
    pub(crate) async fn on(bucket: Arc<FaultyBucket>, seed: u64, config: TierConfig) -> Self {
        let env = TestEnv::shared(seed << 32);
        let tier = Tier::open(bucket.clone(), env.clone(), config)
            .await
            .unwrap();
        let node_epoch = register(tier.metadata()).await;
        let tail = Arc::new(MemoryTail::default());
        let uploader = tier.start_uploader(NODE, node_epoch, tail.clone());
        Self {
            bucket,
            env,
            tier,
            tail,
            uploader,
            node_epoch,
        }
    }

    pub(crate) async fn stream(&self) -> StreamId {
        open_new_stream(self.tier.metadata(), self.node_epoch).await
    }

    /// Appends to a stream at epoch 1 and uploads.
    pub(crate) async fn upload(&self, stream: StreamId, entries: Vec<Entry>) {
        self.tail.append(stream, Epoch(1), entries);
        self.uploader.flush().await.unwrap();
    }
}

pub(crate) async fn register(metadata: &Metadata) -> Epoch {
    let epoch = metadata
        .read(|state| state.node(NODE).map_or(Epoch(0), |node| node.epoch))
        .next()
        .unwrap();
    metadata
        .propose(vec![MetaOp::RegisterNode { node: NODE, epoch }])
        .await
        .unwrap();
    epoch
}

pub(crate) async fn open_new_stream(metadata: &Metadata, node_epoch: Epoch) -> StreamId {
    let stream = metadata.read(|state| state.next_stream_id());
    let create = MetaOp::CreateStream { stream };
    let open = MetaOp::OpenStream {
        stream,
        node: NODE,
        node_epoch,
        epoch: Epoch(1),
    };
    metadata.propose(vec![create, open]).await.unwrap();
    stream
}
