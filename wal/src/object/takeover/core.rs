//! The takeover: from what lies in the bucket to a log that is ours.
//!
//! *Owns*: the order of listing, claiming, fencing, reading and the first entry of one's own.
//! *Does not own*: the requests and their repetition (the driver settles each), the chain of one
//! epoch (`chain.rs`), reading the log (`reading.rs`).
//!
//! Invariants
//! 1. Nothing is created before the WAL is known to be the one asked for.
//! 2. An epoch is claimed before the tail of the one below is read.
//! 3. A chain's end is believed only after a listing made behind it shows no entry that had it
//!    durable.
//! 4. The log is ours, and anything is handed out, only once our number 1 is created.
//! 5. Damage is reported only while nobody has taken over from us.
//! 6. However many openings failed before, an opening looks at a bounded number of epochs without
//!    entries: whoever crossed some leaves a bridge over them.
//!
//! *IO: none*

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewater_bucket::ListPage;
use tidewater_types::{Epoch, Lsn, WalId, mutant, sometimes};

use super::ask::{Answer, Ask};
use super::chain::{Chain, Next};
use super::reading::{Keep, More, Reading};
use crate::config::Identity;
use crate::error::WalError;
use crate::object::format::entry::{BRIDGE_SEQ, HEADER_BYTES, Header, Kind, TrimPoint, decode};
use crate::object::format::{Place, prefix};
use crate::object::owner::Owner;

/// Owners that may come in between while we open.
const CLAIMS_MAX: u32 = 16;

/// What the log must be, and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// There is none: found it.
    Create,
    /// There is one: take it over.
    Existing,
    /// Found another one, whatever is there.
    Replace,
}

/// What is waited for.
#[derive(Debug)]
enum Phase {
    Listing,
    Identity,
    Claiming,
    StartOf(Epoch),
    BridgeIn(Epoch),
    Chain,
    Bridging,
    NewestTrim(Place),
    Reading,
    Linking,
    /// Damage was found: is the WAL still ours to judge?
    Judging(WalError),
}

/// The takeover.
#[derive(Debug)]
pub(crate) struct Takeover {
    pub(crate) owner: Owner,
    identity: Identity,
    mode: Mode,
    window: u32,
    phase: Phase,
    /// Places and sizes.
    listed: BTreeMap<Place, u64>,
    claims: u32,
    claimed: bool,
    judged: bool,
    /// The epoch that founded the log.
    founding: Epoch,
    chain: Chain,
    /// Epochs without entries that were crossed, from the top down.
    crossed: Vec<Epoch>,
    keep: Keep,
    pub(crate) reading: Reading,
    pub(crate) trim: TrimPoint,
    /// Where the chain of the last owner ends.
    pub(crate) end: Option<Place>,
}

type Asked = Result<Ask, WalError>;

impl Takeover {
    /// `owner.wal` is the identifier a new WAL gets.
    pub(crate) fn new(
        owner: Owner,
        identity: Identity,
        mode: Mode,
        window: u32,
        keep: Keep,
    ) -> Self {
        Self {
            owner,
            identity,
            mode,
            window,
            phase: Phase::Listing,
            listed: BTreeMap::new(),
            claims: 0,
            claimed: false,
            judged: false,
            founding: Epoch(0),
            chain: Chain::default(),
            crossed: Vec::new(),
            keep,
            reading: Reading::new(
                TrimPoint::default(),
                Place::default(),
                BTreeMap::new(),
                keep,
            ),
            trim: TrimPoint::default(),
            end: None,
        }
    }

    /// Objects below the trim point that nothing needs: by their length none of them is a start,
    /// a fence or a barrier.
    pub(crate) fn sweep(&self) -> Vec<Place> {
        let below = self
            .listed
            .range(Place::new(self.founding, 0)..self.trim.place);
        below
            .filter(|(_, size)| **size > HEADER_BYTES as u64 || mutant!(20))
            .filter(|(place, _)| place.seq > 0)
            .map(|(place, _)| *place)
            .collect()
    }

    /// Bytes of the entry at `place`, if it was listed.
    pub(crate) fn size_of(&self, place: Place) -> Option<u64> {
        self.listed.get(&place).copied()
    }

