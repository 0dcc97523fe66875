//! Making a new WAL.
//!
//! *Owns*: the first superblocks; telling a half-made WAL from a damaged one.
//! *Does not own*: files and names.
//!
//! Invariants
//! 1. Slot 0 is durable with sequence 1 before slot 1 is written with sequence 2, and every
//!    life writes both: so a WAL without a second slot and with sequence 1 was never opened.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use tidewater_types::{Env, WalId};

use super::judge;
use super::superblocks::{read_slots, write_slot};
use crate::config::{DeviceWalConfig, Identity};
use crate::error::WalError;
use crate::format::Flaw;
use crate::format::superblock::{RING_POSITION, Superblock, TrimPoint};
use crate::io::DiskIo;

const BLOCK_BYTES_MIN: u32 = 4096;

/// Makes a new WAL where there is none.
pub(crate) async fn create(
    io: &mut DiskIo,
    env: &dyn Env,
    config: &DeviceWalConfig,
    identity: &Identity,
) -> Result<(), WalError> {
    judge::check_device(io)?;
    match read_slots(io).await? {
        [Err(Flaw::Newer(_)), _] | [_, Err(Flaw::Newer(_))] => {}
        [Err(_), Err(Flaw::Blank)] => return write(io, env, config, identity).await,
        [Ok(first), Err(_)] if first.sequence == 1 => {
            return write(io, env, config, identity).await;
        }
        _ => {}
    }
    Err(WalError::Exists {
        path: io.path().to_owned(),
    })
}

/// Writes both slots of a new WAL, whatever is there.
pub(crate) async fn write(
    io: &mut DiskIo,
    env: &dyn Env,
    config: &DeviceWalConfig,
    identity: &Identity,
) -> Result<(), WalError> {
    let block_bytes = u32::try_from(io.block_size()).expect("checked");
    let block_bytes = block_bytes.max(BLOCK_BYTES_MIN);
    let segment_count = config.capacity_bytes / config.segment_bytes;
    let mut superblock = Superblock {
        sequence: 0,
        cluster: identity.cluster,
        node: identity.node,
        wal: identity.wal.unwrap_or_else(|| draw(env)),
        block_bytes,
        segment_bytes: config.segment_bytes,
        segment_count: u32::try_from(segment_count).unwrap_or(u32::MAX),
        window_bytes: config.window_bytes,
        trim: TrimPoint {
            position: RING_POSITION,
            ..TrimPoint::default()
        },
        seal: None,
        epochs: Vec::new(),
    };
    judge::check_settings(config, &judge::geometry(&superblock))?;
    for slot in [0, 1] {
        superblock.sequence += 1;
        write_slot(io, &superblock, slot).await?;
    }
    Ok(())
}

fn draw(env: &dyn Env) -> WalId {
    let halves = [env.random("wal: identifier"), env.random("wal: identifier")];
    let mut id = [0; 16];
    id[..8].copy_from_slice(&halves[0].to_le_bytes());
    id[8..].copy_from_slice(&halves[1].to_le_bytes());
    WalId(id)
}
