//! Sends an object in parts.
//!
//! *Owns*: how a body is divided, and that each part is sent until the store has it.
//! *Does not own*: what becomes of an upload that was completed or lost (`store` looks at the key).
//!
//! Invariants
//! 1. Every part but the last has the same size; no byte is copied.
//! 2. `Completed` is said only after the store confirmed the completion.
//! 3. A number whose part may still arrive is not used again, as long as there are others: late, it
//!    would take the place of the one that the completion names.
//!
//! *IO: none* (requests go through the bucket port)

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tidewater_bucket::{Bucket, BucketError, MultipartId, MultipartLimits, Part, PartTag, Purpose};
use tidewater_types::{Env, mutant, sometimes};

use crate::backoff::Backoff;

use super::pace::Pacer;

/// What sending in parts needs.
#[derive(Clone)]
pub(crate) struct PartSender {
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) purpose: Purpose,
    pub(crate) backoff: Backoff,
    /// Bytes of a part.
    pub(crate) part_bytes: u64,
    /// Parts under way at a time.
    pub(crate) parallel: usize,
    pub(crate) pacer: Arc<Pacer>,
}

/// A copy that has had no clear answer so often is given up: it may take longer than a request may.
const COPIES_WITHOUT_ANSWER: u32 = 8;

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartsEnd {
    /// The object is there.
    Completed,
    /// The key is taken, or the upload is gone: completed by an attempt whose answer was lost,
    /// or not. The object at the key tells.
    Unclear,
}

impl PartSender {
    /// The store's limits, if it takes `size` bytes in parts of ours.
    pub(crate) fn fits(&self, size: u64) -> Option<MultipartLimits> {
        let limits = self.bucket.multipart()?;
        let fits = size.div_ceil(self.part_bytes) <= limits.parts_max.into()
            && (limits.part_bytes_min..=limits.part_bytes_max).contains(&self.part_bytes);
        fits.then_some(limits)
    }

    /// Sends `body` in parts and completes the object. Gives up only for what a new start cures.
    pub(crate) async fn send(&self, key: &str, body: &[Bytes]) -> PartsEnd {
        let upload = self.start(key).await;
        let bodies = divide(body, self.part_bytes);
        let parts_max = self.bucket.multipart().map_or(1, |limits| limits.parts_max);
        let num_parts = u32::try_from(bodies.len()).unwrap_or(u32::MAX).max(1);
        // Numbers only have to ascend: each part has a run of its own.
        let run = (parts_max / num_parts).max(1);
        let numbered = (0..).map(|index| 1 + index * run).zip(bodies);
        let parts = numbered.map(|(number, body)| self.put(key, &upload, (number, run), body));
        let sent: Result<Vec<PartTag>, Gone> = stream::iter(parts.collect::<Vec<_>>())
            .buffered(self.parallel)
            .try_collect()
            .await;
        let end = match sent {
            Ok(tags) => self.complete(key, &upload, &tags).await,
            Err(Gone) => PartsEnd::Unclear,
        };
        if end == PartsEnd::Unclear {
            self.abort(key, &upload).await;
        }
        end
    }

    /// Frees the parts if there is such an upload still; if not, nothing is lost.
    pub(super) async fn abort(&self, key: &str, upload: &MultipartId) {
        let abort = self.bucket.abort_multipart(self.purpose, key, upload);
        let _freed = abort.await;
    }

    pub(super) async fn start(&self, key: &str) -> MultipartId {
        let mut backoff = self.backoff.clone();
        loop {
            match self.bucket.create_multipart(self.purpose, key).await {
                Ok(upload) => return upload,
                Err(err) => self.wait(&mut backoff, &err).await,
            }
        }
    }

    /// Sends a part under one of the `run` numbers from `number` on.
    pub(super) async fn put(
        &self,
        key: &str,
        upload: &MultipartId,
        (number, run): (u32, u32),
        body: Vec<Bytes>,
    ) -> Result<PartTag, Gone> {
        let last = number + run - 1;
        let mut part = Part {
            key,
            upload,
            number,
        };
        self.pacer.turn(body.iter().map(Bytes::len).sum()).await;
        let mut backoff = self.backoff.clone();
        loop {
            let err = match self.bucket.put_part(self.purpose, part, body.clone()).await {
                Ok(tag) => return Ok(tag),
                Err(BucketError::Absent { .. }) => return Err(Gone),
                Err(err) => err,
            };
            if matches!(err, BucketError::Unknown { .. }) && part.number < last {
                part.number += 1;
            }
            self.wait(&mut backoff, &err).await;
        }
    }

