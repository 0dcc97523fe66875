//! What the engine does next.
//!
//! *Owns*: the decisions, most urgent first: retry, flush, superblock, group, zeros.
//! *Does not own*: what completions mean (`core.rs`).
//!
//! *IO: none*

use tidewater_types::{Instant, mutant};

use super::{Core, Effect, Flight, Group, Purpose, Zeroing};
use crate::buffer::AlignedBuf;
use crate::disk::DiskOp;
use crate::error::Resource;
use crate::format::group::{GroupHeader, GroupKind, HEADER_BYTES};
use crate::format::round_up;
use crate::format::superblock::Seal;
use crate::index::GroupEntry;
use crate::inlet::Batch;
use crate::slots::Stage;

const ZERO_BYTES_MAX: u64 = 1 << 20;

impl Core {
    /// Queues the most urgent effect, if there is one.
    pub(super) fn decide(&mut self, now: Instant) {
        let _ = self.retry(now)
            || self.start_flush(now)
            || self.write_slot(now)
            || self.write_group(now)
            || self.zero(now);
    }

    // --- decisions; each answers whether it queued an effect ---

    fn retry(&mut self, now: Instant) -> bool {
        if self.retry_at.is_none_or(|at| now < at) {
            return false;
        }
        self.retry_at = None;
        for (flight, buf) in std::mem::take(&mut self.parked) {
            self.submit_write(now, flight.purpose, flight.position, buf, flight.attempts);
        }
        true
    }

    /// One flush at a time, once no group is in flight or half a window is written. Where groups
    /// need none, nothing else ever makes one due: then slots and zeros do not wait for a pause.
    fn start_flush(&mut self, now: Instant) -> bool {
        if self
            .flights
            .iter()
            .any(|flight| flight.purpose == Purpose::Flush)
        {
            return false;
        }
        let writing = self
            .flights
            .iter()
            .any(|flight| matches!(flight.purpose, Purpose::Group(_)));
        let written = |group: &&Group| group.written && !group.flushed;
        let written_bytes: u64 = self
            .groups
            .iter()
            .filter(written)
            .map(|group| group.ring_bytes)
            .sum();
        let others = self.slots.stage() == Some(Stage::Written)
            || self
                .zeroing
                .as_ref()
                .is_some_and(|zeroing| zeroing.stage == Stage::Written);
        if mutant!(2)
            && writing
            && self
                .groups
                .iter()
                .any(|group| !(group.covering || group.flushed))
        {
            self.groups
                .iter_mut()
                .for_each(|group| group.covering = true);
            self.submit(now, Purpose::Flush, 0, 0, 0, DiskOp::Flush);
            return true;
        }
        let is_due = if writing {
            let alone = others && self.tuning.durable_writes;
            alone || written_bytes >= self.geometry.window_bytes / 2
        } else {
            others || written_bytes > 0
        };
        if !is_due {
            return false;
        }
        for group in &mut self.groups {
            group.covering = group.written && !group.flushed;
        }
        self.slots.cover();
        if let Some(zeroing) = self
            .zeroing
            .as_mut()
            .filter(|zeroing| zeroing.stage == Stage::Written)
        {
            zeroing.stage = Stage::Covering;
        }
        self.submit(now, Purpose::Flush, 0, 0, 0, DiskOp::Flush);
        true
    }

    fn write_slot(&mut self, now: Instant) -> bool {
        if !self.slots.is_busy() {
            let seal = self.closing
                && self.is_drained()
                && self.flights.is_empty()
                && self.parked.is_empty();
            if seal {
                let seal = Seal {
                    lsn: self.durable,
                    position: self.ring.head(),
                };
                self.slots.begin(self.trim_wanted, Some(seal));
            } else if self.ring.would_free(self.trim_wanted.position) && !self.lands_in_freed() {
                self.slots.begin(self.trim_wanted, None);
            }
        }
        let Some((position, bytes)) = self.slots.write() else {
            return false;
        };
        let block = usize::try_from(self.geometry.block_bytes).expect("a block");
        let mut buf = AlignedBuf::new(bytes.len(), block);
        buf.extend_from_slice(&bytes);
        self.submit_write(now, Purpose::Slot, position, buf, 0);
        true
    }

