//! One step of compaction: read, merge, send, prove, commit.
//!
//! *Owns*: the order of the parts, what goes to one object, what to one commit.
//! *Does not own*: what is compacted (`plan`), the encoding (`merge`).
//!
//! Invariants
//! 1. No state outside the metadata: what a crash or a stop cuts short are objects that nobody
//!    references, which the orphan sweep takes.
//! 2. An output is confirmed, and its index read back and compared with the sources, before its
//!    commit.
//! 3. A source is given up by the commit alone, and deleted as late as everything that is dead.
//! 4. What it holds in memory is its input, once, and one request's answer: blocks have bytes of
//!    their own, and each is let go as soon as the object has it.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Weak;

use tidewater_bucket::Purpose;
use tidewater_types::{mutant, sometimes};

use crate::config::CompactConfig;
use crate::counters::add;
use crate::entry::CommitReport;
use crate::error::{MetaError, Rejection, TierError};
use crate::meta::format::replace::{REPLACEMENT_SIZE, SOURCE_SIZE, TARGET_SIZE};
use crate::meta::log::Metadata;
use crate::meta::op::{MetaOp, MovedSnapshot, NewObject, Replacement, SourceRange, TargetRange};
use crate::meta::state::ObjectState;
use crate::read::source::Source;
use crate::tail::Tail;
use crate::upload::commits::commit;
use crate::upload::encode::EncodedObject;
use crate::upload::plan::{COMMIT_OVERHEAD, OBJECT_COMMIT_BYTES};
use crate::upload::store::{ObjectStorer, Sent};

use super::merge::{holds, merge};
use super::pace::Pace;
use super::plan::{Job, Run};
use super::read::{OpenObject, Pieces, RunData, objects_of};
use super::sum::{Sum, sum};

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The metadata was judged by what it is now; there may be more to do.
    Done,
    /// The sources were replaced or trimmed meanwhile.
    MovedOn,
    /// It would have made no fewer objects than it takes.
    Fruitless,
}

/// An object that is there, and what it holds.
pub(super) struct Output {
    object: NewObject,
    replacements: Vec<Replacement>,
}

/// Bytes of a log entry that a run takes.
pub(crate) fn commit_bytes(num_sources: usize) -> usize {
    REPLACEMENT_SIZE + TARGET_SIZE + num_sources * SOURCE_SIZE
}

/// What makes steps.
pub(crate) struct Steps {
    pub(crate) metadata: Metadata,
    pub(crate) source: Source,
    pub(crate) storer: ObjectStorer,
    pub(crate) config: CompactConfig,
    pub(crate) pace: Pace,
    /// A run of this many bytes gets an object of its own.
    pub(crate) stream_object_bytes: u64,
    pub(crate) stream_set_streams: usize,
}

