//! Counters of the tier.
//!
//! *Owns*: what is counted, and the one snapshot of it that goes out.
//! *Does not own*: names in metrics; the broker maps them.
//!
//! *IO: none*

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::meta::state::MetaState;
use crate::object_id::ObjectKind;

/// What the tier did since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierCounters {
    /// Objects uploaded.
    pub uploads: u64,
    /// Bytes of them.
    pub upload_bytes: u64,
    /// Upload commits.
    pub commits: u64,
    /// Ranges that became part of their stream.
    pub ranges_committed: u64,
    /// Ranges dropped at commit: their stream was deleted or moved on.
    pub ranges_dropped: u64,
    /// Data blocks served from memory.
    pub blocks_from_memory: u64,
    /// Data blocks read from the disk cache.
    pub blocks_from_disk: u64,
    /// Data blocks read from the bucket.
    pub blocks_from_bucket: u64,
    /// Data blocks among these that were read ahead of their reader.
    pub blocks_ahead: u64,
    /// Object indices read from the bucket.
    pub indices_from_bucket: u64,
    /// Requests that brought several blocks.
    pub reads_joined: u64,
    /// Second requests for what was slow to come.
    pub hedges: u64,
    /// Blocks written to the disk cache.
    pub disk_blocks_written: u64,
    /// Blocks of the disk cache that did not hold what they should; they were read from the bucket.
    pub disk_blocks_damaged: u64,
    /// Reads and writes that the disk of the cache failed, or took too long for.
    pub disk_errors: u64,
    /// Dead objects deleted.
    pub objects_deleted: u64,
    /// Objects that compaction wrote.
    pub compaction_objects: u64,
    /// Bytes of them.
    pub compaction_bytes_written: u64,
    /// Bytes that the store copied for compaction, which passed through no process.
    pub compaction_bytes_copied: u64,
    /// Bytes that compaction read.
    pub compaction_bytes_read: u64,
    /// Runs of ranges that compaction replaced.
    pub ranges_replaced: u64,
    /// Runs whose replacement was dropped at commit: their stream moved on or another was faster.
    pub replacements_dropped: u64,
    /// Steps of compaction: each joins or rewrites objects.
    pub compaction_steps: u64,
    /// Passes of key compaction over a stream.
    pub key_passes: u64,
    /// Records that these left.
    pub key_records_kept: u64,
    /// Records that these dropped.
    pub key_records_dropped: u64,
    /// Orphans deleted: objects that were uploaded and never committed.
    pub orphans_deleted: u64,
    /// Log entries this process wrote.
    pub metadata_entries: u64,
    /// Stream-set objects that are referenced.
    pub stream_set_live: u64,
    /// Stream-set objects that wait for their deletion.
    pub stream_set_dead: u64,
    /// Stream objects that are referenced.
    pub stream_live: u64,
    /// Stream objects that wait for their deletion.
    pub stream_dead: u64,
    /// Bytes of blocks in memory now.
    pub block_cache_bytes: u64,
    /// Bytes of indices in memory now.
    pub index_cache_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) uploads: AtomicU64,
    pub(crate) upload_bytes: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) ranges_committed: AtomicU64,
    pub(crate) ranges_dropped: AtomicU64,
    pub(crate) blocks_from_memory: AtomicU64,
    pub(crate) blocks_from_disk: AtomicU64,
    pub(crate) blocks_from_bucket: AtomicU64,
    pub(crate) blocks_ahead: AtomicU64,
    pub(crate) indices_from_bucket: AtomicU64,
    pub(crate) reads_joined: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) disk_blocks_written: AtomicU64,
    pub(crate) disk_blocks_damaged: AtomicU64,
    pub(crate) disk_errors: AtomicU64,
    pub(crate) objects_deleted: AtomicU64,
    pub(crate) compaction_objects: AtomicU64,
    pub(crate) compaction_bytes_written: AtomicU64,
    pub(crate) compaction_bytes_copied: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) ranges_replaced: AtomicU64,
    pub(crate) replacements_dropped: AtomicU64,
    pub(crate) compaction_steps: AtomicU64,
    pub(crate) key_passes: AtomicU64,
    pub(crate) key_records_kept: AtomicU64,
    pub(crate) key_records_dropped: AtomicU64,
    pub(crate) orphans_deleted: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Relaxed);
}

impl Counters {
    /// A pass of key compaction ended.
    pub(crate) fn passed(&self, num_kept: u64, num_dropped: u64) {
        self.key_passes.fetch_add(1, Relaxed);
        self.key_records_kept.fetch_add(num_kept, Relaxed);
        self.key_records_dropped.fetch_add(num_dropped, Relaxed);
    }

    /// What was counted, with the objects of the state.
    pub(crate) fn snapshot(&self, state: &MetaState, metadata_entries: u64) -> TierCounters {
        let mut counters = TierCounters {
            uploads: self.uploads.load(Relaxed),
            upload_bytes: self.upload_bytes.load(Relaxed),
            commits: self.commits.load(Relaxed),
            ranges_committed: self.ranges_committed.load(Relaxed),
            ranges_dropped: self.ranges_dropped.load(Relaxed),
            blocks_from_memory: self.blocks_from_memory.load(Relaxed),
            blocks_from_bucket: self.blocks_from_bucket.load(Relaxed),
            blocks_from_disk: self.blocks_from_disk.load(Relaxed),
            blocks_ahead: self.blocks_ahead.load(Relaxed),
            indices_from_bucket: self.indices_from_bucket.load(Relaxed),
            reads_joined: self.reads_joined.load(Relaxed),
            hedges: self.hedges.load(Relaxed),
            disk_blocks_written: self.disk_blocks_written.load(Relaxed),
            disk_blocks_damaged: self.disk_blocks_damaged.load(Relaxed),
            disk_errors: self.disk_errors.load(Relaxed),
            objects_deleted: self.objects_deleted.load(Relaxed),
            compaction_objects: self.compaction_objects.load(Relaxed),
            compaction_bytes_written: self.compaction_bytes_written.load(Relaxed),
            compaction_bytes_copied: self.compaction_bytes_copied.load(Relaxed),
            compaction_bytes_read: self.compaction_bytes_read.load(Relaxed),
            ranges_replaced: self.ranges_replaced.load(Relaxed),
            replacements_dropped: self.replacements_dropped.load(Relaxed),
            compaction_steps: self.compaction_steps.load(Relaxed),
            key_passes: self.key_passes.load(Relaxed),
            key_records_kept: self.key_records_kept.load(Relaxed),
            key_records_dropped: self.key_records_dropped.load(Relaxed),
            orphans_deleted: self.orphans_deleted.load(Relaxed),
            metadata_entries,
            ..TierCounters::default()
        };
        for (_, object) in state.objects() {
            let count = match (object.kind, object.died_seq) {
                (ObjectKind::StreamSet, None) => &mut counters.stream_set_live,
                (ObjectKind::StreamSet, Some(_)) => &mut counters.stream_set_dead,
                (ObjectKind::Stream, None) => &mut counters.stream_live,
                (ObjectKind::Stream, Some(_)) => &mut counters.stream_dead,
            };
            *count += 1;
        }
        counters
    }
}
