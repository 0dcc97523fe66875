//! Writes the objects of a step: blocks of many sources, read side by side, in the order of streams.
//!
//! *Owns*: what is read next, what is sent when, what becomes of objects that stay unfinished.
//! *Does not own*: which runs share an object and the commit (`job`), which blocks are joined (`merge`).
//!
//! Invariants
//! 1. In memory are the indices of the sources, the blocks of one request of each, and what was not
//!    sent yet of two objects, however large sources and objects are.
//! 2. Each source is read from front to back, once; a split reads once what becomes objects of streams,
//!    and once more what is left.
//! 3. A step that ends without its objects gives up what it sent of them.
//!
//! *IO: none* (requests go through the bucket port)

use std::collections::BTreeMap;
use std::sync::Weak;

use tidewater_types::mutant;

use crate::error::TierError;
use crate::format::index::IndexRow;
use crate::meta::state::SnapshotRef;
use crate::object_id::{ObjectId, ObjectKind};
use crate::tail::Tail;
use crate::upload::encode::ObjectBuilder;
use crate::upload::growing::Growing;

use super::merge::Merge;
use super::plan::Run;
use super::prove::Output;
use super::read::{Feed, Piece, objects_of};
use super::steps::Steps;
use super::sum::{Sum, sum};

/// The sources of a step.
pub(super) type Feeds<'a> = BTreeMap<ObjectId, Feed<'a>>;

/// A run, and where everything of it is.
pub(super) struct Located {
    pub(super) run: Run,
    /// What its blocks add up to.
    pub(super) expected: Sum,
    /// Bytes of its blocks and its snapshot.
    pub(super) num_bytes: u64,
    /// Ascending by offset.
    blocks: Vec<(ObjectId, Vec<IndexRow>)>,
    state: Option<(SnapshotRef, IndexRow)>,
}

impl Located {
    /// Says to the feeds that everything of it will be asked for next.
    pub(super) fn want(&self, feeds: &mut Feeds<'_>) {
        let feed = |object, feeds: &mut Feeds<'_>, rows: &[IndexRow]| {
            let feed = feeds.get_mut(object).expect("opened for its run");
            feed.want(rows);
        };
        for (object, rows) in &self.blocks {
            feed(object, feeds, rows);
        }
        if let Some((old, row)) = &self.state {
            feed(&old.object, feeds, &[*row]);
        }
    }

    /// What lies in each of its sources.
    fn stretches(&self) -> impl Iterator<Item = &[IndexRow]> {
        self.blocks.iter().map(|(_, rows)| &rows[..])
    }
}

/// An object in the making.
struct Writing {
    merge: Merge,
    growing: Growing,
    /// Its runs so far, and what it must hold of each.
    runs: Vec<(Run, Sum)>,
}