impl Steps {
    /// Carries out the step. `tail` says whether uploads are behind.
    pub(super) async fn make(
        &self,
        job: Job,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Outcome, TierError> {
        let num_sources = objects_of(&job.runs).len();
        let Some(runs) = self.load(job, tail).await? else {
            return Ok(Outcome::MovedOn);
        };
        let groups = self.group(runs);
        let num_sets = groups.iter().filter(|group| group.len() > 1).count();
        if num_sets >= num_sources {
            sometimes!("s3stream: compaction would be fruitless");
            return Ok(Outcome::Fruitless);
        }
        let mut outputs = Vec::with_capacity(groups.len());
        for group in groups {
            let Some(output) = self.write(group, tail).await? else {
                return Ok(Outcome::MovedOn);
            };
            outputs.push(output);
        }
        if mutant!(30) {
            for output in &outputs {
                self.delete_sources(output).await;
            }
        }
        for outputs in self.commits(outputs) {
            if self.commit(outputs).await?.is_none() {
                return Ok(Outcome::MovedOn);
            }
        }
        Ok(Outcome::Done)
    }

    /// Everything in the runs; `None` if an object of theirs is not in the metadata any more.
    async fn load(
        &self,
        job: Job,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Vec<RunData>>, TierError> {
        let mut pieces = Pieces::default();
        for id in objects_of(&job.runs) {
            let known = self.metadata.read(|state| state.object(id).copied());
            let Some(object) = known else {
                return Ok(None);
            };
            let read_bytes = self.config.read_bytes;
            let (open, num_bytes) = OpenObject::open(&self.source, id, &object, read_bytes).await?;
            self.has_read(num_bytes, tail).await;
            let wanted = open.wanted(&job.runs)?;
            let mut rest = wanted.as_slice();
            while !rest.is_empty() {
                let (count, num_bytes) = open.read(rest, &mut pieces).await?;
                self.has_read(num_bytes, tail).await;
                rest = &rest[count..];
            }
        }
        let runs = job.runs.into_iter().map(|run| pieces.take(run));
        Ok(Some(runs.collect()))
    }

    pub(super) async fn has_read(&self, num_bytes: u64, tail: Option<&Weak<dyn Tail>>) {
        let counter = &self.storer.counters.compaction_bytes_read;
        add(counter, usize::try_from(num_bytes).unwrap_or(usize::MAX));
        self.pace.pay(num_bytes, tail).await;
    }

    /// Which runs share an object.
    fn group(&self, runs: Vec<RunData>) -> Vec<Vec<RunData>> {
        let room = self.commit_room() - OBJECT_COMMIT_BYTES;
        let mut groups = Vec::new();
        let (mut set, mut set_bytes, mut set_room) = (Vec::new(), 0, room);
        for run in runs {
            let size = run.num_bytes;
            if run.run.alone || size >= self.stream_object_bytes {
                groups.push(vec![run]);
                continue;
            }
            let needs = commit_bytes(run.run.sources.len());
            let is_full = needs > set_room
                || set_bytes + size > self.config.object_bytes
                || set.len() >= self.stream_set_streams;
            if is_full && !set.is_empty() {
                groups.push(std::mem::take(&mut set));
                (set_bytes, set_room) = (0, room);
            }
            set_room = set_room.saturating_sub(needs);
            set_bytes += size;
            set.push(run);
        }
        if !set.is_empty() {
            groups.push(set);
        }
        groups
    }

    /// Bytes of operations that fit a log entry.
    pub(super) fn commit_room(&self) -> usize {
        self.storer.retry.entry_bytes_max - COMMIT_OVERHEAD
    }

    /// Writes an object and proves that it holds the runs; `None` if its key is a foreign object's.
    async fn write(
        &self,
        mut runs: Vec<RunData>,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Output>, TierError> {
        let id = self.storer.next_id();
        let mut encoded = merge(id, &mut runs, self.storer.block_bytes);
        if matches!(self.storer.send(&encoded).await, Sent::Taken) {
            tracing::error!(object = %id, "a foreign object has the key of a compaction");
            return Ok(None);
        }
        encoded.body = Vec::new();
        self.pace.pay(encoded.object.size, tail).await;
        let runs: Vec<_> = runs.iter().map(|run| (&run.run, run.expected)).collect();
        self.prove(encoded, &runs).await.map(Some)
    }

    /// Reads the index of the object back: it must hold of each run what is expected of it.
    pub(super) async fn prove(
        &self,
        encoded: EncodedObject,
        runs: &[(&Run, Sum)],
    ) -> Result<Output, TierError> {
        let NewObject {
            id,
            kind,
            size,
            index_position,
            footer_crc,
        } = encoded.object;
        let object = ObjectState {
            kind,
            size,
            index_position,
            footer_crc,
            num_references: 0,
            died_seq: None,
        };
        let index = self.source.index(id, &object).await?;
        let mut replacements = Vec::with_capacity(runs.len());
        for (run, expected) in runs {
            let stream = run.stream;
            if !holds(&index, stream, expected) {
                let found = sum(index.blocks_from(stream, expected.start));
                return Err(TierError::Corrupt {
                    object: id.key(),
                    position: index_position,
                    what: "records that compaction must keep",
                    expected: expected.num_records,
                    found: found.map_or(0, |found| found.num_records),
                });
            }
            let written = sum(index.blocks_from(stream, expected.start)).unwrap_or(*expected);
            let target = TargetRange {
                start: written.start,
                end: written.end,
                timestamp_ms_max: written.timestamp_ms_max,
                object: 0,
            };
            let snapshot = run.snapshot.and_then(|old| {
                let row = index.snapshot(stream, old.as_of)?;
                Some(MovedSnapshot {
                    from: old.object,
                    from_position: old.position,
                    object: 0,
                    position: row.position,
                    size: row.size,
                })
            });
            replacements.push(replacement(run, target, snapshot));
        }
        Ok(Output {
            object: encoded.object,
            replacements,
        })
    }

    /// Divides outputs into commits that fit a log entry. Counters ascend through them.
    fn commits(&self, outputs: Vec<Output>) -> Vec<Vec<Output>> {
        let (mut commits, mut room) = (Vec::<Vec<Output>>::new(), 0);
        for output in outputs {
            let runs = output.replacements.iter();
            let size = OBJECT_COMMIT_BYTES
                + runs
                    .map(|run| commit_bytes(run.sources.len()))
                    .sum::<usize>();
            if size > room || commits.is_empty() {
                commits.push(Vec::new());
                room = self.commit_room();
            }
            room = room.saturating_sub(size);
            commits.last_mut().expect("pushed above").push(output);
        }
        commits
    }

    /// Puts the outputs in the place of their sources. `None` if the objects were condemned.
    pub(super) async fn commit(
        &self,
        outputs: Vec<Output>,
    ) -> Result<Option<CommitReport>, TierError> {
        let (mut objects, mut replacements) = (Vec::new(), Vec::new());
        for (index, output) in (0u32..).zip(outputs) {
            objects.push(output.object);
            replacements.extend(output.replacements.into_iter().map(|mut replacement| {
                for target in &mut replacement.targets {
                    target.object = index;
                }
                if let Some(snapshot) = &mut replacement.snapshot {
                    snapshot.object = index;
                }
                replacement
            }));
        }
        let op = MetaOp::ReplaceRanges {
            node: self.storer.node,
            node_epoch: self.storer.node_epoch,
            objects,
            replacements,
        };
        let report = match commit(&self.metadata, &self.storer, op).await {
            Ok(report) => report,
            Err(TierError::Meta(MetaError::Rejected {
                reason: Rejection::ObjectReused { .. },
                ..
            })) => {
                sometimes!("s3stream: compacted object was condemned");
                self.storer.skip_condemned(&self.metadata);
                return Ok(None);
            }
            Err(err) => return Err(err),
        };
        self.count(&report);
        Ok(Some(report))
    }

    fn count(&self, report: &CommitReport) {
        let counters = &self.storer.counters;
        add(&counters.ranges_replaced, report.committed.len());
        add(&counters.replacements_dropped, report.dropped.len());
        if !report.committed.is_empty() {
            sometimes!("s3stream: ranges compacted");
        }
    }

    /// The seeded bug 30 alone.
    async fn delete_sources(&self, output: &Output) {
        let sources = output.replacements.iter().flat_map(|run| &run.sources);
        for source in sources {
            let key = source.object.key();
            let purpose = Purpose::Gc;
            let _outcome = self.storer.bucket.delete(purpose, &key).await;
        }
    }
}

fn replacement(run: &Run, target: TargetRange, snapshot: Option<MovedSnapshot>) -> Replacement {
    let sources = run.sources.iter().map(|(start, range)| SourceRange {
        start: *start,
        end: range.end,
        object: range.object,
    });
    Replacement {
        stream: run.stream,
        epoch: run.epoch,
        sources: sources.collect(),
        targets: vec![target],
        snapshot,
    }
}
