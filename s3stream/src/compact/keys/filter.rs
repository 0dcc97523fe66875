//! Which records of an entry stay.
//!
//! *Owns*: the decision. *Does not own*: the map it looks into, the bytes of an entry.
//!
//! Invariants
//! 1. A record goes only if the map has a later one of its key, if it has no key, or if it is a
//!    deletion that has stood for its time.
//! 2. What lies at or above the end of the map stays: a key that found no room there looks as if
//!    there were no record of it.
//! 3. A deletion goes only below the mark of an earlier pass, which left nothing that it deletes.
//!
//! *IO: none*

use tidewater_types::{Offset, StreamId, mutant, sometimes};

use crate::entry::Entry;
use crate::keyed::{KeyOwner, KeyedRecord, NotKeyed};

use super::map::OffsetMap;

/// The records of an entry, if they ascend within it; its delete horizon.
pub(super) fn told(
    owner: &dyn KeyOwner,
    stream: StreamId,
    entry: &Entry,
    mut each: impl FnMut(KeyedRecord<'_>),
) -> Result<Option<i64>, NotKeyed> {
    let (mut next, end, mut in_order) = (entry.base_offset, entry.end_offset(), true);
    let horizon = owner.records(stream, entry, &mut |record| {
        in_order &= (next..end).contains(&record.offset);
        if in_order {
            next = Offset(record.offset.0 + 1);
            each(record);
        }
    })?;
    if in_order {
        return Ok(horizon);
    }
    Err(NotKeyed {
        stream,
        offset: entry.base_offset,
        what: "records do not ascend within their entry",
    })
}

/// What a pass knows.
pub(super) struct Filter<'a> {
    pub(super) owner: &'a dyn KeyOwner,
    pub(super) stream: StreamId,
    pub(super) map: &'a OffsetMap,
    /// Below it, an earlier pass left no record that another one below it supersedes.
    pub(super) clean_end: Offset,
    /// Up to it, the map has every record.
    pub(super) map_end: Offset,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
}

/// What became of the records so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    /// Below the end of the map.
    pub(super) num_kept: u64,
    pub(super) num_dropped: u64,
    /// When the first deletion that was kept may go.
    pub(super) horizon_ms: i64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            num_kept: 0,
            num_dropped: 0,
            horizon_ms: i64::MAX,
        }
    }
}

/// What became of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays as it is.
    Same(Entry),
    /// It is another one now.
    Changed(Entry),
    /// It is gone.
    Gone,
}

impl Filter<'_> {
    pub(super) fn judge(&self, entry: Entry, totals: &mut Totals) -> Result<Verdict, NotKeyed> {
        if entry.base_offset >= self.map_end {
            return Ok(Verdict::Same(entry));
        }
        let (mut keep, mut deletions, mut num_below) = (Vec::new(), Vec::new(), 0);
        let horizon = told(self.owner, self.stream, &entry, |record| {
            let (stays, is_below) = (self.is_last(&record), record.offset < self.map_end);
            if stays && record.is_tombstone && is_below {
                deletions.push((keep.len(), record.offset));
            }
            num_below += usize::from(is_below);
            keep.push(stays);
        })?;
        let is_over = horizon.is_some_and(|horizon| horizon <= self.now_ms);
        let mut keeps_deletion = false;
        for (index, offset) in deletions {
            keep[index] = !((is_over && offset < self.clean_end) || mutant!(93));
            keeps_deletion |= keep[index];
        }
        let stamp = (keeps_deletion && horizon.is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if keeps_deletion {
            let horizon = horizon.or(stamp).unwrap_or(i64::MAX);
            totals.horizon_ms = totals.horizon_ms.min(horizon);
        }
        let num_kept = keep[..num_below].iter().filter(|keep| **keep).count();
        totals.num_kept += num_kept as u64;
        totals.num_dropped += (num_below - num_kept) as u64;
        if keep.iter().all(|keep| *keep) && !keep.is_empty() && stamp.is_none() {
            return Ok(Verdict::Same(entry));
        }
        self.rewrite(entry, &keep, stamp)
    }

    fn rewrite(
        &self,
        entry: Entry,
        keep: &[bool],
        stamp: Option<i64>,
    ) -> Result<Verdict, NotKeyed> {
        let Some(left) = self.owner.rewrite(self.stream, &entry, keep, stamp)? else {
            sometimes!("s3stream: an entry left a hole");
            return Ok(Verdict::Gone);
        };
        if (left.base_offset, left.record_count) != (entry.base_offset, entry.record_count) {
            return Err(NotKeyed {
                stream: self.stream,
                offset: entry.base_offset,
                what: "a rewritten entry covers other offsets",
            });
        }
        Ok(if left == entry {
            Verdict::Same(entry)
        } else {
            Verdict::Changed(left)
        })
    }

    /// Whether no later record of its key is known.
    fn is_last(&self, record: &KeyedRecord<'_>) -> bool {
        if record.offset >= self.map_end && !mutant!(92) {
            return true;
        }
        let Some(key) = record.key else {
            return false;
        };
        match self.map.last(key) {
            Some(last) => last <= record.offset,
            // The seeded bug takes a key that found no room for one that was superseded.
            None => !(mutant!(92) && self.map.is_full()),
        }
    }
}
