//! One step of compaction: read, merge, send, prove, commit.
//!
//! *Owns*: the order of the parts, what goes to one object, what to one commit.
//! *Does not own*: what is compacted (`plan`), reading and sending (`write`), the encoding (`merge`), the
//! order of a split (`split`).
//!
//! Invariants
//! 1. No state outside the metadata: what a crash or a stop cuts short are objects that nobody
//!    references, which the orphan sweep takes.
//! 2. An output is confirmed, and its index read back and compared with the sources, before its
//!    commit.
//! 3. A source is given up by the commit alone, and deleted as late as everything that is dead.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Weak;

use tidewater_bucket::Purpose;
use tidewater_types::{mutant, sometimes};

use crate::counters::add;
use crate::entry::CommitReport;
use crate::error::{MetaError, Rejection, TierError};
use crate::meta::format::replace::{REPLACEMENT_SIZE, SOURCE_SIZE, TARGET_SIZE};
use crate::meta::op::MetaOp;
use crate::object_id::ObjectId;
use crate::tail::Tail;
use crate::upload::commits::commit;
use crate::upload::plan::OBJECT_COMMIT_BYTES;

use super::plan::Job;
use super::prove::Output;
use super::steps::Steps;
use super::write::Located;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The metadata was judged by what it is now; there may be more to do.
    Done,
    /// The sources were replaced or trimmed meanwhile.
    MovedOn,
    /// It would have made no fewer objects than it takes.
    Fruitless,
    /// Less than half of what the sets hold would reach objects of their streams, or one of these would be
    /// too large.
    NotSplit,
}

/// Bytes of a log entry that a run takes.
pub(crate) fn commit_bytes(num_sources: usize) -> usize {
    REPLACEMENT_SIZE + TARGET_SIZE + num_sources * SOURCE_SIZE
}

impl Steps {
    /// Carries out the step. `tail` says whether uploads are behind.
    pub(super) async fn make(
        &self,
        job: Job,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Outcome, TierError> {
        let Some((mut feeds, runs)) = self.locate(job.runs, tail).await? else {
            return Ok(Outcome::MovedOn);
        };
        if job.splits {
            return self.split(feeds, runs, tail).await;
        }
        let groups = self.groups(&runs);
        // A large run of its own is worth an object, whatever it is made of; torn ones are not.
        let is_torn = |run: &Located| run.run.alone && run.num_bytes < self.stream_object_bytes;
        let is_no_gain = |group: &&Vec<usize>| group.len() > 1 || is_torn(&runs[group[0]]);
        if runs.len() > 1 && groups.iter().filter(is_no_gain).count() >= feeds.len() {
            sometimes!("s3stream: compaction would be fruitless");
            return Ok(Outcome::Fruitless);
        }
        runs.iter().for_each(|run| run.want(&mut feeds));
        let Some(outputs) = self.write(&mut feeds, runs, &groups, tail).await? else {
            return Ok(Outcome::MovedOn);
        };
        if mutant!(30) {
            self.delete_sources(&sources_of(&outputs)).await;
        }
        match self.commit_all(outputs).await? {
            Some(_) => Ok(Outcome::Done),
            None => Ok(Outcome::MovedOn),
        }
    }

    /// Puts the outputs in the place of their sources; of how many runs. `None` if objects were condemned.
    pub(super) async fn commit_all(
        &self,
        outputs: Vec<Output>,
    ) -> Result<Option<usize>, TierError> {
        let mut num_committed = 0;
        for outputs in self.commits(outputs) {
            let Some(report) = self.commit(outputs).await? else {
                return Ok(None);
            };
            num_committed += report.committed.len();
        }
        Ok(Some(num_committed))
    }

    /// Which runs share an object, by their places.
    pub(super) fn groups(&self, runs: &[Located]) -> Vec<Vec<usize>> {
        let room = self.commit_room() - OBJECT_COMMIT_BYTES;
        let mut groups = Vec::new();
        let (mut set, mut set_bytes, mut set_room) = (Vec::new(), 0, room);
        for (place, run) in runs.iter().enumerate() {
            let size = run.num_bytes;
            if run.run.alone || size >= self.stream_object_bytes {
                groups.push(vec![place]);
                continue;
            }
            let needs = commit_bytes(run.run.sources.len());
            let is_full = needs > set_room
                || set_bytes + size > self.object_bytes()
                || set.len() >= self.stream_set_streams;
            if is_full && !set.is_empty() {
                groups.push(std::mem::take(&mut set));
                (set_bytes, set_room) = (0, room);
            }
            set_room = set_room.saturating_sub(needs);
            set_bytes += size;
            set.push(place);
        }
        if !set.is_empty() {
            groups.push(set);
        }
        groups
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

    /// The seeded bugs 30 and 118 alone: all others leave that to the deletion of what is dead.
    pub(super) async fn delete_sources(&self, sources: &[ObjectId]) {
        for source in sources {
            let key = source.key();
            let purpose = Purpose::Gc;
            let _outcome = self.storer.bucket.delete(purpose, &key).await;
        }
    }
}

/// The objects that something of is replaced.
pub(super) fn sources_of(outputs: &[Output]) -> Vec<ObjectId> {
    let runs = outputs.iter().flat_map(|output| &output.replacements);
    let sources = runs.flat_map(|run| &run.sources);
    sources.map(|source| source.object).collect()
}
