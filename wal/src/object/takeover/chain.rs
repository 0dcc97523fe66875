//! Ending the chain of one epoch.
//!
//! *Owns*: the newest durable number its owner stated, the barrier, the fences, the proof that
//! the end is not a hole left by a deletion.
//! *Does not own*: which epoch, and what the entries hold.
//!
//! Invariants
//! 1. A fence is created only at a number whose predecessor is durable or an entry of the owner.
//! 2. The barrier lies more than the window above every entry seen, or is a fence or barrier of an
//!    earlier taker above what is durable: no owner passes that either.
//! 3. However often a takeover fails, it adds a bounded number of objects to a chain.
//! 4. The end is proven by a listing behind which every fence was known to be one before. One that
//!    is met for the first time may have taken the place of an entry of the owner since.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidewater_bucket::ListPage;
use tidewater_types::{Epoch, Lsn, mutant, sometimes};

use super::ask::{Answer, Ask};
use crate::error::WalError;
use crate::object::format::entry::{Header, Kind, decode};
use crate::object::format::{Place, epoch_prefix};
use crate::object::owner::Owner;

/// Listings of which every entry was deleted before it could be read.
const VERIFY_MAX: u32 = 100;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask this.
    Ask(Ask),
    /// The chain ends at this number: what lies below it counts.
    End(u64),
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Probing,
    /// Seeded bug 23 only.
    ReadingEarly,
    Barring(u64),
    Fencing(u64),
    Verifying,
    Checking(u64),
}

/// The chain of one epoch, until its end is known.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    epoch: Epoch,
    window: u64,
    phase: Phase,
    /// Numbers to look at, ascending; the last one first.
    candidates: Vec<u64>,
    head: u64,
    durable_seq: u64,
    distance: u64,
    /// The number no owner passes; 0 while there is none.
    barrier: u64,
    /// The lowest fence or barrier above the newest entry of the owner, left by an earlier taker.
    known: Option<u64>,
    end: u64,
    entries: BTreeMap<u64, (Header, Bytes)>,
    verified: u32,
    /// Numbers at which there are fences or barriers, so never again an entry of the owner.
    fenced: BTreeSet<u64>,
    /// A fence behind the end is younger, as far as is known, than the listing that named it.
    is_masked: bool,
    read_early: Option<u64>,
}

