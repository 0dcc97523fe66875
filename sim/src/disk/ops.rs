//! One operation of the simulated disk: what it does when it starts and when it ends.
//!
//! *Owns*: the operations under way, which fault strikes one. *Does not own*: its time (device.rs), durability
//! (state.rs).
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::task::Waker;

use tidewater_wal::{AlignedBuf, Completion, DiskOp};
use tokio::sync::oneshot;

use super::faults::{CrashStyle, DiskFaults, DiskShape, Fault};
use super::image::Image;
use super::state::{Layers, Name, Write};
use crate::check::{values_in, values_word};
use crate::rng::Rng;

/// What unread memory holds.
const POISON: u8 = 0xa5;
/// Writes whose place is remembered.
const RECENT_WRITES: usize = 16;
pub(super) const EIO: i32 = 5;
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;
const ECANCELED: i32 = 125;

pub(super) struct State {
    pub(super) shape: DiskShape,
    pub(super) faults: DiskFaults,
    pub(super) rng: Rng,
    pub(super) layers: Layers,
    /// The user the device is open for.
    pub(super) session: u64,
    pub(super) open: bool,
    /// What the last user left under way does not keep the next one out.
    pub(super) late_landing: bool,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) next_pending: u64,
    pub(super) completions: VecDeque<Completion>,
    pub(super) waker: Option<Waker>,
    pub(super) num_ops: u64,
    /// The device is gone until it is opened again.
    pub(super) removed: Option<Removal>,
    pub(super) misdirect_next: bool,
    /// The next flush that has something to cover, or the next DSYNC write, lies.
    pub(super) lie_next: bool,
    /// What a read may give a block of, in place of what is there.
    pub(super) older: Option<Image>,
    /// The block that was read as it had been.
    pub(super) stale_at: Option<u64>,
    /// First bytes of each write taken since the last one that went astray.
    pub(super) since_astray: Vec<[u8; 4]>,
    /// Numbers of sectors that cannot be read until they are written again.
    pub(super) bad_sectors: BTreeSet<u64>,
    /// Where the last writes went, the newest last.
    pub(super) recent: VecDeque<u64>,
    /// Who wants to know that this many operations were taken.
    pub(super) watch: Option<(u64, oneshot::Sender<()>)>,
    pub(super) counts: BTreeMap<Fault, u64>,
    /// Users whose volume went elsewhere, by their sessions.
    pub(super) detached: BTreeMap<u64, Detached>,
}

/// How a device that is gone answers.
#[derive(Clone, Copy)]
pub(super) struct Removal {
    errno: i32,
    /// Its size, as whoever opened it remembers it.
    pub(super) num_bytes: u64,
}

/// A write under way when its user lost the volume, and its operation.
pub(super) type Stray = (Write, Pending);

/// A user whose volume is elsewhere.
pub(super) struct Detached {
    pub(super) completions: VecDeque<Completion>,
    pub(super) waker: Option<Waker>,
    /// Its size, as its user remembers it.
    pub(super) num_bytes: u64,
}

impl Detached {
    /// Ends `op` with an error.
    pub(super) fn fail(&mut self, id: u64, op: DiskOp) {
        let buf = match op {
            DiskOp::Read { buf, .. } | DiskOp::Write { buf, .. } => Some(buf),
            DiskOp::Flush => None,
        };
        self.completions.push_back(failed(id, buf));
    }
}

pub(super) fn failed(id: u64, buf: Option<AlignedBuf>) -> Completion {
    let result = Err(io::Error::from_raw_os_error(EIO));
    Completion { id, result, buf }
}

pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) session: u64,
    pub(super) op: Op,
}

pub(super) enum Op {
    Read {
        position: u64,
        buf: AlignedBuf,
    },
    Write {
        number: u64,
        buf: AlignedBuf,
        durable: bool,
    },
    Flush {
        mark: u64,
    },
}

impl Op {
    /// The payloads in a write, as a line of the trace names them.
    pub(super) fn values_held(&self) -> String {
        match self {
            Self::Write { buf, .. } => {
                let values = values_in(filled(buf));
                if values.is_empty() {
                    String::new()
                } else {
                    format!(" {}", values_word(&values))
                }
            }
            Self::Read { .. } | Self::Flush { .. } => String::new(),
        }
    }
}

impl State {
    pub(super) fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    pub(super) fn strikes(&mut self, fault: Fault, per_mille: u32) -> bool {
        let strikes = self.rng.chance(per_mille);
        if strikes {
            self.count(fault);
        }
        strikes
    }

