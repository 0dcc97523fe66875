//! What earlier lives left for good: starts, fences, barriers, of which an opening reads few.
//!
//! *Owns*: which of them must be there, and what is said where they are not or are damaged.
//! *Does not own*: the log that an opening reads (`look.rs`).
//!
//! Invariants
//! 1. Nothing in the bucket changes.
//! 2. What is said was seen twice: while one looks, a log is taken over, or written and trimmed.
//! 3. Of a log that was given up nothing is said.
//!
//! *Format: docs/formats/object-wal.md* · *IO: through the bucket port*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tidewater_bucket::{Bucket, Purpose};
use tidewater_types::{Env, Epoch, Lsn, NodeId};

use super::film::Film;
use super::format::entry::{HEADER_BYTES, Header, Kind, decode};
use super::format::{Place, epoch_prefix, key};
use super::look::places;
use super::settings::ObjectWalConfig;
use super::store::Store;
use crate::error::WalError;
use crate::format::Flaw;

/// Objects read at a time.
const READ_MAX: usize = 16;

/// What is wrong with what stays of all epochs; see [`super::ObjectWal::look_at_remains`].
pub(super) async fn look(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: &ObjectWalConfig,
    node: NodeId,
) -> Result<Vec<WalError>, WalError> {
    let film: Arc<dyn Bucket> = Arc::new(Film::new(bucket, Purpose::Fsck));
    let store = Store::new(film, env, config);
    let mut first = Remains::read(&store, node).await?.judge();
    if !first.is_empty() {
        let second = Remains::read(&store, node).await?.judge();
        first.retain(|flaw| second.iter().any(|again| is_same(flaw, again)));
    }
    Ok(first)
}

fn is_same(one: &WalError, other: &WalError) -> bool {
    one.to_string() == other.to_string()
}

/// What was read.
struct Remains {
    node: NodeId,
    listed: BTreeMap<Place, u64>,
    read: BTreeMap<Place, Result<Header, Flaw>>,
}

impl Remains {
    async fn read(store: &Store, node: NodeId) -> Result<Self, WalError> {
        let mut listed = places(store, node).await?;
        // Others were not written by a log; a look refuses them.
        listed.retain(|place, _| place.is_plausible());
        // Whatever is longer holds frames, unless it stands where a start does: it is not read, be it
        // as large as it may.
        let is_short = |size: u64| size <= HEADER_BYTES as u64;
        let wanted = listed.iter().filter(|(_, size)| is_short(**size));
        let wanted: Vec<Place> = wanted.map(|(place, _)| *place).collect();
        let too_long = (listed.iter())
            .filter(|(place, size)| place.seq == 0 && !is_short(**size))
            .map(|(place, _)| (*place, Err(Flaw::Field("more bytes than a start has"))));
        let mut read: BTreeMap<_, _> = too_long.collect();
        for some in wanted.chunks(READ_MAX) {
            let reads = some.iter().map(|place| async {
                let key = key(node, *place);
                (*place, store.get(&key, Some(listed[place])).await)
            });
            for (place, found) in join_all(reads).await {
                // States are deleted once they are trimmed.
                if let Some(bytes) = found? {
                    read.insert(place, decode(&bytes, place));
                }
            }
        }
        Ok(Self { node, listed, read })
    }

    fn judge(&self) -> Vec<WalError> {
        let starts = self.read.iter().rev().filter_map(|(_, read)| read.ok());
        let newest = starts.clone().find_map(|header| match header.kind {
            Kind::Start { founding, .. } => Some((header, founding)),
            _ => None,
        });
        let founding = newest.map_or(Epoch(0), |(_, founding)| founding);
        let mut flaws = Vec::new();
        for (place, read) in self.read.range(Place::new(founding, 0)..) {
            match (read, newest) {
                (Err(flaw), _) => flaws.push(self.damaged(*place, flaw.describe())),
                (Ok(header), Some((start, _))) if header.wal != start.wal => {
                    flaws.push(self.damaged(*place, "an entry of another log"));
                }
                _ => {}
            }
        }
        if newest.is_some() {
            self.starts(founding, &mut flaws);
            self.ends(founding, &mut flaws);
        }
        flaws
    }

    /// Each epoch has a start, and none is left out.
    fn starts(&self, founding: Epoch, flaws: &mut Vec<WalError>) {
        let mut next = founding;
        for epoch in self.epochs(founding) {
            let start = Place::new(epoch, 0);
            // Of a run of epochs that are gone the first one is named.
            let gone = if epoch > next {
                Some(Place::new(next, 0))
            } else {
                (!self.listed.contains_key(&start)).then_some(start)
            };
            flaws.extend(gone.map(|place| missing(key(self.node, place), "the start of an epoch")));
            next = Epoch(epoch.0 + 1);
        }
    }

    /// Below an epoch whose owner had the log, all chains were ended: by a fence, and over that a
    /// barrier where entries may have been under way; or by a barrier that entries reach up to.
    fn ends(&self, founding: Epoch, flaws: &mut Vec<WalError>) {
        let is_owners = |(place, size): (&Place, &u64)| {
            let is_state =
                || matches!(self.read.get(place), Some(Ok(header)) if header.kind == Kind::State);
            place.seq > 0 && (*size > HEADER_BYTES as u64 || is_state())
        };
        let mut listed = self.listed.iter().rev();
        let Some((owned, _)) = listed.find(|(place, size)| is_owners((place, size))) else {
            return;
        };
        for epoch in self.epochs(founding).range(..owned.epoch) {
            let epoch = *epoch;
            let of_epoch = Place::new(epoch, 0)..=Place::new(epoch, u64::MAX);
            let read = self.read.range(of_epoch);
            if read.clone().any(|(_, read)| read.is_err()) {
                // It may be what is looked for.
                continue;
            }
            let headers = read.filter_map(|(_, read)| read.ok());
            let mut ends =
                headers.filter(|header| matches!(header.kind, Kind::Fence | Kind::Barrier));
            let expected = match (ends.next(), ends.next()) {
                (None, _) => "a fence".to_owned(),
                (Some(end), None) if end.kind == Kind::Fence && end.place.seq > 1 => {
                    format!("a barrier above the fence at number {}", end.place.seq)
                }
                _ => continue,
            };
            flaws.push(missing(epoch_prefix(self.node, epoch), &expected));
        }
    }

    /// Those of the log.
    fn epochs(&self, founding: Epoch) -> BTreeSet<Epoch> {
        let listed = self.listed.range(Place::new(founding, 0)..);
        listed.map(|(place, _)| place.epoch).collect()
    }

    fn damaged(&self, place: Place, found: &str) -> WalError {
        corrupt(key(self.node, place), "a valid entry", found)
    }
}

fn missing(path: String, expected: &str) -> WalError {
    corrupt(path, expected, "no object")
}

fn corrupt(path: String, expected: &str, found: &str) -> WalError {
    WalError::Corrupt {
        path,
        position: 0,
        lsn: Lsn(0),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