    /// Whether a group is under way to a segment that the wanted trim would free: a skip, which the
    /// trim passes as soon as the frames in front of it are durable. The next life would use the
    /// segment and know nothing of a write that lands late.
    fn lands_in_freed(&self) -> bool {
        let freed: Vec<u32> = self.ring.freed_by(self.trim_wanted.position).collect();
        let parked = self.parked.iter().map(|(flight, _)| flight);
        self.flights.iter().chain(parked).any(|flight| {
            let is_group = matches!(flight.purpose, Purpose::Group(_));
            is_group && freed.contains(&self.geometry.segment(flight.position))
        })
    }

    /// Whether frames would be written now though they fill no group yet. A disk that works
    /// through its ring writes the next group while a flush covers the last one.
    pub(crate) fn wants_batch(&self) -> bool {
        let flushing = |flight: &Flight| flight.purpose == Purpose::Flush;
        let busy =
            self.num_writing() > 0 || (!self.tuning.overlaps && self.flights.iter().any(flushing));
        self.pending.is_empty() && !busy && !self.no_space && self.ring.is_ready()
    }

    fn num_writing(&self) -> usize {
        let writing = |flight: &&Flight| matches!(flight.purpose, Purpose::Group(_));
        self.flights.iter().filter(writing).count()
    }

    fn write_group(&mut self, now: Instant) -> bool {
        if self.num_writing() >= self.tuning.depth || self.no_space || !self.ring.is_ready() {
            return false;
        }
        let Some(batch) = self.pending.front() else {
            return self.mark_at.is_some_and(|at| at <= now) && self.write_mark(now);
        };
        let num_bytes = self.padded(batch.payload_bytes());
        if num_bytes > self.ring.room() {
            return self.close_segment(now) || (self.ring_full && self.write_mark(now));
        }
        if num_bytes > self.geometry.window_bytes - self.unsynced_bytes {
            return false;
        }
        let batch = self.pending.pop_front().expect("just seen");
        self.put_group(now, GroupKind::Data, batch);
        true
    }

    /// States the durable LSN once nothing is under way: idle, or kept waiting by a full ring.
    fn write_mark(&mut self, now: Instant) -> bool {
        self.mark_at = None;
        let is_news = self.recorded < self.durable && self.groups.is_empty();
        if !is_news || !self.ring.has_room_for_mark() {
            return false;
        }
        let empty = self.empty_batch();
        self.put_group(now, GroupKind::Mark, empty);
        true
    }

    /// Ends the head's segment with a group that names the next one.
    fn close_segment(&mut self, now: Instant) -> bool {
        let was_full = self.blocked() == Some(Resource::Ring);
        self.ring_full = self.ring.successor().is_none() && !self.pending.is_empty();
        if !was_full && self.blocked() == Some(Resource::Ring) {
            self.counters.full_ring += 1;
        }
        if self.ring.successor().is_none()
            || self.unsynced_bytes + self.ring.rest() > self.geometry.window_bytes
        {
            return false;
        }
        let empty = self.empty_batch();
        self.put_group(now, GroupKind::Skip, empty);
        true
    }

    fn put_group(&mut self, now: Instant, kind: GroupKind, batch: Batch) {
        let payload_bytes = batch.payload_bytes();
        let num_bytes = self.padded(payload_bytes);
        let mut buf = batch.buf;
        let (position, ring_bytes) = (self.ring.head(), self.ring.rest());
        let header = GroupHeader {
            kind,
            payload_bytes: u32::try_from(payload_bytes).expect("a group"),
            num_frames: batch.num_frames,
            position,
            lsn: self.submitted,
            epoch: self.epoch,
            durable: self.durable,
            next: self.ring.successor().unwrap_or(0),
            wal: self.slots.content().wal,
        };
        let filled = buf.len();
        header.encode_into(&mut buf.as_mut_slice()[..filled]);
        buf.pad_to(usize::try_from(num_bytes).expect("a group"));
        let ring_bytes = if kind == GroupKind::Skip {
            self.ring.enter_successor();
            ring_bytes
        } else {
            let block = self.geometry.block_bytes;
            let taken = if mutant!(55) {
                (num_bytes - block).max(block)
            } else {
                num_bytes
            };
            self.ring.advance(taken);
            num_bytes
        };
        let room = batch.room;
        #[cfg(feature = "mutants")]
        let room = self.reused_too_early(&mut buf, room);
        self.begin_group(&header, num_bytes, ring_bytes, room);
        self.submit_write(now, Purpose::Group(self.groups_begun), position, buf, 0);
    }

