//! The on-disk format of dm-log-writes: a super block, then a header sector for each entry,
//! followed by the data that was written.
//!
//! *Owns*: reading it. All numbers are little-endian; `sector` and `nr_sectors` count sectors of
//! the size the super block states. Source: Documentation/admin-guide/device-mapper/log-writes.rst
//! and drivers/md/dm-log-writes.c of the Linux kernel, version 1 of the format.
//! *Does not own*: what a crash makes of the entries (replay.rs).
//!
//! Invariants
//! 1. Nothing is allocated for a length that the file only states: memory grows with what is read.
//!
//! *IO: from any reader*

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::CrashError;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
const METADATA: u64 = 16;
/// Bytes of an entry's header in front of a mark's text.
const HEADER_BYTES: usize = 32;
/// No device here is larger: positions stay far from overflow.
const DEVICE_BYTES_MAX: u64 = 1 << 40;

/// What happened on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Bytes were written.
    Write { position: u64, data: Bytes },
    /// Bytes were given up; they read as anything.
    Discard { position: u64, num_bytes: u64 },
    /// A message to the target.
    Mark(String),
    /// Nothing but the flush.
    Nothing,
}

/// One entry of the log, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Everything in front of this entry that completed is durable.
    pub(super) flush: bool,
    /// The entry's own write is durable.
    pub(super) fua: bool,
    /// A file system's own bookkeeping.
    pub(super) metadata: bool,
    pub(super) action: Action,
}

/// What is wrong with a log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) position: u64,
    pub(super) expected: &'static str,
    pub(super) found: String,
}

/// The number of entries a log has now.
pub(super) fn num_entries(source: impl Read) -> Result<u64, Wrong> {
    let first = Log { source, at: 0 }.take(512, "a super block of dm-log-writes")?;
    let [_, _, num_entries] = words(&first, 0);
    Ok(num_entries)
}

/// Reads a whole log from its first byte on, and no further than its last entry.
pub(super) fn read(source: impl Read) -> Result<Vec<Entry>, Wrong> {
    let mut log = Log { source, at: 0 };
    let first = log.take(512, "a super block of dm-log-writes")?;
    let [magic, version, num_entries] = words(&first, 0);
    if (magic, version) != (MAGIC, VERSION) {
        let found = format!("{magic:#x} of version {version}");
        return Err(wrong(0, "dm-log-writes of version 1", found));
    }
    let sector_bytes = u32::from_le_bytes(first[24..28].try_into().expect("4 bytes"));
    if !(512..=65_536).contains(&sector_bytes) || !sector_bytes.is_power_of_two() {
        return Err(wrong(24, "a sector size", sector_bytes.to_string()));
    }
    log.take(u64::from(sector_bytes) - 512, "the first sector")?;
    let mut entries = Vec::new();
    for _ in 0..num_entries {
        entries.push(log.entry(u64::from(sector_bytes))?);
    }
    Ok(entries)
}

impl Wrong {
    /// The error about the log in the file at `path`.
    pub(super) fn in_file(self, path: &Path) -> CrashError {
        CrashError::Format {
            path: path.display().to_string(),
            position: self.position,
            expected: self.expected,
            found: self.found,
        }
    }
}

struct Log<R> {
    source: R,
    at: u64,
}

impl<R: Read> Log<R> {
    fn take(&mut self, num_bytes: u64, expected: &'static str) -> Result<Vec<u8>, Wrong> {
        let mut bytes = Vec::new();
        let read = (&mut self.source).take(num_bytes).read_to_end(&mut bytes);
        let found = match read {
            Ok(_) if bytes.len() as u64 == num_bytes => {
                self.at += num_bytes;
                return Ok(bytes);
            }
            Ok(num_read) => format!("{num_read} bytes and the end"),
            Err(cause) => cause.to_string(),
        };
        Err(wrong(self.at, expected, found))
    }

    fn entry(&mut self, sector_bytes: u64) -> Result<Entry, Wrong> {
        let start = self.at;
        let header = self.take(sector_bytes, "the header of an entry")?;
        let [place, num_sectors, flags, data_len] = words(&header, 0);
        if flags & !(FLUSH | FUA | DISCARD | MARK | METADATA) != 0 {
            return Err(wrong(start, "flags of version 1", format!("{flags:#x}")));
        }
        let bytes = |count: u64| {
            count
                .checked_mul(sector_bytes)
                .filter(|bytes| *bytes <= DEVICE_BYTES_MAX)
                .ok_or_else(|| wrong(start, "a place on a device", format!("sector {count}")))
        };
        let (position, num_bytes) = (bytes(place)?, bytes(num_sectors)?);
        let action = if flags & MARK != 0 {
            let text = usize::try_from(data_len)
                .ok()
                .and_then(|len| header.get(HEADER_BYTES..HEADER_BYTES.checked_add(len)?));
            let text = text.ok_or_else(|| {
                wrong(
                    start,
                    "a mark inside its sector",
                    format!("{data_len} bytes"),
                )
            })?;
            Action::Mark(String::from_utf8_lossy(text).into_owned())
        } else if flags & DISCARD != 0 {
            Action::Discard {
                position,
                num_bytes,
            }
        } else if num_bytes == 0 {
            Action::Nothing
        } else {
            let data = self.take(num_bytes, "the data of an entry")?.into();
            Action::Write { position, data }
        };
        Ok(Entry {
            flush: flags & FLUSH != 0,
            fua: flags & FUA != 0,
            metadata: flags & METADATA != 0,
            action,
        })
    }
}

