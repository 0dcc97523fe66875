//! Loads parts of objects: retries, size, checksums.
//!
//! *Owns*: that nothing unchecked leaves it.
//! *Does not own*: caching, which part is wanted.
//!
//! Invariants
//! 1. Damage counts only if a second read shows it too; an answer may be cut short.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, Purpose, behind_others};
use tidewater_types::{Env, StreamId, crc32c, sometimes};

use crate::backoff::Backoff;
use crate::config::MetaConfig;
use crate::error::TierError;
use crate::format::block::{self, DataBlock};
use crate::format::index::{self, IndexRow, ObjectIndex};
use crate::format::object::{self, FOOTER_SIZE};
use crate::meta::state::{ObjectState, SnapshotRef};
use crate::object_id::ObjectId;
use crate::reader::{FormatError, Reader};

/// Reads of the same bytes before damage is believed.
const READS_OF_DAMAGE: u32 = 2;

/// A data block, checked against its index row. Who waits for the core, or wakes up, goes first.
pub(crate) fn checked_block(bytes: Bytes, row: &IndexRow) -> Result<DataBlock, FormatError> {
    behind_others(bytes.len(), || block::decode_data(bytes, row))
}

#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    /// Its attempts and waits hold for data, too.
    pub(crate) config: MetaConfig,
    pub(crate) purpose: Purpose,
}

impl Source {
    /// The index of an object, checked against the metadata.
    pub(crate) async fn index(
        &self,
        id: ObjectId,
        object: &ObjectState,
    ) -> Result<ObjectIndex, TierError> {
        let position = object.index_position;
        let key = id.key();
        self.decoded(&key, position, object.size, |bytes| {
            decode_index(bytes, id, object)
        })
        .await
    }

    /// A data block, checked against its index row.
    pub(crate) async fn block(&self, id: ObjectId, row: &IndexRow) -> Result<DataBlock, TierError> {
        let key = id.key();
        let end = row.position + u64::from(row.size);
        self.decoded(&key, row.position, end, |bytes| checked_block(bytes, row))
            .await
    }

    /// A state snapshot.
    pub(crate) async fn snapshot(
        &self,
        stream: StreamId,
        snapshot: &SnapshotRef,
    ) -> Result<Bytes, TierError> {
        let SnapshotRef {
            as_of,
            object,
            position,
            size,
        } = *snapshot;
        let end = position.saturating_add(u64::from(size));
        let decode = |bytes| block::decode_snapshot(bytes, stream, as_of, object.nonce);
        self.decoded(&object.key(), position, end, decode).await
    }

    /// Bytes `[start, end)` of the object, decoded.
    pub(crate) async fn decoded<T>(
        &self,
        key: &str,
        start: u64,
        end: u64,
        decode: impl Fn(Bytes) -> Result<T, FormatError>,
    ) -> Result<T, TierError> {
        let mut reads = 1;
        loop {
            let bytes = self.range(key, start, end).await?;
            match decode(bytes) {
                Ok(value) => return Ok(value),
                Err(FormatError::Damaged { .. }) if reads < READS_OF_DAMAGE => {
                    sometimes!("s3stream: damaged data read again");
                    reads += 1;
                }
                Err(err) => return Err(tier_error(key, start, err)),
            }
        }
    }

    /// Size of the object in bytes.
    pub(crate) async fn size(&self, key: &str) -> Result<u64, TierError> {
        let mut backoff = self.backoff();
        loop {
            match self.bucket.size(self.purpose, key).await {
                Ok(size) => return Ok(size),
                Err(err) => self.again(&mut backoff, key, 0, err).await?,
            }
        }
    }

    /// Bytes `[start, end)` of the object as they come, unchecked.
    pub(crate) async fn range(&self, key: &str, start: u64, end: u64) -> Result<Bytes, TierError> {
        let mut backoff = self.backoff();
        loop {
            match self.bucket.get(self.purpose, key, Some(start..end)).await {
                Ok(bytes) => return Ok(bytes),
                Err(err) => self.again(&mut backoff, key, end, err).await?,
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(self.config.backoff_min, self.config.backoff_max)
    }

    /// Waits before another attempt, or gives up.
    async fn again(
        &self,
        backoff: &mut Backoff,
        key: &str,
        end: u64,
        err: BucketError,
    ) -> Result<(), TierError> {
        match err {
            BucketError::Absent { .. } => Err(TierError::Missing {
                object: key.to_owned(),
            }),
            BucketError::Short { size, .. } => {
                let (object, what) = (key.to_owned(), "object size");
                Err(TierError::Corrupt {
                    object,
                    position: size,
                    what,
                    expected: end,
                    found: size,
                })
            }
            BucketError::Throttled { .. } | BucketError::Unknown { .. }
                if backoff.attempts() + 1 < self.config.read_attempts =>
            {
                sometimes!("s3stream: read tried again");
                backoff.wait(&*self.env).await;
                Ok(())
            }
            err => Err(TierError::Unavailable(err)),
        }
    }
}

/// A part of an answer, if the answer reaches that far.
pub(crate) fn part_at(bytes: &Bytes, position: u64, size: u32) -> Result<Bytes, FormatError> {
    let start = usize::try_from(position).unwrap_or(usize::MAX);
    match bytes.get(start..start.saturating_add(size as usize)) {
        Some(part) => Ok(bytes.slice_ref(part)),
        None => Err(FormatError::Damaged {
            position,
            what: "bytes of the answer",
            expected: position + u64::from(size),
            found: bytes.len() as u64,
        }),
    }
}

/// Index and footer of an object, as one read brings them.
pub(crate) fn decode_index(
    bytes: Bytes,
    id: ObjectId,
    object: &ObjectState,
) -> Result<ObjectIndex, FormatError> {
    let reader = Reader::new(bytes.clone());
    let size = object.size - object.index_position;
    reader.expect("size of index and footer", size, bytes.len() as u64)?;
    let Some(index_size) = bytes.len().checked_sub(FOOTER_SIZE) else {
        return Err(reader.damaged("size of the footer", FOOTER_SIZE as u64, bytes.len() as u64));
    };
    let (footer, crc) = object::decode_footer(bytes.slice(index_size..))?;
    reader.expect(
        "footer checksum in the metadata",
        u64::from(object.footer_crc),
        u64::from(crc),
    )?;
    reader.expect("object nonce", id.nonce, footer.id.nonce)?;
    reader.expect(
        "object id",
        1,
        u64::from(id == footer.id && object.kind == footer.kind),
    )?;
    reader.expect(
        "index position",
        object.index_position,
        footer.index_position,
    )?;
    let found = crc32c(&[&bytes[..index_size]]);
    reader.expect(
        "index checksum",
        u64::from(footer.index_crc),
        u64::from(found),
    )?;
    let (at, origins) = (object.index_position, footer.origin_count);
    let index = index::decode(bytes.slice(..index_size), at, id.nonce, origins)?;
    reader.expect(
        "blocks",
        u64::from(footer.block_count),
        index.rows.len() as u64,
    )?;
    Ok(index)
}

/// The error of damage found in bytes that begin at `start` of the object.
pub(crate) fn tier_error(key: &str, start: u64, err: FormatError) -> TierError {
    let object = key.to_owned();
    match err {
        FormatError::Damaged {
            position,
            what,
            expected,
            found,
        } => TierError::Corrupt {
            object,
            position: start + position,
            what,
            expected,
            found,
        },
        FormatError::Unsupported { version } => TierError::Unsupported { object, version },
    }
}
