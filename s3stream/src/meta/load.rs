//! Reads the metadata log: snapshots, entries, and what to do about damage.
//!
//! *Owns*: opening from the newest valid snapshot and the log after it.
//! *Does not own*: writing (`commit`), the objects of a snapshot (`snapshots`).
//!
//! Invariants
//! 1. A damaged snapshot is passed over and reported; the log behind an older one,
//!    or all of it, leads to the same state.
//! 2. A damaged or missing log entry is an error, unless the deletion boundary has
//!    passed it: then reading starts again from a newer snapshot.
//! 3. Nothing at or below the deletion boundary is read, and no answer is believed that
//!    is older than the boundary allows (`fresh`).
//! 4. Damage counts only if a second read shows it too; an answer may be cut short.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Env, mutant, sometimes};

use crate::backoff::Backoff;
use crate::config::MetaConfig;
use crate::error::MetaError;
use crate::reader::FormatError;

use super::apply::apply_and_tell;
use super::format::entry::{self, LogEntry};
use super::fresh::Fresh;
use super::op::MetaOp;
use super::pace::LogSize;
use super::state::MetaState;
use super::watched::Watched;

pub(crate) const LOG_PREFIX: &str = "meta/log/";
pub(crate) const SNAPSHOT_PREFIX: &str = "meta/snap/";
/// Reads of the same bytes before damage is believed.
const READS_OF_DAMAGE: u32 = 2;
/// Starts of a load that deletion may overtake; each takes at least half the delay then.
const LOADS_MAX: u32 = 8;

/// The key of a log entry.
pub(crate) fn log_key(seq: u64) -> String {
    format!("{LOG_PREFIX}{seq:020}")
}

/// The key of the snapshot after a log entry.
pub(crate) fn snapshot_key(seq: u64) -> String {
    format!("{SNAPSHOT_PREFIX}{seq:020}")
}

fn seq_of(prefix: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(prefix)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits {
        digits.parse().ok()
    } else {
        None
    }
}

/// How the metadata was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The log entry whose snapshot was taken; 0 if none was.
    pub snapshot_seq: u64,
    /// Log entries applied after it.
    pub entries_replayed: u64,
    /// Newer snapshots that were damaged and passed over, with the damage.
    pub snapshots_damaged: Vec<MetaError>,
}

/// Metadata as read, and what is known of it.
pub(crate) struct Loaded {
    /// `None` if the bucket has no metadata.
    pub(crate) state: Option<MetaState>,
    pub(crate) report: OpenReport,
    pub(crate) fresh: Fresh,
    pub(crate) snapshot_bytes: u64,
    /// The log behind the snapshot.
    pub(crate) log: LogSize,
}

/// Reads metadata objects with retries.
#[derive(Clone)]
pub(crate) struct MetaReader {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: MetaConfig,
    pub(crate) purpose: Purpose,
}

impl MetaReader {
    /// The operation that tells the cluster this process's deletion delay.
    pub(super) fn delay_op(&self) -> MetaOp {
        let delay_ns = self.config.delete_delay.as_nanos();
        MetaOp::SetDeleteDelay {
            delay_ns: u64::try_from(delay_ns).expect("the range fits"),
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.config.backoff_min, self.config.backoff_max)
    }

