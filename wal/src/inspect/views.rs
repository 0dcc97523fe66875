//! The parts of an inspection, as scripts see them.
//!
//! *Owns*: the names in the JSON. They change only with a CHANGELOG line.
//! *Does not own*: the values.
//!
//! *Format: docs/wal-tools.md* · *IO: none*

use serde::Serialize;

use super::names;
use crate::error::WalError;
use crate::format::superblock::Superblock;

/// What opening the WAL would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Fine: the last life closed it.
    Clean,
    /// Fine: not closed, and nothing was begun behind the end.
    Open,
    /// Fine: not closed, and what was begun behind the end was never promised.
    TornTail,
    /// One slot is damaged; opening repairs it.
    SlotDamaged,
    /// Opening refuses.
    Refused,
    /// The WAL changed while it was read, each time differently.
    Unsettled,
    /// The reader had enough before the end.
    Partial,
}

/// Why opening is refused.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) error: &'static str,
    pub(super) message: String,
    pub(super) position: Option<u64>,
    pub(super) lsn: Option<u64>,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
}

impl Refusal {
    pub(super) fn of(error: &WalError) -> Self {
        let mut refusal = Self {
            error: names::of_error(error),
            message: error.to_string(),
            position: None,
            lsn: None,
            expected: None,
            found: None,
        };
        match error {
            WalError::Corrupt {
                position,
                lsn,
                expected,
                found,
                ..
            } => {
                refusal.position = Some(*position);
                refusal.lsn = Some(lsn.0);
                refusal.expected = Some(expected.clone());
                refusal.found = Some(found.clone());
            }
            WalError::NewerFormat {
                found, supported, ..
            } => {
                refusal.expected = Some(format!("version {supported} or less"));
                refusal.found = Some(format!("version {found}"));
            }
            WalError::SuperblocksDamaged { first, second, .. } => {
                refusal.expected = Some("a superblock at 0 or at 32768".to_owned());
                refusal.found = Some(format!("{first}; {second}"));
            }
            WalError::Io { position, .. } => refusal.position = Some(*position),
            _ => {}
        }
        refusal
    }
}

/// A superblock slot.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Slot {
    pub(super) position: u64,
    pub(super) speaks: bool,
    pub(super) flaw: Option<&'static str>,
    pub(super) sequence: Option<u64>,
    pub(super) trim_lsn: Option<u64>,
    pub(super) epoch: Option<u64>,
}

/// The superblock that speaks.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SuperblockView {
    pub(super) cluster: String,
    pub(super) node: u32,
    pub(super) wal: String,
    pub(super) block_bytes: u32,
    pub(super) segment_bytes: u64,
    pub(super) segment_count: u32,
    pub(super) window_bytes: u64,
    pub(super) trim: TrimView,
    pub(super) seal: Option<SealView>,
    pub(super) epochs: Vec<EpochView>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct TrimView {
    pub(super) lsn: u64,
    pub(super) group_lsn: u64,
    pub(super) position: u64,
    pub(super) epoch: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SealView {
    pub(super) lsn: u64,
    pub(super) position: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct EpochView {
    pub(super) epoch: u64,
    pub(super) lsn: u64,
    pub(super) position: u64,
}

impl SuperblockView {
    pub(super) fn of(content: &Superblock) -> Self {
        let epochs = content.epochs.iter().map(|entry| EpochView {
            epoch: entry.epoch.0,
            lsn: entry.lsn.0,
            position: entry.position,
        });
        Self {
            cluster: content.cluster.to_string(),
            node: content.node.0,
            wal: content.wal.to_string(),
            block_bytes: content.block_bytes,
            segment_bytes: content.segment_bytes,
            segment_count: content.segment_count,
            window_bytes: content.window_bytes,
            trim: TrimView {
                lsn: content.trim.lsn.0,
                group_lsn: content.trim.group_lsn.0,
                position: content.trim.position,
                epoch: content.trim.epoch.0,
            },
            seal: content.seal.map(|seal| SealView {
                lsn: seal.lsn.0,
                position: seal.position,
            }),
            epochs: epochs.collect(),
        }
    }
}

/// The log as recovery would see it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Marks {
    pub(super) trimmed: u64,
    pub(super) durable: u64,
    pub(super) end: u64,
}

/// What the walk from the trim point met.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct WalkView {
    pub(super) data_groups: u64,
    pub(super) marks: u64,
    pub(super) skips: u64,
    pub(super) frames: u64,
    pub(super) frame_bytes: u64,
    pub(super) group_bytes: u64,
    pub(super) stop_position: u64,
    pub(super) stop_segment: u32,
    pub(super) stop_lsn: u64,
    pub(super) stop_reason: &'static str,
}

/// The ring, segment by segment.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Segments {
    pub(super) existing: u32,
    pub(super) chain: u32,
    pub(super) next: u32,
    pub(super) free: u32,
    pub(super) blank: u32,
    pub(super) unknown: u32,
    pub(super) not_read: u32,
    pub(super) list: Vec<SegmentView>,
}

/// What a segment is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SegmentState {
    /// Holds groups that are wanted, or the head.
    Chain,
    /// Named as the one that follows.
    Next,
    /// Holds groups of an earlier lap or life.
    Free,
    /// Begins with zeros: never used.
    Blank,
    /// Begins with something that is no group of this WAL.
    Unknown,
    /// Cannot be read.
    NotRead,
}

/// One segment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SegmentView {
    pub(super) segment: u32,
    pub(super) position: u64,
    pub(super) state: SegmentState,
    /// Groups, frames and bytes that the walk met in it.
    pub(super) groups: u64,
    pub(super) frames: u64,
    pub(super) group_bytes: u64,
    /// LSNs of its groups, or of the first one of an earlier lap.
    pub(super) lsn: Option<u64>,
    pub(super) end: Option<u64>,
    /// Epoch of its last group, or of the first one of an earlier lap.
    pub(super) epoch: Option<u64>,
}
