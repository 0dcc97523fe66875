//! An object that is sent while it is made: what is sent need not stay in memory.
//!
//! *Owns*: when parts go, and the end of the upload.
//! *Does not own*: attempts and numbers of a part (`parts`), what the object holds.
//!
//! Invariants
//! 1. Of the body, at most a part and one block more are kept.
//! 2. An object that stays small is sent whole.
//! 3. Parts that were sent cannot be sent again: what an unclear completion lost is made anew.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::{BucketError, MultipartId, PartTag};
use tidewater_types::{mutant, sometimes};

use crate::counters::add;
use crate::format::index::IndexRow;
use crate::object_id::ObjectId;

use super::copies::Copies;
use super::encode::{EncodedObject, ObjectBuilder};
use super::parts::{Gone, NoCopy, PartSender, PartsEnd};
use super::store::{ObjectStorer, Sent};

/// The parts of one object.
pub(crate) struct Growing {
    key: String,
    /// Without it the object is sent whole.
    sender: Option<PartSender>,
    /// Bytes that were sent.
    sent_bytes: u64,
    /// Whether there are numbers for copied parts.
    may_copy: bool,
    /// Numbers that a part may use up.
    run: u32,
    upload: Option<MultipartId>,
    sent: Result<Vec<PartTag>, Gone>,
    /// Bytes that the store copied, and the objects they were written for, at most.
    copied_bytes: u64,
    num_origins: usize,
    /// Why a copy was not made.
    no_copy: Option<NoCopy>,
    copies: Arc<Copies>,
}

impl ObjectStorer {
    /// For an object of about `size_max` bytes, of which at most `num_copies` parts are copied.
    pub(crate) fn grow(&self, id: &ObjectId, size_max: u64, num_copies: u64) -> Growing {
        let sender = self.part_sender();
        let limits = sender.fits(size_max.saturating_mul(2));
        // Joined, blocks become fewer; written anew by their owner they may grow, but not to twice.
        let num_sent = size_max / sender.part_bytes * 2 + 2;
        let parts_max = limits.map_or(1, |limits| u64::from(limits.parts_max));
        // Before each copy a part may go that is not full.
        let with_copies = num_sent + 2 * num_copies;
        let copies = num_copies > 0 && with_copies <= parts_max;
        let num_parts = if copies { with_copies } else { num_sent };
        let run = u32::try_from(parts_max / num_parts).unwrap_or(u32::MAX);
        Growing {
            key: id.key(),
            run: run.max(1),
            may_copy: copies,
            sender: limits.is_some().then_some(sender),
            sent_bytes: 0,
            upload: None,
            sent: Ok(Vec::new()),
            copied_bytes: 0,
            num_origins: 0,
            no_copy: None,
            copies: Arc::clone(&self.copies),
        }
    }

    /// For an object that is sent whole, however large it is.
    pub(crate) fn grow_whole(&self, id: &ObjectId) -> Growing {
        Growing {
            sender: None,
            ..self.grow(id, 0, 0)
        }
    }

    /// Least bytes that the store copies, if it copies.
    pub(crate) fn copy_bytes_min(&self) -> Option<u64> {
        let limits = self.bucket.multipart()?;
        (!self.copies.are_given_up()).then_some(limits.part_bytes_min)
    }

    /// Whether an object of about `size_max` bytes can be sent while it is made.
    pub(crate) fn sends_parts(&self, size_max: u64) -> bool {
        self.part_sender()
            .fits(size_max.saturating_mul(2))
            .is_some()
    }

    /// Sends what is left of the object until it is there. `Lost` if parts were lost with it.
    pub(crate) async fn finish(&self, growing: Growing, encoded: &EncodedObject) -> Sent {
        let copied_bytes = growing.copied_bytes;
        // A source or an upload that went away says little of copies; a lost completion may.
        let no_copy = growing.no_copy;
        let is_blamed = copied_bytes > 0 && growing.sent.is_ok();
        let Some(end) = growing.complete(encoded.body.clone()).await else {
            return self.send(encoded).await;
        };
        let count = || {
            self.count(encoded.object.size - copied_bytes);
            let counter = &self.counters.compaction_bytes_copied;
            add(counter, usize::try_from(copied_bytes).unwrap_or(usize::MAX));
            if copied_bytes > 0 {
                self.copies.work();
            }
        };
        if end == PartsEnd::Completed {
            count();
            return Sent::Confirmed;
        }
        let key = encoded.object.id.key();
        let mut backoff = self.backoff();
        loop {
            match self.compare(&key, encoded).await {
                Ok(true) => {
                    sometimes!("s3stream: lost answer of a completion resolved");
                    count();
                    return Sent::Confirmed;
                }
                Ok(false) => return Sent::Taken,
                Err(BucketError::Absent { .. }) => {
                    let is_news = match no_copy {
                        Some(NoCopy::Gone) => self.copies.went_away(),
                        Some(NoCopy::Refused) => self.copies.give_up(),
                        None => is_blamed && self.copies.give_up(),
                    };
                    if is_news {
                        tracing::warn!(%key, "copies within the store are given up");
                    }
                    return Sent::Lost;
                }
                Err(_) => backoff.wait(&*self.env).await,
            }
        }
    }
}

