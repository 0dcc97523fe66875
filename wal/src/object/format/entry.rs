//! An entry: one object of a chain.
//!
//! *Owns*: the header's layout, its checksum, what a header may say.
//! *Does not own*: the frames' layout (that of the device WAL's groups).
//!
//! Invariants
//! 1. The checksum covers every byte of the object but itself.
//! 2. What stands at a key was written for that key.
//! 3. Starts, fences, barriers and bridges have no payload: an object longer than a header is none
//!    of them.
//!
//! *Format: docs/formats/object-wal.md* · *IO: none*

use std::ops::Range;

use bytes::Bytes;
use tidewater_types::{ClusterId, Epoch, Lsn, NodeId, WalId, crc32c};

use super::Place;
use crate::format::group::PREFIX_BYTES;
use crate::format::{Flaw, get, put};

/// Bytes of an entry's header.
pub(crate) const HEADER_BYTES: usize = 160;
/// Newest version of entries this release reads, and the one it writes.
pub(crate) const VERSION: u16 = 1;
/// Largest in-flight window an epoch may state.
pub(crate) const WINDOW_MAX: u32 = 1024;
/// Largest entry: frames are bounded by the pool, and that by its setting.
pub(crate) const ENTRY_BYTES_MAX: u64 = HEADER_BYTES as u64 + (1 << 31);
/// Where a bridge stands: behind the fence at number 1.
pub(crate) const BRIDGE_SEQ: u64 = 2;
/// No LSN comes near: what is above was not written by a log.
const LSN_MAX: Lsn = Lsn(1 << 62);

const MAGIC: [u8; 4] = *b"TWoe";
const CHECKSUM_AT: Range<usize> = 8..12;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Number 0 of an epoch: claims it and states its in-flight window.
    Start {
        /// Entries that may be under way at a time.
        window: u32,
        /// The epoch that founded the log: nothing of an earlier one belongs to it.
        founding: Epoch,
    },
    /// Holds nothing: states the trim point, and that the takeover is complete.
    State,
    /// Holds frames.
    Data,
    /// Ends the chain; written by a later epoch into the first hole.
    Fence,
    /// Ends the chain at the latest here; written by a later epoch beyond the window.
    Barrier,
    /// Number 2 of an epoch that ended without an entry: so did all between it and this one.
    Bridge {
        /// The epoch below with the last entries, or the founding one.
        to: Epoch,
    },
}

impl Kind {
    /// Whether the owner of the epoch writes it.
    pub(crate) fn is_owners(self) -> bool {
        !matches!(self, Self::Fence | Self::Barrier | Self::Bridge { .. })
    }
}

/// Where the log begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrimPoint {
    /// Frames below are not wanted.
    pub(crate) lsn: Lsn,
    /// Entries below may be gone.
    pub(crate) place: Place,
    /// LSN of the first entry there or behind that holds frames.
    pub(crate) entry_lsn: Lsn,
}

/// The header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) wal: WalId,
    /// Where it stands.
    pub(crate) place: Place,
    /// The epoch of who wrote it.
    pub(crate) writer: Epoch,
    /// Drawn by the writer when it opened the WAL.
    pub(crate) nonce: [u8; 16],
    /// Number of frames.
    pub(crate) num_frames: u32,
    /// Bytes of frames with their prefixes.
    pub(crate) payload_bytes: u32,
    /// LSN of the first frame, or of the next one.
    pub(crate) lsn: Lsn,
    /// Durable LSN known when the entry was made.
    pub(crate) durable: Lsn,
    /// Every entry of the chain up to this one was durable when this one was made.
    pub(crate) durable_seq: u64,
    /// The trim point when the entry was made.
    pub(crate) trim: TrimPoint,
}

