//! Taking a WAL over: the driver of the takeover, and what it hands on.
//!
//! *Owns*: asking the store what the core asks for; the report.
//! *Does not own*: any decision (`core.rs`).
//!
//! *Format: docs/formats/object-wal.md* · *IO: through the bucket port*

mod ask;
mod chain;
pub(crate) mod core;
mod reading;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tidewater_types::{Epoch, Lsn, WalId, mutant};

use self::ask::{Answer, Ask};
pub(crate) use self::core::Mode;
use self::core::Takeover;
pub(crate) use self::reading::Keep;
use super::core::{Item, Start};
use super::store::Store;
use crate::config::Identity;
use crate::error::WalError;

/// What taking an object WAL over found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeoverReport {
    /// The WAL.
    pub wal: WalId,
    /// Epoch of the new life.
    pub epoch: Epoch,
    /// Trim point: frames below were not delivered.
    pub trimmed: Lsn,
    /// LSN behind the last frame recovered; the next frame gets it.
    pub end: Lsn,
    /// Entries read from the trim point on.
    pub num_entries: u64,
    /// Frames delivered.
    pub num_frames: u64,
    /// Bytes of entries read.
    pub num_bytes: u64,
    /// Key of the fence or barrier behind the last life's entries; `None` for a new WAL.
    pub fence: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

/// A WAL that is ours.
pub(crate) struct Taken {
    pub(crate) start: Start,
    pub(crate) frames: Vec<(Lsn, Bytes)>,
    pub(crate) report: TakeoverReport,
}

/// Claims the WAL, ends the last life's chain, reads what it holds.
pub(crate) async fn take_over(
    store: &Store,
    identity: Identity,
    mode: Mode,
    window: u32,
    keep: Keep,
) -> Result<Taken, WalError> {
    let begun = store.env.now();
    let draw = || u128::from(store.env.random("wal: identity"));
    let drawn = WalId((draw() << 64 | draw()).to_be_bytes());
    let owner = super::owner::Owner {
        cluster: identity.cluster,
        node: identity.node,
        wal: identity.wal.unwrap_or(drawn),
        epoch: Epoch(0),
        nonce: (draw() << 64 | draw()).to_be_bytes(),
    };
    let mut takeover = Takeover::new(owner, identity, mode, window, keep);
    let mut answer = Answer::Begin;
    loop {
        answer = match takeover.step(answer)? {
            Ask::Done => break,
            Ask::List { prefix, after } => {
                Answer::Page(store.list(&prefix, after.as_deref()).await?)
            }
            Ask::Put { place, body } => {
                let key = takeover.owner.key(place);
                store
                    .settle(&key, body)
                    .await?
                    .map_or(Answer::Ours, Answer::Foreign)
            }
            Ask::Get { places } => {
                let asked = places.iter().map(|place| {
                    let (key, size) = (takeover.owner.key(*place), takeover.size_of(*place));
                    async move { store.get(&key, size).await }
                });
                let found = join_all(asked).await;
                Answer::Got(found.into_iter().collect::<Result<_, _>>()?)
            }
        };
    }
    Ok(finish(&takeover, store.env.now().since(begun)))
}

fn finish(takeover: &Takeover, duration: Duration) -> Taken {
    let (owner, reading, trim) = (takeover.owner, &takeover.reading, takeover.trim);
    let frames: Vec<_> = reading.frames(trim.lsn).collect();
    let lsn = reading.end_lsn();
    let place = |epoch, seq| super::format::Place::new(epoch, seq);
    let mut items = reading.items();
    if mutant!(20) {
        // Seeded bug 20: fences are deleted like anything else.
        items.extend(takeover.end.map(|place| Item {
            place,
            lsn,
            end: lsn,
        }));
    }
    items.push(Item {
        place: place(owner.epoch, 1),
        lsn,
        end: lsn,
    });
    let report = TakeoverReport {
        wal: owner.wal,
        epoch: owner.epoch,
        trimmed: trim.lsn,
        end: lsn,
        num_entries: reading.num_entries(),
        num_frames: frames.len() as u64,
        num_bytes: reading.num_bytes,
        fence: takeover.end.map(|place| owner.key(place)),
        duration,
    };
    let start = Start {
        owner,
        items,
        trim,
        lsn,
        sweep: takeover.sweep(),
    };
    Taken {
        start,
        frames,
        report,
    }
}
