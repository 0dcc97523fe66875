//! Walking the groups from the trim point to the first that is not valid.
//!
//! *Owns*: which group follows which, and whether it belongs there.
//! *Does not own*: what the stop means.
//!
//! Invariants
//! 1. A group is valid only if it states the WAL, the position, the LSN and the epoch that
//!    own that place, under a right checksum.
//! 2. Memory is bounded by the reader's and one group.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use std::collections::VecDeque;

use bytes::Bytes;
use tidewater_types::{Epoch, Lsn, mutant, sometimes};

use crate::error::WalError;
use crate::format::group::{self, GroupHeader, GroupKind, HEADER_BYTES};
use crate::format::superblock::Superblock;
use crate::format::{Flaw, VERSION, round_up};
use crate::index::{GroupEntry, Index};
use crate::io::DiskIo;
use crate::recovery::reader::Reader;
use crate::ring::Geometry;

/// Takes what the walk meets, in LSN order.
pub(crate) trait Visitor: Send {
    /// A group that is valid where it lies, before its frames; `num_bytes` with its padding.
    fn group(&mut self, _header: &GroupHeader, _num_bytes: u64) {}

    /// A frame at or above the trim LSN.
    fn frame(&mut self, lsn: Lsn, bytes: Bytes);

    /// Whether the walk may end early. What it found is then no judgement.
    fn is_done(&self) -> bool {
        false
    }
}

impl<F: FnMut(Lsn, Bytes) + Send> Visitor for F {
    fn frame(&mut self, lsn: Lsn, bytes: Bytes) {
        self(lsn, bytes);
    }
}

/// What the walk found.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// Groups still wanted.
    pub(crate) index: Index,
    /// Segments walked through, oldest first.
    pub(crate) chain: VecDeque<u32>,
    /// Where it stopped.
    pub(crate) position: u64,
    /// LSN expected there.
    pub(crate) lsn: Lsn,
    /// Why it stopped.
    pub(crate) reason: &'static str,
    /// Epoch of the last group, or of the trim point.
    pub(crate) epoch: Epoch,
    /// Largest durable LSN stated.
    pub(crate) durable: Lsn,
    /// Segment that the last group names as the next one.
    pub(crate) next: Option<u32>,
    /// The last life ended cleanly, and here.
    pub(crate) sealed: bool,
    pub(crate) num_groups: u64,
    pub(crate) num_frames: u64,
    pub(crate) num_bytes: u64,
}