    /// The user is gone; what must be dropped outside the lock.
    #[must_use]
    pub(super) fn end_session(&mut self) -> Vec<Completion> {
        self.open = false;
        self.waker = None;
        self.completions.drain(..).collect()
    }

    /// Power fails, or the device goes away: what is under way may land as its memory is now.
    pub(super) fn crash(&mut self, style: CrashStyle) {
        let before = self.layers.name;
        crash_layers(&mut self.layers, &self.pending, style, &mut self.rng);
        if before == Name::Linked && self.layers.name == Name::Missing {
            self.count(Fault::LostName);
        }
    }

    /// Whether the device goes away now.
    pub(super) fn removal_strikes(&mut self) -> bool {
        if self.removed.is_some() || !self.strikes(Fault::Removed, self.faults.removed) {
            return false;
        }
        let num_bytes = self.layers.cache.num_bytes();
        let errno = [EIO, ENXIO, ENODEV][self.rng.index(3)];
        let styles = [CrashStyle::None, CrashStyle::Writes, CrashStyle::Sectors];
        let style = styles[self.rng.index(3)];
        self.crash(style);
        self.removed = Some(Removal { errno, num_bytes });
        true
    }

    /// A step of giving the file its name.
    pub(super) fn set_name(&mut self, name: Name) -> io::Result<()> {
        if let Some(Removal { errno, .. }) = self.removed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.strikes(Fault::NameEio, self.faults.name_eio) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if self.layers.name != Name::Durable {
            self.layers.name = name;
        }
        Ok(())
    }

    pub(super) fn start(&mut self, op: DiskOp) -> (Op, &'static str, u64) {
        match op {
            DiskOp::Read { position, mut buf } => {
                poison(&mut buf);
                (Op::Read { position, buf }, "read", position)
            }
            DiskOp::Write {
                position,
                buf,
                durable,
            } => {
                let block = self.shape.block_bytes as u64;
                let data = filled(&buf);
                assert!(
                    position.is_multiple_of(block) && (data.len() as u64).is_multiple_of(block),
                    "write of {} bytes at {position} is not aligned to {block}",
                    data.len()
                );
                let mut target = position;
                let misdirected = self.rng.chance(self.faults.misdirected_write);
                if misdirected || std::mem::take(&mut self.misdirect_next) {
                    *self.counts.entry(Fault::MisdirectedWrite).or_default() += 1;
                    self.since_astray.clear();
                    target = self.astray(position, block);
                } else {
                    self.since_astray.extend(data.first_chunk());
                    // A write that goes astray is the disk's fault, not the writer's.
                    self.layers.check_protected(position, data);
                }
                if self.recent.len() == RECENT_WRITES {
                    self.recent.pop_front();
                }
                self.recent.push_back(position);
                let number = self.layers.submit(target, data);
                (
                    Op::Write {
                        number,
                        buf,
                        durable,
                    },
                    if durable { "dsync" } else { "write" },
                    position,
                )
            }
            DiskOp::Flush => {
                let mark = self.layers.flush_mark();
                (Op::Flush { mark }, "flush", mark)
            }
        }
    }

    /// Where a write that goes astray lands: where one of the last writes went (a stale
    /// address), or anywhere.
    fn astray(&mut self, position: u64, block: u64) -> u64 {
        if !self.recent.is_empty() && self.rng.chance(700) {
            let place = self.rng.index(self.recent.len());
            if self.recent[place] != position {
                return self.recent[place];
            }
        }
        self.rng.below(self.layers.cache.num_bytes() / block) * block
    }

    pub(super) fn finish(&mut self, op: Op) -> Ended {
        if let Some(Removal { errno, .. }) = self.removed {
            let buf = match op {
                Op::Read { buf, .. } => Some(buf),
                Op::Write { number, buf, .. } => {
                    self.layers.cancel(number);
                    Some(buf)
                }
                Op::Flush { .. } => None,
            };
            return (Err(io::Error::from_raw_os_error(errno)), buf);
        }
        match op {
            Op::Read { position, buf } => self.finish_read(position, buf),
            Op::Write {
                number,
                buf,
                durable,
            } => self.finish_write(number, buf, durable),
            Op::Flush { mark } => (self.finish_flush(mark), None),
        }
    }

