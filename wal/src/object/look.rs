//! Looking at an object WAL without taking it over.
//!
//! *Owns*: what a look is: the takeover itself, on a film over the bucket.
//! *Does not own*: the judgement (`takeover/core.rs`).
//!
//! Invariants
//! 1. Nothing in the bucket changes; an owner that lives is not fenced.
//! 2. The verdict is the one that opening the WAL would give.
//! 3. Damage is believed when a second look has the same complaint: while an owner writes and
//!    trims, one look may see an entry and miss the one before it.
//!
//! *IO: through the bucket port*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{ClusterId, Env, Lsn, NodeId};

use super::film::Film;
use super::format::{Place, entry, key, place_of, prefix};
use super::settings::ObjectWalConfig;
use super::store::Store;
use super::takeover::{Keep, Mode, Taken, TakeoverReport, take_over};
use crate::config::Identity;
use crate::error::WalError;

/// Whose the log is, the heads of its frames, and what a takeover would report.
pub(super) type Looked = (Identity, Vec<(Lsn, Bytes)>, TakeoverReport);

/// Starts that a peek looks at, should the newest ones be damaged.
const PEEKS_MAX: usize = 16;
/// Looks at a WAL that never complains alike.
const LOOKS_MAX: u32 = 5;

/// The heads of the frames a takeover would recover, in LSN order, whose the log is, and the takeover's report;
/// `None` if the node has no log. Reads only.
pub(super) async fn look(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: &ObjectWalConfig,
    node: NodeId,
) -> Result<Option<Looked>, WalError> {
    let film = || -> Arc<dyn Bucket> { Arc::new(Film::new(Arc::clone(&bucket), Purpose::Fsck)) };
    let peeked = peek(&Store::new(film(), Arc::clone(&env), config), node).await?;
    let mut identity = Identity {
        cluster: peeked.unwrap_or(ClusterId([0; 16])),
        node,
        wal: None,
    };
    let mut complaint = None;
    for _ in 0..LOOKS_MAX {
        let store = Store::new(film(), Arc::clone(&env), config);
        let existing = Mode::Existing;
        match take_over(&store, identity, existing, config.window, Keep::Heads).await {
            Ok(Taken { frames, report, .. }) => {
                identity.wal = Some(report.wal);
                return Ok(Some((identity, frames, report)));
            }
            Err(WalError::Missing { .. }) => return Ok(None),
            // What was peeked at was of a log that was given up.
            Err(WalError::ForeignCluster { found, .. }) => identity.cluster = found,
            Err(error @ WalError::Corrupt { .. }) => {
                let text = error.to_string();
                if complaint.replace(text.clone()) == Some(text) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    let path = prefix(node);
    Err(WalError::Busy { path })
}

/// The cluster of the newest start that can be read: a log that was given up lies below the one in
/// its place.
pub(super) async fn peek(store: &Store, node: NodeId) -> Result<Option<ClusterId>, WalError> {
    let listed = places(store, node).await?;
    let epochs: BTreeSet<_> = listed.keys().map(|place| place.epoch).collect();
    for epoch in epochs.into_iter().rev().take(PEEKS_MAX) {
        let place = Place::new(epoch, 0);
        if let Some(bytes) = store.get(&key(node, place), None).await?
            && let Ok(header) = entry::decode(&bytes, place)
        {
            return Ok(Some(header.cluster));
        }
    }
    Ok(None)
}

/// All entries of the node, by what their keys say, and their sizes.
pub(super) async fn places(store: &Store, node: NodeId) -> Result<BTreeMap<Place, u64>, WalError> {
    let (prefix, mut after) = (prefix(node), None);
    let mut places = BTreeMap::new();
    loop {
        let page = store.list(&prefix, after.as_deref()).await?;
        let entries = page.entries.iter();
        places.extend(entries.filter_map(|entry| Some((place_of(node, &entry.key)?, entry.size))));
        after = page.entries.last().map(|entry| entry.key.clone());
        if !page.more || after.is_none() {
            return Ok(places);
        }
    }
}
