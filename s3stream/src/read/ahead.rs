//! Who reads in sequence, how fast, and what is read ahead of them.
//!
//! *Owns*: recognizing readers by where their last fetch ended; their rates, windows and shares of
//! the budget.
//! *Does not own*: which blocks that are, loading them.
//!
//! Bytes are payload here, for that is what readers fetch: with the sizes of blocks something of every
//! block would stay outstanding behind its reader.
//!
//! Invariants
//! 1. Nothing is read ahead of a reader before its second fetch in sequence.
//! 2. What is read ahead of all readers and not yet fetched is at most the budget, and one block
//!    more for each grant.
//! 3. A reader has one grant at a time; it is given back when it is planned, so that what was
//!    granted before may still be on its way.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tidewater_types::{Instant, Offset, StreamId, mutant};

use crate::config::ReadConfig;

/// Readers remembered; the one that is given up first is forgotten first.
const READERS_MAX: usize = 1_024;
/// A reader that stays away for so many of its own pauses is given up, within these bounds: others may
/// have its share of the budget.
const PAUSES_AWAY: u32 = 8;
const AWAY_MIN: Duration = Duration::from_secs(1);
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Leave to read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    reader: u64,
    pub(crate) stream: StreamId,
    pub(crate) from: Offset,
    pub(crate) num_bytes: u64,
}

struct Reader {
    stream: StreamId,
    next: Offset,
    seen: Instant,
    /// Between two fetches, of late.
    pause: Duration,
    /// Bytes in a second.
    rate: u64,
    window: u64,
    /// Up to where it was read ahead, and how many bytes of that it has not fetched.
    ahead_to: Offset,
    ahead_bytes: u64,
    granted: u64,
}

/// The readers of late.
pub(crate) struct Readers {
    window_max: u64,
    /// A grant of so many bytes is not too small.
    piece: u64,
    total_max: u64,
    horizon: Duration,
    readers: BTreeMap<u64, Reader>,
    by_position: FxHashMap<(StreamId, Offset), u64>,
    /// When each of them is given up.
    by_patience: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Bytes read ahead of all of them, grants included.
    outstanding: u64,
}

impl Readers {
    /// `memory_bytes` is what all blocks in memory may take.
    pub(crate) fn new(config: &ReadConfig, memory_bytes: u64) -> Self {
        let total_max = memory_bytes / 100 * u64::from(config.ahead_percent);
        Self {
            window_max: config.ahead_bytes_max,
            piece: config.request_bytes_max.min(total_max / 8),
            total_max,
            horizon: config.ahead_horizon,
            readers: BTreeMap::new(),
            by_position: FxHashMap::default(),
            by_patience: BTreeSet::new(),
            next_id: 0,
            outstanding: 0,
        }
    }

    /// A fetch at `offset` was answered with `num_bytes` up to `next`: what shall be read ahead.
    /// Each grant must be given back by [`Readers::done`].
    pub(crate) fn fetched(
        &mut self,
        now: Instant,
        stream: StreamId,
        (offset, next): (Offset, Offset),
        num_bytes: u64,
    ) -> Option<Grant> {
        if self.window_max == 0 || next <= offset {
            return None;
        }
        let Some(id) = self.by_position.remove(&(stream, offset)) else {
            self.meet(now, stream, next);
            return None;
        };
        if let Some(other) = self.by_position.insert((stream, next), id) {
            self.forget_reader(other);
        }
        self.forget_away(now, id);
        let before = self.readers[&id].given_up();
        let (horizon, window_max) = (self.horizon, self.window_max);
        let room = self.total_max.saturating_sub(self.outstanding);
        let reader = self.readers.get_mut(&id).expect("found by its position");
        reader.advance(now, next, num_bytes, (horizon, window_max));
        self.by_patience.remove(&(before, id));
        self.by_patience.insert((reader.given_up(), id));
        // Past all that was read ahead nothing is left of it, however its bytes were counted.
        let is_past = next >= reader.ahead_to;
        let fetched_ahead = if is_past {
            reader.ahead_bytes
        } else {
            reader.ahead_bytes.min(num_bytes)
        };
        reader.ahead_bytes -= fetched_ahead;
        self.outstanding -= fetched_ahead;
        let room = (room + fetched_ahead).min(self.total_max);
        let wanted = reader.window.saturating_sub(reader.ahead_bytes);
        let num_bytes = if mutant!(96) {
            wanted
        } else {
            wanted.min(room)
        };
        // Small pieces would be small requests.
        let piece = self.piece.min(reader.window / 2);
        if reader.granted > 0 || num_bytes == 0 || num_bytes < piece {
            return None;
        }
        assert!(num_bytes <= room, "reading ahead stays within its share");
        reader.granted = num_bytes;
        self.outstanding += num_bytes;
        Some(Grant {
            reader: id,
            stream,
            from: reader.ahead_to.max(next),
            num_bytes,
        })
    }