    fn finish_read(&mut self, position: u64, mut buf: AlignedBuf) -> Ended {
        if self.strikes(Fault::ReadEio, self.faults.read_eio) {
            return (Err(io::Error::from_raw_os_error(EIO)), Some(buf));
        }
        let wanted = self.sectors(position, buf.capacity());
        if self.bad_sectors.range(wanted).next().is_some() {
            self.count(Fault::BadSector);
            return (Err(io::Error::from_raw_os_error(EIO)), Some(buf));
        }
        let stale = self.strikes(Fault::StaleRead, self.faults.stale_read);
        let mut limit = buf.capacity();
        let sectors = limit / self.shape.sector_bytes;
        if sectors > 1 && self.strikes(Fault::ShortRead, self.faults.short_read) {
            limit = self.rng.index(sectors) * self.shape.sector_bytes;
        }
        let image = if stale {
            &self.layers.durable
        } else {
            &self.layers.cache
        };
        let moved = fill(&mut buf, |bytes| image.read(position, &mut bytes[..limit]));
        self.age_a_block(position, &mut buf.as_mut_slice()[..moved]);
        (Ok(moved), Some(buf))
    }

    /// Numbers of the sectors that `len` bytes at `position` touch.
    pub(super) fn sectors(&self, position: u64, len: usize) -> Range<u64> {
        let sector = self.shape.sector_bytes as u64;
        position / sector..(position + len as u64).div_ceil(sector)
    }

    fn finish_write(&mut self, number: u64, buf: AlignedBuf, durable: bool) -> Ended {
        let len = filled(&buf).len();
        self.layers.transfer(number, filled(&buf), || true);
        if self.strikes(Fault::Cancelled, self.faults.cancelled) {
            self.layers.fail(number, &mut self.rng);
            return (Err(io::Error::from_raw_os_error(ECANCELED)), Some(buf));
        }
        if self.strikes(Fault::WriteEio, self.faults.write_eio) {
            self.layers.fail(number, &mut self.rng);
            return (Err(io::Error::from_raw_os_error(EIO)), Some(buf));
        }
        if self.strikes(Fault::Enospc, self.faults.enospc) {
            self.layers.cancel(number);
            return (Err(io::Error::from_raw_os_error(ENOSPC)), Some(buf));
        }
        let sectors = len / self.shape.sector_bytes;
        let mut moved = len;
        if sectors > 1 && self.strikes(Fault::ShortWrite, self.faults.short_write) {
            moved = self.rng.index(sectors) * self.shape.sector_bytes;
        }
        if let Some(position) = self.layers.place(number) {
            let written = self.sectors(position, moved);
            self.bad_sectors.retain(|sector| !written.contains(sector));
        }
        self.layers.complete(number, moved);
        if durable && self.lies() {
            self.layers.disown(number);
        } else if durable {
            self.layers.make_durable(number);
        }
        (Ok(moved), Some(buf))
    }

    fn finish_flush(&mut self, mark: u64) -> io::Result<usize> {
        if self.layers.is_due(mark) && self.lies() {
            self.layers.flush_failed(mark);
            return Ok(0);
        }
        if self.strikes(Fault::FlushEio, self.faults.flush_eio) {
            self.layers.flush_failed(mark);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if self.strikes(Fault::Cancelled, self.faults.cancelled) {
            if self.rng.chance(300) {
                self.layers.flush(mark);
            }
            return Err(io::Error::from_raw_os_error(ECANCELED));
        }
        if !self.strikes(Fault::LyingFlush, self.faults.lying_flush) {
            self.layers.flush(mark);
        }
        Ok(0)
    }
}

/// What a crash leaves of a device and of the operations under way on it.
pub(super) fn crash_layers(
    layers: &mut Layers,
    pending: &BTreeMap<u64, Pending>,
    style: CrashStyle,
    rng: &mut Rng,
) {
    for pending in pending.values() {
        if let Op::Write { number, buf, .. } = &pending.op {
            layers.transfer(*number, filled(buf), || rng.chance(500));
        }
    }
    layers.crash(style, rng);
}

/// How an operation ended: bytes moved, and the buffer given back.
pub(super) type Ended = (io::Result<usize>, Option<AlignedBuf>);

/// The bytes a write carries.
fn filled(buf: &AlignedBuf) -> &[u8] {
    buf.as_slice()
}

/// Fills the whole buffer with what unread memory may hold.
fn poison(buf: &mut AlignedBuf) {
    buf.as_mut_slice().fill(POISON);
    buf.clear();
}

/// Lets `read` fill the buffer; the number of bytes it read.
fn fill(buf: &mut AlignedBuf, read: impl FnOnce(&mut [u8]) -> usize) -> usize {
    let moved = read(buf.as_mut_slice());
    buf.set_len(moved);
    moved
}
