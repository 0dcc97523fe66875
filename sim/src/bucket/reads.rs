//! What a read of the simulated store gives.
//!
//! *Owns*: ranges, and answers that are not what is stored.
//! *Does not own*: whether and when an answer comes.
//!
//! Invariants
//! 1. What is garbled on its way is stored as it was; of one object that happens once.
//!
//! *IO: none*

use std::ops::Range;

use bytes::Bytes;
use tidewater_bucket::BucketError;

use super::State;
use super::faults::Fate;

/// Where objects lie whose readers ask again before they tell of damage.
const READ_AGAIN: [&str; 2] = ["data/", "meta/"];

impl State {
    /// As [`State::get`], with a bit flipped on the way now and then.
    pub(super) fn read(
        &mut self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, BucketError> {
        let bytes = self.get(key, range)?;
        let may = READ_AGAIN.iter().any(|prefix| key.starts_with(prefix));
        let again = self.garbled.contains(key);
        if !may || again || bytes.is_empty() || !self.rng.chance(self.faults.garbled) {
            return Ok(bytes);
        }
        *self.counts.entry(Fate::Garbled).or_default() += 1;
        self.garbled.insert(key.to_owned());
        let mut wrong = bytes.to_vec();
        let at = self.rng.index(wrong.len());
        wrong[at] ^= 1 << self.rng.below(8);
        Ok(Bytes::from(wrong))
    }

    pub(super) fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, BucketError> {
        let object = self.find(key)?;
        let Some(Range { start, end }) = range else {
            return Ok(object.clone());
        };
        let size = object.len() as u64;
        if start > end {
            let cause = format!("range {start}..{end} ends before it starts");
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause,
            });
        }
        if end > size {
            return Err(BucketError::Short {
                key: key.to_owned(),
                size,
                start,
                end,
            });
        }
        let place = |position: u64| usize::try_from(position).expect("inside the object");
        Ok(object.slice(place(start)..place(end)))
    }
}
