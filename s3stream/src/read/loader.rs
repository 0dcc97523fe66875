//! Blocks from wherever they are: memory, a load under way, the disk cache, the bucket.
//!
//! *Owns*: the order in which these are asked, that a block is loaded once, requests for several
//! neighbouring blocks.
//! *Does not own*: which blocks are wanted, retries and checksums (`source.rs`).
//!
//! Invariants
//! 1. Whoever claimed a block loads it before waiting for blocks that others load: nobody waits
//!    in a circle.
//! 2. Blocks that one request brought share its bytes until one of them is read again: that one
//!    gets bytes of its own, so that what stays in memory for long keeps nothing else alive.
//!    Only what is read again stays longer than what is new: a reader that passes once, however
//!    many fetches a block takes it, leaves no trace.
//! 3. What the disk cache gives is held against the object's index like what the bucket gives. If
//!    it does not hold, it was not there.
//!
//! *IO: none* (requests go through the bucket port and the port of the disk cache)

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tidewater_bucket::behind_others;
use tidewater_types::{Offset, mutant, sometimes};

use super::disk::store::DiskCache;
use crate::config::TierConfig;
use crate::counters::{Counters, add};
use crate::error::TierError;
use crate::format::block::DataBlock;
use crate::format::index::IndexRow;
use crate::object_id::ObjectId;

use super::cache::{Cache, Key, NumBytes};
use super::flight::{Claim, Flights, Passenger, Takeoff};
use super::runs::{Run, runs};
use super::source::{Source, checked_block, part_at, tier_error};

/// How often a check lets all other tasks that are ready go first while another one is under way.
const GIVE_WAY_MAX: u32 = 100;

/// Where a block came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Memory,
    Disk,
    Bucket,
}

pub(crate) type Landed = Result<(Kept, Origin), TierError>;

/// A block in memory.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) block: DataBlock,
    read: Arc<Read>,
}

/// What readers did with a block.
struct Read {
    /// Up to which offset any of them came.
    to: AtomicU64,
    /// Whether the bytes in memory are shared with other blocks.
    is_shared: AtomicBool,
}

impl NumBytes for Kept {
    fn num_bytes(&self) -> usize {
        self.block.num_bytes()
    }
}

impl Kept {
    fn new(block: DataBlock, is_shared: bool) -> Self {
        let read = Arc::new(Read {
            to: AtomicU64::new(0),
            is_shared: AtomicBool::new(is_shared),
        });
        Self { block, read }
    }
}

/// Loads blocks of one tier.
pub(crate) struct Loader {
    memory: Cache<Kept>,
    flights: Arc<Flights<Landed>>,
    disk: OnceLock<DiskCache>,
    counters: Arc<Counters>,
    pub(crate) request_bytes_max: u64,
    gap_bytes_max: u64,
    /// Requests of one fetch under way at a time.
    parallel: usize,
    /// Held while a block out of a large answer is checked: readers of old data take one core for
    /// that, and the others are there for the tail. Nobody waits with it, or for it in a queue: a
    /// caller that is not polled holds up nobody.
    checking: Mutex<()>,
}

/// A block that was asked for.
pub(crate) enum Asked {
    /// It is there.
    Ready(Landed),
    /// Somebody else loads it.
    Joined(Passenger<Landed>),
    /// The caller loads it.
    Own(Passenger<Landed>),
}

/// Blocks of one object that were asked for, and those among them that the caller has to load.
pub(crate) struct Claims {
    object: ObjectId,
    asked: Vec<(IndexRow, Asked)>,
    own: Vec<(IndexRow, Takeoff<Landed>)>,
}

/// A piece of the work on claimed blocks.
enum Piece {
    Disk(IndexRow, Takeoff<Landed>),
    Run(Run<Takeoff<Landed>>),
}

impl Loader {
    pub(crate) fn new(config: &TierConfig, counters: Arc<Counters>) -> Self {
        Self {
            memory: Cache::new(config.block_cache_bytes, config.block_bytes as u64),
            flights: Arc::default(),
            disk: OnceLock::new(),
            counters,
            request_bytes_max: config.read.request_bytes_max,
            gap_bytes_max: config.read.gap_bytes_max,
            parallel: config.read_parallel,
            checking: Mutex::default(),
        }
    }