    /// Takes the answer to what was asked last; says what to ask next.
    pub(crate) fn step(&mut self, answer: Answer) -> Asked {
        match self.go(answer) {
            Err(
                damage @ (WalError::Corrupt { .. }
                | WalError::NewerFormat { .. }
                | WalError::ForeignWal { .. }),
            ) if self.claimed && !self.judged => {
                self.judged = true;
                self.phase = Phase::Judging(damage);
                Ok(Ask::Get {
                    places: vec![Place::new(self.owner.epoch, 1)],
                })
            }
            other => other,
        }
    }

    fn go(&mut self, answer: Answer) -> Asked {
        let phase = std::mem::replace(&mut self.phase, Phase::Listing);
        match (phase, answer) {
            (Phase::Listing, Answer::Begin) => Ok(self.list(None)),
            (Phase::Listing, Answer::Page(page)) => self.listed(page),
            (Phase::Identity, Answer::Got(found)) => self.identify(one(found)),
            (Phase::Claiming, Answer::Ours) => self.claimed(),
            (Phase::Claiming, Answer::Foreign(found)) => self.claim_again(&found),
            (Phase::StartOf(epoch), Answer::Got(found)) => self.start_of(epoch, one(found)),
            (Phase::BridgeIn(epoch), Answer::Got(found)) => self.bridge_in(epoch, one(found)),
            (Phase::Bridging, Answer::Ours | Answer::Foreign(_)) => self.last_chain(),
            (Phase::Chain, answer) => {
                let next = self.chain.step(&self.owner, answer)?;
                self.chained(next)
            }
            (Phase::NewestTrim(place), Answer::Got(found)) => self.newest_trim(place, one(found)),
            (Phase::Reading, Answer::Got(found)) => {
                self.reading.take(&self.owner, found)?;
                self.read()
            }
            (Phase::Linking, Answer::Ours) => Ok(Ask::Done),
            (Phase::Linking, Answer::Foreign(found)) => {
                sometimes!("object wal: fenced while opening");
                Err(self.owner.foreign(self.link_place(), &found))
            }
            (Phase::Judging(damage), Answer::Got(found)) => match one(found) {
                Some(found) => Err(self.owner.foreign(self.link_place(), &found)),
                None => Err(damage),
            },
            (phase, answer) => unreachable!("{answer:?} in {phase:?}"),
        }
    }

    // --- whose it is, and claiming it ---

    fn list(&mut self, after: Option<String>) -> Ask {
        self.phase = Phase::Listing;
        let prefix = prefix(self.owner.node);
        Ask::List { prefix, after }
    }

    fn listed(&mut self, page: ListPage) -> Asked {
        let last = page.entries.last().map(|entry| entry.key.clone());
        for entry in page.entries {
            if let Some(place) = self.owner.place_of(&entry.key)? {
                self.listed.insert(place, entry.size);
            }
        }
        if page.more && last.is_some() {
            return Ok(self.list(last));
        }
        let path = prefix(self.owner.node);
        let last = self.listed.last_key_value().map(|(place, _)| place.epoch);
        match (last, self.mode) {
            (None, Mode::Existing) if !mutant!(53) => Err(WalError::Missing { path }),
            (None, _) => Ok(self.found(Epoch(0))),
            (Some(_), Mode::Create) => Err(WalError::Exists { path }),
            (Some(last), Mode::Replace) => Ok(self.found(last)),
            (Some(last), Mode::Existing) => {
                self.phase = Phase::Identity;
                self.owner.epoch = last;
                Ok(Ask::Get {
                    places: vec![Place::new(last, 0)],
                })
            }
        }
    }

    /// Founds a log in the epoch after `last`.
    fn found(&mut self, last: Epoch) -> Ask {
        let epoch = next(last);
        self.founding = epoch;
        self.claim(epoch)
    }

    fn identify(&mut self, found: Option<Bytes>) -> Asked {
        let epoch = self.owner.epoch;
        let start = self.decode_start(epoch, found)?;
        self.check_identity(&start)?;
        self.owner.wal = start.wal;
        Ok(self.claim(next(epoch)))
    }

