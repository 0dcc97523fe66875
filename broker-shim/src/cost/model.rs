//! What a described workload asks of a store.
//!
//! *Owns*: the arithmetic of uploads, reads and the object WAL, from the engine's own settings.
//! *Does not own*: compaction (`compaction.rs`), prices; what the engine really does (the test beside this
//! holds it against counters).
//!
//! Invariants
//! 1. Streams are written evenly; producers never pause. Both cost more than what is uneven.
//!
//! *IO: none*

use tidewater_stream_store::{ObjectWalConfig, TierConfig};

use super::compaction::{self, Objects, Rules};
use super::usage::{MIB, Usage};

/// Bytes around the entries of a stream in an upload: block header and index row.
const BLOCK_BYTES: f64 = 128.0;
/// Bytes of an entry's row in its block.
const ENTRY_BYTES: f64 = 24.0;
/// Header and footer of an object.
const OBJECT_BYTES: f64 = 128.0;
/// Header of a metadata entry; an object and a range in it.
const META_BYTES: [f64; 3] = [150.0, 49.0, 44.0];
/// Head and prefix of a frame in a WAL; header of an entry of the object WAL.
const FRAME_BYTES: f64 = 44.0;
const WAL_ENTRY_BYTES: f64 = 160.0;

/// A workload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// How long it goes on, from an empty cluster; what follows from it later counts, too.
    pub(crate) seconds: f64,
    /// Bytes of records a second, compressed as producers send them.
    pub(crate) bytes_in_per_s: f64,
    /// Bytes a second that consumers read which lag behind what memory holds. Readers at the tail
    /// cost no request, however many there are.
    pub(crate) cold_bytes_per_s: f64,
    /// How long records are kept, in seconds.
    pub(crate) retention_s: f64,
    /// Partitions that are written to.
    pub(crate) partitions: f64,
    /// Bytes of a record batch.
    pub(crate) batch_bytes: f64,
    /// Milliseconds a PUT takes, if the WAL is in the bucket; `None` for a WAL on a device.
    pub(crate) object_wal_put_ms: Option<f64>,
}

/// What it uses while it goes on.
pub(crate) fn usage(workload: &Workload, tier: &TierConfig) -> Usage {
    let mut usage = compacted(workload, tier);
    if workload.bytes_in_per_s > 0.0 {
        let uploads = Uploads::of(workload, tier);
        uploads.add(workload, tier, &mut usage);
        if workload.cold_bytes_per_s > 0.0 {
            uploads.add_reads(workload, tier, &mut usage);
        }
        if let Some(put_ms) = workload.object_wal_put_ms {
            object_wal(workload, put_ms, &mut usage);
        }
    }
    usage
}

/// Of that, what comes from compaction: its own requests, its commits, the deletion of what it makes.
pub(crate) fn compacted(workload: &Workload, tier: &TierConfig) -> Usage {
    let mut usage = Usage {
        seconds: workload.seconds,
        produced_bytes: workload.bytes_in_per_s * workload.seconds,
        stored_bytes: workload.bytes_in_per_s * workload.retention_s,
        ..Usage::default()
    };
    if workload.bytes_in_per_s > 0.0 && tier.compact.background {
        let uploads = Uploads::of(workload, tier);
        compaction::add(uploads.objects(workload), &Rules::of(tier), &mut usage);
    }
    usage
}

/// Uploads as they come one after the other.
struct Uploads {
    /// While the workload goes on.
    count: f64,
    /// Payload bytes of one.
    bytes: f64,
    /// Payload bytes of a stream in one.
    stream_bytes: f64,
    /// Streams in one.
    streams: f64,
    /// Objects in one.
    objects: f64,
    /// Whether each stream has its own.
    are_own: bool,
}

