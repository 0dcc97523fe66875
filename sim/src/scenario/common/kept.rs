//! Whether acknowledged bytes that lie in a bucket would be served: that an object holds them is not enough.
//!
//! *Owns*: which objects of write-ahead logs and of data count: what whoever takes a log over reads, and
//! what the metadata name.
//! *Does not own*: what is sure without a takeover (`check/chain.rs`), the devices.
//!
//! Invariants
//! 1. Whoever asks changes nothing in the run: copies live on executors of their own.
//! 2. What a life wrote behind the fence of its successor counts for nothing.
//!
//! *IO: none*

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_s3stream::{FsckOptions, MetaState};
use tidewater_stream_store::ObjectWalConfig;
use tidewater_types::{ClusterId, Env, NodeId, sometimes};
use tidewater_wal::{Identity, ObjectWal, OpenMode};

use super::{LIMITS, failure_of};
use crate::bucket::SimBucket;
use crate::check::chain::{Entry, Log, is_sure};
use crate::check::{Violation, fork, holds};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};

/// Whether whoever takes the write-ahead logs over now finds `bytes` in one of them.
///
/// # Errors
/// A takeover is refused.
pub(crate) fn is_in_log(
    bucket: &SimBucket,
    seed: u64,
    config: &ObjectWalConfig,
    bytes: &[u8],
) -> Result<bool, Violation> {
    let objects = bucket.below("wal/");
    let mut in_doubt = BTreeSet::new();
    for (key, object) in objects.iter().rev() {
        let Some(entry) = Entry::read(key, object).filter(|_| holds(object, bytes)) else {
            continue;
        };
        if is_sure(&log_of(entry.node, &objects), entry.place) {
            return Ok(true);
        }
        in_doubt.extend(cluster_of(object).map(|cluster| (entry.node, cluster)));
    }
    for (node, cluster) in in_doubt {
        let identity = Identity {
            cluster,
            node: NodeId(node),
            wal: None,
        };
        if takeover_finds(bucket, seed, config, identity, bytes)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn log_of(node: u32, objects: &[(String, Bytes)]) -> Log {
    let entries = (objects.iter()).filter_map(|(key, object)| Entry::read(key, object));
    let own = entries.filter(|entry| entry.node == node);
    own.map(|entry| (entry.place, entry)).collect()
}

/// Whose log an entry belongs to (docs/formats/object-wal.md).
fn cluster_of(entry: &[u8]) -> Option<ClusterId> {
    entry.get(32..)?.first_chunk().copied().map(ClusterId)
}

/// Whether a takeover of a copy finds `bytes` in a frame that is not trimmed.
fn takeover_finds(
    bucket: &SimBucket,
    seed: u64,
    config: &ObjectWalConfig,
    identity: Identity,
    bytes: &[u8],
) -> Result<bool, Violation> {
    sometimes!("a copy of a log is taken over for acknowledged bytes");
    let executor = Executor::new(seed);
    let copy = Arc::new(bucket.fork(executor.handle(), seed));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
    let (bytes, config) = (bytes.to_vec(), config.clone());
    let found = Arc::new(Mutex::new(None));
    let (frames, answer) = (Arc::clone(&found), Arc::clone(&found));
    let on_frame = move |lsn, frame: Bytes| {
        if holds(&frame, &bytes) {
            *frames.lock() = Some(lsn);
        }
    };
    let outcome = executor.run(LIMITS, async move {
        let opened = ObjectWal::open(copy, env, config, identity, OpenMode::Existing, on_frame);
        let (_, report) = (opened.await).map_err(|error| fork::refused("takeover", &error))?;
        let mut found = answer.lock();
        *found = found.filter(|lsn| *lsn >= report.trimmed);
        Ok(())
    });
    failure_of(outcome).map_or(Ok(()), Err)?;
    let is_found = found.lock().is_some();
    Ok(is_found)
}

/// Whether an object that the metadata name, and that is not dead, holds `bytes`.
///
/// # Errors
/// The metadata of a copy cannot be read.
pub(crate) fn is_in_data(bucket: &SimBucket, seed: u64, bytes: &[u8]) -> Result<bool, Violation> {
    let mut holders = bucket.below("data/");
    holders.retain(|(_, object)| holds(object, bytes));
    if holders.is_empty() {
        return Ok(false);
    }
    let Some(state) = metadata_of(bucket, seed)? else {
        return Ok(false);
    };
    let live = (state.objects()).filter(|(_, object)| object.died_seq.is_none());
    let live: BTreeSet<String> = live.map(|(id, _)| id.key()).collect();
    Ok(holders.iter().any(|(key, _)| live.contains(key)))
}

/// The metadata that whoever opens a copy now begins with.
fn metadata_of(bucket: &SimBucket, seed: u64) -> Result<Option<MetaState>, Violation> {
    sometimes!("the metadata of a copy are read for acknowledged bytes");
    let executor = Executor::new(seed);
    let copy = Arc::new(bucket.fork(executor.handle(), seed));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let outcome = executor.run(LIMITS, async move {
        let report = tidewater_s3stream::fsck(copy, env, FsckOptions::default()).await;
        *answer.lock() = (report.map_err(|error| fork::refused("metadata", &error))?).metadata;
        Ok(())
    });
    failure_of(outcome).map_or(Ok(()), Err)?;
    let state = found.lock().take();
    Ok(state)
}

#[cfg(test)]
mod tests;