impl Growing {
    /// Sends what fills parts, if more is there than that, and leaves the rest in the builder; how
    /// many bytes that were.
    pub(crate) async fn advance(&mut self, builder: &mut ObjectBuilder) -> u64 {
        let Some(sender) = self.sender.clone() else {
            return 0;
        };
        let before = self.sent_bytes;
        while builder.position - self.sent_bytes > sender.part_bytes {
            self.put(&sender, take(&mut builder.body, sender.part_bytes))
                .await;
        }
        self.sent_bytes - before
    }

    /// Bytes of the object that were sent or copied.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Least bytes of a copy, if the store copies for this object.
    pub(crate) fn copy_bytes_min(&self) -> Option<u64> {
        let sender = self.sender.as_ref()?;
        let copies = self.may_copy && !self.copies.are_given_up();
        let limits = sender.bucket.multipart()?;
        copies.then_some(limits.part_bytes_min)
    }

    /// Whether the object's index has room for where the blocks are from.
    pub(crate) fn takes_origins_of(&self, rows: &[IndexRow]) -> bool {
        self.num_origins + num_origins(rows) <= usize::from(u16::MAX)
    }

    /// Has blocks copied behind what is in the builder, which is sent before: nothing, or at least
    /// [`Self::copy_bytes_min`] bytes. They lie one behind the other in the object `source`.
    pub(crate) async fn copy(
        &mut self,
        builder: &mut ObjectBuilder,
        source: &str,
        rows: &[IndexRow],
    ) {
        let Some(sender) = self.sender.clone() else {
            return;
        };
        if !builder.body.is_empty() {
            self.put(&sender, std::mem::take(&mut builder.body)).await;
        }
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return;
        };
        let range = first.position..last.position + u64::from(last.size);
        let num_bytes = range.end - range.start;
        let range = if mutant!(109) {
            range.start - 1..range.end - 1
        } else {
            range
        };
        builder.copied(rows);
        self.num_origins += num_origins(rows);
        let (upload, number) = (self.begun(&sender).await, self.next_number());
        self.sent_bytes += num_bytes;
        self.copied_bytes += num_bytes;
        let Ok(tags) = &mut self.sent else {
            return;
        };
        let copy = sender.copy(&self.key, &upload, (number, self.run), source, range);
        match copy.await {
            Ok(tag) => tags.push(tag),
            Err(why) => {
                self.no_copy = Some(why);
                self.sent = Err(Gone);
            }
        }
    }

    async fn begun(&mut self, sender: &PartSender) -> MultipartId {
        if let Some(upload) = &self.upload {
            return upload.clone();
        }
        let upload = sender.start(&self.key).await;
        self.upload.insert(upload).clone()
    }

    fn next_number(&self) -> u32 {
        let num_sent = self.sent.as_ref().map_or(0, Vec::len);
        1 + u32::try_from(num_sent).expect("few parts") * self.run
    }

    async fn put(&mut self, sender: &PartSender, part: Vec<Bytes>) {
        let (upload, number) = (self.begun(sender).await, self.next_number());
        self.sent_bytes += part.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        let Ok(tags) = &mut self.sent else {
            return;
        };
        match sender
            .put(&self.key, &upload, (number, self.run), part)
            .await
        {
            Ok(tag) => tags.push(tag),
            Err(gone) => self.sent = Err(gone),
        }
    }

    /// Sends the rest and completes the upload; `None` if none was begun.
    async fn complete(mut self, mut rest: Vec<Bytes>) -> Option<PartsEnd> {
        self.upload.as_ref()?;
        let sender = self.sender.clone()?;
        while !rest.is_empty() {
            let part = take(&mut rest, sender.part_bytes);
            self.put(&sender, part).await;
        }
        let upload = self.upload.clone()?;
        let end = match &self.sent {
            Ok(tags) => sender.complete(&self.key, &upload, tags).await,
            Err(Gone) => PartsEnd::Unclear,
        };
        if end == PartsEnd::Unclear {
            self.abort().await;
        }
        Some(end)
    }

    /// The object is not wanted any more. What was sent is given up.
    pub(crate) async fn abort(self) {
        if let (Some(sender), Some(upload)) = (self.sender, self.upload) {
            sender.abort(&self.key, &upload).await;
        }
    }
}

fn num_origins(rows: &[IndexRow]) -> usize {
    rows.chunk_by(|a, b| a.origin == b.origin).count()
}

/// The first `num_bytes` of the body.
fn take(body: &mut Vec<Bytes>, num_bytes: u64) -> Vec<Bytes> {
    let mut room = usize::try_from(num_bytes).expect("a part fits memory");
    let mut part = Vec::new();
    let mut count = 0;
    for bytes in body.iter_mut() {
        if room == 0 {
            break;
        }
        let piece = bytes.split_to(room.min(bytes.len()));
        room -= piece.len();
        part.push(piece);
        count += usize::from(bytes.is_empty());
    }
    body.drain(..count);
    part
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::take;

    proptest! {
        #[test]
        fn what_is_taken_and_what_is_left_are_the_body(
            sizes in proptest::collection::vec(1_usize..50, 1..20),
            percent in 0_usize..101,
        ) {
            let mut body: Vec<Bytes> = (0_u8..).zip(&sizes).map(|(n, size)| Bytes::from(vec![n; *size])).collect();
            let all = body.concat();
            let num_bytes = all.len() * percent / 100;
            let part = take(&mut body, num_bytes as u64).concat();
            prop_assert_eq!(part.len(), num_bytes);
            prop_assert_eq!([part, body.concat()].concat(), all);
            prop_assert!(body.iter().all(|bytes| !bytes.is_empty()));
        }
    }
}
