//! Opening a log that was damaged.
//!
//! *Owns*: the judgement of such an opening. *Does not own*: the damage (damage.rs), lies (lies.rs).
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_types::{Env, Lsn, sometimes};
use tidewater_wal::{DeviceWal, Identity, OpenMode, WalError};

use super::world::World;
use crate::check::Violation;
use crate::check::damage::{self, Harm};
use crate::env::SimEnv;
use crate::plan::{Damage, End};
use crate::scenario::common::wal_config;

/// Where the ring begins.
pub(super) const RING: u64 = 64 * 1024;
/// How a group begins.
pub(super) const GROUP_MAGIC: &[u8; 4] = b"TWgr";

/// Whether a recovery refuses the log as damaged; if not, it serves all that was promised below
/// what is still `proven`, which tells nothing if the damage never struck.
pub(super) async fn is_noticed(
    world: &Arc<World>,
    damage: Damage,
    proven: impl FnOnce() -> Option<Lsn>,
) -> Result<bool, Violation> {
    world.device.unprotect_all();
    let identity = world.identity();
    let opened = open(world, identity, OpenMode::Existing).await;
    let proven = proven();
    let harm = match damage {
        _ if proven.is_none() => Harm::Nothing,
        Damage::SlotRot => Harm::OneSlot,
        _ => Harm::Altered,
    };
    if proven.is_some() {
        world.handle.strike(damage.fault());
    }
    match opened {
        Ok(served) => {
            let mut model = world.model.lock();
            model.lied = false;
            if damage == Damage::StaleRead && proven.is_some() {
                sometimes!("a stale read went unnoticed");
            }
            if let Some(proven) = proven {
                sometimes!("damage was harmless");
                model.frames.doubtful_from(proven);
            }
            model.frames.recovered(&served)?;
            Ok(false)
        }
        Err(error) => {
            damage::ended(&damage, harm, &Err(error.clone()))?;
            sometimes!("damage was noticed");
            again(world, damage, &error).await
        }
    }
}

/// Whoever tries once more is refused once more: nothing was cut off meanwhile. What was read as it
/// had been is read as it is, and then everything is there.
async fn again(world: &Arc<World>, damage: Damage, first: &WalError) -> Result<bool, Violation> {
    let opened = open(world, world.identity(), OpenMode::Existing).await;
    if damage != Damage::StaleRead {
        return damage::again(&damage, first, &opened.map(drop)).map(|()| true);
    }
    let served = opened.map_err(|error| damage::wrong(&damage, &error))?;
    sometimes!("a log that was refused for a stale read opens");
    let mut model = world.model.lock();
    model.lied = false;
    model.frames.recovered(&served)?;
    Ok(false)
}

pub(super) type Served = Vec<(Lsn, Vec<u8>)>;

/// Opens and leaves at once; the frames served.
pub(super) async fn open(
    world: &Arc<World>,
    identity: Identity,
    mode: OpenMode,
) -> Result<Served, WalError> {
    let disk = world.open_device().await;
    let tag = world.next_tag();
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let served = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = Arc::clone(&served);
    let on_frame =
        Box::new(move |lsn, bytes: bytes::Bytes| sink.lock().push((lsn, bytes.to_vec())));
    let config = wal_config(&world.plan, world.plan.lives[0].sync);
    let opened = DeviceWal::open_on(Box::new(disk), env, config, identity, mode, on_frame).await;
    world.end(tag, End::Kill);
    let wal = opened?;
    drop(wal);
    let served = std::mem::take(&mut *served.lock());
    Ok(served)
}
