//! Reading and writing superblock slots, one at a time.
//!
//! *Owns*: the two operations.
//! *Does not own*: which slot speaks, and in which order they are written.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use crate::buffer::AlignedBuf;
use crate::error::WalError;
use crate::format::Flaw;
use crate::format::superblock::{SLOT_BYTES, SLOT_POSITIONS, Superblock};
use crate::io::DiskIo;
use crate::slots::padded;

/// Both slots as they are.
pub(super) async fn read_slots(io: &mut DiskIo) -> Result<[Result<Superblock, Flaw>; 2], WalError> {
    let mut slots = [Err(Flaw::Blank), Err(Flaw::Blank)];
    for (slot, position) in slots.iter_mut().zip(SLOT_POSITIONS) {
        // A slot that cannot be read is as good as a damaged one.
        *slot = match io.read(position, SLOT_BYTES).await {
            Ok(bytes) => Superblock::decode(bytes.as_slice(), position),
            Err(_) => Err(Flaw::Field("cannot be read")),
        };
    }
    Ok(slots)
}

/// Writes one slot and makes it durable.
pub(super) async fn write_slot(
    io: &mut DiskIo,
    superblock: &Superblock,
    slot: usize,
) -> Result<(), WalError> {
    let position = SLOT_POSITIONS[slot];
    let bytes = padded(superblock, position);
    let align = usize::try_from(superblock.block_bytes).expect("a block");
    let mut buf = AlignedBuf::new(bytes.len(), align);
    buf.extend_from_slice(&bytes);
    io.write(position, buf).await?;
    io.flush().await
}