impl Chain {
    pub(crate) fn new(epoch: Epoch, window: u64) -> Self {
        Self {
            epoch,
            window,
            ..Self::default()
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn header(&self, seq: u64) -> Option<&Header> {
        self.entries.get(&seq).map(|(header, _)| header)
    }

    /// The entries met on the way up.
    pub(crate) fn take_entries(&mut self) -> BTreeMap<u64, (Header, Bytes)> {
        std::mem::take(&mut self.entries)
    }

    fn place(&self, seq: u64) -> Place {
        Place::new(self.epoch, seq)
    }

    /// Begins with the numbers `listed`, ascending, without that of the start.
    pub(crate) fn begin(&mut self, owner: &Owner, listed: Vec<u64>) -> Ask {
        self.head = listed.last().copied().unwrap_or_default();
        self.candidates = listed;
        self.distance = self.window + 1;
        if self.candidates.is_empty() {
            // Nobody seems to write here: one fence will do, and if it is taken, a barrier first.
            if mutant!(77) {
                return self.ended(owner, 1);
            }
            return self.fence(owner, 1);
        }
        self.probe(owner)
    }

    pub(crate) fn step(&mut self, owner: &Owner, answer: Answer) -> Result<Next, WalError> {
        let phase = std::mem::take(&mut self.phase);
        match (phase, answer) {
            (Phase::Probing, Answer::Got(found)) => self.probed(owner, first(found)),
            (Phase::ReadingEarly, Answer::Got(found)) => self.read_early(owner, first(found)),
            (Phase::Barring(seq), Answer::Ours) => Ok(self.barred(owner, seq)),
            (Phase::Barring(seq), Answer::Foreign(found)) => {
                self.barrier_is_taken(owner, seq, &found)
            }
            (Phase::Fencing(seq), Answer::Ours) => Ok(Next::Ask(self.ended(owner, seq))),
            (Phase::Fencing(seq), Answer::Foreign(found)) => self.fence_is_taken(owner, seq, found),
            (Phase::Verifying, Answer::Page(page)) => self.verify(owner, page),
            (Phase::Checking(seq), Answer::Got(found)) => self.checked(owner, seq, first(found)),
            (phase, answer) => unreachable!("{answer:?} in {phase:?}"),
        }
    }

    // --- what the owner stated last ---

    /// Looks at the topmost number not looked at yet.
    fn probe(&mut self, owner: &Owner) -> Ask {
        if let Some(seq) = self.candidates.last() {
            self.phase = Phase::Probing;
            return self.get(*seq);
        }
        if mutant!(23) && self.read_early.is_none() {
            self.phase = Phase::ReadingEarly;
            return self.get(self.durable_seq + 1);
        }
        self.bar(owner)
    }

    fn get(&self, seq: u64) -> Ask {
        Ask::Get {
            places: vec![self.place(seq)],
        }
    }

    fn probed(&mut self, owner: &Owner, found: Option<Bytes>) -> Result<Next, WalError> {
        let seq = self.candidates.pop().expect("a number was looked at");
        match found.and_then(|found| decode(&found, self.place(seq)).ok()) {
            Some(header) if header.kind.is_owners() => {
                self.durable_seq = header.durable_seq;
                self.candidates.clear();
            }
            Some(_) => {
                self.fenced.insert(seq);
                self.known = Some(seq);
            }
            // What cannot be decoded is judged where it matters, at the latest behind the end.
            None => {}
        }
        Ok(Next::Ask(self.probe(owner)))
    }

    // --- the barrier ---

    fn bar(&mut self, owner: &Owner) -> Ask {
        if let Some(known) = self.known
            && known > self.durable_seq
        {
            sometimes!("object wal: barrier of an earlier taker used");
            if mutant!(76) {
                return self.ended(owner, known);
            }
            self.barrier = known;
            return self.fence(owner, self.durable_seq + 1);
        }
        let seq = self
            .head
            .max(self.durable_seq)
            .saturating_add(self.distance);
        if mutant!(56) {
            self.barrier = seq;
            let from = self.durable_seq + 1;
            return self.fence(owner, from);
        }
        self.phase = Phase::Barring(seq);
        self.put(owner, Kind::Barrier, seq)
    }

    fn put(&self, owner: &Owner, kind: Kind, seq: u64) -> Ask {
        let place = self.place(seq);
        let body = owner.blank(kind, place).encode(&[]);
        Ask::Put { place, body }
    }

    fn barred(&mut self, owner: &Owner, seq: u64) -> Next {
        self.fenced.insert(seq);
        self.barrier = seq;
        let from = self.durable_seq + 1;
        Next::Ask(self.fence(owner, from))
    }

    fn barrier_is_taken(
        &mut self,
        owner: &Owner,
        seq: u64,
        found: &[u8],
    ) -> Result<Next, WalError> {
        let place = self.place(seq);
        let header = decode(found, place).map_err(|flaw| owner.flawed(place, Lsn(0), flaw))?;
        if !header.kind.is_owners() {
            return Ok(self.barred(owner, seq));
        }
        sometimes!("object wal: the old owner was faster than the barrier");
        self.head = seq;
        self.durable_seq = self.durable_seq.max(header.durable_seq);
        self.distance = self.distance.saturating_mul(2);
        Ok(Next::Ask(self.bar(owner)))
    }

    // --- the fences ---

    fn fence(&mut self, owner: &Owner, seq: u64) -> Ask {
        if self.barrier > 0 && seq >= self.barrier {
            return self.ended(owner, seq);
        }
        self.phase = Phase::Fencing(seq);
        self.put(owner, Kind::Fence, seq)
    }

    fn fence_is_taken(&mut self, owner: &Owner, seq: u64, found: Bytes) -> Result<Next, WalError> {
        let place = self.place(seq);
        let header = decode(&found, place).map_err(|flaw| owner.flawed(place, Lsn(0), flaw))?;
        if !header.kind.is_owners() {
            sometimes!("object wal: fence of another taker found");
            return Ok(Next::Ask(self.ended(owner, seq)));
        }
        if self.read_early.is_none() {
            self.entries.insert(seq, (header, found));
        }
        if self.barrier == 0 {
            sometimes!("object wal: an owner began while its epoch was fenced");
            self.head = seq;
            return Ok(Next::Ask(self.bar(owner)));
        }
        Ok(Next::Ask(self.fence(owner, seq + 1)))
    }

    // --- is the end an end? ---

    fn ended(&mut self, owner: &Owner, seq: u64) -> Ask {
        self.end = seq;
        self.candidates.clear();
        self.verify_from(owner, seq)
    }

    /// Lists what lies behind the end; asked for after the end was put there.
    fn verify_from(&mut self, owner: &Owner, seq: u64) -> Ask {
        self.phase = Phase::Verifying;
        self.is_masked = false;
        Ask::List {
            prefix: epoch_prefix(owner.node, self.epoch),
            after: Some(owner.key(self.place(seq))),
        }
    }

    fn verify(&mut self, owner: &Owner, page: ListPage) -> Result<Next, WalError> {
        let last = page.entries.last().map(|entry| entry.key.clone());
        for entry in &page.entries {
            let place = owner.place_of(&entry.key)?;
            let here = place.filter(|place| place.epoch == self.epoch);
            self.candidates.extend(here.map(|place| place.seq));
        }
        if page.more && last.is_some() {
            self.phase = Phase::Verifying;
            return Ok(Next::Ask(Ask::List {
                prefix: epoch_prefix(owner.node, self.epoch),
                after: last,
            }));
        }
        self.check(owner)
    }

    fn check(&mut self, owner: &Owner) -> Result<Next, WalError> {
        match self.candidates.pop() {
            Some(seq) => {
                self.phase = Phase::Checking(seq);
                Ok(Next::Ask(self.get(seq)))
            }
            None if self.is_masked && !mutant!(89) => {
                sometimes!("object wal: a fence may hide an entry of the owner");
                self.verify_again(owner)
            }
            None => Ok(Next::End(self.read_early.unwrap_or(self.end))),
        }
    }

    fn verify_again(&mut self, owner: &Owner) -> Result<Next, WalError> {
        self.verified += 1;
        self.candidates.clear();
        if self.verified > VERIFY_MAX {
            let path = owner.key(self.place(self.end));
            // Somebody writes and trims faster than we can look.
            return Err(WalError::Busy { path });
        }
        Ok(Next::Ask(self.verify_from(owner, self.end)))
    }

    fn checked(&mut self, owner: &Owner, seq: u64, found: Option<Bytes>) -> Result<Next, WalError> {
        let Some(found) = found else {
            // Deleted meanwhile: then something newer is there, or was.
            return self.verify_again(owner);
        };
        // It may be all that says that the end lies in a hole.
        let place = self.place(seq);
        let header = decode(&found, place).map_err(|flaw| owner.flawed(place, Lsn(0), flaw))?;
        if !header.kind.is_owners() {
            self.is_masked |= self.fenced.insert(seq);
            return self.check(owner);
        }
        if header.durable_seq < self.end || self.read_early.is_some() {
            self.candidates.clear();
            return self.check(owner);
        }
        if header.trim.place <= self.place(self.end) {
            if self.is_masked {
                // It may be an old one that landed again; what is newer is behind the fence.
                return self.verify_again(owner);
            }
            let expected = format!("an entry: number {seq} had it durable");
            let found = "a hole".to_owned();
            return Err(owner.corrupt(self.place(self.end), header.trim.lsn, expected, found));
        }
        sometimes!("object wal: fenced a hole that a deletion had left");
        self.entries.clear();
        self.candidates.clear();
        self.head = seq;
        self.durable_seq = header.durable_seq;
        Ok(Next::Ask(self.bar(owner)))
    }

    // --- seeded bug 23: the tail is read before it is fenced ---

    fn read_early(&mut self, owner: &Owner, found: Option<Bytes>) -> Result<Next, WalError> {
        let seq = self
            .entries
            .last_key_value()
            .map_or(self.durable_seq, |(seq, _)| *seq)
            + 1;
        let found = found.and_then(|found| Some((decode(&found, self.place(seq)).ok()?, found)));
        match found.filter(|(header, _)| header.kind.is_owners()) {
            Some(entry) => {
                self.entries.insert(seq, entry);
                self.phase = Phase::ReadingEarly;
                Ok(Next::Ask(self.get(seq + 1)))
            }
            None => {
                self.read_early = Some(seq);
                self.end = seq;
                Ok(Next::Ask(self.bar(owner)))
            }
        }
    }
}

fn first(found: Vec<Option<Bytes>>) -> Option<Bytes> {
    found.into_iter().next().flatten()
}
