//! From a recorded log to the image of a device after a crash.
//!
//! *Owns*: where the crash lies, which of the unflushed sectors landed, what is durable.
//! *Does not own*: the log's format (log.rs), what the image must hold (judge.rs).
//!
//! Invariants
//! 1. Everything in front of the last completed flush has landed; FUA writes have landed.
//! 2. Of the writes behind it, each sector of 512 or 4,096 bytes landed or not, as the seed says,
//!    and in the order of the log: what is newer and durable is never taken back.
//!    A file system's own metadata is torn between its blocks alone.
//! 3. Writes that a flush failed to cover (`failed_at`) are covered by no later one: their pages
//!    count as clean, landed or not.
//! 4. dm-log-writes puts an unflushed write into its log only together with the flush that
//!    covers it. So the entries between two flushes were all submitted before the second
//!    completed, and every subset of them is what a crash in between could have left.
//!
//! *IO: none*

use std::ops::RangeInclusive;

use super::log::{Action, Entry};
use crate::disk::image::Image;
use crate::rng::Rng;

/// What of a file system's own metadata lands whole or not at all. ext4 checks a checksum over its
/// superblock before it looks at the journal, so a superblock torn inside its block is never
/// mounted again: that is between it and the drive, and no matter of the log in it.
const METADATA_BYTES: usize = 4096;

/// How the writes behind the last flush landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// None of them.
    None,
    /// Each whole or not at all.
    Writes,
    /// Any subset of sectors.
    Sectors,
    /// All of them.
    All,
}

/// A crash, drawn from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// Its number in the campaign.
    pub(super) number: u64,
    /// Entries of the log in front of it.
    pub(super) until: usize,
    /// What is written whole or not at all, in bytes.
    pub(super) sector_bytes: usize,
    pub(super) landing: Landing,
    /// Of 1,000 sectors or writes, how many landed.
    share: u32,
}

impl Crash {
    /// The crash `number` of the campaign `seed`: somewhere in `span`, one in eight close behind
    /// one of the `hot` entries, where whole lives begin.
    pub(super) fn draw(seed: u64, number: u64, span: RangeInclusive<usize>, hot: &[usize]) -> Self {
        let mut rng = rng_of(seed, number);
        let (from, to) = (*span.start(), *span.end());
        let anywhere = from + rng.index(to - from + 1);
        let until = if !hot.is_empty() && rng.chance(125) {
            (hot[rng.index(hot.len())] + 1 + rng.index(4)).clamp(from, to)
        } else {
            anywhere
        };
        let landings = [
            Landing::Sectors,
            Landing::Sectors,
            Landing::Sectors,
            Landing::Writes,
            Landing::None,
            Landing::All,
        ];
        Self {
            number,
            until,
            sector_bytes: [512, 4096][rng.index(2)],
            landing: landings[rng.index(landings.len())],
            share: [100, 500, 900][rng.index(3)],
        }
    }

    /// The image this crash leaves of a device that held `base` when the log began.
    pub(super) fn image(
        &self,
        seed: u64,
        base: &Image,
        log: &[Entry],
        failed_at: Option<usize>,
    ) -> Image {
        let mut rng = Rng::new(seed ^ self.number.rotate_left(40), "crash landing");
        let mut device = Replay {
            durable: base.clone(),
            behind: Vec::new(),
        };
        for (index, entry) in log[..self.until].iter().enumerate() {
            if failed_at == Some(index) {
                device.land(self, &mut rng);
            }
            device.take(entry);
        }
        if failed_at == Some(self.until) {
            device.land(self, &mut rng);
        }
        device.land(self, &mut rng);
        device.durable
    }
}

/// The generator of everything about a crash but what landed.
pub(super) fn rng_of(seed: u64, number: u64) -> Rng {
    Rng::new(seed ^ number.rotate_left(40), "crash")
}

struct Replay<'a> {
    durable: Image,
    /// Since the last flush, in the order of the log.
    behind: Vec<&'a Entry>,
}

impl<'a> Replay<'a> {
    fn take(&mut self, entry: &'a Entry) {
        if entry.flush {
            for covered in std::mem::take(&mut self.behind) {
                apply(&mut self.durable, &covered.action, usize::MAX, |_| true);
            }
        }
        if !matches!(entry.action, Action::Mark(_) | Action::Nothing) {
            self.behind.push(entry);
        }
    }

    /// What is behind the last flush lands as `crash` says, and is behind it no more.
    fn land(&mut self, crash: &Crash, rng: &mut Rng) {
        for entry in std::mem::take(&mut self.behind) {
            let whole = match crash.landing {
                _ if entry.fua => Some(true),
                Landing::None => Some(false),
                Landing::All => Some(true),
                Landing::Writes => Some(rng.chance(crash.share)),
                Landing::Sectors => None,
            };
            let unit = if entry.metadata {
                METADATA_BYTES
            } else {
                crash.sector_bytes
            };
            apply(&mut self.durable, &entry.action, unit, |_| {
                whole.unwrap_or_else(|| rng.chance(crash.share))
            });
        }
    }
}