    /// Seeded bug 16: the buffer goes back to the callers while the device still reads it.
    #[cfg(feature = "mutants")]
    fn reused_too_early(&mut self, buf: &mut AlignedBuf, room: usize) -> usize {
        if !mutant!(16) || room == 0 {
            return room;
        }
        self.written.push((buf.alias(), room));
        0
    }

    fn begin_group(&mut self, header: &GroupHeader, num_bytes: u64, ring_bytes: u64, room: usize) {
        let end = header.end();
        self.groups_begun += 1;
        self.groups.push_back(Group {
            number: self.groups_begun,
            end,
            ring_bytes,
            room,
            written: false,
            covering: false,
            flushed: false,
        });
        self.unsynced_bytes += ring_bytes;
        assert!(
            self.unsynced_bytes <= self.geometry.window_bytes,
            "the window recovery relies on"
        );
        self.submitted = end;
        self.recorded = header.durable;
        let (lsn, position, epoch) = (header.lsn, header.position, header.epoch);
        self.effects.push_back(Effect::Group(GroupEntry {
            lsn,
            end,
            position,
            num_bytes,
            epoch,
        }));
    }

    /// Prepares the next segment, a chunk at a time and one at a time.
    fn zero(&mut self, now: Instant) -> bool {
        if self.zero_at.is_some_and(|at| now < at) || (self.closing && self.is_drained()) {
            return false;
        }
        self.zero_at = None;
        if self.zeroing.is_none()
            && let Some(segment) = self.ring.wants_growth(self.tuning.zero_ahead)
        {
            let next = self.geometry.start(segment);
            self.zeroing = Some(Zeroing {
                next,
                end: next + self.geometry.segment_bytes,
                stage: Stage::Due,
            });
        }
        let Some(zeroing) = self
            .zeroing
            .as_mut()
            .filter(|zeroing| zeroing.stage == Stage::Due)
        else {
            return false;
        };
        let (position, left) = (zeroing.next, zeroing.end - zeroing.next);
        // Never more than a window: recovery counts on that, should it go astray.
        let num_bytes = left.min(ZERO_BYTES_MAX).min(self.geometry.window_bytes);
        zeroing.next += num_bytes;
        zeroing.stage = Stage::Writing;
        let num_bytes = usize::try_from(num_bytes).expect("a chunk");
        let mut buf = AlignedBuf::new(
            num_bytes,
            usize::try_from(self.geometry.block_bytes).expect("a block"),
        );
        buf.pad_to(num_bytes);
        self.submit_write(now, Purpose::Zero, position, buf, 0);
        true
    }

    // --- submissions ---

    pub(super) fn submit_write(
        &mut self,
        now: Instant,
        purpose: Purpose,
        position: u64,
        buf: AlignedBuf,
        attempts: u32,
    ) {
        let durable = self.tuning.durable_writes && matches!(purpose, Purpose::Group(_));
        let num_bytes = buf.len();
        self.submit(
            now,
            purpose,
            position,
            num_bytes,
            attempts,
            DiskOp::Write {
                position,
                buf,
                durable,
            },
        );
    }

    fn submit(
        &mut self,
        now: Instant,
        purpose: Purpose,
        position: u64,
        num_bytes: usize,
        attempts: u32,
        op: DiskOp,
    ) {
        self.flights_begun += 1;
        let id = self.flights_begun;
        self.flights.push(Flight {
            id,
            purpose,
            position,
            num_bytes,
            attempts,
            begun: now,
        });
        self.effects.push_back(Effect::Submit { id, op });
    }

    /// What marks and skips are made of.
    fn empty_batch(&mut self) -> Batch {
        let block = usize::try_from(self.geometry.block_bytes).expect("a block");
        let spare = self.spare.pop();
        let mut buf = spare.unwrap_or_else(|| AlignedBuf::new(block, block));
        buf.clear();
        buf.set_len(HEADER_BYTES);
        Batch {
            buf,
            lsn: self.submitted,
            end: self.submitted,
            num_frames: 0,
            room: 0,
        }
    }

    /// Bytes on the device of a group with that much payload.
    fn padded(&self, payload_bytes: u64) -> u64 {
        round_up(
            HEADER_BYTES as u64 + payload_bytes,
            self.geometry.block_bytes,
        )
    }
}
