//! When a segment is used again: the engine alone, its operations completed in any order.
//!
//! *IO: none*

use std::time::Duration;

use tidewater_types::{ClusterId, Epoch, Instant, Lsn, NodeId, WalId};

use crate::buffer::AlignedBuf;
use crate::core::{Core, Effect, Start, Tuning};
use crate::disk::DiskOp;
use crate::format::group::{HEADER_BYTES, decode};
use crate::format::superblock::{EpochStart, RING_POSITION, SLOT_POSITIONS, Superblock, TrimPoint};
use crate::index::{GroupEntry, Index};
use crate::inlet::Batch;
use crate::ring::{Geometry, Ring};
use crate::testing::env::Rng;

const BLOCK: usize = 4096;
const SEGMENTS: u32 = 4;

fn geometry() -> Geometry {
    Geometry {
        block_bytes: BLOCK as u64,
        segment_bytes: 64 * 1024,
        segment_count: SEGMENTS,
        window_bytes: 32 * 1024,
    }
}

fn superblock() -> Superblock {
    let Geometry {
        segment_bytes,
        segment_count,
        window_bytes,
        ..
    } = geometry();
    Superblock {
        sequence: 4,
        cluster: ClusterId([1; 16]),
        node: NodeId(1),
        wal: WalId([2; 16]),
        block_bytes: 4096,
        segment_bytes,
        segment_count,
        window_bytes,
        trim: TrimPoint {
            position: RING_POSITION,
            epoch: Epoch(1),
            ..TrimPoint::default()
        },
        seal: None,
        epochs: vec![EpochStart {
            epoch: Epoch(1),
            lsn: Lsn(0),
            position: RING_POSITION,
        }],
    }
}

fn core(durable_writes: bool) -> Core {
    let start = Start {
        path: "core".to_owned(),
        superblock: superblock(),
        newest_slot: 0,
        geometry: geometry(),
        ring: Ring::new(geometry(), [0].into(), RING_POSITION, 1, false),
        epoch: Epoch(1),
        lsn: Lsn(0),
    };
    let tuning = Tuning {
        durable_writes,
        overlaps: true,
        depth: 4,
        mark_idle: Duration::from_millis(1),
        retry: Duration::from_millis(1),
        zero_ahead: 1,
        slow_op: Duration::from_secs(1),
    };
    Core::new(start, tuning)
}

/// An operation under way.
struct Flight {
    id: u64,
    op: DiskOp,
    /// For a flush: how many contents of each slot nobody finds any more after it.
    replaces: [usize; 2],
}

/// The engine, its disk, and what either slot may show after a crash.
struct World {
    core: Core,
    rng: Rng,
    now: u64,
    index: Index,
    flights: Vec<Flight>,
    /// Every group ever written, oldest first.
    groups: Vec<GroupEntry>,
    /// What each slot holds durably, and what may have taken its place meanwhile.
    shown: [Vec<TrimPoint>; 2],
    accepted: Lsn,
    trimmed: Lsn,
    trims_recorded: u64,
}

impl World {
    fn new(seed: u64, durable_writes: bool) -> Self {
        let trim = superblock().trim;
        Self {
            core: core(durable_writes),
            rng: Rng(seed),
            now: 0,
            index: Index::default(),
            flights: Vec::new(),
            groups: Vec::new(),
            shown: [vec![trim], vec![trim]],
            accepted: Lsn(0),
            trimmed: Lsn(0),
            trims_recorded: 0,
        }
    }

    fn now(&mut self) -> Instant {
        self.now += 10_000;
        Instant(self.now)
    }

    fn append(&mut self, payload_bytes: u64) {
        let num_bytes = usize::try_from(payload_bytes).unwrap();
        let mut buf = AlignedBuf::new((HEADER_BYTES + num_bytes).next_multiple_of(BLOCK), BLOCK);
        buf.set_len(HEADER_BYTES);
        let frame_bytes = u32::try_from(num_bytes - 4).unwrap();
        buf.extend_from_slice(&frame_bytes.to_le_bytes());
        buf.extend_from_slice(&vec![7; num_bytes - 4]);
        let (lsn, end) = (self.accepted, Lsn(self.accepted.0 + payload_bytes));
        self.accepted = end;
        self.core.handle_batch(Batch {
            buf,
            lsn,
            end,
            num_frames: 1,
            room: num_bytes,
        });
    }

