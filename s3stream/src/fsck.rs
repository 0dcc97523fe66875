//! Proof that metadata and objects agree.
//!
//! *Owns*: the report, the order of the checks, orphans and missing objects.
//! *Does not own*: the check of one object (`object`), the WAL's part of the proof
//! (stream-store has both).
//!
//! Invariants
//! 1. It changes nothing.
//! 2. It may run beside a live cluster: objects are listed before the metadata is
//!    read, and what seems missing is asked for again.
//!
//! *IO: none* (requests go through the bucket port)

mod object;
mod orphan;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{ClusterId, Env, Offset, OffsetRange, StreamId};

use crate::config::MetaConfig;
use crate::error::{MetaError, TierError};
use crate::meta::boundary::{BOUNDARY_PREFIX, boundary_key};
use crate::meta::load::{LOG_PREFIX, MetaReader, SNAPSHOT_PREFIX, snapshot_key};
use crate::meta::state::{MetaState, StreamState};
use crate::object_id::{DATA_PREFIX, ObjectId};
use crate::read::source::Source;

use object::{Expected, check_object};
use orphan::held_by;
use report::Orphan;
pub use report::{Finding, FindingKind, FsckOptions, FsckProgress, FsckReport, Severity};

/// Objects checked at a time.
const PARALLEL: usize = 8;

/// Checks that the ranges of each stream tile it, that every referenced object is there and is
/// what the metadata says, and names the objects nobody knows.
///
/// # Errors
/// Only if the bucket does not answer; everything that is wrong is in the report.
pub async fn fsck(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    options: FsckOptions,
) -> Result<FsckReport, TierError> {
    let reader = MetaReader {
        bucket: Arc::clone(&bucket),
        env: Arc::clone(&env),
        config: MetaConfig::default(),
        purpose: Purpose::Fsck,
    };
    let source = Source {
        bucket,
        env,
        config: MetaConfig::default(),
        purpose: Purpose::Fsck,
    };
    let mut check = Check {
        reader,
        source,
        options,
        report: FsckReport::default(),
        opened: false,
    };
    let listed = check.list_objects().await?;
    if let Some(state) = check.load().await? {
        check.state(&state, &listed).await?;
        check.report.metadata = Some(state);
    } else if check.report.findings.is_empty() && !listed.is_empty() {
        let detail = format!("{} objects and no metadata", listed.len());
        check
            .report
            .add(Finding::new(Severity::Error, FindingKind::Missing, detail));
    }
    Ok(check.report)
}

struct Check {
    reader: MetaReader,
    source: Source,
    options: FsckOptions,
    report: FsckReport,
    /// The metadata could be opened.
    opened: bool,
}

impl Check {
    async fn list_objects(&self) -> Result<BTreeMap<String, u64>, TierError> {
        let (mut objects, mut after) = (BTreeMap::new(), None::<String>);
        let mut backoff = self.reader.backoff();
        loop {
            let page = match self
                .source
                .bucket
                .list(Purpose::Fsck, DATA_PREFIX, after.as_deref())
                .await
            {
                Ok(page) => page,
                Err(err) if backoff.attempts() + 1 >= self.reader.config.read_attempts => {
                    return Err(TierError::Unavailable(err));
                }
                Err(_) => {
                    backoff.wait(&*self.source.env).await;
                    continue;
                }
            };
            let more = page.more;
            objects.extend(
                page.entries
                    .into_iter()
                    .map(|entry| (entry.key, entry.size)),
            );
            match objects.last_key_value() {
                Some((last, _)) if more => after = Some(last.clone()),
                _ => return Ok(objects),
            }
        }
    }

    /// The metadata, if it can be opened.
    async fn load(&mut self) -> Result<Option<MetaState>, TierError> {
        let loaded = match self.reader.load().await {
            Ok(loaded) => loaded,
            Err(err) => {
                self.meta_finding(Severity::Error, err)?;
                return Ok(None);
            }
        };
        let state = loaded.state;
        self.opened = true;
        for err in loaded.report.snapshots_damaged {
            self.meta_finding(Severity::Warning, err)?;
        }
        if let (Some(state), true) = (&state, self.options.verify_checksums) {
            self.whole_log(state).await?;
        }
        Ok(state)
    }

    /// The whole log that is kept must lead to the same state as the newest snapshot and the log
    /// after it.
    async fn whole_log(&mut self, state: &MetaState) -> Result<(), TierError> {
        if let Some(boundary) = self.lost_boundary().await? {
            let key = boundary_key(boundary);
            let detail = format!("the log begins behind entry {boundary}, and no boundary says so");
            let finding = Finding::new(Severity::Warning, FindingKind::Missing, detail);
            self.report.add(finding.object(key));
            // There is nothing to replay from.
            return self.snapshots(state.cluster).await;
        }
        match self.reader.replay_all().await {
            Ok(Some(replayed)) if replayed.seq == state.seq && replayed != *state => {
                let detail = format!(
                    "the log replayed to entry {} differs from its snapshot",
                    state.seq
                );
                self.report
                    .add(Finding::new(Severity::Error, FindingKind::Format, detail));
            }
            Ok(_) => {}
            Err(err) => self.meta_finding(Severity::Error, err)?,
        }
        self.snapshots(state.cluster).await
    }