    /// Has a range of another object copied as a part; as `put`.
    pub(super) async fn copy(
        &self,
        key: &str,
        upload: &MultipartId,
        (number, run): (u32, u32),
        source: &str,
        range: Range<u64>,
    ) -> Result<PartTag, NoCopy> {
        let last = number + run - 1;
        let mut part = Part {
            key,
            upload,
            number,
        };
        let mut backoff = self.backoff.clone();
        loop {
            let copy = self
                .bucket
                .copy_part(self.purpose, part, source, range.clone());
            let err = match copy.await {
                Ok(tag) => return Ok(tag),
                Err(BucketError::Absent { .. }) => return Err(NoCopy::Gone),
                Err(err @ (BucketError::Refused { .. } | BucketError::Short { .. })) => {
                    tracing::warn!(%err, "nothing was copied");
                    return Err(NoCopy::Refused);
                }
                Err(err) => err,
            };
            let is_unknown = matches!(err, BucketError::Unknown { .. });
            if is_unknown && backoff.attempts() >= COPIES_WITHOUT_ANSWER {
                tracing::warn!(%err, "nothing was copied");
                return Err(NoCopy::Refused);
            }
            if is_unknown && part.number < last {
                part.number += 1;
            }
            self.wait(&mut backoff, &err).await;
        }
    }

    pub(super) async fn complete(
        &self,
        key: &str,
        upload: &MultipartId,
        tags: &[PartTag],
    ) -> PartsEnd {
        let mut backoff = self.backoff.clone();
        loop {
            let done = self
                .bucket
                .complete_multipart(self.purpose, key, upload, tags);
            match done.await {
                Ok(()) => return PartsEnd::Completed,
                Err(BucketError::Absent { .. } | BucketError::Exists { .. }) => {
                    sometimes!("s3stream: completion of an upload in parts unclear");
                    if mutant!(81) {
                        return PartsEnd::Completed;
                    }
                    return PartsEnd::Unclear;
                }
                // A part that arrived again, late, may have another tag now.
                Err(err @ BucketError::Refused { .. }) => {
                    tracing::warn!(%err, "an upload in parts will begin anew");
                    return PartsEnd::Unclear;
                }
                Err(err) => self.wait(&mut backoff, &err).await,
            }
        }
    }

    async fn wait(&self, backoff: &mut Backoff, err: &BucketError) {
        // Said at the 1st, 2nd, 4th, … attempt: an outage is no reason to fill the log.
        if (backoff.attempts() + 1).is_power_of_two() {
            tracing::warn!(%err, attempt = backoff.attempts() + 1, "a part of an upload will be tried again");
        }
        backoff.wait(&*self.env).await;
    }
}

/// There is no such upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// Why nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCopy {
    /// The upload or the source is not there any more.
    Gone,
    /// The store does not copy, or does not say so.
    Refused,
}

/// Divides a body into pieces of `part_bytes`, the last one perhaps smaller.
fn divide(body: &[Bytes], part_bytes: u64) -> Vec<Vec<Bytes>> {
    let part_bytes = usize::try_from(part_bytes).expect("a part fits memory");
    let (mut parts, mut part, mut room) = (Vec::new(), Vec::new(), part_bytes);
    for bytes in body {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(room.min(rest.len()));
            room -= piece.len();
            part.push(piece);
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = part_bytes;
            }
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::divide;

    proptest! {
        #[test]
        fn parts_are_the_body_and_all_but_the_last_have_one_size(
            sizes in proptest::collection::vec(0_usize..50, 0..20),
            part_bytes in 1_u64..70,
        ) {
            let body: Vec<Bytes> = (0_u8..).zip(&sizes).map(|(n, size)| Bytes::from(vec![n; *size])).collect();
            let parts = divide(&body, part_bytes);
            prop_assert_eq!(parts.concat().concat(), body.concat());
            let sizes: Vec<u64> = parts.iter().map(|part| part.concat().len() as u64).collect();
            if let Some((last, whole)) = sizes.split_last() {
                prop_assert!(whole.iter().all(|size| *size == part_bytes));
                prop_assert!((1..=part_bytes).contains(last));
            }
        }
    }
}