    /// The grant is used for `num_bytes` up to `to`.
    pub(crate) fn done(&mut self, grant: &Grant, to: Offset, num_bytes: u64) {
        let Some(reader) = self.readers.get_mut(&grant.reader) else {
            return;
        };
        self.outstanding = self.outstanding - reader.granted + num_bytes;
        reader.granted = 0;
        reader.ahead_to = reader.ahead_to.max(to);
        reader.ahead_bytes += num_bytes;
    }

    fn meet(&mut self, now: Instant, stream: StreamId, next: Offset) {
        if self.readers.len() >= READERS_MAX {
            let first = self.by_patience.first().map(|(_, id)| *id);
            first.into_iter().for_each(|id| self.forget(id));
        }
        let reader = Reader {
            stream,
            next,
            seen: now,
            pause: AWAY_MAX,
            rate: 0,
            window: 0,
            ahead_to: next,
            ahead_bytes: 0,
            granted: 0,
        };
        self.next_id += 1;
        // Two readers may stand at one place; the later one is known by it.
        if let Some(other) = self.by_position.insert((stream, next), self.next_id) {
            self.forget_reader(other);
        }
        self.by_patience.insert((reader.given_up(), self.next_id));
        self.readers.insert(self.next_id, reader);
    }

    /// Only when the budget is short: somebody else may need what they do not fetch.
    fn forget_away(&mut self, now: Instant, except: u64) {
        if self.outstanding + self.piece <= self.total_max {
            return;
        }
        let away = self
            .by_patience
            .iter()
            .take_while(|(until, _)| *until < now);
        let away = away.map(|(_, id)| *id).filter(|id| *id != except);
        for id in away.collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(place) = self.forget_reader(id) {
            self.by_position.remove(&place);
        }
    }

    fn forget_reader(&mut self, id: u64) -> Option<(StreamId, Offset)> {
        let reader = self.readers.remove(&id)?;
        self.by_patience.remove(&(reader.given_up(), id));
        self.outstanding -= reader.ahead_bytes + reader.granted;
        Some((reader.stream, reader.next))
    }
}

impl Reader {
    /// When it has been away for too long.
    fn given_up(&self) -> Instant {
        let away = self.pause.saturating_mul(PAUSES_AWAY);
        self.seen.after(away.clamp(AWAY_MIN, AWAY_MAX))
    }

