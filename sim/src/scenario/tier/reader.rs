//! Readers beside the nodes, each a process of its own that follows the metadata.
//!
//! *Owns*: what is fetched, in sequence or at random, and given up half-way; what a fetch may answer.
//! *Does not own*: the model of the streams.
//!
//! Invariants
//! 1. A reader that read the metadata just before never meets an object that is gone, as long as
//!    objects outlive a fetch.
//!
//! *IO: none*

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, select};
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_s3stream::{Entry, Fetched, Tier, TierError};
use tidewater_types::{BoxFuture, Env, Offset, StreamId};

use super::world::World;
use crate::bucket::SimBucket;
use crate::check::excuse::{self, Facts};
use crate::check::snapshot::Newest;
use crate::check::streams::Seen;
use crate::check::{Violation, gone, read};
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::rng::Rng;
use crate::scenario::common::served::seen_of;
use crate::scenario::progress::tell_read;

pub(super) async fn read(world: Arc<World>, tag: Tag, number: u64) {
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let bucket = Arc::new(Watched {
        world: Arc::clone(&world),
        bucket: world.bucket.clone(),
    });
    let mut rng = Rng::new(world.plan.seed ^ number, "tier: reader");
    let pause = |rng: &mut Rng| {
        let pause = rng.below(8) * world.plan.bucket.way_ns + 10_000;
        world.handle.sleep(Duration::from_nanos(pause))
    };
    let tier = loop {
        let opened = Tier::open(bucket.clone(), env.clone(), world.config.clone()).await;
        match opened {
            Ok(tier) => break tier,
            Err(_) => pause(&mut rng).await,
        }
    };
    let mut last: Option<(StreamId, Offset)> = None;
    while num_healed(&world, number) < 2 {
        pause(&mut rng).await;
        let (stream, place) = match last.filter(|_| rng.chance(800)) {
            Some((stream, next)) => (stream, Some(next)),
            None => (StreamId(rng.between(1, world.num_streams)), None),
        };
        let asked = Asked::now(&world, stream);
        if tier.metadata().refresh().await.is_err() {
            continue;
        }
        let (start, end) = known(&tier, stream);
        let any = Offset(start.0 + rng.below(end.0.saturating_sub(start.0) + 1));
        let offset = place
            .filter(|next| (start..end).contains(next))
            .unwrap_or(any);
        let bytes_max = usize::try_from(rng.between(1, 6_000)).expect("small");
        // Trimmed ahead of what is committed: a refusal is the right answer.
        let is_empty = start > end;
        let is_answered = match fetch(&world, &tier, &mut rng, (stream, offset, bytes_max)).await {
            Ok(fetched) => {
                let next = fetched.entries.last().map(Entry::end_offset);
                last = next.map(|next| (stream, next));
                check(&world, stream, (offset, end), &fetched, env.wall_ms());
                true
            }
            Err(error) => {
                let trimmed = is_empty || offset.0 < highest_trim(&world, stream);
                asked.refused(&world, trimmed, &error);
                is_empty
            }
        };
        let has_state = asked.snapshot(&world, &tier, stream).await;
        if asked.is_healed && is_answered && has_state {
            *world.model.lock().healed_reads.entry(number).or_default() += 1;
        }
    }
}

/// A fetch; now and then the process hears of trims and compactions meanwhile.
async fn fetch(
    world: &World,
    tier: &Tier,
    rng: &mut Rng,
    asked: (StreamId, Offset, usize),
) -> Result<Fetched, TierError> {
    let soon = rng.below(6 * world.plan.bucket.way_ns);
    let hears = rng.chance(400);
    let fetch = fetch_beside_another(world, tier, rng, asked);
    if !hears {
        return fetch.await;
    }
    let refresh = async {
        world.handle.sleep(Duration::from_nanos(soon)).await;
        // What is not heard of now is heard of before the next fetch.
        drop(tier.metadata().refresh().await);
    };
    join(refresh, fetch).await.1
}