    fn trim(&mut self, up_to: Lsn) {
        if up_to > self.trimmed {
            self.trimmed = up_to;
            let first = self.index.trim(up_to);
            self.core.handle_trim(self.core.trim_point(up_to, first));
        }
    }

    /// Takes over all the engine wants done now.
    fn submit(&mut self) {
        let now = self.now();
        while let Some(effect) = self.core.poll_effect(now) {
            match effect {
                Effect::Group(entry) => {
                    self.index.push(entry);
                    self.groups.push(entry);
                }
                Effect::Submit { id, op } => self.started(id, op),
            }
        }
        self.core.take_written();
    }

    fn started(&mut self, id: u64, op: DiskOp) {
        let mut replaces = [0; 2];
        match &op {
            DiskOp::Write { position, buf, .. } if *position < RING_POSITION => {
                let slot = usize::from(*position == SLOT_POSITIONS[1]);
                let content = Superblock::decode(buf.as_slice(), *position).unwrap();
                self.check_nothing_lands_late(content.trim);
                self.shown[slot].push(content.trim);
                self.trims_recorded += 1;
            }
            DiskOp::Write { position, buf, .. } => {
                // What goes astray takes no more than recovery looks through.
                assert!(buf.len() as u64 <= geometry().window_bytes);
                self.check_free(*position..*position + buf.len() as u64);
            }
            DiskOp::Flush => replaces = self.replaced_by_a_flush(),
            DiskOp::Read { .. } => unreachable!("the engine reads nothing"),
        }
        self.flights.push(Flight { id, op, replaces });
    }

    /// A flush covers a slot that was written before: only the last content is left.
    fn replaced_by_a_flush(&self) -> [usize; 2] {
        [0, 1].map(|slot| {
            let is_slot = |flight: &Flight| {
                matches!(&flight.op, DiskOp::Write { position, .. } if *position == SLOT_POSITIONS[slot])
            };
            if self.flights.iter().any(is_slot) {
                0
            } else {
                self.shown[slot].len() - 1
            }
        })
    }

    /// The groups that a recovery from `trim` would walk through.
    fn wanted(&self, trim: TrimPoint) -> &[GroupEntry] {
        let here = (trim.position, trim.group_lsn);
        let first = self
            .groups
            .iter()
            .position(|group| (group.position, group.lsn) == here);
        &self.groups[first.unwrap_or(self.groups.len())..]
    }

    /// Whatever slot a crash leaves, nothing it leads to lies in `place`, nor does a write under
    /// way.
    fn check_free(&self, place: std::ops::Range<u64>) {
        let meets = |position: u64, num_bytes: u64| {
            position < place.end && place.start < position + num_bytes
        };
        for trim in self.shown.iter().flatten() {
            for group in self.wanted(*trim) {
                let own = group.position == place.start
                    && self.groups.last().is_some_and(|last| last == group);
                let rewritten = meets(group.position, group.num_bytes) && !own;
                assert!(!rewritten, "{place:?} is wanted: {group:?} from {trim:?}");
            }
        }
        for flight in &self.flights {
            if let DiskOp::Write { position, buf, .. } = &flight.op {
                let under_way = meets(*position, buf.len() as u64);
                assert!(!under_way, "{place:?} is being written at {position}");
            }
        }
    }

    /// What `trim` lets go of has no write under way, which the next life would know nothing of.
    fn check_nothing_lands_late(&self, trim: TrimPoint) {
        let kept: Vec<u32> = self
            .wanted(trim)
            .iter()
            .map(|group| group.position)
            .chain([trim.position])
            .map(|position| geometry().segment(position))
            .collect();
        for flight in &self.flights {
            if let DiskOp::Write { position, buf, .. } = &flight.op
                && decode(buf.as_slice()).is_ok()
            {
                let segment = geometry().segment(*position);
                assert!(
                    kept.contains(&segment),
                    "segment {segment} is let go with a write under way at {position}"
                );
            }
        }
    }