    /// Blocks that memory does not have are looked for in `disk` from now on. Only once.
    pub(crate) fn attach(&self, disk: DiskCache) {
        let attached = self.disk.set(disk);
        assert!(attached.is_ok(), "a tier has one disk cache");
    }

    /// What blocks take in memory now, in bytes.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.memory.num_bytes()
    }

    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        self.memory.clear();
    }

    /// Asks for blocks of an object, in the order of their positions.
    pub(crate) fn claim(&self, object: ObjectId, rows: &[IndexRow]) -> Claims {
        let (mut asked, mut own) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let key = Key::new(object, row.position);
            let ask = match self.flights.claim(key, || self.known(&key)) {
                Claim::Ready(landed) => Asked::Ready(landed),
                Claim::Joined(passenger) => Asked::Joined(passenger),
                Claim::Mine(takeoff, passenger) => {
                    own.push((*row, takeoff));
                    Asked::Own(passenger)
                }
            };
            asked.push((*row, ask));
        }
        Claims { object, asked, own }
    }

    fn known(&self, key: &Key) -> Option<Landed> {
        let kept = self.memory.peek(key)?;
        Some(Ok((kept, Origin::Memory)))
    }

    /// A reader took the entries of `[from, to)` out of a block. What is taken a second time is
    /// worth keeping.
    pub(crate) fn was_read(
        &self,
        (object, row): (ObjectId, &IndexRow),
        kept: &Kept,
        (from, to): (Offset, Offset),
    ) {
        if from >= to || kept.read.to.fetch_max(to.0, Relaxed) <= from.0 {
            return;
        }
        let key = Key::new(object, row.position);
        if kept.read.is_shared.swap(false, Relaxed) {
            let block = behind_others(kept.num_bytes(), || kept.block.copied());
            let read = Arc::clone(&kept.read);
            self.memory.insert(key, Kept { block, read });
        } else {
            self.memory.touch(&key);
        }
    }

    /// Loads what the caller has to, and tells everybody who waits for it.
    pub(crate) async fn load(&self, source: &Source, claims: &mut Claims) {
        let own = std::mem::take(&mut claims.own);
        let object = claims.object;
        let on_disk = |row: &IndexRow| {
            let disk = self.disk.get();
            disk.is_some_and(|disk| disk.holds(&Key::new(object, row.position)))
        };
        let (on_disk, absent): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(row, _)| on_disk(row));
        let on_disk = on_disk.into_iter();
        let pieces = on_disk.map(|(row, takeoff)| Piece::Disk(row, takeoff));
        let runs = runs(absent, self.request_bytes_max, self.gap_bytes_max);
        let pieces = pieces.chain(runs.into_iter().map(Piece::Run));
        let pieces = pieces.map(|piece| self.piece(source, object, piece));
        let pieces = stream::iter(pieces).buffer_unordered(self.parallel);
        pieces.collect::<()>().await;
    }

    /// The blocks that were asked for, in order; those that others load are waited for.
    pub(crate) async fn arrive(
        &self,
        source: &Source,
        object: ObjectId,
        row: &IndexRow,
        asked: Asked,
    ) -> Landed {
        let mut asked = asked;
        loop {
            let (passenger, is_own) = match asked {
                Asked::Ready(landed) => {
                    add(&self.counters.blocks_from_memory, 1);
                    return landed;
                }
                Asked::Joined(passenger) => (passenger, false),
                Asked::Own(passenger) => (passenger, true),
            };
            if let Some(landed) = passenger.arrive().await {
                return landed.map(|(kept, origin)| {
                    // Who joined a load found the block where it was going to be anyway.
                    if is_own {
                        return (kept, origin);
                    }
                    add(&self.counters.blocks_from_memory, 1);
                    (kept, Origin::Memory)
                });
            }
            sometimes!("s3stream: a load was given up under others who waited");
            let mut again = self.claim(object, std::slice::from_ref(row));
            self.load(source, &mut again).await;
            let (_, ask) = again.asked.pop().expect("one was asked for");
            asked = ask;
        }
    }

    async fn piece(&self, source: &Source, object: ObjectId, piece: Piece) {
        match piece {
            Piece::Disk(row, takeoff) => {
                let landed = match self.try_disk(object, &row).await {
                    Some(landed) => landed,
                    None => self.ask_bucket(source, object, &row).await,
                };
                self.land(object, &row, takeoff, landed);
            }
            Piece::Run(run) => self.run(source, object, run).await,
        }
    }

    async fn try_disk(&self, object: ObjectId, row: &IndexRow) -> Option<Landed> {
        let disk = self.disk.get()?;
        let key = Key::new(object, row.position);
        let bytes = disk.read(&key).await?;
        match checked_block(bytes, row) {
            Ok(block) => Some(Ok((Kept::new(block, false), Origin::Disk))),
            Err(error) if mutant!(90) => {
                let error = tier_error(&object.key(), row.position, error);
                Some(Err(error))
            }
            Err(_) => {
                disk.forget_damaged(&key);
                None
            }
        }
    }

    async fn ask_bucket(&self, source: &Source, object: ObjectId, row: &IndexRow) -> Landed {
        let block = source.block(object, row).await?;
        Ok((Kept::new(block, false), Origin::Bucket))
    }

    async fn run(&self, source: &Source, object: ObjectId, run: Run<Takeoff<Landed>>) {
        let Run { start, end, blocks } = run;
        let bytes = if blocks.len() == 1 {
            Ok(Bytes::new())
        } else {
            add(&self.counters.reads_joined, 1);
            source.range(&object.key(), start, end).await
        };
        for (row, takeoff) in blocks {
            let part = |bytes: &Bytes| {
                let bytes = part_at(bytes, row.position - start, row.size).ok()?;
                checked_block(bytes, &row).ok()
            };
            let landed = match &bytes {
                Err(error) => Err(error.clone()),
                Ok(bytes) => match self.one_at_a_time(|| part(bytes)).await {
                    Some(block) => Ok((Kept::new(block, true), Origin::Bucket)),
                    // A single block, an answer cut short, or damage, which counts only if a second
                    // read shows it too.
                    None => self.ask_bucket(source, object, &row).await,
                },
            };
            self.land(object, &row, takeoff, landed);
            // Half a megabyte was checked meanwhile: a tail that waits for the core comes first.
            give_way().await;
        }
    }

    /// Lets others go first while a core is at it; not for ever.
    async fn one_at_a_time<T>(&self, check: impl FnOnce() -> T) -> T {
        for _ in 0..GIVE_WAY_MAX {
            if let Some(_turn) = self.checking.try_lock() {
                return check();
            }
            give_way().await;
        }
        check()
    }

    fn land(&self, object: ObjectId, row: &IndexRow, takeoff: Takeoff<Landed>, landed: Landed) {
        if let Ok((kept, origin)) = &landed {
            let key = Key::new(object, row.position);
            let counter = match origin {
                Origin::Disk => &self.counters.blocks_from_disk,
                Origin::Bucket | Origin::Memory => &self.counters.blocks_from_bucket,
            };
            add(counter, 1);
            if *origin == Origin::Bucket
                && let Some(disk) = self.disk.get()
            {
                let is_shared = kept.read.is_shared.load(Relaxed);
                disk.offer(key, kept.block.bytes(), is_shared);
            }
            self.memory.insert(key, kept.clone());
        }
        takeoff.land(landed);
    }
}

/// Goes behind all other tasks that are ready.
async fn give_way() {
    let mut was_polled = false;
    poll_fn(|context| {
        if was_polled {
            return Poll::Ready(());
        }
        was_polled = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Claims {
    /// How many of the blocks the caller has to load.
    pub(crate) fn num_own(&self) -> usize {
        self.own.len()
    }

    /// The blocks, in the order they were asked for.
    pub(crate) fn into_asked(self) -> impl Iterator<Item = (IndexRow, Asked)> {
        self.asked.into_iter()
    }
}