impl Header {
    /// LSN behind the last frame.
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(u64::from(self.payload_bytes)))
    }

    /// The header's bytes in front of `payload`.
    ///
    /// # Panics
    /// If the payload is not as long as the header says.
    pub(crate) fn encode(&self, payload: &[Bytes]) -> Bytes {
        let num_bytes: usize = payload.iter().map(Bytes::len).sum();
        assert_eq!(num_bytes, self.payload_bytes as usize, "payload");
        let mut bytes = vec![0; HEADER_BYTES];
        let (kind, window, first_epoch) = match self.kind {
            Kind::Start { window, founding } => (1u8, window, founding),
            Kind::State => (2, 0, self.trim.place.epoch),
            Kind::Data => (3, 0, self.trim.place.epoch),
            Kind::Fence => (4, 0, Epoch(0)),
            Kind::Barrier => (5, 0, Epoch(0)),
            Kind::Bridge { to } => (6, 0, to),
        };
        bytes[..4].copy_from_slice(&MAGIC);
        put!(bytes, 4, VERSION);
        put!(bytes, 6, u16::try_from(HEADER_BYTES).expect("small"));
        put!(bytes, 12, self.payload_bytes);
        bytes[16] = kind;
        put!(bytes, 20, self.num_frames);
        put!(bytes, 24, self.node.0);
        put!(bytes, 28, window);
        bytes[32..48].copy_from_slice(&self.cluster.0);
        bytes[48..64].copy_from_slice(&self.wal.0);
        put!(bytes, 64, self.place.epoch.0);
        put!(bytes, 72, self.place.seq);
        put!(bytes, 80, self.writer.0);
        bytes[88..104].copy_from_slice(&self.nonce);
        put!(bytes, 104, self.lsn.0);
        put!(bytes, 112, self.durable.0);
        put!(bytes, 120, self.durable_seq);
        put!(bytes, 128, self.trim.lsn.0);
        put!(bytes, 136, first_epoch.0);
        put!(bytes, 144, self.trim.place.seq);
        put!(bytes, 152, self.trim.entry_lsn.0);
        let mut parts = vec![&bytes[..CHECKSUM_AT.start], &bytes[CHECKSUM_AT.end..]];
        parts.extend(payload.iter().map(|part| &part[..]));
        let checksum = crc32c(&parts);
        put!(bytes, CHECKSUM_AT.start, checksum);
        bytes.into()
    }
}

/// Checks and reads the entry in `bytes`, found at `place`.
pub(crate) fn decode(bytes: &[u8], place: Place) -> Result<Header, Flaw> {
    if bytes.is_empty() {
        return Err(Flaw::Blank);
    }
    if bytes.len() < HEADER_BYTES {
        return Err(Flaw::Short);
    }
    if bytes[..4] != MAGIC {
        return Err(Flaw::Magic);
    }
    let checksum = crc32c(&[&bytes[..CHECKSUM_AT.start], &bytes[CHECKSUM_AT.end..]]);
    if checksum != get!(u32, bytes, CHECKSUM_AT.start) {
        return Err(Flaw::Checksum);
    }
    let version = get!(u16, bytes, 4);
    if version > VERSION {
        return Err(Flaw::Newer(version));
    }
    if version == 0
        || usize::from(get!(u16, bytes, 6)) != HEADER_BYTES
        || bytes[17..20] != [0; 3]
        || bytes.len() - HEADER_BYTES != get!(u32, bytes, 12) as usize
    {
        return Err(Flaw::Field("version, length or reserved bytes"));
    }
    let mut header = Header {
        kind: kind(bytes)?,
        cluster: ClusterId(bytes[32..48].try_into().expect("16 bytes")),
        node: NodeId(get!(u32, bytes, 24)),
        wal: WalId(bytes[48..64].try_into().expect("16 bytes")),
        place: place_at(bytes, 64),
        writer: Epoch(get!(u64, bytes, 80)),
        nonce: bytes[88..104].try_into().expect("16 bytes"),
        num_frames: get!(u32, bytes, 20),
        payload_bytes: get!(u32, bytes, 12),
        lsn: Lsn(get!(u64, bytes, 104)),
        durable: Lsn(get!(u64, bytes, 112)),
        durable_seq: get!(u64, bytes, 120),
        trim: TrimPoint {
            lsn: Lsn(get!(u64, bytes, 128)),
            place: place_at(bytes, 136),
            entry_lsn: Lsn(get!(u64, bytes, 152)),
        },
    };
    if let Kind::Start { founding, .. } = header.kind {
        header.trim.place.epoch = Epoch(0);
        if !(Epoch(1)..=header.place.epoch).contains(&founding) {
            return Err(Flaw::Field("founding epoch out of range"));
        }
    }
    if let Kind::Bridge { to } = header.kind {
        header.trim.place.epoch = Epoch(0);
        if !(Epoch(1)..header.place.epoch).contains(&to) || header.place.seq != BRIDGE_SEQ {
            return Err(Flaw::Field("bridge out of place"));
        }
    }
    if header.place != place {
        return Err(Flaw::Field("written for another key"));
    }
    check_fields(&header)?;
    if frames(&bytes[HEADER_BYTES..]).count() != header.num_frames as usize {
        return Err(Flaw::Field("frames that do not fill the payload"));
    }
    Ok(header)
}

