//! What steps of compaction have in common: the bucket both ways, at a pace, and their limits.
//!
//! *Owns*: opening a source, sending an object while it is made, what is paid for.
//! *Does not own*: the order of a step (`job`, `keys::pass`).
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Weak;

use tidewater_types::sometimes;

use crate::config::CompactConfig;
use crate::counters::add;
use crate::error::TierError;
use crate::meta::log::Metadata;
use crate::object_id::ObjectId;
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::encode::{EncodedObject, ObjectBuilder};
use crate::upload::growing::Growing;
use crate::upload::plan::COMMIT_OVERHEAD;
use crate::upload::store::{ObjectStorer, Sent};

use super::pace::Pace;
use super::read::OpenObject;

/// What makes steps.
pub(crate) struct Steps {
    pub(crate) metadata: Metadata,
    pub(crate) source: Source,
    pub(crate) storer: ObjectStorer,
    pub(crate) config: CompactConfig,
    pub(crate) pace: Pace,
    /// A run of this many bytes gets an object of its own.
    pub(crate) stream_object_bytes: u64,
    /// An upload has about so many bytes.
    pub(crate) upload_bytes: u64,
    pub(crate) stream_set_streams: usize,
}

impl Steps {
    /// Opens an object, to be read `read_bytes` at a time; `None` if it is not in the
    /// metadata any more.
    pub(super) async fn open(
        &self,
        id: ObjectId,
        read_bytes: u64,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<OpenObject<'_>>, TierError> {
        let Some(object) = self.metadata.read(|state| state.object(id).copied()) else {
            return Ok(None);
        };
        let sizes = (read_bytes, self.config.gap_bytes);
        let (open, num_bytes) = OpenObject::open(&self.source, id, &object, sizes).await?;
        self.has_read(num_bytes, tail).await;
        Ok(Some(open))
    }

    pub(super) async fn has_read(&self, num_bytes: u64, tail: Option<&Weak<dyn Tail>>) {
        let counter = &self.storer.counters.compaction_bytes_read;
        add(counter, usize::try_from(num_bytes).unwrap_or(usize::MAX));
        self.pace.pay(num_bytes, tail).await;
    }

    /// Bytes of operations that fit a log entry.
    pub(super) fn commit_room(&self) -> usize {
        self.storer.retry.entry_bytes_max - COMMIT_OVERHEAD
    }

    /// Sends what fills parts, and pays for it.
    pub(super) async fn advance(
        &self,
        growing: &mut Growing,
        builder: &mut ObjectBuilder,
        tail: Option<&Weak<dyn Tail>>,
    ) {
        let num_bytes = growing.advance(builder).await;
        if num_bytes > 0 {
            self.pace.pay(num_bytes, tail).await;
        }
    }

    /// Sends what is left of an object and pays for it; `false` if it is not there.
    pub(super) async fn send_rest(
        &self,
        growing: Growing,
        encoded: &EncodedObject,
        tail: Option<&Weak<dyn Tail>>,
    ) -> bool {
        let left = encoded.body.iter().map(|bytes| bytes.len() as u64).sum();
        let sent = self.storer.finish(growing, encoded).await;
        self.pace.pay(left, tail).await;
        match sent {
            Sent::Confirmed => true,
            Sent::Taken => {
                tracing::error!(object = %encoded.object.id, "a foreign object has the key of a compaction");
                false
            }
            Sent::Lost => {
                sometimes!("s3stream: parts of a compacted object were lost");
                self.storer.env.sleep(self.storer.retry.backoff_max).await;
                false
            }
        }
    }

    /// Sets that are read side by side: requests for them stay worth their price.
    pub(super) fn sets_max(&self) -> usize {
        let sets = self.config.step_bytes / self.config.read_bytes_min;
        usize::try_from(sets)
            .unwrap_or(usize::MAX)
            .max(self.config.objects_min)
    }

    /// Bytes of the largest object that is made: one that cannot go in parts is kept in memory.
    pub(super) fn object_bytes(&self) -> u64 {
        let bytes = self.config.object_bytes;
        if self.storer.sends_parts(bytes) {
            bytes
        } else {
            bytes.min(self.config.step_bytes)
        }
    }
}