/// A fetch; now and then with a consumer that goes away while this one wants the same.
async fn fetch_beside_another(
    world: &World,
    tier: &Tier,
    rng: &mut Rng,
    (stream, offset, bytes_max): (StreamId, Offset, usize),
) -> Result<Fetched, TierError> {
    let fetch = tier.fetch(stream, offset, bytes_max);
    if !rng.chance(200) {
        return fetch.await;
    }
    let soon = rng.below(4 * world.plan.bucket.way_ns);
    let soon = world.handle.sleep(Duration::from_nanos(soon));
    let gone = Box::pin(tier.fetch(stream, offset, bytes_max));
    let gone = async { drop(select(gone, Box::pin(soon)).await) };
    join(gone, fetch).await.1
}

/// Where the stream starts and ends, as far as its metadata is read.
pub(super) fn known(tier: &Tier, stream: StreamId) -> (Offset, Offset) {
    tier.metadata().read(|state| {
        let known = state.stream(stream).expect("never deleted");
        (known.start, known.end)
    })
}

/// What held before a reader read the metadata.
struct Asked {
    is_healed: bool,
    /// The state that it must find, or a newer one.
    newest: Newest,
}

impl Asked {
    fn now(world: &World, stream: StreamId) -> Self {
        let model = world.model.lock();
        Self {
            is_healed: model.is_healed,
            newest: model.streams[&stream].states,
        }
    }

    /// Whether the state beside the stream was read.
    async fn snapshot(&self, world: &World, tier: &Tier, stream: StreamId) -> bool {
        match tier.snapshot(stream).await {
            Ok(state) => {
                let state = state.as_ref().map(|found| (found.as_of, &found.bytes[..]));
                let (_, end) = known(tier, stream);
                world.check(self.newest.read(end, state));
                true
            }
            Err(error) => {
                self.refused(world, false, &error);
                false
            }
        }
    }

    /// What is refused now is held against the faults there were when it was asked for.
    fn refused(&self, world: &World, trimmed: bool, error: &TierError) {
        let facts = Facts {
            planned: !self.is_healed,
            trimmed,
            ..world.facts()
        };
        if !excuse::tier_read(error, facts) {
            world.fail(Violation::new("read", error.to_string()));
        }
    }
}

fn highest_trim(world: &World, stream: StreamId) -> u64 {
    world.model.lock().streams[&stream].model.trim()
}

fn num_healed(world: &World, number: u64) -> u64 {
    let model = world.model.lock();
    model.healed_reads.get(&number).copied().unwrap_or(0)
}

/// What was fetched from `offset` on, when the committed end was known to be `end` or more.
pub(super) fn check(
    world: &World,
    stream: StreamId,
    (offset, end): (Offset, Offset),
    fetched: &Fetched,
    now_ms: i64,
) {
    if let Err(violation) = read::something(stream, offset, end, fetched.entries.is_empty()) {
        return world.fail(violation);
    }
    let seen: Vec<_> = seen(fetched);
    tell_read(&world.handle, "tier", stream, &seen);
    let result = {
        let mut model = world.model.lock();
        let log = model.streams.get_mut(&stream).expect("created before");
        log.read(offset.0, &seen, now_ms)
    };
    world.check(result);
}

pub(super) fn seen(fetched: &Fetched) -> Vec<Seen> {
    seen_of(&fetched.entries)
}

/// The bucket as a reader sees it; tells of objects that are gone.
struct Watched {
    world: Arc<World>,
    bucket: SimBucket,
}

impl Bucket for Watched {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.bucket.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            let answer = self.bucket.get(purpose, key, range).await;
            let world = &self.world;
            world.check(gone::answered(purpose, key, &answer, world.is_patient));
            answer
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.bucket.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.bucket.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.bucket.list(purpose, prefix, after)
    }
}
