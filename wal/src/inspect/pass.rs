//! One look at a WAL, from the superblocks to where the walk stops.
//!
//! *Owns*: putting what the judge found into an [`Inspection`].
//! *Does not own*: the judgement, and whether one look is enough.
//!
//! Invariants
//! 1. A look never fails: what went wrong is part of what was found.
//!
//! *IO: through the disk port*

use std::ops::ControlFlow;

use bytes::Bytes;
use tidewater_types::Lsn;

use super::segments::{Chain, survey};
use super::views::{Marks, Refusal, Slot, SuperblockView, Verdict, WalkView};
use super::{Found, Inspection, names};
use crate::error::WalError;
use crate::format::Flaw;
use crate::format::group::{GroupHeader, GroupKind};
use crate::format::superblock::{SLOT_POSITIONS, Superblock};
use crate::io::DiskIo;
use crate::recovery::judge::{self, Findings};
use crate::recovery::scan::{Scanned, Visitor};
use crate::ring::Geometry;

/// Bytes read at a time.
const READ_BYTES: u64 = 1 << 20;

/// Takes what the walk meets; the answer `Break` ends it.
pub(crate) type OnFound<'a> = &'a mut (dyn FnMut(Found) -> ControlFlow<()> + Send);

/// Where the bytes come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// A block device, not a file.
    pub(crate) block_device: bool,
    /// Some process holds the lock.
    pub(crate) in_use: bool,
}

/// Looks at the WAL on `io` once.
pub(crate) async fn look(io: &mut DiskIo, place: Place, on_found: OnFound<'_>) -> Inspection {
    let mut findings = Findings::default();
    let mut tally = Tally {
        geometry: None,
        chain: Chain::default(),
        walk: WalkView::default(),
        on_found,
        done: false,
    };
    let error = judge_all(io, &mut findings, &mut tally).await.err();
    let (mut walk, chain, done) = (tally.walk, tally.chain, tally.done);
    if let (Some(superblock), Some(scanned)) = (findings.superblock(), &findings.scanned) {
        walk.stop_position = scanned.position;
        walk.stop_segment = judge::geometry(superblock).segment(scanned.position);
        walk.stop_lsn = scanned.lsn.0;
        walk.stop_reason = scanned.reason;
    }
    let scanned = findings.scanned.as_ref();
    let segments = match findings.superblock() {
        Some(superblock) if !done => {
            let next = scanned.and_then(|scanned| scanned.next);
            Some(survey(io, superblock, chain, next).await)
        }
        _ => None,
    };
    io.settle().await;
    Inspection {
        path: io.path().to_owned(),
        num_bytes: io.num_bytes(),
        block_device: place.block_device,
        in_use: place.in_use,
        verdict: verdict(&findings, error.as_ref(), done),
        refusal: error.as_ref().map(Refusal::of),
        slots: [0, 1].map(|slot| slot_view(&findings, slot)),
        superblock: findings.superblock().map(SuperblockView::of),
        watermarks: findings
            .superblock()
            .zip(scanned)
            .map(|(superblock, scanned)| marks(superblock, scanned)),
        walk: scanned.map(|_| walk),
        segments,
        error,
    }
}

async fn judge_all(
    io: &mut DiskIo,
    findings: &mut Findings,
    tally: &mut Tally<'_>,
) -> Result<(), WalError> {
    judge::superblocks(io, None, findings).await?;
    if let Some(superblock) = findings.superblock() {
        let geometry = judge::geometry(superblock);
        tally.chain.enter(&geometry, superblock.trim.position);
        tally.geometry = Some(geometry);
    }
    judge::walk(io, READ_BYTES, findings, tally).await?;
    judge::check_epochs(io.path(), findings)
}

fn verdict(findings: &Findings, error: Option<&WalError>, done: bool) -> Verdict {
    let torn = [Flaw::Checksum.describe(), Flaw::Short.describe()];
    match (error, &findings.scanned) {
        (Some(_), _) => Verdict::Refused,
        _ if findings.damaged_slot().is_some() => Verdict::SlotDamaged,
        _ if done => Verdict::Partial,
        (None, Some(scanned)) if scanned.sealed => Verdict::Clean,
        (None, Some(scanned)) if torn.contains(&scanned.reason) => Verdict::TornTail,
        (None, _) => Verdict::Open,
    }
}

fn slot_view(findings: &Findings, slot: usize) -> Slot {
    let content = findings.slots[slot].as_ref();
    let valid = content.ok();
    Slot {
        position: SLOT_POSITIONS[slot],
        speaks: findings.chosen == Some(slot),
        flaw: content.err().map(|flaw| flaw.describe()),
        sequence: valid.map(|content| content.sequence),
        trim_lsn: valid.map(|content| content.trim.lsn.0),
        epoch: valid.and_then(|content| content.epochs.last().map(|last| last.epoch.0)),
    }
}

fn marks(superblock: &Superblock, scanned: &Scanned) -> Marks {
    // Before an epoch begins, everything below it is made durable.
    let begun = superblock.epochs.last().map_or(Lsn(0), |last| last.lsn);
    let durable = if scanned.sealed {
        scanned.lsn
    } else {
        scanned.durable.max(begun)
    };
    Marks {
        trimmed: superblock.trim.lsn.0,
        durable: durable.0,
        end: scanned.lsn.0,
    }
}

/// Counts what the walk meets and hands it on.
struct Tally<'a> {
    geometry: Option<Geometry>,
    chain: Chain,
    walk: WalkView,
    on_found: OnFound<'a>,
    done: bool,
}

impl Tally<'_> {
    fn hand_on(&mut self, found: Found) {
        self.done = self.done || (self.on_found)(found).is_break();
    }
}

impl Visitor for Tally<'_> {
    fn group(&mut self, header: &GroupHeader, num_bytes: u64) {
        let geometry = self.geometry.expect("a superblock speaks");
        self.chain.count(&geometry, header, num_bytes);
        let count = match header.kind {
            GroupKind::Data => &mut self.walk.data_groups,
            GroupKind::Mark => &mut self.walk.marks,
            GroupKind::Skip => &mut self.walk.skips,
        };
        *count += 1;
        self.walk.group_bytes += num_bytes;
        self.hand_on(Found::Group {
            position: header.position,
            num_bytes,
            kind: names::of_kind(header.kind),
            lsn: header.lsn,
            end: header.end(),
            epoch: header.epoch,
            num_frames: header.num_frames,
            durable: header.durable,
            next: (header.next != 0).then_some(header.next),
        });
    }

    fn frame(&mut self, lsn: Lsn, bytes: Bytes) {
        self.walk.frames += 1;
        self.walk.frame_bytes += bytes.len() as u64;
        if !self.done {
            self.hand_on(Found::Frame { lsn, bytes });
        }
    }

    fn is_done(&self) -> bool {
        self.done
    }
}
