//! What a simulated disk may do wrong, and how often.
//!
//! *Owns*: the probabilities and the geometry. *Does not own*: their choice (the plan).
//!
//! Invariants
//! 1. The faults under *beyond contract* may lose acknowledged bytes; code under test
//!    must then stop with an error. All others must lose nothing.
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

/// Faults of a disk, each in so many of 1,000 operations (or kills, or creations of a name).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskFaults {
    /// A read fails with EIO.
    pub read_eio: u32,
    /// A write fails with EIO; any of its sectors may have been written.
    pub write_eio: u32,
    /// A flush fails with EIO; what it should have covered is marked clean, and no later flush covers it.
    pub flush_eio: u32,
    /// A write fails with ENOSPC; nothing was written.
    pub enospc: u32,
    /// A write ends early, at a sector.
    pub short_write: u32,
    /// A read ends early, at a sector.
    pub short_read: u32,
    /// A write or flush is cancelled (ECANCELED); it may have been carried out all the same.
    pub cancelled: u32,
    /// An operation takes seconds.
    pub slow: u32,
    /// The device is gone: this and every other operation fails until it is opened again, and
    /// what no flush covers is lost as in a power failure.
    pub removed: u32,
    /// A file gets no durable name: its directory cannot be synced, or the file not renamed.
    pub name_eio: u32,
    /// Beyond contract: writes of a user that is gone, by a kill or a detachment, land when the next one is at work:
    /// the device is free at once, and not when the last of them is over.
    pub late_landing: u32,
    /// Beyond contract: a flush answers without making anything durable.
    pub lying_flush: u32,
    /// Beyond contract: a write lands at another block of the device.
    pub misdirected_write: u32,
    /// Beyond contract: a read returns what was durable before the last writes.
    pub stale_read: u32,
}

impl DiskFaults {
    /// Whether no operation ever fails: at worst it takes its time.
    pub(crate) fn are_harmless(&self) -> bool {
        let Self {
            slow, late_landing, ..
        } = *self;
        *self
            == Self {
                slow,
                late_landing,
                ..Self::default()
            }
    }
}

/// Sizes and speeds of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskShape {
    /// Alignment the disk asks for, in bytes.
    pub block_bytes: usize,
    /// What is written whole or not at all in a power failure, in bytes: 512 or 4096.
    pub sector_bytes: usize,
    /// Mean time of a write or read in nanoseconds.
    pub write_ns: u64,
    /// Mean time of a flush in nanoseconds.
    pub flush_ns: u64,
    /// Whether it is a file, whose name a crash may take away, and not a raw device.
    #[serde(default)]
    pub is_file: bool,
}

/// What a power failure does to writes that no flush covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// None of them lands: the worst crash for code that acknowledged too early.
    None,
    /// All of them land, those under way too.
    All,
    /// Each lands whole or not at all.
    Writes,
    /// Any subset of their sectors lands.
    Sectors,
}

/// Counts of what was done wrong so far, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    #[default]
    ReadEio,
    WriteEio,
    FlushEio,
    NameEio,
    Enospc,
    ShortWrite,
    ShortRead,
    Cancelled,
    Slow,
    Removed,
    Detached,
    LateLanding,
    LostName,
    LyingFlush,
    MisdirectedWrite,
    StaleRead,
    BitRot,
    BadSector,
    PowerLoss,
    Kill,
}

impl Fault {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ReadEio => "disk_read_eio",
            Self::WriteEio => "disk_write_eio",
            Self::FlushEio => "disk_flush_eio",
            Self::NameEio => "disk_name_eio",
            Self::Enospc => "disk_enospc",
            Self::ShortWrite => "disk_short_write",
            Self::ShortRead => "disk_short_read",
            Self::Cancelled => "disk_cancelled",
            Self::Slow => "disk_slow",
            Self::Removed => "disk_removed",
            Self::Detached => "disk_detached",
            Self::LateLanding => "disk_late_landing",
            Self::LostName => "disk_lost_name",
            Self::LyingFlush => "disk_lying_flush",
            Self::MisdirectedWrite => "disk_misdirected_write",
            Self::StaleRead => "disk_stale_read",
            Self::BitRot => "disk_bit_rot",
            Self::BadSector => "disk_bad_sector",
            Self::PowerLoss => "power_loss",
            Self::Kill => "kill",
        }
    }
}
