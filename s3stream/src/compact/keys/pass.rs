//! One pass of key compaction: the map of the newest records, then everything below it anew.
//!
//! *Owns*: the order of a pass. *Does not own*: what stays (`filter`), when it is due (`due`).
//!
//! Invariants
//! 1. In memory are the map, blocks of one request, and the object that is being made.
//! 2. Each object replaces its sources in a commit of its own, in the order of the offsets: a pass
//!    that is cut short leaves every key its newest record, and the next one begins anew.
//! 3. The mark moves once all of them were committed, and only then: a deletion goes only where
//!    nothing is left that it deletes.
//! 4. Objects of which nothing changed are not written.
//!
//! *IO: none* (requests go through the bucket port)

use std::ops::ControlFlow;
use std::sync::Weak;

use tidewater_types::{Offset, sometimes};

use crate::compact::job::{Outcome, Steps, commit_bytes};
use crate::compact::read::OpenObject;
use crate::entry::Entry;
use crate::error::{MetaError, Rejection, TierError};
use crate::format::index::IndexRow;
use crate::format::mark::{self, Mark};
use crate::meta::op::MetaOp;
use crate::meta::state::RangeState;
use crate::tail::Tail;
use crate::upload::commits::commit;
use crate::upload::plan::OBJECT_COMMIT_BYTES;
use crate::upload::store::Sent;

use super::due::{KeyJob, KeyPasses};
use super::filter::{Filter, Totals, told};
use super::group::Group;
use super::map::OffsetMap;

/// The newest records of what was never compacted, as far as they fit.
struct Mapped {
    map: OffsetMap,
    /// Every record below is in the map.
    end: Offset,
    stop: Stop,
}

/// Why a map ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nothing more may be compacted.
    Bound,
    /// The next entry may be at this time, in milliseconds since the Unix epoch.
    Young(i64),
    /// There is no room for another key.
    Full,
}

type Behind<'a> = Option<&'a Weak<dyn Tail>>;

impl Steps {
    /// Carries out the pass. `tail` says whether uploads are behind.
    pub(crate) async fn pass(
        &self,
        job: KeyJob,
        passes: &KeyPasses,
        tail: Behind<'_>,
    ) -> Result<Outcome, TierError> {
        let Some(mapped) = self.map(&job, tail).await? else {
            return Ok(Outcome::MovedOn);
        };
        let is_horizon_over = job.mark.horizon_ms <= job.now_ms;
        if mapped.end > job.clean_end || is_horizon_over {
            let Some(totals) = self.rewrite(&job, &mapped, tail).await? else {
                return Ok(Outcome::MovedOn);
            };
            if !self.put_mark(&job, mapped.end, &totals).await? {
                return Ok(Outcome::MovedOn);
            }
            let counters = &self.storer.counters;
            counters.passed(totals.num_kept, totals.num_dropped);
        }
        match mapped.stop {
            Stop::Full => sometimes!("s3stream: a pass ended where its map was full"),
            Stop::Bound => passes.passed(&job, None),
            Stop::Young(again_ms) => passes.passed(&job, Some(again_ms)),
        }
        Ok(Outcome::Done)
    }

    /// The map of what was never compacted; `None` if an object is not in the metadata any more.
    async fn map(&self, job: &KeyJob, tail: Behind<'_>) -> Result<Option<Mapped>, TierError> {
        let num_dirty = job.bound.distance_from(job.clean_end).unwrap_or(0);
        let random = || self.storer.env.random("s3stream: key hash");
        let secret = [random(), random()];
        let mut mapped = Mapped {
            map: OffsetMap::new(self.config.key_map_bytes, num_dirty, secret),
            end: job.clean_end,
            stop: Stop::Bound,
        };
        let dirty = job
            .ranges
            .iter()
            .filter(|(start, range)| range.end > job.clean_end && *start < job.bound);
        for source in dirty {
            let Some(open) = self.open(source, tail).await? else {
                return Ok(None);
            };
            let rows = open.rows(job.stream, source.0, &source.1)?;
            let visit = &mut |entry: Entry| mapped.take(job, &entry);
            if let ControlFlow::Break(stop) = self.visit(&open, &rows, tail, visit).await? {
                mapped.stop = stop;
                break;
            }
        }
        Ok(Some(mapped))
    }

