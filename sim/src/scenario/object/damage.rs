//! Damage beyond the bucket's contract: a takeover must notice it and stop, never truncate.
//!
//! *Owns*: rot, an object that breaks off, two that change places, one that is lost, a log that is
//! gone or is another one.
//! *Does not own*: what no log can notice: a lost entry that nothing behind it proves was durable.
//!
//! Invariants
//! 1. Taking a damaged log over serves every promised frame, or is refused by name, every time.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_types::{Env, Lsn, WalId, sometimes};
use tidewater_wal::{Identity, ObjectWal, OpenMode, WalError};

use super::world::{World, identity};
use crate::bucket::{BucketFaults, SimBucket};
use crate::check::Violation;
use crate::check::damage::{self, Harm, wrong};
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::plan::Damage;
use crate::scenario::common::holds;

/// Bytes of an entry's header (docs/formats/object-wal.md): longer entries hold frames.
const HEADER_BYTES: usize = 160;

/// Nobody runs any more: does the damage and takes over; `true` if that was refused, as it may.
pub(super) async fn inflict(world: &Arc<World>, damage: Damage) -> Result<bool, Violation> {
    world.end_all();
    // Late requests have landed by then.
    world.handle.sleep(Duration::from_secs(1)).await;
    if !strike(world, damage).await? {
        return Ok(false);
    }
    world.handle.strike(damage.fault());
    let harm = match damage {
        Damage::BitRot | Damage::Truncated | Damage::Swapped => Harm::Altered,
        Damage::Foreign => Harm::Foreign,
        _ => Harm::Lost,
    };
    match take_over(world).await {
        Ok(served) => {
            damage::ended(&damage, harm, &Ok(()))?;
            sometimes!("object wal: damage was harmless");
            world.model.lock().frames.recovered(&served)?;
            Ok(false)
        }
        Err(error) => {
            let first = Err(error.clone());
            damage::ended(&damage, harm, &first)?;
            if harm != Harm::Foreign {
                sometimes!("object wal: damage was noticed");
                let again = take_over(world).await.map(drop);
                damage::again(&damage, &error, &again)?;
            }
            Ok(true)
        }
    }
}

/// `false` if there is nothing whose damage would have to be noticed.
async fn strike(world: &World, damage: Damage) -> Result<bool, Violation> {
    let bucket = &world.bucket;
    let keys = bucket.keys();
    match damage {
        Damage::BitRot | Damage::Truncated => {
            let key = victim(world, &keys);
            let mut bytes = bucket.object(&key).expect("it is listed").to_vec();
            let at = world.below(bytes.len() as u64);
            let at = usize::try_from(at).expect("small");
            if damage == Damage::BitRot {
                bytes[at] ^= 1 << world.below(8);
            } else {
                bytes.truncate(at);
            }
            world.handle.line(|| format!("{damage:?} of {key} at {at}"));
            bucket.put(&key, Some(bytes.into()));
        }
        Damage::Swapped => {
            let pair = [victim(world, &keys), victim(world, &keys)];
            let [one, two] = pair.each_ref().map(|key| bucket.object(key));
            if one == two {
                return Ok(false);
            }
            world.handle.line(|| format!("swapped: {pair:?}"));
            bucket.put(&pair[0], two);
            bucket.put(&pair[1], one);
        }
        Damage::Lost => {
            let Some(key) = lost(world, &keys) else {
                return Ok(false);
            };
            world.handle.line(|| format!("lost: {key}"));
            bucket.put(&key, None);
        }
        Damage::Foreign => {
            bucket.wipe("");
            if world.below(2) == 0 {
                another_log(world).await?;
            }
        }
        // Of disks.
        Damage::SlotRot
        | Damage::Misdirected
        | Damage::Unreadable
        | Damage::LyingFlush
        | Damage::StaleRead => return Ok(false),
    }
    Ok(true)
}

/// Any object, but mostly one that holds frames.
fn victim(world: &World, keys: &[String]) -> String {
    let data: Vec<&String> = keys.iter().filter(|key| is_data(world, key)).collect();
    let pick = |len: usize| usize::try_from(world.below(len as u64)).expect("small");
    if data.is_empty() || world.below(3) == 0 {
        return keys[pick(keys.len())].clone();
    }
    data[pick(data.len())].clone()
}

fn is_data(world: &World, key: &str) -> bool {
    let object = world.bucket.object(key);
    object.is_some_and(|bytes| bytes.len() > HEADER_BYTES)
}

/// The object of a promised frame that so many follow that the last ones know it was durable.
fn lost(world: &World, keys: &[String]) -> Option<String> {
    let promised: Vec<u64> = {
        let model = world.model.lock();
        model.frames.promised().map(|(value, _)| value).collect()
    };
    let data: Vec<&String> = keys.iter().filter(|key| is_data(world, key)).collect();
    let provable = data.len().checked_sub(world.config.window as usize + 2)?;
    let promises = |key: &&&String| {
        let bytes = world.bucket.object(key).unwrap_or_default();
        let head = |value: &u64| crate::check::payload(*value, 16);
        promised.iter().any(|value| holds(&bytes, &head(value)))
    };
    data[..provable]
        .iter()
        .find(promises)
        .map(|key| (*key).clone())
}

/// Another log of the same node comes to lie in the bucket.
async fn another_log(world: &World) -> Result<(), Violation> {
    let tag = world.next_tag();
    let env = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let identity = Identity {
        wal: Some(WalId([9; 16])),
        ..identity()
    };
    let fresh = SimBucket::new(world.handle.clone(), 1, BucketFaults::default());
    let (bucket, config) = (Arc::new(fresh.clone()), world.config.clone());
    let mode = OpenMode::Create;
    let opened = ObjectWal::open(bucket, env, config, identity, mode, |_, _| {}).await;
    drop(opened.map_err(|error| wrong(&Damage::Foreign, &error))?);
    for key in fresh.keys() {
        world.bucket.put(&key, fresh.object(&key));
    }
    Ok(())
}

/// The frames that a takeover serves; nobody stays behind.
async fn take_over(world: &World) -> Result<Vec<(Lsn, Vec<u8>)>, WalError> {
    let tag = world.next_tag();
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let served = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&served);
    let on_frame = move |lsn: Lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec()));
    let (bucket, config): (Arc<dyn Bucket>, _) =
        (Arc::new(world.bucket.clone()), world.config.clone());
    let identity = Identity {
        wal: world.model.lock().wal,
        ..identity()
    };
    let mode = OpenMode::Existing;
    let opened = ObjectWal::open(bucket, env, config, identity, mode, on_frame).await;
    world.handle.kill(tag);
    let (_wal, _report) = opened?;
    let served = std::mem::take(&mut *served.lock());
    Ok(served)
}

impl World {
    /// Ends every life.
    fn end_all(&self) {
        let last = self.next_tag();
        (1..=last.0).for_each(|tag| self.handle.kill(Tag(tag)));
    }

    fn below(&self, bound: u64) -> u64 {
        self.model.lock().rng.below(bound)
    }
}
