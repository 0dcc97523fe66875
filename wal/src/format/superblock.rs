//! The superblock: identity, geometry, epochs and trim point, in two slots.
//!
//! *Owns*: the layout of a slot and its checksum; which slot speaks for the WAL.
//! *Does not own*: when a slot is written.
//!
//! Invariants
//! 1. Epochs ascend, and so do their first LSNs, strictly.
//! 2. The checksum is the last field and covers every byte before it, over whole pages: a slot
//!    that was written in part never passes.
//!
//! *Format: docs/formats/wal.md* · *IO: none*

use tidewater_types::{ClusterId, Epoch, Lsn, NodeId, WalId, crc32c, mutant};

use super::{Flaw, VERSION, get, put};

/// Byte positions of the two slots.
pub(crate) const SLOT_POSITIONS: [u64; 2] = [0, 32 * 1024];
/// Room of a slot in bytes.
pub(crate) const SLOT_BYTES: usize = 32 * 1024;
/// Where the ring begins.
pub(crate) const RING_POSITION: u64 = 64 * 1024;
/// Epochs a slot has room for.
pub(crate) const EPOCHS_MAX: usize = (SLOT_BYTES - FIXED_BYTES - CHECKSUM_BYTES) / ENTRY_BYTES;

/// Largest block in bytes.
pub(crate) const BLOCK_BYTES_MAX: u64 = 16 * 1024;

/// Bytes of a segment.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=1 << 30;
/// Where the largest ring ends: positions are added to without another thought.
const RING_END_MAX: u64 = RING_POSITION + (1 << 50);

/// What a slot begins with.
pub(crate) const MAGIC: [u8; 8] = *b"TWwalsb\0";
const FIXED_BYTES: usize = 160;
const ENTRY_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const PAGE_BYTES: usize = 4096;
const FLAG_SEALED: u16 = 1;

/// From which LSN an epoch owns the log, and where its first group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// First LSN it owns.
    pub(crate) lsn: Lsn,
    /// Byte position of its first group.
    pub(crate) position: u64,
}

/// Where recovery begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimPoint {
    /// Frames below are not wanted any more.
    pub(crate) lsn: Lsn,
    /// LSN at which the group at `position` begins; at or below `lsn`.
    pub(crate) group_lsn: Lsn,
    /// Byte position of the first group that is still wanted, or where it will be.
    pub(crate) position: u64,
    /// Epoch of that group.
    pub(crate) epoch: Epoch,
}

/// Where a life ended that left nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// LSN behind the last frame.
    pub(crate) lsn: Lsn,
    /// Byte position behind the last group.
    pub(crate) position: u64,
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Grows with every write of either slot.
    pub(crate) sequence: u64,
    /// Cluster the WAL belongs to.
    pub(crate) cluster: ClusterId,
    /// Node it belongs to.
    pub(crate) node: NodeId,
    /// The WAL.
    pub(crate) wal: WalId,
    /// Alignment of groups in bytes.
    pub(crate) block_bytes: u32,
    /// Bytes of a segment.
    pub(crate) segment_bytes: u64,
    /// Most segments the ring may have.
    pub(crate) segment_count: u32,
    /// Bytes of ring the writer may have in flight or not durable.
    pub(crate) window_bytes: u64,
    /// Where recovery begins.
    pub(crate) trim: TrimPoint,
    /// Set if the last life ended cleanly.
    pub(crate) seal: Option<Seal>,
    /// Who owns which LSNs.
    pub(crate) epochs: Vec<EpochStart>,
}

impl Superblock {
    /// The bytes of the slot at `position`, without padding.
    ///
    /// # Panics
    /// If there are more epochs than fit.
    pub(crate) fn encode(&self, position: u64) -> Vec<u8> {
        assert!(
            self.epochs.len() <= EPOCHS_MAX,
            "{} epochs",
            self.epochs.len()
        );
        let filled = FIXED_BYTES + ENTRY_BYTES * self.epochs.len() + CHECKSUM_BYTES;
        let mut out = vec![0; filled.next_multiple_of(PAGE_BYTES)];
        out[..8].copy_from_slice(&MAGIC);
        put!(out, 8, VERSION);
        put!(out, 10, if self.seal.is_some() { FLAG_SEALED } else { 0 });
        put!(out, 12, u32::try_from(out.len()).expect("a slot's length"));
        put!(
            out,
            16,
            u32::try_from(self.epochs.len()).expect("few epochs")
        );
        put!(out, 24, self.sequence);
        out[32..48].copy_from_slice(&self.cluster.0);
        out[48..64].copy_from_slice(&self.wal.0);
        put!(out, 64, self.node.0);
        put!(out, 68, self.block_bytes);
        put!(out, 72, self.segment_bytes);
        put!(out, 80, self.segment_count);
        put!(out, 88, self.window_bytes);
        put!(out, 96, RING_POSITION);
        put!(out, 104, self.trim.lsn.0);
        put!(out, 112, self.trim.group_lsn.0);
        put!(out, 120, self.trim.position);
        put!(out, 128, self.trim.epoch.0);
        if let Some(seal) = self.seal {
            put!(out, 136, seal.lsn.0);
            put!(out, 144, seal.position);
        }
        put!(out, 152, position);
        for (i, entry) in self.epochs.iter().enumerate() {
            let at = FIXED_BYTES + i * ENTRY_BYTES;
            put!(out, at, entry.epoch.0);
            put!(out, at + 8, entry.lsn.0);
            put!(out, at + 16, entry.position);
        }
        let checksum_at = out.len() - CHECKSUM_BYTES;
        let checksum = crc32c(&[&out[..checksum_at]]);
        put!(out, checksum_at, checksum);
        out
    }