    async fn open(
        &self,
        (_, range): &(Offset, RangeState),
        tail: Behind<'_>,
    ) -> Result<Option<OpenObject<'_>>, TierError> {
        let id = range.object;
        let Some(object) = self.metadata.read(|state| state.object(id).copied()) else {
            return Ok(None);
        };
        let read_bytes = self.config.read_bytes;
        let (open, num_bytes) = OpenObject::open(&self.source, id, &object, read_bytes).await?;
        self.has_read(num_bytes, tail).await;
        Ok(Some(open))
    }

    /// Hands out the entries of the blocks, those of one request in memory at a time.
    async fn visit<B: Send>(
        &self,
        open: &OpenObject<'_>,
        rows: &[IndexRow],
        tail: Behind<'_>,
        visit: &mut (impl FnMut(Entry) -> Result<ControlFlow<B>, TierError> + Send),
    ) -> Result<ControlFlow<B>, TierError> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (blocks, count, num_bytes) = open.blocks(rest).await?;
            self.has_read(num_bytes, tail).await;
            rest = &rest[count..];
            for source in blocks {
                for entry in source.block.entries_from(Offset(0)) {
                    if let ControlFlow::Break(with) = visit(entry)? {
                        return Ok(ControlFlow::Break(with));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Replaces everything below the end of the map; `None` if something is not there any more.
    async fn rewrite(
        &self,
        job: &KeyJob,
        mapped: &Mapped,
        tail: Behind<'_>,
    ) -> Result<Option<Totals>, TierError> {
        let filter = Filter {
            owner: &*job.owner,
            stream: job.stream,
            map: &mapped.map,
            clean_end: job.mark.end,
            map_end: mapped.end,
            now_ms: job.now_ms,
            delete_retention_ms: job.policy.delete_retention_ms,
        };
        let (mut totals, mut group) = (Totals::default(), None::<Group>);
        let below = job.ranges.iter().filter(|(start, _)| *start < mapped.end);
        for source in below {
            let Some(open) = self.open(source, tail).await? else {
                return Ok(None);
            };
            let rows = open.rows(job.stream, source.0, &source.1)?;
            let num_bytes = rows.iter().map(|row| u64::from(row.size)).sum();
            if let Some(full) = group.take_if(|group| self.is_full(group, num_bytes))
                && !self.replace(job, full, tail).await?
            {
                return Ok(None);
            }
            let group = group.get_or_insert_with(|| {
                let (id, of) = (self.storer.next_id(), (job.stream, job.epoch));
                Group::new(id, of, source.0, self.storer.block_bytes)
            });
            group.begin(*source, num_bytes);
            let visit = &mut |entry: Entry| {
                group.take(filter.judge(entry, &mut totals)?);
                Ok(ControlFlow::<()>::Continue(()))
            };
            let _all = self.visit(&open, &rows, tail, visit).await?;
        }
        if let Some(last) = group
            && !self.replace(job, last, tail).await?
        {
            return Ok(None);
        }
        Ok(Some(totals))
    }

    fn is_full(&self, group: &Group, num_bytes: u64) -> bool {
        let room = self.commit_room() - OBJECT_COMMIT_BYTES;
        group.num_bytes_in + num_bytes > self.config.object_bytes
            || commit_bytes(group.num_sources() + 1) > room
    }

    /// Puts the object in the place of its sources; `false` if they are not there any more.
    async fn replace(
        &self,
        job: &KeyJob,
        group: Group,
        tail: Behind<'_>,
    ) -> Result<bool, TierError> {
        if !group.is_changed {
            sometimes!("s3stream: a pass changes nothing of an object");
            return Ok(true);
        }
        let snapshot = match job.snapshot.filter(|snapshot| group.has(snapshot)) {
            Some(snapshot) => {
                let state = self.source.snapshot(job.stream, &snapshot).await?;
                self.has_read(u64::from(snapshot.size), tail).await;
                Some((snapshot, state))
            }
            None => None,
        };
        let (mut encoded, run, sum) = group.finish(snapshot);
        if matches!(self.storer.send(&encoded).await, Sent::Taken) {
            tracing::error!(object = %encoded.object.id, "a foreign object has the key of a compaction");
            return Ok(false);
        }
        encoded.body = Vec::new();
        self.pace.pay(encoded.object.size, tail).await;
        let output = self.prove(encoded, &[(&run, sum)]).await?;
        let report = self.commit(vec![output]).await?;
        Ok(report.is_some_and(|report| report.dropped.is_empty()))
    }

    /// Says how far the stream is compacted; `false` if somebody else said so meanwhile.
    async fn put_mark(
        &self,
        job: &KeyJob,
        end: Offset,
        totals: &Totals,
    ) -> Result<bool, TierError> {
        let mark = Mark {
            end: end.max(job.mark.end),
            num_records: totals.num_kept,
            horizon_ms: totals.horizon_ms,
        };
        let op = MetaOp::PutKey {
            key: mark::key(job.stream),
            value: mark::encode(&mark),
            expected_version: Some(job.mark_version),
        };
        match commit(&self.metadata, &self.storer, op).await {
            Ok(_) => Ok(true),
            Err(TierError::Meta(MetaError::Rejected {
                reason: Rejection::KeyVersion { .. },
                ..
            })) => {
                sometimes!("s3stream: two passes over one stream");
                Ok(false)
            }
            Err(err) => Err(err),
        }
    }
}

impl Mapped {
    /// Takes the next entry, as far as there is room.
    fn take(&mut self, job: &KeyJob, entry: &Entry) -> Result<ControlFlow<Stop>, TierError> {
        let end = entry.end_offset();
        if end <= job.clean_end {
            return Ok(ControlFlow::Continue(()));
        }
        // A reader at the end of a stream finds an entry there, whatever was compacted.
        if end > job.bound || end == job.committed_end {
            return Ok(ControlFlow::Break(Stop::Bound));
        }
        let old_enough_ms = entry.timestamp_ms_max.saturating_add(job.policy.lag_ms_min);
        if job.policy.lag_ms_min > 0 && old_enough_ms > job.now_ms {
            return Ok(ControlFlow::Break(Stop::Young(old_enough_ms)));
        }
        let mut full_at = None;
        told(&*job.owner, job.stream, entry, |record| {
            if let Some(key) = record.key
                && full_at.is_none()
                && record.offset >= job.clean_end
                && !self.map.put(key, record.offset)
            {
                full_at = Some(record.offset);
            }
        })?;
        self.end = full_at.unwrap_or(end);
        Ok(match full_at {
            Some(_) => ControlFlow::Break(Stop::Full),
            None => ControlFlow::Continue(()),
        })
    }
}
