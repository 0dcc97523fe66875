//! A split: sets that many streams share become objects of one stream each.
//!
//! Blocks lie in a set in the order of their streams. So neighbouring streams, as many as memory holds, are read
//! with one request of each set, all of them side by side; then their objects are written.
//!
//! *Owns*: the order of a split, what is read ahead, when it commits.
//! *Does not own*: which sets are split (`plan`), reading and sending (`write`), commits (`job`).
//!
//! Invariants
//! 1. What is committed are runs that were proven, each in the place of its own sources: what a crash cuts
//!    short, and what somebody else changed meanwhile, stays in the sets, which live as long as
//!    anything of them does.
//! 2. Of what was read ahead and of the answers under way no more is in memory than `step_bytes` each, and
//!    of objects two parts.
//! 3. At least half of what is read reaches objects of streams; what is too small for one goes into a set.
//!
//! *IO: none* (requests go through the bucket port)

use std::sync::Weak;

use futures_util::future::join_all;
use tidewater_types::{mutant, sometimes};

use crate::error::TierError;
use crate::meta::state::MetaState;
use crate::tail::Tail;

use super::job::{Outcome, sources_of};
use super::plan::Run;
use super::prove::Output;
use super::steps::Steps;
use super::write::{Feeds, Located};

impl Steps {
    /// Carries out the split.
    pub(super) async fn split(
        &self,
        mut feeds: Feeds<'_>,
        runs: Vec<Located>,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Outcome, TierError> {
        let all = num_bytes(&runs);
        let is_large = |run: &Located| run.num_bytes >= self.stream_object_bytes;
        let (large, small): (Vec<_>, Vec<_>) = runs.into_iter().partition(is_large);
        // A set holds a stream once: what it holds of one a second time would become a small object.
        let num_torn = small.iter().filter(|run| run.run.alone).count();
        // A stream with more than an object holds is for joins, which take less of it at a time.
        let is_too_large = (large.iter()).any(|run| run.num_bytes > self.object_bytes());
        if num_bytes(&large) < all.div_ceil(2) || num_torn >= feeds.len() || is_too_large {
            sometimes!("s3stream: a split would be fruitless");
            return Ok(Outcome::NotSplit);
        }
        let mut written = Vec::new();
        for neighbours in self.neighbours(large) {
            let Some(outputs) = self.split_off(&mut feeds, neighbours, tail).await? else {
                return Ok(Outcome::MovedOn);
            };
            written.extend(outputs);
            if size(&written) < self.config.split_commit_bytes {
                continue;
            }
            if !self.commit_split(std::mem::take(&mut written)).await? {
                return Ok(Outcome::MovedOn);
            }
        }
        if !self.commit_split(written).await? {
            return Ok(Outcome::MovedOn);
        }
        self.join_rest(feeds, small, tail).await
    }

    /// Neighbouring streams that are read together: as many as memory holds, of those that are read.
    fn neighbours(&self, runs: Vec<Located>) -> Vec<Vec<Located>> {
        let mut groups: Vec<Vec<Located>> = Vec::new();
        let mut room = 0;
        for run in runs {
            let needs = if self.is_copied(&run) {
                u64::MAX
            } else {
                run.num_bytes
            };
            if needs > room {
                groups.push(Vec::new());
                room = self.config.step_bytes;
            }
            room = room.saturating_sub(needs);
            groups.last_mut().expect("pushed above").push(run);
        }
        groups
    }

    /// Writes an object of each of the runs that is still where it was.
    async fn split_off(
        &self,
        feeds: &mut Feeds<'_>,
        runs: Vec<Located>,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Vec<Output>>, TierError> {
        let num_before = runs.len();
        let runs = self.still_there(runs);
        if runs.len() < num_before {
            sometimes!("s3stream: a stream changed while its sets were split");
        }
        for feed in feeds.values_mut() {
            // All that is wanted of all sources at a time fits memory.
            feed.set_read_bytes(self.config.read_bytes.min(self.config.step_bytes));
        }
        runs.iter().for_each(|run| run.want(feeds));
        let fits = num_bytes(&runs) <= self.config.step_bytes;
        if fits && !runs.iter().any(|run| self.is_copied(run)) {
            let reads = feeds.values_mut().map(|feed| async {
                let num_bytes = feed.fill().await?;
                self.has_read(num_bytes, tail).await;
                Ok(())
            });
            join_all(reads)
                .await
                .into_iter()
                .collect::<Result<(), TierError>>()?;
        }
        let alone: Vec<_> = (0..runs.len()).map(|place| vec![place]).collect();
        self.write(feeds, runs, &alone, tail).await
    }

    /// Joins what no stream has enough of for an object of its own.
    async fn join_rest(
        &self,
        mut feeds: Feeds<'_>,
        runs: Vec<Located>,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Outcome, TierError> {
        let runs = self.still_there(runs);
        if runs.is_empty() {
            return Ok(Outcome::Done);
        }
        sometimes!("s3stream: the rest of a split joined");
        let read_bytes = self
            .config
            .read_bytes
            .min(self.config.step_bytes / feeds.len() as u64);
        for feed in feeds.values_mut() {
            feed.set_read_bytes(read_bytes);
        }
        runs.iter().for_each(|run| run.want(&mut feeds));
        let groups = self.groups(&runs);
        let Some(outputs) = self.write(&mut feeds, runs, &groups, tail).await? else {
            return Ok(Outcome::MovedOn);
        };
        match self.commit_all(outputs).await? {
            Some(_) => Ok(Outcome::Done),
            None => Ok(Outcome::MovedOn),
        }
    }

    /// Puts the outputs in the place of their sources; `false` if that changed nothing: somebody else
    /// works on the same sets.
    async fn commit_split(&self, outputs: Vec<Output>) -> Result<bool, TierError> {
        if outputs.is_empty() {
            return Ok(true);
        }
        // The seeded bug takes sources for dead with the first commit that names them.
        let dead = if mutant!(118) {
            sources_of(&outputs)
        } else {
            Vec::new()
        };
        let num_committed = self.commit_all(outputs).await?;
        self.delete_sources(&dead).await;
        match num_committed {
            Some(0) => sometimes!("s3stream: a split came too late"),
            Some(_) => sometimes!("s3stream: streams were split off their sets"),
            None => {}
        }
        Ok(num_committed.is_some_and(|committed| committed > 0))
    }

    /// Those whose sources are exactly there: the commit would drop all others.
    fn still_there(&self, mut runs: Vec<Located>) -> Vec<Located> {
        self.metadata
            .read(|state| runs.retain(|run| is_there(state, &run.run)));
        runs
    }
}

fn is_there(state: &MetaState, run: &Run) -> bool {
    state.stream(run.stream).is_some_and(|stream| {
        let mut sources = run.sources.iter();
        let is_same = |(start, range)| stream.ranges.get(&start) == Some(&range);
        stream.epoch == run.epoch && sources.all(|source| is_same(*source))
    })
}

fn num_bytes(runs: &[Located]) -> u64 {
    runs.iter().map(|run| run.num_bytes).sum()
}

fn size(outputs: &[Output]) -> u64 {
    outputs.iter().map(|output| output.object.size).sum()
}