impl Steps {
    /// Opens what the runs are in; `None` if something of it is not in the metadata any more.
    pub(super) async fn locate(
        &self,
        runs: Vec<Run>,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<(Feeds<'_>, Vec<Located>)>, TierError> {
        let objects = objects_of(&runs);
        let each = self.config.step_bytes / objects.len().max(1) as u64;
        let mut feeds = Feeds::new();
        for id in objects {
            let read_bytes = each.min(self.config.read_bytes);
            let Some(mut open) = self.open(id, read_bytes, tail).await? else {
                return Ok(None);
            };
            if runs.len() == 1 {
                // One source after the other: each has the room of all.
                open.read_bytes = self.config.step_bytes.min(self.config.read_bytes);
            }
            feeds.insert(id, Feed::new(open));
        }
        let located: Result<Vec<_>, _> = runs.into_iter().map(|run| located(run, &feeds)).collect();
        Ok(Some((feeds, located?)))
    }

    /// Writes an object of each group of runs, all of which are wanted of the feeds, and proves it; `None`
    /// if one of them is not there.
    pub(super) async fn write(
        &self,
        feeds: &mut Feeds<'_>,
        runs: Vec<Located>,
        groups: &[Vec<usize>],
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Vec<Output>>, TierError> {
        let mut open = BTreeMap::new();
        let done = self.write_into(&mut open, feeds, runs, groups, tail).await;
        for (_, unfinished) in open {
            unfinished.growing.abort().await;
        }
        done
    }

    async fn write_into(
        &self,
        open: &mut BTreeMap<usize, Writing>,
        feeds: &mut Feeds<'_>,
        runs: Vec<Located>,
        groups: &[Vec<usize>],
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Vec<Output>>, TierError> {
        let mut group_of = vec![0; runs.len()];
        let mut sizes = vec![0; groups.len()];
        for (group, members) in groups.iter().enumerate() {
            for run in members {
                group_of[*run] = group;
                sizes[group] += runs[*run].num_bytes;
            }
        }
        // Beside a set in the making there is no room for more than a part of another object.
        let has_set = groups.iter().any(|members| members.len() > 1);
        let mut outputs = Vec::with_capacity(groups.len());
        for (run, group) in runs.into_iter().zip(group_of) {
            let num_runs = groups[group].len();
            let begin = || match has_set || !self.goes_whole(&run) {
                true => self.begin(num_runs, run.blocks.len(), sizes[group]),
                false => self.begin_whole(),
            };
            let writing = open.entry(group).or_insert_with(begin);
            self.copy(&run, feeds, writing, tail).await?;
            writing.runs.push((run.run, run.expected));
            if writing.runs.len() < num_runs {
                continue;
            }
            let full = open.remove(&group).expect("inserted above");
            let Some(output) = self.finish(full, tail).await? else {
                return Ok(None);
            };
            outputs.push(output);
        }
        // One that was begun first may end last; they are committed as they were begun.
        if !mutant!(110) {
            outputs.sort_by_key(Output::counter);
        }
        Ok(Some(outputs))
    }

    /// Of an object of one stream, large stretches of blocks are copied within the store.
    fn begin(&self, num_runs: usize, num_sources: usize, num_bytes: u64) -> Writing {
        let id = self.storer.next_id();
        let kind = if num_runs == 1 {
            ObjectKind::Stream
        } else {
            ObjectKind::StreamSet
        };
        let num_copies = if kind == ObjectKind::Stream && self.config.copy_bytes > 0 {
            num_sources as u64 + num_bytes / self.config.copy_bytes
        } else {
            0
        };
        let builder = ObjectBuilder::new(id, kind);
        Writing {
            merge: Merge::new(builder, self.storer.block_bytes),
            growing: self.storer.grow(&id, num_bytes, num_copies),
            runs: Vec::with_capacity(num_runs),
        }
    }

    /// Whether an object of the run alone is sent with one request: parts would cost more, and the store
    /// copies nothing of it. In memory it takes no more than two parts.
    fn goes_whole(&self, run: &Located) -> bool {
        run.num_bytes <= 2 * self.storer.upload.part_bytes && !self.is_copied(run)
    }

    /// Whether the store is to copy something of the run.
    pub(super) fn is_copied(&self, run: &Located) -> bool {
        let Some(least) = self.storer.copy_bytes_min() else {
            return false;
        };
        let mut stretches = run.stretches();
        self.config.copy_bytes > 0 && stretches.any(|rows| self.is_worth_a_copy(rows, least))
    }

    /// Small blocks are read and joined.
    fn is_worth_a_copy(&self, rows: &[IndexRow], least: u64) -> bool {
        let block_bytes = self.storer.block_bytes as u64;
        num_bytes(rows) >= least.max(rows.len() as u64 * block_bytes / 2)
    }

    fn begin_whole(&self) -> Writing {
        let id = self.storer.next_id();
        let builder = ObjectBuilder::new(id, ObjectKind::Stream);
        Writing {
            merge: Merge::new(builder, self.storer.block_bytes),
            growing: self.storer.grow_whole(&id),
            runs: Vec::with_capacity(1),
        }
    }

    /// Passes the blocks of the run on.
    async fn copy(
        &self,
        run: &Located,
        feeds: &mut Feeds<'_>,
        writing: &mut Writing,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<(), TierError> {
        let Writing { merge, growing, .. } = writing;
        for (object, rows) in &run.blocks {
            let feed = feeds.get_mut(object).expect("opened for its runs");
            let mut rest = &rows[..];
            while let Some((row, behind)) = rest.split_first() {
                let count = self.copyable(feed, rest, merge, growing);
                if count > 0 {
                    let (copied, behind) = rest.split_at(count);
                    growing.copy(merge.closed(), &object.key(), copied).await;
                    feed.skip(count);
                    rest = behind;
                    continue;
                }
                if let Piece::Data(block) = self.next(feed, row, tail).await? {
                    merge.push(row, &block);
                }
                self.advance(growing, &mut merge.builder, tail).await;
                rest = behind;
            }
        }
        if let Some((old, row)) = &run.state {
            let feed = feeds.get_mut(&old.object).expect("opened for its run");
            if let Piece::State(state) = self.next(feed, row, tail).await? {
                merge.state(row.stream, row.base_offset, state);
            }
        }
        Ok(())
    }

    /// How many of the blocks, which lie one behind the other, the store should copy now.
    fn copyable(
        &self,
        feed: &Feed<'_>,
        rows: &[IndexRow],
        merge: &Merge,
        growing: &Growing,
    ) -> usize {
        let Some(min) = growing.copy_bytes_min() else {
            return 0;
        };
        let pending = merge.position() - growing.sent_bytes();
        if !feed.is_unread() || (pending > 0 && pending < min) {
            return 0;
        }
        if !self.is_worth_a_copy(rows, min) || !growing.takes_origins_of(rows) {
            return 0;
        }
        let all = num_bytes(rows);
        let (mut count, mut size) = (0, 0);
        for row in rows {
            let more = u64::from(row.size);
            if size >= min && size + more > self.config.copy_bytes && all - size >= min {
                break;
            }
            (count, size) = (count + 1, size + more);
        }
        count
    }

    async fn next(
        &self,
        feed: &mut Feed<'_>,
        row: &IndexRow,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Piece, TierError> {
        let (piece, num_bytes) = feed.next(row).await?;
        if num_bytes > 0 {
            self.has_read(num_bytes, tail).await;
        }
        Ok(piece)
    }

    async fn finish(
        &self,
        full: Writing,
        tail: Option<&Weak<dyn Tail>>,
    ) -> Result<Option<Output>, TierError> {
        let encoded = full.merge.finish(full.runs.len());
        if !self.send_rest(full.growing, &encoded, tail).await {
            return Ok(None);
        }
        self.prove(&encoded, &full.runs).await
    }
}

fn num_bytes(rows: &[IndexRow]) -> u64 {
    rows.iter().map(|row| u64::from(row.size)).sum()
}

/// Where everything of the run is.
fn located(run: Run, feeds: &Feeds<'_>) -> Result<Located, TierError> {
    let mut blocks = Vec::with_capacity(run.sources.len());
    for (start, range) in &run.sources {
        let feed = feeds.get(&range.object).expect("opened for its run");
        let rows = feed.object().rows(run.stream, *start, range)?;
        blocks.push((range.object, rows));
    }
    let state = match run.snapshot {
        None => None,
        Some(old) => {
            let feed = feeds.get(&old.object).expect("it lies in a source");
            let row = feed.object().state_row(run.stream, &old)?;
            Some((old, row))
        }
    };
    let rows = || blocks.iter().flat_map(|(_, rows)| rows);
    let sizes = rows().chain(state.iter().map(|(_, row)| row));
    let num_bytes = sizes.map(|row| u64::from(row.size)).sum();
    let expected = sum(rows()).expect("each range is tiled, and they follow each other");
    Ok(Located {
        expected,
        num_bytes,
        blocks,
        state,
        run,
    })
}