    /// Where the deletion boundary was, if there is none and the log begins behind the oldest snapshot:
    /// that is where one is drawn before anything is deleted.
    async fn lost_boundary(&self) -> Result<Option<u64>, TierError> {
        let oldest = self.reader.snapshots(0).await?.first().copied();
        let first = self.reader.list(LOG_PREFIX, None).await?.first().copied();
        let lost = oldest.filter(|oldest| first.is_none_or(|first| first > *oldest));
        // Asked last: while there is none, nothing was deleted.
        let is_drawn = self.reader.boundary(0).await?.boundary > 0;
        Ok(lost.filter(|_| !is_drawn))
    }

    /// The newest one serves, and an older one is kept for when it is damaged: at the deletion
    /// boundary there must be one. What lies below is on its way out.
    async fn snapshots(&mut self, cluster: ClusterId) -> Result<(), TierError> {
        let boundary = self.reader.boundary(0).await?.boundary;
        match self.reader.verify_boundary(boundary).await {
            Ok(Some(found)) if found != cluster => {
                let detail = format!("a boundary of cluster {found}, not of {cluster}");
                let finding = Finding::new(Severity::Warning, FindingKind::Format, detail);
                self.report.add(finding.object(boundary_key(boundary)));
            }
            Ok(_) => {}
            Err(err) => self.meta_finding(Severity::Warning, err)?,
        }
        let snapshots = self.reader.snapshots(boundary).await?;
        let is_gone = boundary > 0 && !snapshots.contains(&boundary);
        if is_gone && self.reader.boundary(boundary).await?.boundary == boundary {
            let key = snapshot_key(boundary);
            self.meta_finding(Severity::Warning, MetaError::MissingEntry { key })?;
        }
        for seq in snapshots {
            if let Err(err) = self.reader.snapshot(seq).await {
                self.meta_finding(Severity::Warning, err)?;
            }
        }
        Ok(())
    }

    fn meta_finding(&mut self, severity: Severity, err: MetaError) -> Result<(), TierError> {
        let (what, key) = match &err {
            MetaError::Corrupt { key, .. } => (FindingKind::Checksum, key.clone()),
            MetaError::MissingEntry { key } => (FindingKind::Missing, key.clone()),
            MetaError::Unsupported { key, .. } => (FindingKind::Format, key.clone()),
            _ => return Err(err.into()),
        };
        // Metadata that opened do so without this snapshot, and without a look into the boundary.
        let is_spare =
            self.opened && (key.starts_with(SNAPSHOT_PREFIX) || key.starts_with(BOUNDARY_PREFIX));
        let severity = if is_spare {
            Severity::Warning
        } else {
            severity
        };
        let finding = Finding::new(severity, what, err.to_string()).object(key);
        if !self.report.findings.contains(&finding) {
            self.report.add(finding);
        }
        Ok(())
    }

    async fn state(
        &mut self,
        state: &MetaState,
        listed: &BTreeMap<String, u64>,
    ) -> Result<(), TierError> {
        self.report.cluster = Some(state.cluster);
        self.report.streams = state.streams.len() as u64;
        self.report.objects = state.objects.len() as u64;
        for (id, stream) in state.streams() {
            tiles(id, stream, &mut self.report);
        }
        self.orphans(state, listed).await?;
        let expected = expected(state);
        let (mut missing, mut sizes) = (Vec::new(), BTreeMap::new());
        for id in expected.keys() {
            let key = id.key();
            if let Some(size) = listed.get(&key) {
                sizes.insert(*id, *size);
                continue;
            }
            match self.source.size(&key).await {
                Ok(size) => drop(sizes.insert(*id, size)),
                Err(TierError::Missing { .. }) => missing.push(*id),
                Err(err) => return Err(err),
            }
        }
        self.missing(&missing).await?;
        let checks: Vec<_> = sizes
            .iter()
            .map(|(id, size)| check_object(&self.source, *id, &expected[id], *size, &self.options))
            .collect();
        for id in sizes.keys() {
            let object = &expected[id].object;
            let skipped = if self.options.verify_checksums {
                0
            } else {
                object.index_position
            };
            self.options
                .progress
                .expect(object.size.saturating_sub(skipped));
        }
        let results: Vec<_> = stream::iter(checks).buffered(PARALLEL).collect().await;
        for result in results {
            let (findings, num_bytes) = result?;
            self.report.bytes_checked += num_bytes;
            findings
                .into_iter()
                .for_each(|finding| self.report.add(finding));
        }
        Ok(())
    }