/// Applies the chosen sectors. A discard is seen as zeros.
fn apply(
    image: &mut Image,
    action: &Action,
    sector_bytes: usize,
    mut choose: impl FnMut(u64) -> bool,
) {
    match action {
        Action::Write { position, data } => {
            for (index, sector) in data.chunks(sector_bytes.min(data.len().max(1))).enumerate() {
                let at = position + (index * sector_bytes.min(data.len())) as u64;
                if choose(at) {
                    image.write(at, sector);
                }
            }
        }
        Action::Discard {
            position,
            num_bytes,
        } => {
            if choose(*position) {
                let end = image.num_bytes().min(position.saturating_add(*num_bytes));
                let len = usize::try_from(end.saturating_sub(*position)).unwrap_or(0);
                image.write((*position).min(end), &vec![0; len]);
            }
        }
        Action::Mark(_) | Action::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Crash, Landing};
    use crate::crash::log::{Action, Entry};
    use crate::disk::image::Image;
    use bytes::Bytes;

    fn write(position: u64, byte: u8) -> Entry {
        Entry {
            flush: false,
            fua: false,
            metadata: false,
            action: Action::Write {
                position,
                data: Bytes::from(vec![byte; 4096]),
            },
        }
    }

    fn flush() -> Entry {
        Entry {
            flush: true,
            fua: false,
            metadata: false,
            action: Action::Nothing,
        }
    }

    fn crash(until: usize, landing: Landing) -> Crash {
        Crash {
            number: 1,
            until,
            sector_bytes: 512,
            landing,
            share: 500,
        }
    }

    fn first_bytes(log: &[Entry], crash: Crash, failed_at: Option<usize>) -> (u8, u8) {
        let mut base = Image::default();
        base.write(0, &[0; 8192]);
        let image = crash.image(9, &base, log, failed_at);
        (image.bytes(0, 1)[0], image.bytes(4096, 1)[0])
    }

    #[test]
    fn a_flush_covers_what_stands_in_front_of_it_and_nothing_else() {
        let log = [write(0, 1), flush(), write(4096, 2)];
        assert_eq!(first_bytes(&log, crash(3, Landing::None), None), (1, 0));
        assert_eq!(first_bytes(&log, crash(1, Landing::None), None), (0, 0));
        assert_eq!(first_bytes(&log, crash(3, Landing::All), None), (1, 2));
    }

    #[test]
    fn a_fua_write_has_landed_and_is_not_taken_back_by_an_older_one() {
        let mut fua = write(0, 2);
        fua.fua = true;
        let log = [write(0, 1), fua];
        for landing in [Landing::None, Landing::All, Landing::Sectors] {
            assert_eq!(first_bytes(&log, crash(2, landing), None).0, 2);
        }
    }

    #[test]
    fn a_write_that_a_failed_flush_left_behind_is_covered_by_no_later_flush() {
        let log = [write(0, 1), write(4096, 2), flush()];
        assert_eq!(first_bytes(&log, crash(3, Landing::None), Some(1)), (0, 2));
        // Written again it is covered as any other.
        let log = [write(0, 1), write(0, 1), flush()];
        assert_eq!(first_bytes(&log, crash(3, Landing::None), Some(1)), (1, 0));
    }

    #[test]
    fn sectors_land_one_by_one() {
        let log = [write(0, 1)];
        let mut base = Image::default();
        base.write(0, &[0; 4096]);
        let image = crash(1, Landing::Sectors).image(9, &base, &log, None);
        let bytes = image.bytes(0, 4096);
        let landed: Vec<bool> = bytes.chunks(512).map(|sector| sector[0] == 1).collect();
        assert!(bytes.chunks(512).all(|s| s.iter().all(|b| *b == s[0])));
        assert!(landed.contains(&true) && landed.contains(&false));
    }

    #[test]
    fn metadata_of_a_file_system_is_not_torn_inside_a_block() {
        let mut metadata = write(0, 1);
        metadata.metadata = true;
        let mut base = Image::default();
        base.write(0, &[0; 4096]);
        for seed in 0..20 {
            let log = [metadata.clone()];
            let bytes = crash(1, Landing::Sectors)
                .image(seed, &base, &log, None)
                .bytes(0, 4096);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        }
    }

    #[test]
    fn the_same_number_gives_the_same_crash() {
        let until = |number| Crash::draw(1, number, 2..=90, &[40]).until;
        assert_eq!(until(5), until(5));
        let all: Vec<usize> = (0..400).map(until).collect();
        assert!(all.iter().all(|until| (2..=90).contains(until)));
        assert!(all.contains(&2) && all.contains(&90));
        let hot = all.iter().filter(|until| (41..=44).contains(*until));
        assert!(hot.count() > 40, "one in eight is close behind a hot entry");
    }
}