    /// Ends the operation at `place` among those under way.
    fn complete(&mut self, place: usize) {
        let Flight { id, op, replaces } = self.flights.remove(place);
        let now = self.now();
        let (result, buf) = match op {
            DiskOp::Write { buf, .. } => (buf.len(), Some(buf)),
            DiskOp::Flush => {
                for (shown, replaced) in self.shown.iter_mut().zip(replaces) {
                    shown.drain(..replaced);
                }
                (0, None)
            }
            DiskOp::Read { .. } => unreachable!("the engine reads nothing"),
        };
        self.core.handle_completion(now, id, Ok(result), buf);
    }

    /// Writes of the ring under way.
    fn num_writing(&self) -> usize {
        let writing = |flight: &&Flight| matches!(flight.op, DiskOp::Write { .. });
        self.flights.iter().filter(writing).count()
    }

    fn random_step(&mut self) {
        match self.rng.below(8) {
            0..=2 => {
                let most = if self.rng.one_in(4) { 20_000 } else { 3000 };
                let num_bytes = 16 + self.rng.below(most);
                if self.accepted.0 - self.core.durable().0 < 200_000 {
                    self.append(num_bytes);
                }
            }
            3 => {
                let durable = self.core.durable();
                let some = self.trimmed.0 + self.rng.below(durable.0 - self.trimmed.0 + 1);
                // Mostly all there is.
                let up_to = if self.rng.one_in(3) {
                    Lsn(some)
                } else {
                    durable
                };
                self.trim(up_to);
            }
            4 if self.rng.one_in(20) => self.now += 2_000_000,
            _ if self.flights.is_empty() => {}
            _ => {
                let place = self.rng.below(self.flights.len() as u64);
                self.complete(usize::try_from(place).unwrap());
            }
        }
        self.submit();
    }
}

fn random_steps(seeds: u64) {
    let mut num_recorded = 0;
    for seed in 0..seeds {
        let mut world = World::new(seed, seed % 2 == 1);
        for _ in 0..4000 {
            world.random_step();
        }
        assert!(world.core.failure().is_none());
        num_recorded += world.trims_recorded;
    }
    assert!(num_recorded > 20 * seeds, "{num_recorded} slots written");
}

#[test]
fn a_segment_is_used_again_only_when_neither_slot_leads_there() {
    random_steps(100);
}

#[cfg(feature = "mutants")]
#[test]
fn a_segment_that_is_used_again_too_early_is_noticed() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // One slot alone lets go; one segment too many is let go.
    let survivors: Vec<u16> = [54, 11]
        .into_iter()
        .filter(|mutant| {
            tidewater_types::set_mutant(*mutant);
            let outcome = std::panic::catch_unwind(|| random_steps(100));
            tidewater_types::set_mutant(0);
            outcome.is_ok()
        })
        .collect();
    std::panic::set_hook(hook);
    assert_eq!(survivors, Vec::<u16>::new());
}

/// Something is always being written: neither trims nor new segments wait for a pause.
#[test]
fn a_trim_is_recorded_though_writes_never_pause() {
    for durable_writes in [false, true] {
        let mut world = World::new(1, durable_writes);
        for _ in 0..20_000 {
            while world.accepted.0 - world.core.durable().0 < 6 * 3000 {
                world.append(3000);
            }
            world.submit();
            // Where a window may be full of what no flush covers, writes do wait for that.
            let is_busy = world.num_writing() >= 2 || !durable_writes;
            let laps = world.accepted.0 / (u64::from(SEGMENTS) * geometry().segment_bytes);
            assert!(is_busy, "writes pause after {laps} laps");
            world.complete(0);
            world.trim(world.core.durable());
            assert_eq!(world.core.counters().full_ring, 0, "after {laps} laps");
        }
        assert!(world.trims_recorded > 100, "{}", world.trims_recorded);
    }
}
