//! Sends one object until it is certainly there.
//!
//! *Owns*: object ids, retries, the resolution of lost answers.
//! *Does not own*: when to upload, the commit.
//!
//! Invariants
//! 1. It comes back only when the object was confirmed, or is stopped.
//! 2. `Exists` is believed only after the object's footer was compared: it hangs
//!    on the checksums of everything in the object.
//! 3. An id is given to one content and never again.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidewater_bucket::{Bucket, BucketError, Purpose};
use tidewater_types::{Env, Epoch, NodeId, sometimes};

use crate::backoff::Backoff;
use crate::config::{MetaConfig, UploadConfig};
use crate::counters::{Counters, add};
use crate::meta::log::Metadata;
use crate::object_id::ObjectId;

use super::copies::Copies;
use super::encode::{EncodedObject, encode};
use super::pace::Pacer;
use super::parts::{PartSender, PartsEnd};
use super::plan::ObjectPlan;

pub(crate) struct ObjectStorer {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) retry: MetaConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) node: NodeId,
    pub(crate) node_epoch: Epoch,
    pub(crate) block_bytes: usize,
    pub(crate) last_counter: AtomicU64,
    /// Uploads and compaction are counted apart.
    pub(crate) purpose: Purpose,
    pub(crate) upload: UploadConfig,
    /// Parts of an object under way at a time.
    pub(crate) parallel: usize,
    pub(crate) pacer: Arc<Pacer>,
    /// Whether the store turned out not to copy parts, or not to take them beside those sent.
    pub(crate) copies: Arc<Copies>,
}

pub(crate) enum Sent {
    Confirmed,
    /// Something else has the key.
    Taken,
    /// The parts that were sent while it was made are gone, and with them the object.
    Lost,
}

impl ObjectStorer {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry.backoff_min, self.retry.backoff_max)
    }

    /// Counters for `count` objects: ids ascend in the order in which they are asked for here.
    pub(crate) fn reserve(&self, count: usize) -> u64 {
        self.last_counter.fetch_add(count as u64, Ordering::Relaxed) + 1
    }

    /// An id that was never given.
    pub(crate) fn next_id(&self) -> ObjectId {
        self.id(self.reserve(1))
    }

    fn id(&self, counter: u64) -> ObjectId {
        ObjectId {
            node: self.node,
            epoch: self.node_epoch,
            counter,
            nonce: self.env.random("s3stream: object nonce"),
        }
    }

    /// No id that the metadata would refuse is given any more.
    pub(crate) fn skip_condemned(&self, metadata: &Metadata) {
        let known = metadata.read(|state| state.node(self.node).copied());
        if let Some(known) = known.filter(|known| known.epoch == self.node_epoch) {
            let committed = if self.purpose == Purpose::Compaction {
                known.compactions_committed
            } else {
                known.objects_committed
            };
            self.last_counter.fetch_max(committed, Ordering::Relaxed);
        }
    }

    /// Encodes the object under the id of a reserved counter.
    pub(crate) fn prepare(&self, plan: &ObjectPlan, counter: u64) -> EncodedObject {
        encode(self.id(counter), plan, self.block_bytes)
    }

    /// Uploads the planned object under the id of a reserved counter; never gives up.
    pub(crate) async fn store(&self, plan: &ObjectPlan, mut counter: u64) -> EncodedObject {
        loop {
            let mut encoded = self.prepare(plan, counter);
            if matches!(self.send(&encoded).await, Sent::Confirmed) {
                // What was sent need not stay in memory until the commit.
                encoded.body = Vec::new();
                return encoded;
            }
            tracing::error!(object = %encoded.object.id, "a foreign object has the key of an upload");
            counter = self.reserve(1);
        }
    }

    /// Sends the bytes until they are there.
    pub(crate) async fn confirm(&self, encoded: &EncodedObject) {
        let _sent = self.send(encoded).await;
    }

    /// Sends an object until its key is taken, by it or by something else.
    pub(crate) async fn send(&self, encoded: &EncodedObject) -> Sent {
        let size = encoded.object.size;
        let parts = self.part_sender();
        let sent = if size >= self.upload.multipart_bytes && parts.fits(size).is_some() {
            self.send_in_parts(&parts, encoded).await
        } else {
            self.send_whole(encoded).await
        };
        if matches!(sent, Sent::Confirmed) {
            self.count(size);
        }
        sent
    }

    pub(super) fn count(&self, size: u64) {
        let counters = &self.counters;
        let (objects, num_bytes) = if self.purpose == Purpose::Compaction {
            (
                &counters.compaction_objects,
                &counters.compaction_bytes_written,
            )
        } else {
            (&counters.uploads, &counters.upload_bytes)
        };
        add(objects, 1);
        add(num_bytes, usize::try_from(size).unwrap_or(usize::MAX));
    }

    pub(super) fn part_sender(&self) -> PartSender {
        PartSender {
            bucket: Arc::clone(&self.bucket),
            env: Arc::clone(&self.env),
            purpose: self.purpose,
            backoff: self.backoff(),
            part_bytes: self.upload.part_bytes,
            parallel: self.parallel,
            pacer: Arc::clone(&self.pacer),
        }
    }

    async fn send_in_parts(&self, parts: &PartSender, encoded: &EncodedObject) -> Sent {
        let key = encoded.object.id.key();
        let mut backoff = self.backoff();
        loop {
            if parts.send(&key, &encoded.body).await == PartsEnd::Completed {
                return Sent::Confirmed;
            }
            loop {
                match self.compare(&key, encoded).await {
                    Ok(true) => {
                        sometimes!("s3stream: lost answer of a completion resolved");
                        return Sent::Confirmed;
                    }
                    Ok(false) => return Sent::Taken,
                    // The upload was lost without an object: it begins anew.
                    Err(BucketError::Absent { .. }) => break,
                    Err(_) => backoff.wait(&*self.env).await,
                }
            }
            backoff.wait(&*self.env).await;
        }
    }

    async fn send_whole(&self, encoded: &EncodedObject) -> Sent {
        let key = encoded.object.id.key();
        let size = usize::try_from(encoded.object.size).unwrap_or(usize::MAX);
        self.pacer.turn(size).await;
        let mut backoff = self.backoff();
        loop {
            let err = match self
                .bucket
                .create(self.purpose, &key, encoded.body.clone())
                .await
            {
                Ok(()) => return Sent::Confirmed,
                Err(BucketError::Exists { .. }) => match self.compare(&key, encoded).await {
                    Ok(true) => {
                        sometimes!("s3stream: lost answer of an upload resolved");
                        return Sent::Confirmed;
                    }
                    Ok(false) => return Sent::Taken,
                    Err(err) => err,
                },
                Err(err) => err,
            };
            // Said at the 1st, 2nd, 4th, … attempt: an outage is no reason to fill the log.
            if (backoff.attempts() + 1).is_power_of_two() {
                tracing::warn!(%err, attempt = backoff.attempts() + 1, "upload will be tried again");
            }
            backoff.wait(&*self.env).await;
        }
    }

    pub(super) async fn compare(
        &self,
        key: &str,
        encoded: &EncodedObject,
    ) -> Result<bool, BucketError> {
        let size = self.bucket.size(self.purpose, key).await?;
        if size != encoded.object.size {
            return Ok(false);
        }
        let range = size - encoded.footer.len() as u64..size;
        let footer = self.bucket.get(self.purpose, key, Some(range)).await?;
        Ok(footer == encoded.footer)
    }
}