    fn check_identity(&self, found: &Header) -> Result<(), WalError> {
        let path = prefix(self.owner.node);
        let Identity { cluster, node, wal } = self.identity;
        if found.cluster != cluster {
            let (expected, found) = (cluster, found.cluster);
            return Err(WalError::ForeignCluster {
                path,
                expected,
                found,
            });
        }
        if found.node != node {
            let (expected, found) = (node, found.node);
            return Err(WalError::ForeignNode {
                path,
                expected,
                found,
            });
        }
        match wal {
            Some(expected) if expected != found.wal => Err(foreign_wal(path, expected, found.wal)),
            _ => Ok(()),
        }
    }

    fn decode_start(&mut self, epoch: Epoch, found: Option<Bytes>) -> Result<Header, WalError> {
        let place = Place::new(epoch, 0);
        let Some(found) = found else {
            let expected = "the start of the epoch".to_owned();
            return Err(self
                .owner
                .corrupt(place, Lsn(0), expected, "no object".to_owned()));
        };
        let start = decode(&found, place).map_err(|flaw| self.owner.flawed(place, Lsn(0), flaw))?;
        if let Kind::Start { window, founding } = start.kind {
            self.founding = founding;
            self.chain = Chain::new(epoch, u64::from(window));
        }
        Ok(start)
    }

    fn claim(&mut self, epoch: Epoch) -> Ask {
        self.owner.epoch = epoch;
        self.phase = Phase::Claiming;
        let kind = Kind::Start {
            window: self.window,
            founding: self.founding,
        };
        let place = Place::new(epoch, 0);
        let body = self.owner.blank(kind, place).encode(&[]);
        Ask::Put { place, body }
    }

    fn claim_again(&mut self, found: &[u8]) -> Asked {
        sometimes!("object wal: epoch claimed by somebody else");
        self.claims += 1;
        if self.claims > CLAIMS_MAX {
            return Err(self.owner.foreign(Place::new(self.owner.epoch, 0), found));
        }
        self.listed.clear();
        Ok(self.list(None))
    }

    fn claimed(&mut self) -> Asked {
        self.claimed = true;
        if self.founding == self.owner.epoch {
            return Ok(self.link());
        }
        Ok(self.enter_chain())
    }

    // --- the chains below ---

    fn enter_chain(&mut self) -> Ask {
        let epoch = self.chain.epoch();
        let from = Place::new(epoch, 1);
        let to = Place::new(epoch, u64::MAX);
        let listed = self.listed.range(from..=to).map(|(place, _)| place.seq);
        self.phase = Phase::Chain;
        self.chain.begin(&self.owner, listed.collect())
    }

    fn chained(&mut self, next: Next) -> Asked {
        let end = match next {
            Next::Ask(ask) => {
                self.phase = Phase::Chain;
                return Ok(ask);
            }
            Next::End(end) => end,
        };
        let epoch = self.chain.epoch();
        self.end.get_or_insert(Place::new(epoch, end));
        if end <= 1 && self.founding != epoch {
            sometimes!("object wal: an epoch without entries");
            self.crossed.push(epoch);
            return Ok(self.ask_start(Epoch(epoch.0 - 1)));
        }
        match self.crossed.as_slice() {
            [top, _, ..] => Ok(self.bridge(*top, epoch)),
            _ => self.last_chain(),
        }
    }

    /// The chain with the last entries is known, or there is none.
    fn last_chain(&mut self) -> Asked {
        let (epoch, end) = (self.chain.epoch(), self.chain.end());
        if end <= 1 {
            return Ok(self.link());
        }
        let last = Place::new(epoch, end - 1);
        if let Some(header) = self.chain.header(last.seq) {
            return self.begin_reading(header.trim);
        }
        self.phase = Phase::NewestTrim(last);
        Ok(Ask::Get { places: vec![last] })
    }

    fn ask_start(&mut self, epoch: Epoch) -> Ask {
        self.phase = Phase::StartOf(epoch);
        Ask::Get {
            places: vec![Place::new(epoch, 0)],
        }
    }