    /// Checks and reads the slot found at `position`.
    pub(crate) fn decode(bytes: &[u8], position: u64) -> Result<Self, Flaw> {
        if bytes.iter().all(|&b| b == 0) {
            return Err(Flaw::Blank);
        }
        if bytes.len() < PAGE_BYTES {
            return Err(Flaw::Short);
        }
        if bytes[..8] != MAGIC {
            return Err(Flaw::Magic);
        }
        let num_bytes = get!(u32, bytes, 12) as usize;
        if num_bytes > bytes.len() {
            return Err(Flaw::Short);
        }
        if num_bytes < PAGE_BYTES || !num_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(Flaw::Field("length that is not whole pages"));
        }
        let checksum_at = num_bytes - CHECKSUM_BYTES;
        if crc32c(&[&bytes[..checksum_at]]) != get!(u32, bytes, checksum_at) {
            return Err(Flaw::Checksum);
        }
        match get!(u16, bytes, 8) {
            1..=VERSION => {}
            0 => return Err(Flaw::Field("version 0")),
            newer => return Err(Flaw::Newer(newer)),
        }
        let num_epochs = get!(u32, bytes, 16) as usize;
        let room = (checksum_at - FIXED_BYTES) / ENTRY_BYTES;
        if num_epochs > room {
            return Err(Flaw::Field("more epochs than the length has room for"));
        }
        let epochs_end = FIXED_BYTES + ENTRY_BYTES * num_epochs;
        let reserved = [
            &bytes[20..24],
            &bytes[84..88],
            &bytes[epochs_end..checksum_at],
        ];
        if reserved.into_iter().flatten().any(|&byte| byte != 0) {
            return Err(Flaw::Field("reserved bytes in use"));
        }
        let superblock = Self::decode_fields(&bytes[..epochs_end]);
        superblock.check(bytes, position).map(|()| superblock)
    }

    fn decode_fields(bytes: &[u8]) -> Self {
        let sealed = get!(u16, bytes, 10) & FLAG_SEALED != 0;
        let entries = bytes[FIXED_BYTES..]
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| EpochStart {
                epoch: Epoch(get!(u64, entry, 0)),
                lsn: Lsn(get!(u64, entry, 8)),
                position: get!(u64, entry, 16),
            });
        Self {
            sequence: get!(u64, bytes, 24),
            cluster: ClusterId(bytes[32..48].try_into().expect("16 bytes")),
            wal: WalId(bytes[48..64].try_into().expect("16 bytes")),
            node: NodeId(get!(u32, bytes, 64)),
            block_bytes: get!(u32, bytes, 68),
            segment_bytes: get!(u64, bytes, 72),
            segment_count: get!(u32, bytes, 80),
            window_bytes: get!(u64, bytes, 88),
            trim: TrimPoint {
                lsn: Lsn(get!(u64, bytes, 104)),
                group_lsn: Lsn(get!(u64, bytes, 112)),
                position: get!(u64, bytes, 120),
                epoch: Epoch(get!(u64, bytes, 128)),
            },
            seal: sealed.then(|| Seal {
                lsn: Lsn(get!(u64, bytes, 136)),
                position: get!(u64, bytes, 144),
            }),
            epochs: entries.collect(),
        }
    }

    fn check(&self, bytes: &[u8], position: u64) -> Result<(), Flaw> {
        let blocks = u64::from(self.block_bytes);
        let ring_end = RING_POSITION.saturating_add(
            self.segment_bytes
                .saturating_mul(u64::from(self.segment_count)),
        );
        let in_ring =
            |at: u64| (RING_POSITION..ring_end).contains(&at) && at.is_multiple_of(blocks);
        let ascending = self
            .epochs
            .windows(2)
            .all(|two| two[0].epoch < two[1].epoch && two[0].lsn < two[1].lsn);
        let rules = [
            (
                get!(u64, bytes, 152) == position,
                "written for another position",
            ),
            (get!(u16, bytes, 10) & !FLAG_SEALED == 0, "unknown flags"),
            (
                self.block_bytes.is_power_of_two() && (512..=BLOCK_BYTES_MAX).contains(&blocks),
                "block size out of range",
            ),
            (
                self.segment_bytes.is_power_of_two() && SEGMENT_BYTES.contains(&self.segment_bytes),
                "segment size out of range",
            ),
            (self.segment_count >= 2, "fewer than two segments"),
            (ring_end <= RING_END_MAX, "more segments than a ring has"),
            (
                (1..=self.segment_bytes).contains(&self.window_bytes),
                "window out of range",
            ),
            (
                get!(u64, bytes, 96) == RING_POSITION,
                "ring in an unknown place",
            ),
            (ascending, "epochs out of order"),
        ];
        if let Some((_, flaw)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(Flaw::Field(flaw));
        }
        let places = self
            .epochs
            .iter()
            .map(|entry| entry.position)
            .chain([self.trim.position]);
        if !places.into_iter().all(in_ring) || self.trim.group_lsn > self.trim.lsn {
            return Err(Flaw::Field("a place outside the ring"));
        }
        Ok(())
    }
}

/// Index of the slot that speaks for the WAL, or `None` if neither is valid.
pub(crate) fn choose(slots: &[Result<Superblock, Flaw>; 2]) -> Option<usize> {
    match slots {
        [Ok(first), Ok(second)] => {
            let newer = usize::from(second.sequence > first.sequence);
            Some(if mutant!(54) { 1 - newer } else { newer })
        }
        [Ok(_), Err(_)] => Some(0),
        [Err(_), Ok(_)] => Some(1),
        [Err(_), Err(_)] => None,
    }
}
