//! What is asked when all is healed.
//!
//! *Owns*: that everything is committed, compacted, read and swept; fsck.
//! *Does not own*: the models.
//!
//! *IO: none*

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::{Bucket, Purpose};
use tidewater_s3stream::{FsckOptions, MetaState, Tier, TierError};
use tidewater_types::{Env, NodeId, Offset, StreamId};

use super::life::{Node, open};
use super::reader::{known, seen};
use super::world::World;
use crate::check::{Violation, fsck, liveness, swept};
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::scenario::progress::tell_read;

/// The first node takes everything over and brings it in order.
pub(super) async fn body(world: Arc<World>, tag: Tag) -> Result<(), Violation> {
    let wrong = |error: TierError| Violation::new("healed", error.to_string());
    let bucket = Arc::new(world.bucket.clone());
    let node = open(&world, tag, NodeId(1), bucket).await.map_err(wrong)?;
    let streams: Vec<StreamId> = world.model.lock().streams.keys().copied().collect();
    for stream in &streams {
        node.take_over(*stream).await.map_err(wrong)?;
    }
    node.uploader.flush().await.map_err(wrong)?;
    move_on(&world, &node, &streams).await.map_err(wrong)?;
    node.uploader.flush().await.map_err(wrong)?;
    for stream in &streams {
        let expected = world.model.lock().streams[stream].end();
        let metadata = node.tier.metadata();
        let end = metadata.read(|state| state.stream(*stream).map(|known| known.end));
        liveness::committed(*stream, end, expected)?;
    }
    let compact = || node.tier.compact_until_done(node.id, node.epoch);
    compact().await.map_err(wrong)?;
    liveness::compacted(compact().await.map_err(wrong)?)?;
    sweep(&world, &node).await?;
    let clock = Arc::clone(&node.tail.env);
    read_all(&world, &node.tier, &*clock, &streams).await?;
    // What the writer has in memory may hide what is missing from the bucket.
    drop(node);
    let fresh = fresh(&world).await.map_err(wrong)?;
    read_all(&world, &fresh, &*clock, &streams).await
}

/// A process that wrote nothing and knows nothing but what lies in the bucket.
async fn fresh(world: &World) -> Result<Tier, TierError> {
    let tag = world.next_tag();
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let bucket = Arc::new(world.bucket.clone());
    Tier::open(bucket, env, world.config.clone()).await
}

/// A stream is taken from a node whose upload of it is under way: that is dropped, and all else of
/// the node is uploaded as ever.
async fn move_on(world: &Arc<World>, node: &Node, streams: &[StreamId]) -> Result<(), TierError> {
    let tag = world.next_tag();
    let bucket = Arc::new(world.bucket.clone());
    let other = open(world, tag, NodeId(2), bucket).await?;
    world.model.lock().is_moving = true;
    streams.iter().for_each(|stream| node.append_to(*stream));
    other.take_over(streams[0]).await?;
    node.uploader.flush().await?;
    other.uploader.flush().await?;
    world.model.lock().is_moving = false;
    world.handle.kill(tag);
    // What it has sent arrives: an object that comes behind the sweep is for the next one.
    world.handle.sleep(Duration::from_secs(1)).await;
    node.tier.metadata().refresh().await?;
    node.take_over(streams[0]).await
}

/// The bucket holds the data objects that are alive and no other.
async fn sweep(world: &Arc<World>, node: &Node) -> Result<(), Violation> {
    let wrong = |error: TierError| Violation::new("healed", error.to_string());
    node.tier.sweep_orphans().await.map_err(wrong)?;
    for _ in 0..4 {
        let wait = world.config.delete_delay + Duration::from_millis(200);
        world.handle.sleep(wait).await;
    }
    let (mut found, mut after) = (BTreeSet::new(), None::<String>);
    loop {
        let page = world.bucket.list(Purpose::Fsck, "data/", after.as_deref());
        let page = page
            .await
            .map_err(|error| Violation::new("healed", error.to_string()))?;
        found.extend(page.entries.into_iter().map(|entry| entry.key));
        if !page.more {
            break;
        }
        after = found.last().cloned();
    }
    let alive: BTreeSet<_> = node.tier.metadata().read(|state| {
        let alive = state
            .objects()
            .filter(|(_, object)| object.died_seq.is_none());
        alive.map(|(id, _)| id.key()).collect()
    });
    swept::compare(&found, &alive)
}

/// Every stream from start to end, and the state beside it.
async fn read_all(
    world: &World,
    tier: &Tier,
    clock: &dyn Env,
    streams: &[StreamId],
) -> Result<(), Violation> {
    let wrong = |error: TierError| Violation::new("healed", error.to_string());
    for stream in streams {
        read_stream(world, tier, clock, *stream)
            .await
            .map_err(wrong)??;
    }
    Ok(())
}

async fn read_stream(
    world: &World,
    tier: &Tier,
    clock: &dyn Env,
    stream: StreamId,
) -> Result<Result<(), Violation>, TierError> {
    let (start, end) = known(tier, stream);
    let (mut all, mut next) = (Vec::new(), start);
    while next < end {
        let fetched = tier.fetch(stream, next, 20_000).await?;
        let part = seen(&fetched);
        let Some(last) = part.last() else {
            break;
        };
        next = Offset(last.base + last.count);
        tell_read(&world.handle, "tier", stream, &part);
        all.extend(part);
    }
    let state = tier.snapshot(stream).await?;
    let state = state.as_ref().map(|found| (found.as_of, &found.bytes[..]));
    let mut model = world.model.lock();
    let log = model.streams.get_mut(&stream).expect("created before");
    if let Err(violation) = log.states.read(end, state) {
        return Ok(Err(violation));
    }
    let told = (end.0, clock.wall_ms(), cleaned(tier, stream));
    Ok(log.final_read(start.0, &all, told))
}

/// Below what the stream's mark says that it is compacted by key (docs/formats/key-compaction.md).
fn cleaned(tier: &Tier, stream: StreamId) -> u64 {
    let key = format!("s3stream/cleaned/{stream}");
    let mark = |state: &MetaState| state.key(&key).map(|(value, _)| value.clone());
    let mark = tier.metadata().read(mark);
    let end = mark
        .as_ref()
        .and_then(|mark| mark.get(8..16)?.first_chunk());
    end.map_or(0, |end| u64::from_le_bytes(*end))
}

/// The objects and the metadata agree, and nobody is an orphan.
pub(super) async fn fsck(world: &Arc<World>) -> Result<(), Violation> {
    let tag = world.next_tag();
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(world.handle.clone(), world.plan.seed, tag, 0));
    let bucket: Arc<dyn Bucket> = Arc::new(world.bucket.clone());
    let options = FsckOptions {
        verify_checksums: true,
        ..FsckOptions::default()
    };
    let report = tidewater_s3stream::fsck(bucket, env, options).await;
    fsck::ended(report.as_ref().map(|report| &report.findings[..]), true)
}
