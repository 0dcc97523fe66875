//! Snapshots, and the deletion of what they make superfluous.
//!
//! *Owns*: the order snapshot, boundary, delay, deletion.
//! *Does not own*: when a snapshot is due (`pace`), what a boundary means (`fresh`).
//!
//! Invariants
//! 1. The two newest snapshots that were read back and found whole are kept, and all
//!    of the log behind the older of them. The boundary is the entry of that one, which was decoded.
//! 2. The boundary is durable before the delay begins, and the delay is over, by this
//!    process's clock, before the first request to delete is sent.
//! 3. Nothing above the boundary is ever deleted; so a request to delete may be late.
//! 4. It ends: nothing runs between one snapshot's deletion and the next snapshot.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tidewater_bucket::{BucketError, Purpose};
use tidewater_types::{mutant, sometimes};

use crate::error::MetaError;

use super::boundary::{BOUNDARY_PREFIX, boundary_key};
use super::collecting::Turn;
use super::load::{LOG_PREFIX, MetaReader, SNAPSHOT_PREFIX, log_key, snapshot_key};
use super::snapshots::{PART_PREFIX, part_floor, seq_of_part};
use super::state::MetaState;
use super::store::Inner;

/// Objects deleted at a time.
const DELETES_AT_A_TIME: usize = 8;

/// Writes the snapshot that is due and deletes what it makes superfluous.
pub(super) async fn snapshot_and_collect(inner: Arc<Inner>, state: MetaState) {
    let is_written = match inner.newer_snapshot().await {
        Ok(Some((seq, num_bytes))) => {
            // Another process was faster: it deletes, too.
            inner.pace.lock().written(seq, num_bytes);
            return;
        }
        Ok(None) => write_snapshot(&inner, &state).await,
        Err(err) => Err(err),
    };
    drop(state);
    if let Err(err) = is_written {
        inner.pace.lock().failed(&inner.reader.config);
        tracing::warn!(%err, "metadata snapshot not written");
        return;
    }
    let Some(mut turn) = Turn::take(&inner.collecting) else {
        // Whoever collects looks again when it is done.
        return;
    };
    while turn.is_asked() {
        if let Err(err) = inner.collect().await {
            tracing::warn!(%err, "superfluous metadata not deleted yet");
        }
    }
}

/// Writes the snapshot of a state.
pub(super) async fn write_snapshot(inner: &Inner, state: &MetaState) -> Result<(), MetaError> {
    let num_bytes = inner.reader.write_snapshot(state).await?;
    inner.pace.lock().written(state.seq, num_bytes);
    Ok(())
}

impl Inner {
    /// A sound snapshot that another process wrote since the last one this process knows. A damaged
    /// one is none: whoever waited for a better one would wait for ever.
    async fn newer_snapshot(&self) -> Result<Option<(u64, u64)>, MetaError> {
        let known = self.pace.lock().snapshot_seq;
        for seq in self.reader.snapshots(known + 1).await?.into_iter().rev() {
            let found = self.reader.snapshot_bytes(seq).await;
            if let Some(num_bytes) = unless_damaged(found)? {
                return Ok(Some((seq, num_bytes)));
            }
        }
        Ok(None)
    }

    /// Draws the boundary, waits, deletes.
    async fn collect(&self) -> Result<(), MetaError> {
        let reader = MetaReader {
            purpose: Purpose::Gc,
            ..self.reader.clone()
        };
        let known = self.log.lock().await.boundary;
        let drawn = reader.boundary(known).await?.boundary;
        let older = older_of_two_sound(&reader, drawn).await?;
        let boundary = older.unwrap_or(0).max(drawn);
        if boundary == 0 {
            return Ok(());
        }
        if boundary > drawn && !mutant!(71) {
            let cluster = self.state.read().cluster;
            reader.draw_boundary(boundary, cluster, self.writer).await?;
        }
        if !mutant!(74) {
            reader.env.sleep(reader.config.delete_delay).await;
        }
        reader.delete_up_to(boundary).await
    }
}

/// The entry of the older of the two newest snapshots that are whole. The older one is what stays if
/// the newer is lost, so it is not only compared with its checksums but taken for a state.
async fn older_of_two_sound(reader: &MetaReader, drawn: u64) -> Result<Option<u64>, MetaError> {
    let mut has_newest = false;
    for seq in reader.snapshots(drawn).await?.into_iter().rev() {
        if !has_newest {
            has_newest = unless_damaged(reader.verify_snapshot(seq).await)?.is_some();
        } else if unless_damaged(reader.snapshot(seq).await)?.is_some() {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}

/// A damaged snapshot is as good as none, and is told of.
fn unless_damaged<T>(read: Result<Option<T>, MetaError>) -> Result<Option<T>, MetaError> {
    match read {
        Err(err @ (MetaError::Corrupt { .. } | MetaError::MissingEntry { .. })) => {
            sometimes!("s3stream: metadata snapshot not relied on");
            tracing::warn!(%err, "metadata snapshot is not relied on");
            Ok(None)
        }
        read => read,
    }
}

impl MetaReader {
    async fn delete_up_to(&self, boundary: u64) -> Result<(), MetaError> {
        let number = |prefix: &'static str| {
            move |key: &str| {
                key.strip_prefix(prefix)
                    .and_then(|digits| digits.parse().ok())
            }
        };
        sometimes!("s3stream: metadata log shortened");
        let behind = boundary.saturating_add(1);
        self.delete_below(LOG_PREFIX, log_key(behind), number(LOG_PREFIX), behind)
            .await?;
        let snapshot = snapshot_key(boundary);
        self.delete_below(SNAPSHOT_PREFIX, snapshot, number(SNAPSHOT_PREFIX), boundary)
            .await?;
        self.delete_below(PART_PREFIX, part_floor(boundary), seq_of_part, boundary)
            .await?;
        // Last: a greater boundary exists, so an older one says nothing any more.
        let key = boundary_key(boundary);
        self.delete_below(BOUNDARY_PREFIX, key, number(BOUNDARY_PREFIX), boundary)
            .await
    }

    /// Deletes the objects under `prefix` whose number is below `floor`; all keys from `end` on stay.
    async fn delete_below(
        &self,
        prefix: &str,
        end: String,
        number: impl Fn(&str) -> Option<u64>,
        floor: u64,
    ) -> Result<(), MetaError> {
        let (mut after, mut backoff) = (None::<String>, self.backoff());
        loop {
            let page = self.bucket.list(self.purpose, prefix, after.as_deref());
            let page = match page.await {
                Ok(page) => page,
                Err(err) => {
                    self.again(&mut backoff, err).await?;
                    continue;
                }
            };
            let keys = page.entries.into_iter().map(|entry| entry.key);
            let keys: Vec<String> = keys.take_while(|key| *key < end).collect();
            after = keys.last().cloned();
            let done = !page.more || after.is_none();
            let due = keys
                .into_iter()
                .filter(|key| number(key).is_some_and(|number| number < floor));
            let deletes = stream::iter(due).map(|key| async move { self.delete(&key).await });
            let mut deletes = std::pin::pin!(deletes.buffered(DELETES_AT_A_TIME));
            while let Some(deleted) = deletes.next().await {
                deleted?;
            }
            if done {
                return Ok(());
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<(), MetaError> {
        let mut backoff = self.backoff();
        loop {
            match self.bucket.delete(self.purpose, key).await {
                Ok(()) | Err(BucketError::Absent { .. }) => return Ok(()),
                Err(err) => self.again(&mut backoff, err).await?,
            }
        }
    }
}