    fn start_of(&mut self, epoch: Epoch, found: Option<Bytes>) -> Asked {
        let start = self.decode_start(epoch, found)?;
        self.check_wal(&start)?;
        let bridge = Place::new(epoch, BRIDGE_SEQ);
        if self.listed.get(&bridge) == Some(&(HEADER_BYTES as u64)) {
            self.phase = Phase::BridgeIn(epoch);
            let places = vec![bridge];
            return Ok(Ask::Get { places });
        }
        Ok(self.enter_chain())
    }

    fn check_wal(&self, found: &Header) -> Result<(), WalError> {
        if found.wal == self.owner.wal {
            return Ok(());
        }
        let path = self.owner.key(found.place);
        Err(foreign_wal(path, self.owner.wal, found.wal))
    }

    // --- over epochs without entries ---

    /// Number 2 of `epoch` may be a bridge that an earlier taker left.
    fn bridge_in(&mut self, epoch: Epoch, found: Option<Bytes>) -> Asked {
        let place = Place::new(epoch, BRIDGE_SEQ);
        let Some(found) = found else {
            return Ok(self.enter_chain());
        };
        let header =
            decode(&found, place).map_err(|flaw| self.owner.flawed(place, Lsn(0), flaw))?;
        self.check_wal(&header)?;
        match header.kind {
            Kind::Bridge { to } if to >= self.founding => {
                sometimes!("object wal: a bridge crossed");
                self.crossed.push(epoch);
                Ok(self.ask_start(to))
            }
            _ => Ok(self.enter_chain()),
        }
    }

    /// For whoever comes after us, should we not get to our number 1. Whatever stands there is as
    /// good, or does no harm.
    fn bridge(&mut self, top: Epoch, to: Epoch) -> Ask {
        self.phase = Phase::Bridging;
        let place = Place::new(top, BRIDGE_SEQ);
        let body = self.owner.blank(Kind::Bridge { to }, place).encode(&[]);
        Ask::Put { place, body }
    }

    fn newest_trim(&mut self, place: Place, found: Option<Bytes>) -> Asked {
        let header = self.reading.decode(&self.owner, place, found)?;
        self.begin_reading(header.0.trim)
    }

    // --- the log ---

    fn begin_reading(&mut self, trim: TrimPoint) -> Asked {
        self.trim = trim;
        let end = Place::new(self.chain.epoch(), self.chain.end());
        let listed = self.listed.range(trim.place..end.max(trim.place));
        let num_bytes: u64 = listed.map(|(_, size)| *size).sum();
        self.keep.check(&self.owner, num_bytes)?;
        self.reading = Reading::new(trim, end, self.chain.take_entries(), self.keep);
        self.read()
    }

    fn read(&mut self) -> Asked {
        let last_of = |epoch| {
            let all = Place::new(epoch, 0)..=Place::new(epoch, u64::MAX);
            self.listed
                .range(all)
                .next_back()
                .map_or(0, |(place, _)| place.seq)
        };
        match self.reading.more(&self.owner, last_of)? {
            More::Get(places) => {
                self.phase = Phase::Reading;
                Ok(Ask::Get { places })
            }
            More::Done => Ok(self.link()),
        }
    }

    fn link_place(&self) -> Place {
        Place::new(self.owner.epoch, 1)
    }

    /// The state at number 1: whoever creates it owns the log.
    fn link(&mut self) -> Ask {
        self.phase = Phase::Linking;
        let place = self.link_place();
        let lsn = self.reading.end_lsn();
        if self.reading.is_empty() {
            // Nothing is left to read: the log begins here.
            self.trim = TrimPoint {
                lsn,
                place,
                entry_lsn: lsn,
            };
        }
        let header = Header {
            lsn,
            durable: lsn,
            trim: self.trim,
            ..self.owner.blank(Kind::State, place)
        };
        let body = header.encode(&[]);
        Ask::Put { place, body }
    }
}

fn next(epoch: Epoch) -> Epoch {
    epoch.next().expect("2^64 epochs are never used up")
}

fn foreign_wal(path: String, expected: WalId, found: WalId) -> WalError {
    WalError::ForeignWal {
        path,
        expected,
        found,
    }
}

fn one(found: Vec<Option<Bytes>>) -> Option<Bytes> {
    found.into_iter().next().flatten()
}