/// A walk under way.
pub(crate) struct Scan<'a> {
    reader: Reader<'a>,
    superblock: &'a Superblock,
    geometry: Geometry,
    found: Scanned,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(
        io: &'a mut DiskIo,
        superblock: &'a Superblock,
        geometry: Geometry,
        read_bytes: u64,
    ) -> Self {
        let trim = superblock.trim;
        let found = Scanned {
            index: Index::default(),
            chain: [geometry.segment(trim.position)].into(),
            position: trim.position,
            lsn: trim.group_lsn,
            reason: "",
            epoch: trim.epoch,
            durable: trim.lsn,
            next: None,
            sealed: false,
            num_groups: 0,
            num_frames: 0,
            num_bytes: 0,
        };
        Self {
            reader: Reader::ahead(io, geometry, read_bytes),
            superblock,
            geometry,
            found,
        }
    }

    pub(crate) async fn run(mut self, visitor: &mut dyn Visitor) -> Result<Scanned, WalError> {
        self.found.reason = loop {
            if visitor.is_done() {
                break "no more was wanted";
            }
            self.follow_epoch();
            if self.is_at_seal() {
                break "the clean end";
            }
            match self.step(visitor).await? {
                Ok(()) => {}
                Err(reason) => break reason,
            }
        };
        self.found.sealed = self.is_at_seal();
        Ok(self.found)
    }

    /// The last life left nothing behind here.
    fn is_at_seal(&self) -> bool {
        let here = (self.found.lsn, self.found.position);
        let seal = self.superblock.seal;
        seal.is_some_and(|seal| (seal.lsn, seal.position) == here)
    }

    /// A new epoch begins at a place of its own.
    fn follow_epoch(&mut self) {
        let (lsn, epoch) = (self.found.lsn, self.found.epoch);
        let next = self
            .superblock
            .epochs
            .iter()
            .find(|entry| entry.epoch > epoch && entry.lsn == lsn);
        if let Some(entry) = next.copied() {
            self.found.epoch = entry.epoch;
            self.enter(entry.position);
            self.found.next = None;
        }
    }

    fn enter(&mut self, position: u64) {
        self.found.position = position;
        let segment = self.geometry.segment(position);
        if self.found.chain.back() != Some(&segment) {
            self.found.chain.push_back(segment);
        }
    }

    /// Takes the group at the cursor; the inner error says why it is not valid.
    async fn step(
        &mut self,
        visitor: &mut dyn Visitor,
    ) -> Result<Result<(), &'static str>, WalError> {
        let position = self.found.position;
        let bytes = match self.reader.group(position).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(flaw)) => return Ok(Err(flaw.describe())),
            Err(error) => return self.unreadable(position, error).await.map(Err),
        };
        let header = match group::decode(bytes) {
            Ok(header) => header,
            Err(Flaw::Newer(found)) => {
                let path = self.reader.io.path().to_owned();
                return Err(WalError::NewerFormat {
                    path,
                    found,
                    supported: VERSION,
                });
            }
            Err(flaw) => return Ok(Err(flaw.describe())),
        };
        let payload = Bytes::copy_from_slice(&bytes[HEADER_BYTES..header.num_bytes()]);
        if let Err(reason) = self.belongs(&header) {
            sometimes!("wal: a group of another life or place was met");
            return Ok(Err(reason));
        }
        let end = position + round_up(header.num_bytes() as u64, self.geometry.block_bytes);
        if header.kind != GroupKind::Skip && end == self.geometry.segment_end(position) {
            return Ok(Err("group that leaves no block to close its segment"));
        }
        let next = self.segment_named(header.next);
        if header.kind == GroupKind::Skip
            && next.is_none_or(|next| self.found.chain.contains(&next))
        {
            return Ok(Err("skip to a segment in use"));
        }
        self.take(&header, &payload, visitor);
        self.found.next = next;
        self.reader
            .goes_on_at(next.map(|next| self.geometry.start(next)));
        if header.kind == GroupKind::Skip {
            self.enter(header.next);
            self.found.next = None;
        }
        Ok(Ok(()))
    }

    /// A group that cannot be read ends the log only if its head shows that it is another one than
    /// the log goes on with: that one may have been promised.
    async fn unreadable(
        &mut self,
        position: u64,
        error: WalError,
    ) -> Result<&'static str, WalError> {
        let head = self.reader.head(position).await;
        let found = head.ok().and_then(|head| group::peek(head).ok());
        match found.map(|header| self.belongs(&header)) {
            Some(Err(reason)) => Ok(reason),
            Some(Ok(())) | None => Err(error),
        }
    }

    fn belongs(&self, header: &GroupHeader) -> Result<(), &'static str> {
        let stale = mutant!(8);
        let misplaced = mutant!(9) && header.position != self.found.position;
        if header.wal != self.superblock.wal {
            return Err("group of another write-ahead log");
        }
        if header.position != self.found.position && !misplaced {
            return Err("group written for another position");
        }
        if header.epoch != self.found.epoch && !stale {
            return Err("group of an epoch that does not own its lsn");
        }
        if header.lsn != self.found.lsn && !stale && !misplaced {
            return Err("group of another lsn");
        }
        Ok(())
    }

    fn segment_named(&self, position: u64) -> Option<u32> {
        let count = u64::from(self.geometry.segment_count);
        let ring =
            self.geometry.start(0)..self.geometry.start(0) + count * self.geometry.segment_bytes;
        if !ring.contains(&position) {
            return None;
        }
        let segment = self.geometry.segment(position);
        (self.geometry.start(segment) == position).then_some(segment)
    }

    fn take(&mut self, header: &GroupHeader, payload: &Bytes, visitor: &mut dyn Visitor) {
        let num_bytes = round_up(header.num_bytes() as u64, self.geometry.block_bytes);
        let here = GroupHeader {
            lsn: self.found.lsn,
            ..*header
        };
        let (lsn, end, position, epoch) = (here.lsn, here.end(), self.found.position, header.epoch);
        // A mark or a skip right at the trim point counts: what follows is reached through it.
        if end > self.superblock.trim.lsn || lsn >= self.superblock.trim.lsn {
            self.found.index.push(GroupEntry {
                lsn,
                end,
                position,
                num_bytes,
                epoch,
            });
        }
        visitor.group(header, num_bytes);
        for (lsn, place) in group::frames(&here, payload) {
            if lsn >= self.superblock.trim.lsn {
                self.found.num_frames += 1;
                visitor.frame(lsn, payload.slice(place));
            }
        }
        self.found.num_groups += 1;
        self.found.num_bytes += num_bytes;
        self.found.durable = self.found.durable.max(header.durable);
        self.found.lsn = end;
        self.found.position += num_bytes;
    }
}