    fn advance(
        &mut self,
        now: Instant,
        next: Offset,
        num_bytes: u64,
        (horizon, window_max): (Duration, u64),
    ) {
        let pause = now.since(self.seen);
        // The longest of late counts: a consumer that works on what it read comes back.
        self.pause = pause.max(self.pause.min(AWAY_MAX) / 2);
        let nanos = pause.as_nanos().max(1_000);
        let rate = u128::from(num_bytes) * 1_000_000_000 / nanos;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.rate = if self.rate == 0 {
            rate
        } else {
            self.rate.midpoint(rate)
        };
        let reach = u128::from(self.rate) * horizon.as_nanos() / 1_000_000_000;
        let reach = u64::try_from(reach).unwrap_or(u64::MAX);
        // From a fetch to full speed in two: where a request takes long, each step costs as much.
        let step = self.window.max(num_bytes).saturating_mul(4);
        self.window = step.min(reach.max(num_bytes)).min(window_max);
        (self.seen, self.next) = (now, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId(1);
    const MIB: u64 = 1 << 20;

    fn readers(window_max: u64, total_max: u64) -> Readers {
        let config = ReadConfig {
            ahead_bytes_max: window_max,
            ahead_percent: 100,
            ahead_horizon: Duration::from_secs(2),
            ..ReadConfig::default()
        };
        Readers::new(&config, total_max)
    }

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// Fetches of 1 MiB and one offset, each `pause_ms` after the last; the sizes of the grants,
    /// each used at once.
    fn sequence(readers: &mut Readers, stream: StreamId, pause_ms: u64, fetches: u64) -> Vec<u64> {
        let mut grants = Vec::new();
        for fetch in 0..fetches {
            let range = (Offset(fetch), Offset(fetch + 1));
            let grant = readers.fetched(at(fetch * pause_ms), stream, range, MIB);
            if let Some(grant) = grant {
                let to = Offset(grant.from.0 + grant.num_bytes / MIB);
                readers.done(&grant, to, grant.num_bytes);
                grants.push(grant.num_bytes / MIB);
            }
        }
        grants
    }

    #[test]
    fn random_reads_are_not_read_ahead_of() {
        let mut readers = readers(16 * MIB, 32 * MIB);
        for read in 0..5_000u64 {
            let offset = Offset(read * 7919 % 10_007 * 2);
            let next = Offset(offset.0 + 1);
            assert_eq!(readers.fetched(at(read), STREAM, (offset, next), MIB), None);
        }
        assert!(readers.readers.len() <= READERS_MAX);
        assert_eq!(readers.by_position.len(), readers.readers.len());
    }

    #[test]
    fn the_window_grows_with_the_rate_up_to_its_bound() {
        // 100 MiB in a second: more than the bound in two.
        let fast = sequence(&mut readers(16 * MIB, 32 * MIB), STREAM, 10, 60);
        assert_eq!(fast[..3], [4, 13, 4], "it grows from the second fetch on");
        assert_eq!(
            fast.last(),
            Some(&4),
            "then it is filled up by whole requests"
        );
        assert!(fast.iter().all(|grant| *grant <= 16), "{fast:?}");
        // 2 MiB in a second: 4 MiB in two.
        let slow = sequence(&mut readers(16 * MIB, 32 * MIB), STREAM, 500, 60);
        assert!(slow.iter().all(|grant| *grant <= 4), "{slow:?}");
        // 10 KiB in a second: no more than it fetches.
        let crawling = sequence(&mut readers(16 * MIB, 32 * MIB), STREAM, 100_000, 60);
        assert!(crawling.iter().all(|grant| *grant == 1), "{crawling:?}");
    }

    #[test]
    fn all_readers_together_stay_within_the_budget() {
        let mut readers = readers(16 * MIB, 20 * MIB);
        for stream in 0..10 {
            sequence(&mut readers, StreamId(stream), 1, 6);
            assert!(readers.outstanding <= 20 * MIB);
        }
        let ahead = readers.readers.values().map(|reader| reader.ahead_bytes);
        assert_eq!(ahead.sum::<u64>(), readers.outstanding);
        // Those who stopped give way.
        let much_later = 6 + 60_000;
        for fetch in 6..12 {
            let range = (Offset(fetch), Offset(fetch + 1));
            readers.fetched(at(much_later + fetch), StreamId(9), range, MIB);
        }
        assert_eq!(readers.readers.len(), 1);
        assert_eq!(readers.by_patience.len(), 1);
    }

    #[test]
    fn who_fetched_quickly_and_left_gives_way_soon_and_who_comes_rarely_does_not() {
        let mut readers = readers(16 * MIB, 20 * MIB);
        let (rare, quick, other) = (StreamId(1), StreamId(2), StreamId(3));
        sequence(&mut readers, rare, 2_000, 8);
        // From 14 s on, and for a second: its pauses are of 10 ms.
        for fetch in 0..100 {
            let range = (Offset(fetch), Offset(fetch + 1));
            if let Some(grant) = readers.fetched(at(14_000 + fetch * 10), quick, range, MIB) {
                let to = Offset(grant.from.0 + grant.num_bytes / MIB);
                readers.done(&grant, to, grant.num_bytes);
            }
        }
        let of = |readers: &Readers, stream| readers.readers.values().any(|r| r.stream == stream);
        let short = |readers: &mut Readers, ms: u64| {
            readers.outstanding += 20 * MIB;
            for fetch in 0_u64..2 {
                let range = (Offset(ms + fetch), Offset(ms + fetch + 1));
                readers.fetched(at(ms + fetch), other, range, MIB);
            }
            readers.outstanding -= 20 * MIB;
        };
        short(&mut readers, 15_500);
        assert!(of(&readers, quick) && of(&readers, rare));
        short(&mut readers, 20_000);
        assert!(!of(&readers, quick) && of(&readers, rare));
        short(&mut readers, 50_000);
        assert!(!of(&readers, rare));
    }

    #[test]
    fn a_grant_that_found_nothing_is_given_back() {
        let mut readers = readers(16 * MIB, 32 * MIB);
        readers.fetched(at(0), STREAM, (Offset(0), Offset(1)), MIB);
        let grant = readers.fetched(at(1), STREAM, (Offset(1), Offset(2)), MIB);
        let grant = grant.unwrap();
        assert_eq!(grant.from, Offset(2));
        let meanwhile = readers.fetched(at(2), STREAM, (Offset(2), Offset(3)), MIB);
        assert_eq!(meanwhile, None, "one grant at a time");
        readers.done(&grant, Offset(2), 0);
        assert_eq!(readers.outstanding, 0);
    }
}