    /// The object, or `None` if there is none.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, MetaError> {
        let mut backoff = self.backoff();
        loop {
            match self.bucket.get(self.purpose, key, None).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(BucketError::Absent { .. }) => return Ok(None),
                Err(err) => self.again(&mut backoff, err).await?,
            }
        }
    }

    /// Waits before another attempt, or gives up with the error.
    pub(super) async fn again(
        &self,
        backoff: &mut Backoff,
        err: BucketError,
    ) -> Result<(), MetaError> {
        let transient = matches!(
            err,
            BucketError::Throttled { .. } | BucketError::Unknown { .. }
        );
        if !transient || backoff.attempts() + 1 >= self.config.read_attempts {
            return Err(MetaError::Unavailable(err));
        }
        backoff.wait(&*self.env).await;
        Ok(())
    }

    /// The numbers of the objects `{prefix}{number}` after `after`, ascending.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<String>,
    ) -> Result<Vec<u64>, MetaError> {
        let (mut seqs, mut after, mut backoff) = (Vec::new(), after, self.backoff());
        loop {
            let page = match self
                .bucket
                .list(self.purpose, prefix, after.as_deref())
                .await
            {
                Ok(page) => page,
                Err(err) => {
                    self.again(&mut backoff, err).await?;
                    continue;
                }
            };
            seqs.extend(
                page.entries
                    .iter()
                    .filter_map(|entry| seq_of(prefix, &entry.key)),
            );
            match page.entries.last() {
                Some(last) if page.more => after = Some(last.key.clone()),
                _ => return Ok(seqs),
            }
        }
    }

    /// A log entry, or `None` if it was not written yet.
    pub(crate) async fn entry(&self, seq: u64) -> Result<Option<LogEntry>, MetaError> {
        self.decoded(&log_key(seq), |bytes| entry::decode(bytes, seq))
            .await
    }

    /// The `count` entries from `seq` on, as far as each was there and whole at the first look; none
    /// of them is proof of anything that was not there.
    pub(super) async fn entries_there(&self, seq: u64, count: u64) -> Vec<LogEntry> {
        let reads = (seq..seq.saturating_add(count)).map(|seq| async move {
            let bytes = (self.bucket.get(self.purpose, &log_key(seq), None)).await;
            entry::decode(bytes.ok()?, seq).ok()
        });
        let found = futures_util::future::join_all(reads).await;
        found.into_iter().map_while(|entry| entry).collect()
    }

    pub(super) async fn decoded<T>(
        &self,
        key: &str,
        decode: impl Fn(Bytes) -> Result<T, FormatError>,
    ) -> Result<Option<T>, MetaError> {
        let mut reads = 1;
        loop {
            let Some(bytes) = self.get(key).await? else {
                return Ok(None);
            };
            match decode(bytes) {
                Ok(value) => return Ok(Some(value)),
                Err(FormatError::Damaged { .. }) if reads < READS_OF_DAMAGE => {
                    sometimes!("s3stream: damaged metadata read again");
                    reads += 1;
                }
                Err(err) => return Err(meta_error(key, err)),
            }
        }
    }

    /// Whether there is any snapshot or log entry.
    pub(crate) async fn holds_metadata(&self) -> Result<bool, MetaError> {
        if self.has_snapshot().await? || self.entry(1).await?.is_some() {
            return Ok(true);
        }
        // The first entry may have been deleted since that listing; then there is a snapshot by now.
        self.has_snapshot().await
    }

    async fn has_snapshot(&self) -> Result<bool, MetaError> {
        Ok(!self.list(SNAPSHOT_PREFIX, None).await?.is_empty())
    }

    /// The newest valid snapshot and the log after it. Starts again if entries were deleted
    /// meanwhile.
    pub(crate) async fn load(&self) -> Result<Loaded, MetaError> {
        for _ in 0..LOADS_MAX {
            if let Some(loaded) = self.load_once().await? {
                return Ok(loaded);
            }
            sometimes!("s3stream: deletion overtook a reader");
        }
        let fresh = self.boundary(0).await?;
        Err(MetaError::Outpaced {
            seq: fresh.boundary,
            boundary: fresh.boundary,
        })
    }

    /// `None` if what it read was being deleted.
    async fn load_once(&self) -> Result<Option<Loaded>, MetaError> {
        let mut fresh = self.boundary(0).await?;
        let boundary = fresh.boundary;
        let mut report = OpenReport::default();
        let snapshot = self.newest_snapshot(boundary, &mut report).await?;
        let (state, snapshot_bytes) = snapshot.unzip();
        let from = report.snapshot_seq;
        let mut log = LogSize::default();
        let replayed = if state.is_none() && boundary > 0 {
            let missing = MetaError::MissingEntry {
                key: snapshot_key(boundary),
            };
            Err(report.snapshots_damaged.first().cloned().unwrap_or(missing))
        } else {
            self.replay(state, &mut report, &mut log).await
        };
        // What was read is believed only if nothing above the snapshot can have been deleted.
        if replayed.is_err() || !(fresh.holds(&*self.env, self.config.delete_delay) || mutant!(72))
        {
            fresh = self.boundary(boundary).await?;
            if fresh.boundary > from.max(boundary) {
                return Ok(None);
            }
        }
        let state = replayed?;
        if let (None, Some(err)) = (&state, report.snapshots_damaged.first()) {
            return Err(err.clone());
        }
        Ok(Some(Loaded {
            state,
            report,
            fresh,
            snapshot_bytes: snapshot_bytes.unwrap_or(0),
            log,
        }))
    }

    /// The newest valid snapshot of entry `boundary` or later, and its size.
    async fn newest_snapshot(
        &self,
        boundary: u64,
        report: &mut OpenReport,
    ) -> Result<Option<(MetaState, u64)>, MetaError> {
        for seq in self.snapshots(boundary).await?.into_iter().rev() {
            match self.snapshot(seq).await {
                Ok(Some(found)) => {
                    report.snapshot_seq = seq;
                    return Ok(Some(found));
                }
                Ok(None) => {}
                Err(err @ (MetaError::Corrupt { .. } | MetaError::MissingEntry { .. })) => {
                    sometimes!("s3stream: damaged snapshot passed over");
                    tracing::warn!(%err, "metadata snapshot passed over");
                    report.snapshots_damaged.push(err);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(None)
    }

    /// The entries of which there is a snapshot, from `boundary` on, ascending.
    pub(crate) async fn snapshots(&self, boundary: u64) -> Result<Vec<u64>, MetaError> {
        let after = boundary.checked_sub(1).map(snapshot_key);
        self.list(SNAPSHOT_PREFIX, after).await
    }

    /// The state that all of the log leads to, from the snapshot at the deletion boundary on if
    /// there is one. What was deleted meanwhile is no damage.
    pub(crate) async fn replay_all(&self) -> Result<Option<MetaState>, MetaError> {
        loop {
            let boundary = self.boundary(0).await?.boundary;
            let oldest = match self.snapshot(boundary).await {
                Ok(found) => found.map(|(state, _)| state),
                // A damaged snapshot is a finding of its own.
                Err(MetaError::Corrupt { .. } | MetaError::MissingEntry { .. }) => None,
                Err(err) => return Err(err),
            };
            let (mut report, mut log) = (OpenReport::default(), LogSize::default());
            let replayed = match oldest {
                None if boundary > 0 => Ok(None),
                from => self.replay(from, &mut report, &mut log).await,
            };
            if self.boundary(boundary).await?.boundary == boundary {
                return replayed;
            }
        }
    }

    /// Applies the log after `state`; without one, from entry 1.
    pub(crate) async fn replay(
        &self,
        mut state: Option<MetaState>,
        report: &mut OpenReport,
        log: &mut LogSize,
    ) -> Result<Option<MetaState>, MetaError> {
        let first = state.as_ref().map_or(1, |state| state.seq + 1);
        let after = (first > 1).then(|| log_key(first - 1));
        let Some(last) = self.list(LOG_PREFIX, after).await?.last().copied() else {
            return Ok(state);
        };
        // Pages of a listing are not one snapshot: it only says how far the log goes at least.
        let reads = futures_util::stream::iter(first..=last)
            .map(|seq| async move { (seq, self.entry(seq).await) });
        let mut reads = std::pin::pin!(reads.buffered(self.config.read_parallel));
        while let Some((seq, read)) = reads.next().await {
            let entry = read?.ok_or_else(|| MetaError::MissingEntry { key: log_key(seq) })?;
            let state = state.get_or_insert_with(|| MetaState::new(entry.header.cluster));
            check_place(state, &entry)?;
            apply_entry(state, &entry, None);
            if mutant!(40) && report.entries_replayed == 0 {
                apply_entry(state, &entry, None);
            }
            report.entries_replayed += 1;
            log.entries += 1;
            log.bytes += entry.num_bytes;
        }
        Ok(state)
    }
}

/// The entry is the one that follows the state.
pub(crate) fn check_place(state: &MetaState, entry: &LogEntry) -> Result<(), MetaError> {
    let header = &entry.header;
    assert_eq!(header.seq, state.seq + 1, "entries are applied in order");
    let wrong = |what, position, expected, found| {
        let key = log_key(header.seq);
        Err(MetaError::Corrupt {
            key,
            position,
            what,
            expected,
            found,
        })
    };
    if header.cluster != state.cluster {
        let first = |id: tidewater_types::ClusterId| {
            u64::from_le_bytes(*id.0.first_chunk().expect("16 bytes"))
        };
        return wrong(
            "cluster id",
            16,
            first(state.cluster),
            first(header.cluster),
        );
    }
    if header.previous_crc != state.log_crc {
        let (expected, found) = (u64::from(state.log_crc), u64::from(header.previous_crc));
        return wrong("checksum of the entry before", 52, expected, found);
    }
    Ok(())
}

/// Applies an entry that `check_place` let pass. Rejections were its writer's business.
pub(crate) fn apply_entry(
    state: &mut MetaState,
    entry: &LogEntry,
    mut changed: Option<&mut Vec<Watched>>,
) {
    for txn in &entry.txns {
        let _verdict = apply_and_tell(state, entry.header.seq, txn, changed.as_deref_mut());
    }
    (state.seq, state.log_crc) = (entry.header.seq, entry.crc);
}

/// The error of a damaged metadata object.
pub(crate) fn meta_error(key: &str, err: FormatError) -> MetaError {
    let key = key.to_owned();
    match err {
        FormatError::Damaged {
            position,
            what,
            expected,
            found,
        } => MetaError::Corrupt {
            key,
            position,
            what,
            expected,
            found,
        },
        FormatError::Unsupported { version } => MetaError::Unsupported { key, version },
    }
}
