//! Reads and writes the objects of metadata snapshots.
//!
//! *Owns*: the keys of the parts, the order in which a snapshot appears.
//! *Does not own*: the bytes (`format`), when a snapshot is due, when it goes.
//!
//! Invariants
//! 1. The head is created last: a snapshot that is listed is whole.
//! 2. A part's key carries its writer's nonce: parts of two writers never mix.
//! 3. One part is in memory at a time while writing; the state is a clone, so
//!    nobody waits for it.
//!
//! *IO: none* (requests go through the bucket port)

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tidewater_bucket::BucketError;
use tidewater_types::sometimes;

use crate::error::MetaError;

use super::format::snapshot::{self, Head};
use super::load::{MetaReader, meta_error, snapshot_key};
use super::state::MetaState;

pub(super) const PART_PREFIX: &str = "meta/part/";
/// Parts of a snapshot that are read at a time.
const PARTS_AT_A_TIME: usize = 4;

fn part_key(seq: u64, nonce: u64, index: usize) -> String {
    format!("{PART_PREFIX}{seq:020}-{nonce:016x}-{index:05}")
}

/// Below the keys of the parts of this snapshot, above those of older ones.
pub(super) fn part_floor(seq: u64) -> String {
    format!("{PART_PREFIX}{seq:020}-")
}

/// The log entry whose snapshot a part belongs to.
pub(super) fn seq_of_part(key: &str) -> Option<u64> {
    let (digits, _) = key.strip_prefix(PART_PREFIX)?.split_once('-')?;
    digits.parse().ok()
}

impl MetaReader {
    /// The state after entry `seq` and the size of its snapshot, or `None` if there is none.
    pub(crate) async fn snapshot(&self, seq: u64) -> Result<Option<(MetaState, u64)>, MetaError> {
        let Some(head) = self.head(seq).await? else {
            return Ok(None);
        };
        let mut reader = head.reader();
        let damaged = |err| meta_error(&snapshot_key(seq), err);
        let parts = stream::iter(0..head.parts.len()).map(|index| self.part(&head, index));
        let mut parts = std::pin::pin!(parts.buffered(PARTS_AT_A_TIME));
        while let Some(sections) = parts.next().await {
            reader.feed(sections?).map_err(damaged)?;
        }
        reader.feed(head.rest.clone()).map_err(damaged)?;
        let state = reader.finish().map_err(damaged)?;
        Ok(Some((state, head.total_bytes())))
    }

    /// Reads a snapshot and compares its checksums; its size, or `None` if there is none.
    pub(super) async fn verify_snapshot(&self, seq: u64) -> Result<Option<u64>, MetaError> {
        let Some(head) = self.head(seq).await? else {
            return Ok(None);
        };
        for index in 0..head.parts.len() {
            self.part(&head, index).await?;
        }
        Ok(Some(head.total_bytes()))
    }

    /// Size of a snapshot in bytes, or `None` if there is none.
    pub(super) async fn snapshot_bytes(&self, seq: u64) -> Result<Option<u64>, MetaError> {
        Ok(self.head(seq).await?.map(|head| head.total_bytes()))
    }

    async fn head(&self, seq: u64) -> Result<Option<Head>, MetaError> {
        self.decoded(&snapshot_key(seq), |bytes| {
            snapshot::decode_head(bytes, seq)
        })
        .await
    }

    async fn part(&self, head: &Head, index: usize) -> Result<Bytes, MetaError> {
        let key = part_key(head.seq, head.nonce, index);
        let part = self
            .decoded(&key, |bytes| snapshot::decode_part(bytes, head, index))
            .await?;
        part.ok_or(MetaError::MissingEntry { key })
    }

    /// Writes the snapshot of a state; its size in bytes. Another's of the same entry will do.
    pub(super) async fn write_snapshot(&self, state: &MetaState) -> Result<u64, MetaError> {
        let mut runs = snapshot::parts(state, self.config.snapshot_part_bytes);
        let (mut parts, mut num_bytes, mut nonce) = (Vec::new(), 0, 0);
        let mut rest = runs.next().unwrap_or_default();
        for next in runs {
            if nonce == 0 {
                sometimes!("s3stream: metadata snapshot in parts");
                nonce = self.env.random("s3stream: snapshot nonce").max(1);
            }
            let index = parts.len();
            let number = u32::try_from(index).expect("few parts");
            let (bytes, part) = snapshot::encode_part(state.seq, nonce, number, &rest);
            num_bytes += bytes.len() as u64;
            self.put(&part_key(state.seq, nonce, index), bytes).await?;
            parts.push(part);
            rest = next;
        }
        let head = snapshot::encode_head(state, nonce, &parts, &rest);
        num_bytes += head.len() as u64;
        self.put(&snapshot_key(state.seq), head).await?;
        Ok(num_bytes)
    }

    /// Creates an object; whatever is there already is as good.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), MetaError> {
        let mut backoff = self.backoff();
        loop {
            let body = vec![bytes.clone()];
            match self.bucket.create(self.purpose, key, body).await {
                Ok(()) | Err(BucketError::Exists { .. }) => return Ok(()),
                Err(err) if backoff.attempts() + 1 >= self.config.read_attempts => {
                    return Err(MetaError::Unavailable(err));
                }
                Err(_) => backoff.wait(&*self.env).await,
            }
        }
    }
}
