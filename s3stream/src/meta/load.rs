//! Reads the metadata log: snapshots, entries, and what to do about damage.
//!
//! *Owns*: opening from the newest valid snapshot and the log after it.
//! *Does not own*: writing (`log`).
//!
//! Invariants
//! 1. A damaged snapshot is passed over and reported; the log goes back to entry
//!    1, so nothing is lost by it.
//! 2. A damaged or missing log entry is an error: nothing after it can be believed.
//! 3. Damage counts only if a second read shows it too; an answer may be cut short.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Env, sometimes};

use crate::backoff::Backoff;
use crate::config::MetaConfig;
use crate::error::MetaError;
use crate::reader::FormatError;

use super::apply::apply;
use super::format::entry::{self, LogEntry};
use super::state::MetaState;

pub(crate) const LOG_PREFIX: &str = "meta/log/";
pub(crate) const SNAPSHOT_PREFIX: &str = "meta/snap/";
/// Reads of the same bytes before damage is believed.
const READS_OF_DAMAGE: u32 = 2;

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

/// Reads metadata objects with retries.
#[derive(Clone)]
pub(crate) struct MetaReader {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: MetaConfig,
    pub(crate) purpose: Purpose,
}

impl MetaReader {
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
    async fn again(&self, backoff: &mut Backoff, err: BucketError) -> Result<(), MetaError> {
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
        let snapshots = self.list(SNAPSHOT_PREFIX, None).await?;
        Ok(!snapshots.is_empty() || self.entry(1).await?.is_some())
    }

    /// The newest valid snapshot and the log after it; `None` if the bucket has no metadata.
    pub(crate) async fn load(&self) -> Result<(Option<MetaState>, OpenReport), MetaError> {
        let mut report = OpenReport::default();
        let mut state = None;
        for seq in self.list(SNAPSHOT_PREFIX, None).await?.into_iter().rev() {
            match self.snapshot(seq).await {
                Ok(Some((found, _size))) => {
                    report.snapshot_seq = seq;
                    state = Some(found);
                    break;
                }
                Ok(None) => {}
                Err(err @ MetaError::Corrupt { .. }) => {
                    sometimes!("s3stream: damaged snapshot passed over");
                    tracing::warn!(%err, "metadata snapshot passed over");
                    report.snapshots_damaged.push(err);
                }
                Err(err) => return Err(err),
            }
        }
        let state = self.replay(state, &mut report).await?;
        if state.is_none()
            && let Some(err) = report.snapshots_damaged.first()
        {
            return Err(err.clone());
        }
        Ok((state, report))
    }

    /// Applies the log after `state`; without one, from entry 1.
    pub(crate) async fn replay(
        &self,
        mut state: Option<MetaState>,
        report: &mut OpenReport,
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
            apply_entry(state, &entry);
            report.entries_replayed += 1;
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
pub(crate) fn apply_entry(state: &mut MetaState, entry: &LogEntry) {
    for txn in &entry.txns {
        let _verdict = apply(state, entry.header.seq, txn);
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
