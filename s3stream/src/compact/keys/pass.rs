//! One pass of key compaction: the map of the newest records, then everything below it anew.
//!
//! *Owns*: the order of a pass. *Does not own*: what stays (`filter`), when it is due (`due`).
//!
//! Invariants
//! 1. In memory are the map, blocks of one request, and what was not sent yet of the object that
//!    is being made.
//! 2. Each object replaces its sources in a commit of its own, in the order of the offsets: a pass
//!    that is cut short leaves every key its newest record, and the next one begins anew.
//! 3. The mark moves once all of them were committed, and only then: a deletion goes only where
//!    nothing is left that it deletes.
//! 4. Objects of which nothing changed are not written.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Weak;

use tidewater_types::{Offset, mutant, sometimes};

use crate::compact::job::{Outcome, commit_bytes};
use crate::compact::read::OpenObject;
use crate::compact::steps::Steps;
use crate::entry::Entry;
use crate::error::{MetaError, Rejection, TierError};
use crate::format::index::IndexRow;
use crate::format::mark::{self, Mark};
use crate::meta::op::MetaOp;
use crate::tail::Tail;
use crate::upload::commits::commit;
use crate::upload::plan::OBJECT_COMMIT_BYTES;

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
            let Some(open) = self
                .open(source.1.object, self.config.read_bytes, tail)
                .await?
            else {
                return Ok(None);
            };
            let mut rows = open.rows(job.stream, source.0, &source.1)?;
            rows.retain(|row| row.end_offset() > job.clean_end);
            if let Some(stop) = self.map_rows(job, &mut mapped, &open, &rows, tail).await? {
                mapped.stop = stop;
                break;
            }
        }
        Ok(Some(mapped))
    }

    async fn map_rows(
        &self,
        job: &KeyJob,
        mapped: &mut Mapped,
        open: &OpenObject<'_>,
        mut rows: &[IndexRow],
        tail: Behind<'_>,
    ) -> Result<Option<Stop>, TierError> {
        while !rows.is_empty() {
            let (blocks, num_bytes) = open.blocks(rows).await?;
            self.has_read(num_bytes, tail).await;
            rows = &rows[blocks.len()..];
            for entry in blocks
                .iter()
                .flat_map(|block| block.entries_from(Offset(0)))
            {
                if let Some(stop) = mapped.take(job, &entry)? {
                    return Ok(Some(stop));
                }
            }
        }
        Ok(None)
    }

    /// Replaces everything below the end of the map; `None` if something is not there any more.
    async fn rewrite(
        &self,
        job: &KeyJob,
        mapped: &Mapped,
        tail: Behind<'_>,
    ) -> Result<Option<Totals>, TierError> {
        let mut group = None;
        let done = self.rewrite_into(&mut group, job, mapped, tail).await;
        if let Some(unfinished) = group {
            unfinished.growing.abort().await;
        }
        done
    }

    async fn rewrite_into(
        &self,
        group: &mut Option<Group>,
        job: &KeyJob,
        mapped: &Mapped,
        tail: Behind<'_>,
    ) -> Result<Option<Totals>, TierError> {
        let filter = filter(job, mapped);
        let mut totals = Totals::default();
        let below = job.ranges.iter().filter(|(start, _)| *start < mapped.end);
        for source in below {
            let Some(open) = self
                .open(source.1.object, self.config.read_bytes, tail)
                .await?
            else {
                return Ok(None);
            };
            let rows = open.rows(job.stream, source.0, &source.1)?;
            let num_bytes = rows.iter().map(|row| u64::from(row.size)).sum();
            if let Some(full) = group.take_if(|group| self.is_full(group, num_bytes))
                && !self.replace(job, full, tail).await?
            {
                return Ok(None);
            }
            let group = group.get_or_insert_with(|| self.group(job, source.0, num_bytes));
            group.begin(*source, num_bytes);
            let mut rest = &rows[..];
            while !rest.is_empty() {
                let (blocks, num_bytes) = open.blocks(rest).await?;
                self.has_read(num_bytes, tail).await;
                rest = &rest[blocks.len()..];
                for entry in blocks
                    .iter()
                    .flat_map(|block| block.entries_from(Offset(0)))
                {
                    group.take(filter.judge(entry, &mut totals)?);
                }
                // What may yet turn out to need no object waits for that as long as it is small.
                if group.is_changed || group.num_bytes_in > self.config.step_bytes {
                    let Group {
                        growing, builder, ..
                    } = group;
                    self.advance(growing, builder, tail).await;
                }
            }
        }
        if let Some(last) = group.take()
            && !self.replace(job, last, tail).await?
        {
            return Ok(None);
        }
        Ok(Some(totals))
    }

    fn group(&self, job: &KeyJob, start: Offset, num_bytes: u64) -> Group {
        let id = self.storer.next_id();
        let growing = self.storer.grow(&id, self.object_bytes().max(num_bytes), 0);
        let of = (job.stream, job.epoch);
        Group::new((id, growing), of, start, self.storer.block_bytes)
    }

    fn is_full(&self, group: &Group, num_bytes: u64) -> bool {
        let room = self.commit_room() - OBJECT_COMMIT_BYTES;
        group.num_bytes_in + num_bytes > self.object_bytes()
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
            group.growing.abort().await;
            return Ok(true);
        }
        let snapshot = match job.snapshot.filter(|snapshot| group.has(snapshot)) {
            Some(snapshot) => match self.source.snapshot(job.stream, &snapshot).await {
                Ok(state) => {
                    self.has_read(u64::from(snapshot.size), tail).await;
                    Some((snapshot, state))
                }
                Err(err) => {
                    group.growing.abort().await;
                    return Err(err);
                }
            },
            None => None,
        };
        let (encoded, growing, run, sum) = group.finish(snapshot);
        if !self.send_rest(growing, &encoded, tail).await {
            return Ok(false);
        }
        let Some(output) = self.prove(&encoded, &[(run, sum)]).await? else {
            return Ok(false);
        };
        let report = self.commit(vec![output]).await?;
        Ok(report.is_some_and(|report| report.dropped.is_empty() || mutant!(86)))
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

fn filter<'a>(job: &'a KeyJob, mapped: &'a Mapped) -> Filter<'a> {
    Filter {
        owner: &*job.owner,
        stream: job.stream,
        map: &mapped.map,
        clean_end: job.mark.end,
        map_end: mapped.end,
        now_ms: job.now_ms,
        delete_retention_ms: job.policy.delete_retention_ms,
    }
}

impl Mapped {
    /// Takes the next entry, as far as there is room, or says why it stops.
    fn take(&mut self, job: &KeyJob, entry: &Entry) -> Result<Option<Stop>, TierError> {
        let end = entry.end_offset();
        if end <= job.clean_end {
            return Ok(None);
        }
        // A reader at the end of a stream finds an entry there, whatever was compacted.
        if end > job.bound || end == job.committed_end {
            return Ok(Some(Stop::Bound));
        }
        let old_enough_ms = entry.timestamp_ms_max.saturating_add(job.policy.lag_ms_min);
        if job.policy.lag_ms_min > 0 && old_enough_ms > job.now_ms {
            return Ok(Some(Stop::Young(old_enough_ms)));
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
        Ok(full_at.map(|_| Stop::Full))
    }
}