    /// Names what nobody references and reads what it holds.
    async fn orphans(
        &mut self,
        state: &MetaState,
        listed: &BTreeMap<String, u64>,
    ) -> Result<(), TierError> {
        let mut orphans = Vec::new();
        for (key, size) in listed {
            let id = ObjectId::from_key(key);
            if id.is_some_and(|id| state.objects.contains_key(&id)) {
                continue;
            }
            // An upload under way or one that a crash cut short: it costs space, not data.
            let detail = format!("{size} bytes nobody references");
            self.report
                .add(Finding::new(Severity::Info, FindingKind::Orphan, detail).object(key.clone()));
            orphans.push((key.clone(), id, *size));
        }
        let source = &self.source;
        let reads = orphans.into_iter().map(|(key, id, size)| async move {
            let ranges = match id {
                Some(id) => held_by(source, id, size).await?,
                None => Vec::new(),
            };
            Ok::<_, TierError>(Orphan { key, id, ranges })
        });
        let reads: Vec<_> = reads.collect();
        let read: Vec<_> = stream::iter(reads).buffered(PARALLEL).collect().await;
        self.report.orphans = read.into_iter().collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What seems missing may have died and been deleted since the metadata was read.
    async fn missing(&mut self, missing: &[ObjectId]) -> Result<(), TierError> {
        if missing.is_empty() {
            return Ok(());
        }
        let state = self.reader.load().await?.state;
        let now = state.map(|state| expected(&state)).unwrap_or_default();
        for id in missing {
            let Some(expected) = now.get(id) else {
                continue;
            };
            for (stream, range) in &expected.ranges {
                let finding = Finding::new(
                    Severity::Error,
                    FindingKind::Missing,
                    "referenced by a range".to_owned(),
                );
                self.report
                    .add(finding.object(id.key()).range(*stream, range.0));
            }
            for (stream, snapshot) in &expected.snapshots {
                let detail = format!(
                    "referenced by the state snapshot as of offset {}",
                    snapshot.as_of
                );
                let finding = Finding::new(Severity::Error, FindingKind::Missing, detail);
                self.report.add(finding.object(id.key()).stream(*stream));
            }
        }
        Ok(())
    }
}

/// What the metadata expects of each referenced object.
fn expected(state: &MetaState) -> BTreeMap<ObjectId, Expected> {
    let mut all: BTreeMap<ObjectId, Expected> = BTreeMap::new();
    let live = state
        .objects()
        .filter(|(_, object)| object.died_seq.is_none());
    for (id, object) in live {
        all.insert(
            id,
            Expected {
                object: *object,
                ranges: Vec::new(),
                snapshots: Vec::new(),
            },
        );
    }
    for (id, stream) in state.streams() {
        for (offsets, range) in stream.ranges() {
            let entry = all
                .get_mut(&range.object)
                .expect("a referenced object is live");
            entry.ranges.push((id, (offsets, range.timestamp_ms_max)));
        }
        if let Some(snapshot) = stream.snapshot {
            let entry = all
                .get_mut(&snapshot.object)
                .expect("a referenced object is live");
            entry.snapshots.push((id, snapshot));
        }
    }
    all
}

/// The ranges of the stream cover `[start, end)` once.
fn tiles(id: StreamId, stream: &StreamState, report: &mut FsckReport) {
    let mut error = |what, from: Offset, to: Offset, detail: String, object: Option<ObjectId>| {
        let range = OffsetRange::new(from, to).expect("the caller ordered them");
        let mut finding = Finding::new(Severity::Error, what, detail).range(id, range);
        finding.object = object.map(|object| object.key());
        report.add(finding);
    };
    let mut covered: Option<Offset> = None;
    for (offsets, range) in stream.ranges() {
        // The first range may begin before the start: the trim cut into it.
        let next = covered.unwrap_or(stream.start.min(offsets.start()));
        let (object, detail) = (
            Some(range.object),
            format!("at the range that begins at {}", offsets.start()),
        );
        if offsets.start() < next {
            error(
                FindingKind::Overlap,
                offsets.start(),
                next.min(offsets.end()),
                detail,
                object,
            );
        } else if offsets.start() > next {
            error(FindingKind::Hole, next, offsets.start(), detail, object);
        }
        covered = Some(next.max(offsets.end()));
    }
    // Nothing needs to be covered if the owner trimmed to the end or beyond.
    let reached = covered.unwrap_or(stream.start);
    if reached < stream.end {
        error(
            FindingKind::Hole,
            reached,
            stream.end,
            "before the committed end".to_owned(),
            None,
        );
    } else if covered.is_some() && reached > stream.end {
        error(
            FindingKind::Overlap,
            stream.end,
            reached,
            "past the committed end".to_owned(),
            None,
        );
    }
}