impl Uploads {
    /// By size or by age, whichever comes first.
    fn of(workload: &Workload, tier: &TierConfig) -> Self {
        let by_size = tier.upload_bytes as f64 / workload.bytes_in_per_s;
        let period = by_size.min(tier.upload_age.as_secs_f64());
        let bytes = workload.bytes_in_per_s * period;
        // A stream is in an upload if a batch of it came.
        let streams = workload
            .partitions
            .min((bytes / workload.batch_bytes).max(1.0));
        let stream_bytes = bytes / streams;
        let are_own = stream_bytes >= tier.stream_object_bytes as f64;
        let objects = if are_own {
            streams
        } else {
            (streams / tier.stream_set_streams as f64).ceil()
        };
        Self {
            count: workload.seconds / period,
            bytes,
            stream_bytes,
            streams,
            objects,
            are_own,
        }
    }

    /// What compaction finds. Of streams that are not in each upload, as many objects as of the others.
    fn objects(&self, workload: &Workload) -> Objects {
        let lanes = match self.are_own {
            true => self.streams,
            false => self.objects,
        };
        let entries = self.stream_bytes / workload.batch_bytes;
        Objects {
            is_set: !self.are_own,
            is_joined: false,
            lanes,
            per_lane: self.count * self.objects / lanes,
            streams: self.streams / self.objects,
            stream_bytes: self.stream_bytes + entries * ENTRY_BYTES,
        }
    }

    /// Objects, the commit of each upload, and one day the deletion of each object.
    fn add(&self, workload: &Workload, tier: &TierConfig, usage: &mut Usage) {
        let blocks = (self.stream_bytes / tier.block_bytes as f64).ceil() * self.streams;
        let overhead = blocks * BLOCK_BYTES
            + self.bytes / workload.batch_bytes * ENTRY_BYTES
            + self.objects * OBJECT_BYTES;
        let sent = self.count * self.objects;
        let size = (self.bytes + overhead) / self.objects;
        if size >= tier.upload.multipart_bytes as f64 {
            let parts = (size / tier.upload.part_bytes as f64).ceil();
            for (op, requests) in [("start", 1.0), ("part", parts), ("complete", 1.0)] {
                usage.add_requests(op, "upload", sent * requests);
            }
        } else {
            usage.add_requests("create", "upload", sent);
        }
        usage.add_bytes("out", "upload", self.count * (self.bytes + overhead));
        let [entry, object, range] = META_BYTES;
        let commit = entry + object * self.objects + range * self.streams;
        let snapshots = self.count / tier.meta.snapshot_entries as f64;
        usage.add_requests("create", "meta", self.count + snapshots);
        usage.add_bytes("out", "meta", self.count * commit);
        usage.add_requests("delete", "gc", self.count * self.objects);
    }

    /// A read fetches a block, or all a stream has in an object if that is less, and for each object
    /// its index.
    fn add_reads(&self, workload: &Workload, tier: &TierConfig, usage: &mut Usage) {
        let read = workload.cold_bytes_per_s * workload.seconds;
        let block = self.stream_bytes.min(tier.block_bytes as f64);
        let index = self.streams / self.objects * BLOCK_BYTES / 2.0;
        let parts = read / self.stream_bytes;
        usage.add_requests("get", "read", read / block + parts);
        usage.add_bytes("in", "read", read + parts * index);
    }
}

/// An entry goes out when none is under way, when it is full or when it has waited long enough.
fn object_wal(workload: &Workload, put_ms: f64, usage: &mut Usage) {
    let wal = ObjectWalConfig::default();
    let by_time = 1000.0 / put_ms.min(wal.linger_ms_max as f64);
    let by_size = workload.bytes_in_per_s / wal.object_bytes_max as f64;
    // No more entries than batches that come.
    let batches = workload.bytes_in_per_s / workload.batch_bytes;
    let entries = by_time.max(by_size).min(batches) * workload.seconds;
    let frames = batches * workload.seconds * FRAME_BYTES;
    usage.add_requests("create", "wal", entries);
    usage.add_requests("delete", "wal", entries);
    let payload = workload.bytes_in_per_s * workload.seconds;
    usage.add_bytes("out", "wal", payload + frames + entries * WAL_ENTRY_BYTES);
}

/// MiB as bytes.
pub(crate) fn mib(mib: f64) -> f64 {
    mib * MIB
}
