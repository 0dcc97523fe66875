//! A group: what one write puts on the device.
//!
//! *Owns*: the header's layout, its checksum, the frames inside.
//! *Does not own*: whether a group belongs where it was found; recovery decides.
//!
//! Invariants
//! 1. The checksum covers every header byte but itself, and the whole payload.
//! 2. A group's LSN range is as long as its payload: frames and their length prefixes.
//!
//! *Format: docs/formats/wal.md* · *IO: none*

use std::ops::Range;

use tidewater_types::{Epoch, Lsn, WalId, crc32c, mutant};

use super::{Flaw, VERSION, get, put};

/// Bytes of a group's header.
pub(crate) const HEADER_BYTES: usize = 80;
/// Bytes in front of each frame: its length.
pub(crate) const PREFIX_BYTES: usize = 4;

const MAGIC: [u8; 4] = *b"TWgr";
const CHECKSUM_AT: Range<usize> = 8..12;

/// What a group is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    /// Holds frames.
    Data,
    /// Holds nothing: states the durable LSN when the WAL goes idle.
    Mark,
    /// Holds nothing: ends its segment and names the next one.
    Skip,
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// What the group is for.
    pub(crate) kind: GroupKind,
    /// Bytes of frames with their prefixes.
    pub(crate) payload_bytes: u32,
    /// Number of frames.
    pub(crate) num_frames: u32,
    /// Byte position the group was written for.
    pub(crate) position: u64,
    /// LSN of the first frame.
    pub(crate) lsn: Lsn,
    /// Epoch of the writer.
    pub(crate) epoch: Epoch,
    /// Durable LSN known when the group was written.
    pub(crate) durable: Lsn,
    /// Start of the segment that follows this one; 0 while that is open.
    pub(crate) next: u64,
    /// The WAL.
    pub(crate) wal: WalId,
}

impl GroupHeader {
    /// LSN behind the last frame.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(u64::from(self.payload_bytes)))
    }

    /// Header and payload in bytes, without padding.
    pub(crate) fn num_bytes(&self) -> usize {
        HEADER_BYTES + self.payload_bytes as usize
    }

    /// Writes the header in front of the payload that `group` holds already.
    ///
    /// # Panics
    /// If `group` is not exactly header and payload long.
    pub(crate) fn encode_into(&self, group: &mut [u8]) {
        assert_eq!(group.len(), self.num_bytes(), "header and payload");
        group[..4].copy_from_slice(&MAGIC);
        put!(group, 4, VERSION);
        put!(group, 6, u16::try_from(HEADER_BYTES).expect("small"));
        put!(group, 12, self.payload_bytes);
        group[16] = match self.kind {
            GroupKind::Data => 1,
            GroupKind::Mark => 2,
            GroupKind::Skip => 3,
        };
        group[17..20].fill(0);
        put!(group, 20, self.num_frames);
        put!(group, 24, self.position);
        put!(group, 32, self.lsn.0);
        put!(group, 40, self.epoch.0);
        put!(group, 48, self.durable.0);
        put!(group, 56, self.next);
        group[64..80].copy_from_slice(&self.wal.0);
        let checksum = checksum(group, HEADER_BYTES);
        put!(group, CHECKSUM_AT.start, checksum);
    }

    /// Reads the header alone, so that the payload's length is known. The checksum is
    /// *not* checked: [`decode`] does it once the payload is there.
    pub(crate) fn decode_length(bytes: &[u8]) -> Result<usize, Flaw> {
        if bytes.len() < HEADER_BYTES {
            return Err(Flaw::Short);
        }
        if bytes[..HEADER_BYTES].iter().all(|&b| b == 0) {
            return Err(Flaw::Blank);
        }
        if bytes[..4] != MAGIC {
            return Err(Flaw::Magic);
        }
        let header_bytes = usize::from(get!(u16, bytes, 6));
        if header_bytes < HEADER_BYTES {
            return Err(Flaw::Field("header length below 80"));
        }
        Ok(header_bytes + get!(u32, bytes, 12) as usize)
    }
}

/// Reads the header at the start of `bytes` as it stands there: nothing vouches for it.
pub(crate) fn peek(bytes: &[u8]) -> Result<GroupHeader, Flaw> {
    GroupHeader::decode_length(bytes)?;
    fields(bytes)
}

/// The fields of a header that is there in full.
fn fields(group: &[u8]) -> Result<GroupHeader, Flaw> {
    let kind = match group[16] {
        1 => GroupKind::Data,
        2 => GroupKind::Mark,
        3 => GroupKind::Skip,
        _ => return Err(Flaw::Field("unknown kind of group")),
    };
    Ok(GroupHeader {
        kind,
        payload_bytes: get!(u32, group, 12),
        num_frames: get!(u32, group, 20),
        position: get!(u64, group, 24),
        lsn: Lsn(get!(u64, group, 32)),
        epoch: Epoch(get!(u64, group, 40)),
        durable: Lsn(get!(u64, group, 48)),
        next: get!(u64, group, 56),
        wal: WalId(group[64..80].try_into().expect("16 bytes")),
    })
}

/// Checks and reads the group at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<GroupHeader, Flaw> {
    let num_bytes = GroupHeader::decode_length(bytes)?;
    if bytes.len() < num_bytes {
        return Err(Flaw::Short);
    }
    let group = &bytes[..num_bytes];
    let header_bytes = usize::from(get!(u16, group, 6));
    if checksum(group, header_bytes) != get!(u32, group, CHECKSUM_AT.start) {
        return Err(Flaw::Checksum);
    }
    let version = get!(u16, group, 4);
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    if version == 0 || header_bytes != HEADER_BYTES || group[17..20] != [0; 3] {
        return Err(Flaw::Field("version, header length or reserved bytes"));
    }
    let header = fields(group)?;
    let empty = header.payload_bytes == 0 && header.num_frames == 0;
    if empty == (header.kind == GroupKind::Data) {
        return Err(Flaw::Field("payload that does not fit the kind"));
    }
    if header
        .lsn
        .checked_add(u64::from(header.payload_bytes))
        .is_none()
        || header.durable > header.lsn
    {
        return Err(Flaw::Field("lsn or durable lsn out of range"));
    }
    if frames(&header, &group[HEADER_BYTES..]).count() != header.num_frames as usize {
        return Err(Flaw::Field("frames that do not fill the payload"));
    }
    Ok(header)
}

/// Each frame's LSN and its place in `payload`. Ends early, and so with a wrong count, if the
/// lengths do not tile the payload.
pub(crate) fn frames(
    header: &GroupHeader,
    payload: &[u8],
) -> impl Iterator<Item = (Lsn, Range<usize>)> {
    let (start, mut at) = (header.lsn.0, 0);
    let lengths = payload;
    std::iter::from_fn(move || {
        let prefix = lengths.get(at..at + PREFIX_BYTES)?;
        let from = at + PREFIX_BYTES;
        let to = from
            .checked_add(get!(u32, prefix, 0) as usize)
            .filter(|&to| to <= lengths.len())?;
        let lsn = Lsn(start + at as u64);
        at = to;
        // A rest too short for another prefix is a frame that is missing.
        (to == lengths.len() || to + PREFIX_BYTES <= lengths.len()).then_some((lsn, from..to))
    })
}

fn checksum(group: &[u8], header_bytes: usize) -> u32 {
    let end = if mutant!(6) {
        header_bytes
    } else {
        group.len()
    };
    crc32c(&[&group[..CHECKSUM_AT.start], &group[CHECKSUM_AT.end..end]])
}
