//! Reading the log from its trim point to its end.
//!
//! *Owns*: which entries come next, that they follow each other, what is damage.
//! *Does not own*: where the log begins and ends.
//!
//! Invariants
//! 1. Every entry with frames begins at the LSN where the one before it ended.
//! 2. Between the trim point and the end nothing is missing.
//!
//! *IO: none*

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewater_types::{Epoch, Lsn};

use crate::error::WalError;
use crate::object::core::Item;
use crate::object::format::entry::{HEADER_BYTES, Header, Kind, TrimPoint, decode, frames};
use crate::object::format::{Place, prefix};
use crate::object::owner::Owner;
use crate::port::FRAME_HEAD_BYTES_MAX;

/// Entries read at a time.
const READ_MAX: usize = 16;

/// What to read next.
#[derive(Debug)]
pub(crate) enum More {
    /// These.
    Get(Vec<Place>),
    /// Nothing: the log is read.
    Done,
}

/// What is kept of the log in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    /// All frames; a log whose entries take more is refused.
    Frames { bytes_max: u64 },
    /// The first [`FRAME_HEAD_BYTES_MAX`] bytes of each frame.
    Heads,
}

impl Keep {
    /// Refuses a log whose entries take more than may be kept.
    pub(crate) fn check(self, owner: &Owner, num_bytes: u64) -> Result<(), WalError> {
        match self {
            Self::Frames { bytes_max: max } if num_bytes > max => Err(WalError::LogTooLarge {
                path: prefix(owner.node),
                num_bytes,
                max,
            }),
            Self::Frames { .. } | Self::Heads => Ok(()),
        }
    }

    /// What is kept of a frame: a part is a copy, so that the rest can go.
    fn of(self, frame: Bytes) -> Bytes {
        match self {
            Self::Frames { .. } => frame,
            Self::Heads => Bytes::copy_from_slice(&frame[..FRAME_HEAD_BYTES_MAX.min(frame.len())]),
        }
    }
}

/// The log as far as it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    next: Place,
    end: Place,
    lsn: Lsn,
    /// Entries of the last epoch that were read on the way.
    known: BTreeMap<u64, (Header, Bytes)>,
    asked: Vec<Place>,
    /// What was read, with its frames as far as they are kept.
    entries: Vec<(Header, Vec<(Lsn, Bytes)>)>,
    keep: Keep,
    pub(crate) num_bytes: u64,
}

impl Reading {
    pub(crate) fn new(
        trim: TrimPoint,
        end: Place,
        known: BTreeMap<u64, (Header, Bytes)>,
        keep: Keep,
    ) -> Self {
        Self {
            keep,
            next: trim.place,
            end,
            lsn: trim.entry_lsn,
            known,
            asked: Vec::new(),
            entries: Vec::new(),
            num_bytes: 0,
        }
    }

    /// Nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// LSN behind the last frame.
    pub(crate) fn end_lsn(&self) -> Lsn {
        self.lsn
    }

    pub(crate) fn num_entries(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn items(&self) -> Vec<Item> {
        let headers = self.entries.iter().map(|(header, _)| header);
        headers
            .map(|header| Item {
                place: header.place,
                lsn: header.lsn,
                end: header.end(),
            })
            .collect()
    }

    /// Every frame from `trimmed` on, in LSN order.
    pub(crate) fn frames(&self, trimmed: Lsn) -> impl Iterator<Item = (Lsn, Bytes)> {
        let all = self.entries.iter().flat_map(|(_, frames)| frames);
        all.filter(move |(lsn, _)| *lsn >= trimmed).cloned()
    }

    /// The frames of an entry, as far as they are kept.
    fn kept(&self, header: &Header, entry: &Bytes) -> Vec<(Lsn, Bytes)> {
        let payload = entry.slice(HEADER_BYTES..);
        let start = header.lsn.0;
        let frame = |place| self.keep.of(payload.slice(place));
        frames(&payload)
            .map(|(distance, place)| (Lsn(start + distance), frame(place)))
            .collect()
    }

    /// Goes on with what is known; says what to read.
    /// `last_of` tells the last number of an epoch that was listed: beyond it little is to be found.
    pub(crate) fn more(
        &mut self,
        owner: &Owner,
        last_of: impl Fn(Epoch) -> u64,
    ) -> Result<More, WalError> {
        while self.next.epoch == self.end.epoch
            && self.next < self.end
            && let Some((header, bytes)) = self.known.remove(&self.next.seq)
        {
            self.add(owner, header, bytes)?;
            self.next.seq += 1;
        }
        if self.next >= self.end {
            return Ok(More::Done);
        }
        let known = self.known.first_key_value();
        let known = known.map_or(u64::MAX, |(seq, _)| *seq);
        let mut place = self.next;
        while self.asked.len() < READ_MAX && place < self.end {
            let is_end = place.epoch == self.end.epoch;
            let to = if is_end {
                known
            } else {
                last_of(place.epoch) + 1
            };
            // The first one is asked for whatever was listed: it is where the log goes on.
            if place.seq >= to && place != self.next {
                if is_end {
                    break;
                }
                place = Place::new(Epoch(place.epoch.0 + 1), 1);
                continue;
            }
            self.asked.push(place);
            place.seq += 1;
        }
        Ok(More::Get(self.asked.clone()))
    }

    /// Takes what was asked for.
    pub(crate) fn take(
        &mut self,
        owner: &Owner,
        found: Vec<Option<Bytes>>,
    ) -> Result<(), WalError> {
        let asked = std::mem::take(&mut self.asked);
        for (place, found) in asked.into_iter().zip(found) {
            if place < self.next {
                // Its epoch ended before.
                continue;
            }
            if place > self.next {
                // More came into an epoch than was listed: it is asked for next.
                return Ok(());
            }
            let may_end = place.epoch < self.end.epoch;
            let (header, bytes) = self.decode(owner, place, found)?;
            if !header.kind.is_owners() {
                if !may_end {
                    return Err(self.lost(owner, place, "a fence"));
                }
                self.next = Place::new(Epoch(place.epoch.0 + 1), 1);
                continue;
            }
            self.add(owner, header, bytes)?;
            self.next = Place::new(place.epoch, place.seq + 1);
        }
        Ok(())
    }

    /// The entry at `place`, which must be there.
    pub(crate) fn decode(
        &self,
        owner: &Owner,
        place: Place,
        found: Option<Bytes>,
    ) -> Result<(Header, Bytes), WalError> {
        let Some(bytes) = found else {
            return Err(self.lost(owner, place, "no object"));
        };
        let header = decode(&bytes, place).map_err(|flaw| owner.flawed(place, self.lsn, flaw))?;
        Ok((header, bytes))
    }

    fn lost(&self, owner: &Owner, place: Place, found: &str) -> WalError {
        let expected = "an entry that was durable".to_owned();
        owner.corrupt(place, self.lsn, expected, found.to_owned())
    }

    fn add(&mut self, owner: &Owner, header: Header, bytes: Bytes) -> Result<(), WalError> {
        if header.wal != owner.wal || header.lsn != self.lsn {
            let expected = format!("write-ahead log {} at lsn {}", owner.wal, self.lsn);
            let found = format!("write-ahead log {} at lsn {}", header.wal, header.lsn);
            return Err(owner.corrupt(header.place, self.lsn, expected, found));
        }
        debug_assert!(header.kind == Kind::Data || header.payload_bytes == 0);
        self.lsn = header.end();
        self.num_bytes += bytes.len() as u64;
        let kept = self.kept(&header, &bytes);
        self.entries.push((header, kept));
        Ok(())
    }
}
