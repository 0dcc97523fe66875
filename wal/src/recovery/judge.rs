//! Judging what is on a disk, without changing it.
//!
//! *Owns*: which superblock speaks, whether the WAL is ours, the order in which everything is
//! looked at; what was found up to a refusal.
//! *Does not own*: walking the groups (`scan.rs`), proving damage (`damage.rs`), what follows
//! from the judgement: recovery goes on with it, inspection shows it.
//!
//! Invariants
//! 1. Only reads.
//! 2. There is one judge: what inspection says is what recovery does.
//!
//! *Format: docs/formats/wal.md* · *IO: through the disk port*

use super::damage;
use super::epoch::enter_epoch;
use super::scan::{Scan, Scanned, Visitor};
use super::superblocks::read_slots;
use crate::config::{DeviceWalConfig, Identity};
use crate::error::WalError;
use crate::format::superblock::{BLOCK_BYTES_MAX, Superblock, choose};
use crate::format::{Flaw, VERSION};
use crate::inlet::PoolShape;
use crate::io::DiskIo;
use crate::ring::Geometry;

/// What was found so far.
#[derive(Debug)]
pub(crate) struct Findings {
    /// Both slots as they are.
    pub(crate) slots: [Result<Superblock, Flaw>; 2],
    /// The slot that speaks.
    pub(crate) chosen: Option<usize>,
    /// The walk, if it came to its end.
    pub(crate) scanned: Option<Scanned>,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            slots: [Err(Flaw::Blank), Err(Flaw::Blank)],
            chosen: None,
            scanned: None,
        }
    }
}

impl Findings {
    /// The superblock that speaks.
    pub(crate) fn superblock(&self) -> Option<&Superblock> {
        self.slots[self.chosen?].as_ref().ok()
    }

    /// The slot that is damaged although the other one speaks.
    pub(crate) fn damaged_slot(&self) -> Option<usize> {
        self.chosen?;
        self.slots.iter().position(Result::is_err)
    }

    /// What recovery goes on with.
    ///
    /// # Panics
    /// Unless [`superblocks`] and [`walk`] both came to their end.
    pub(super) fn into_parts(self) -> (Superblock, usize, Scanned) {
        let chosen = self.chosen.expect("a slot was chosen");
        let mut slots = self.slots.into_iter();
        let superblock = slots.nth(chosen).expect("one of two");
        let superblock = superblock.expect("the chosen slot is valid");
        (superblock, chosen, self.scanned.expect("the walk ended"))
    }
}

/// Finds the superblock that speaks. Without `identity`, whoever's it is.
pub(crate) async fn superblocks(
    io: &mut DiskIo,
    identity: Option<&Identity>,
    findings: &mut Findings,
) -> Result<(), WalError> {
    let path = || io.path().to_owned();
    if io.num_bytes() == 0 {
        return Err(WalError::Missing { path: path() });
    }
    check_device(io)?;
    findings.slots = read_slots(io).await?;
    findings.chosen = None;
    let path = io.path().to_owned();
    for slot in &findings.slots {
        if let Err(Flaw::Newer(found)) = *slot {
            let supported = VERSION;
            return Err(WalError::NewerFormat {
                path,
                found,
                supported,
            });
        }
    }
    findings.chosen = choose(&findings.slots);
    let Some(superblock) = findings.superblock() else {
        let flaw = |slot: usize| findings.slots[slot].as_ref().err();
        let [first, second] = [0, 1].map(|slot| flaw(slot).map_or("valid", |f| f.describe()));
        return Err(WalError::SuperblocksDamaged {
            path,
            first,
            second,
        });
    };
    if let Some(identity) = identity {
        check_identity(io.path(), superblock, identity)?;
    }
    check_blocks(io, &geometry(superblock))
}

/// Walks the log of the superblock that speaks and judges where it stops. A visitor that has had
/// enough ends the walk without a judgement.
pub(crate) async fn walk(
    io: &mut DiskIo,
    read_bytes: u64,
    findings: &mut Findings,
    visitor: &mut dyn Visitor,
) -> Result<(), WalError> {
    let superblock = findings.superblock().expect("a superblock speaks");
    let geometry = geometry(superblock);
    let scan = Scan::new(io, superblock, geometry, read_bytes);
    let scanned = scan.run(visitor).await?;
    if visitor.is_done() {
        return Ok(());
    }
    let judged = damage::check(io, superblock, &geometry, &scanned).await;
    findings.scanned = Some(scanned);
    judged
}

/// Whether a new life has room for its epoch.
pub(crate) fn check_epochs(path: &str, findings: &Findings) -> Result<(), WalError> {
    match (findings.superblock(), &findings.scanned) {
        (Some(superblock), Some(scanned)) => {
            enter_epoch(path, &mut superblock.clone(), scanned, scanned.position).map(|_| ())
        }
        _ => Ok(()),
    }
}

fn check_identity(path: &str, found: &Superblock, expected: &Identity) -> Result<(), WalError> {
    let path = path.to_owned();
    if found.cluster != expected.cluster {
        return Err(WalError::ForeignCluster {
            path,
            expected: expected.cluster,
            found: found.cluster,
        });
    }
    if found.node != expected.node {
        return Err(WalError::ForeignNode {
            path,
            expected: expected.node,
            found: found.node,
        });
    }
    match expected.wal {
        Some(wal) if wal != found.wal => Err(WalError::ForeignWal {
            path,
            expected: wal,
            found: found.wal,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn geometry(superblock: &Superblock) -> Geometry {
    Geometry {
        block_bytes: u64::from(superblock.block_bytes),
        segment_bytes: superblock.segment_bytes,
        segment_count: superblock.segment_count,
        window_bytes: superblock.window_bytes,
    }
}

fn check_blocks(io: &DiskIo, geometry: &Geometry) -> Result<(), WalError> {
    let value = io.block_size() as u64;
    if value <= geometry.block_bytes {
        return check_window(geometry);
    }
    Err(WalError::Config {
        field: "device block size",
        value,
        expected: "at most that of the write-ahead log",
    })
}

/// Refuses a device whose blocks a slot has no place for.
pub(super) fn check_device(io: &DiskIo) -> Result<(), WalError> {
    check_block(io.block_size() as u64)
}

/// Refuses blocks of `value` bytes if a slot has no place for them.
pub(crate) fn check_block(value: u64) -> Result<(), WalError> {
    if value <= BLOCK_BYTES_MAX {
        return Ok(());
    }
    Err(WalError::Config {
        field: "device block size",
        value,
        expected: "at most 16 KiB",
    })
}

/// Blocks of that size go with the settings.
pub(super) fn check_settings(
    config: &DeviceWalConfig,
    geometry: &Geometry,
) -> Result<(), WalError> {
    check_window(geometry)?;
    PoolShape::of(config, geometry).map(|_| ())
}

/// A group is at least two blocks long, or no frame would fit.
fn check_window(geometry: &Geometry) -> Result<(), WalError> {
    if geometry.group_bytes_max() >= 2 * geometry.block_bytes {
        return Ok(());
    }
    Err(WalError::Config {
        field: "window_bytes",
        value: geometry.window_bytes,
        expected: "at least four blocks of the device",
    })
}