fn wrong(position: u64, expected: &'static str, found: String) -> Wrong {
    Wrong {
        position,
        expected,
        found,
    }
}

/// `N` numbers at byte `at` of a sector.
fn words<const N: usize>(sector: &[u8], at: usize) -> [u64; N] {
    std::array::from_fn(|index| {
        let from = at + 8 * index;
        u64::from_le_bytes(sector[from..from + 8].try_into().expect("8 bytes"))
    })
}

/// A log as the kernel would write it.
#[cfg(test)]
pub(super) fn encode(entries: &[Entry]) -> Bytes {
    let mut log = Vec::new();
    for word in [MAGIC, VERSION, entries.len() as u64, 512] {
        log.extend_from_slice(&word.to_le_bytes());
    }
    log.resize(512, 0);
    for entry in entries {
        let mut flags = (u64::from(entry.flush) * FLUSH)
            | (u64::from(entry.fua) * FUA)
            | (u64::from(entry.metadata) * METADATA);
        let (mut place, mut num_sectors, mut data_len) = (0, 0, 0);
        let (mut text, mut body) = (Vec::new(), Vec::new());
        match &entry.action {
            Action::Write { position, data } => {
                (place, num_sectors) = (position / 512, data.len() as u64 / 512);
                body = data.to_vec();
            }
            Action::Discard {
                position,
                num_bytes,
            } => {
                (place, num_sectors) = (position / 512, num_bytes / 512);
                flags |= DISCARD;
            }
            Action::Mark(mark) => {
                (data_len, flags) = (mark.len() as u64, flags | MARK);
                text = mark.clone().into_bytes();
            }
            Action::Nothing => {}
        }
        let start = log.len();
        for word in [place, num_sectors, flags, data_len] {
            log.extend_from_slice(&word.to_le_bytes());
        }
        log.extend_from_slice(&text);
        log.resize(start + 512, 0);
        log.extend_from_slice(&body);
    }
    log.into()
}

#[cfg(test)]
mod tests {
    use super::{Action, Entry, encode, num_entries, read};
    use bytes::Bytes;

    fn sample() -> Vec<Entry> {
        let plain = |action| Entry {
            flush: false,
            fua: false,
            metadata: false,
            action,
        };
        let data = Bytes::from(vec![7; 1024]);
        vec![
            plain(Action::Write {
                position: 4096,
                data: data.clone(),
            }),
            Entry {
                flush: true,
                fua: false,
                metadata: false,
                action: Action::Nothing,
            },
            plain(Action::Mark("a1,2".to_owned())),
            plain(Action::Discard {
                position: 512,
                num_bytes: 1024,
            }),
            Entry {
                flush: true,
                fua: true,
                metadata: true,
                action: Action::Write { position: 0, data },
            },
        ]
    }

    #[test]
    fn every_kind_of_entry_is_read() {
        assert_eq!(read(&*encode(&sample())), Ok(sample()));
        assert_eq!(num_entries(&*encode(&sample())), Ok(5));
        // What follows the last entry is nobody's.
        let more = [encode(&sample()), Bytes::from(vec![1; 4096])].concat();
        assert_eq!(read(&*more), Ok(sample()));
    }

    #[test]
    fn bytes_of_the_kernel_are_read() {
        // Super block and one mark, written out by hand from the kernel's structures.
        let mut log = vec![0; 1024];
        log[..8].copy_from_slice(b"rhswfsj\0");
        log[8] = 1;
        log[16] = 1;
        log[25] = 2;
        log[512 + 16] = 8;
        log[512 + 24] = 5;
        log[512 + 32..512 + 37].copy_from_slice(b"hello");
        let found = read(&*log).unwrap();
        assert_eq!(found[0].action, Action::Mark("hello".to_owned()));
    }

    #[test]
    fn a_log_cut_anywhere_is_refused_and_nothing_panics() {
        let whole = encode(&sample());
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn absurd_numbers_are_refused() {
        let whole = encode(&sample()).to_vec();
        for at in [8, 512, 520, 528] {
            let mut bad = whole.clone();
            bad[at..at + 8].fill(0xff);
            assert!(read(&*bad).is_err(), "at {at}");
        }
    }
}