fn place_at(bytes: &[u8], at: usize) -> Place {
    Place::new(Epoch(get!(u64, bytes, at)), get!(u64, bytes, at + 8))
}

fn kind(bytes: &[u8]) -> Result<Kind, Flaw> {
    let window = get!(u32, bytes, 28);
    let is_start = bytes[16] == 1;
    if (1..=WINDOW_MAX).contains(&window) != is_start || (window == 0) == is_start {
        return Err(Flaw::Field("window out of range"));
    }
    match bytes[16] {
        1 => Ok(Kind::Start {
            window,
            founding: Epoch(get!(u64, bytes, 136)),
        }),
        2 => Ok(Kind::State),
        3 => Ok(Kind::Data),
        4 => Ok(Kind::Fence),
        5 => Ok(Kind::Barrier),
        6 => Ok(Kind::Bridge {
            to: Epoch(get!(u64, bytes, 136)),
        }),
        _ => Err(Flaw::Field("unknown kind of entry")),
    }
}

fn check_fields(header: &Header) -> Result<(), Flaw> {
    let Header { place, trim, .. } = header;
    let is_start = matches!(header.kind, Kind::Start { .. });
    let holds = (header.kind == Kind::Data) == (header.num_frames > 0)
        && (header.num_frames > 0) == (header.payload_bytes > 0);
    if !holds {
        return Err(Flaw::Field("payload that does not fit the kind"));
    }
    let writer_fits = if header.kind.is_owners() {
        header.writer == place.epoch
    } else {
        header.writer > place.epoch
    };
    if !writer_fits || is_start != (place.seq == 0) || place.epoch == Epoch(0) {
        return Err(Flaw::Field("writer or number that does not fit the kind"));
    }
    let says_nothing = header.lsn == Lsn(0)
        && header.durable == Lsn(0)
        && header.durable_seq == 0
        && *trim == TrimPoint::default();
    if matches!(header.kind, Kind::State | Kind::Data) {
        let end = header.lsn.checked_add(u64::from(header.payload_bytes));
        let in_order = trim.entry_lsn <= trim.lsn
            && trim.lsn <= header.durable
            && header.durable <= header.lsn
            && header.durable_seq < place.seq
            && trim.place <= *place
            && trim.place.seq > 0;
        if end.is_none_or(|end| end > LSN_MAX) || !in_order {
            return Err(Flaw::Field("marks out of order"));
        }
    } else if !says_nothing {
        return Err(Flaw::Field("marks in an entry that has none"));
    }
    Ok(())
}

/// Each frame's distance from the payload's start and its place there. Ends early, and so with
/// a wrong count, if the lengths do not tile the payload.
pub(crate) fn frames(payload: &[u8]) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let prefix = payload.get(at..at + PREFIX_BYTES)?;
        let from = at + PREFIX_BYTES;
        let to = from
            .checked_add(get!(u32, prefix, 0) as usize)
            .filter(|&to| to <= payload.len())?;
        let distance = at as u64;
        at = to;
        let rest = payload.len() - to;
        (rest == 0 || rest >= PREFIX_BYTES).then_some((distance, from..to))
    })
}
