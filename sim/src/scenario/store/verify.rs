//! What is asked at acknowledgements and at the end.
//!
//! *Owns*: the durability oracle over WAL and bucket, the crash fork, the final read, fsck.
//! *Does not own*: the models.
//!
//! Invariants
//! 1. The oracle looks at the durable image of the disk; bytes the WAL no longer holds must
//!    come out of a store recovered from copies of disk and bucket.
//! 2. A fork runs on an executor of its own and changes nothing in the run.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_stream_store::{Stream, StreamStore, WalOpener};
use tidewater_types::{Env, Lsn, StreamId, sometimes};

use super::node::{Node, read_checked};
use super::opener::SimOpener;
use super::owners;
use super::world::{Work, World, store_config};
use crate::bucket::SimBucket;
use crate::check::streams::StreamModel;
use crate::check::{Violation, durable, fork, liveness};
use crate::disk::{CrashStyle, Device};
use crate::env::SimEnv;
use crate::exec::{Executor, Tag};
use crate::plan::Plan;
use crate::scenario::common::oracle::{Scope, all_let_go, fsck_copy};
use crate::scenario::common::served::{all_of, seen_of};
use crate::scenario::common::{self, LIMITS, failure_of, wal_config};

type Streams = BTreeMap<StreamId, StreamModel>;

/// The append of `value` was acknowledged.
pub(super) fn acked(node: &Node, stream: StreamId, value: u64, lsn: Lsn, bytes: &[u8]) {
    let world = &node.world;
    world
        .handle
        .line(|| format!("store ack stream={stream} value={value}"));
    world.progress.tell(&world.handle, node.store.metadata());
    if node.work == Work::Healed {
        world.model.lock().healed_acks.insert(stream);
    }
    if world.plan.object_wal {
        return acked_in_bucket(node, stream, value, lsn, bytes);
    }
    let place = node.wal.as_ref().and_then(|wal| wal.locate(lsn));
    if let Some(range) = &place {
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        let found = world.device.durable_bytes(range.start, len);
        world.check(durable::survives(&found, bytes, || {
            format!("value {value} at lsn {lsn} is acknowledged, and a crash now would lose it")
        }));
    }
    count_and_fork(world, stream, value, place.is_none());
}

/// The same for a WAL in the bucket, by whoever appended it: a takeover now would serve it.
fn acked_in_bucket(node: &Node, stream: StreamId, value: u64, lsn: Lsn, bytes: &[u8]) {
    let world = &node.world;
    let number = {
        let mut model = world.model.lock();
        model.num_forks += 1;
        model.num_forks
    };
    let gone = match world.takeover_serves(number, lsn) {
        Ok(Some(frame)) => durable::survives(&frame, bytes, || {
            format!(
                "value {value} at lsn {lsn} is acknowledged, and a takeover now would not serve it"
            )
        })
        .map(|()| false),
        Ok(None) => Ok(true),
        Err(violation) => Err(violation),
    };
    let gone = match gone {
        Ok(gone) => gone,
        Err(violation) => return world.fail(violation),
    };
    count_and_fork(world, stream, value, gone);
}

/// Tells the model; `gone` are bytes that the WAL holds no more, so a whole store must tell.
fn count_and_fork(world: &World, stream: StreamId, value: u64, gone: bool) {
    let fork = {
        let mut model = world.model.lock();
        let result = model.streams.entry(stream).or_default().acked(value);
        if let Err(violation) = result {
            model.failure.get_or_insert(violation);
        }
        let drawn = model
            .rng
            .as_mut()
            .is_some_and(|rng| rng.chance(world.plan.forks / 2));
        if gone {
            sometimes!("acknowledged after its trim");
        }
        (drawn || gone).then(|| {
            model.num_forks += 1;
            (model.num_forks, model.streams.clone())
        })
    };
    if let Some((number, streams)) = fork {
        world.check(fork_and_read(
            &world.plan,
            &world.device,
            &world.bucket,
            number,
            streams,
        ));
    }
}

/// Recovers copies of disk and bucket after a power failure now, and reads everything.
fn fork_and_read(
    plan: &Plan,
    device: &Device,
    bucket: &SimBucket,
    number: u64,
    streams: Streams,
) -> Result<(), Violation> {
    let seed = plan.seed ^ (number << 32);
    let style = if number.is_multiple_of(2) {
        CrashStyle::Sectors
    } else {
        CrashStyle::None
    };
    let scope = if plan.object_wal {
        Scope::Logs(owners::object_config(plan))
    } else {
        Scope::Objects
    };
    fsck_copy(bucket, seed, scope)?;
    let executor = Executor::new(seed);
    let device = device.fork(executor.handle(), seed, style);
    let bucket = Arc::new(bucket.fork(executor.handle(), seed));
    let env: Arc<dyn Env> = Arc::new(SimEnv::new(executor.handle(), seed, Tag(1), 0));
    let opener: Box<dyn WalOpener> = if plan.object_wal {
        Box::new(owners::opener(bucket.clone(), Arc::clone(&env), plan))
    } else {
        Box::new(SimOpener {
            device,
            env: Arc::clone(&env),
            config: wal_config(plan, plan.lives[0].sync),
            opened: Arc::new(Mutex::new(None)),
        })
    };
    let config = store_config(plan, false);
    let outcome = executor.run(LIMITS, async move {
        let wrong = |error| Violation::new("fork", format!("after {style:?}: {error}"));
        let store = StreamStore::open(env, bucket, opener, config)
            .await
            .map_err(wrong)?;
        for (id, mut model) in streams {
            let stream = store.open_stream(id).await.map_err(wrong)?;
            let (start, end) = (stream.start().0, stream.high_watermark().0);
            let all = all_of(&stream).await.map_err(wrong)?;
            fork::after(&style, model.final_read(start, &seen_of(&all), end))?;
        }
        Ok(())
    });
    failure_of(outcome).map_or(Ok(()), Err)
}

/// Every stream there is acknowledged an append of the healed life, which wrote to each.
pub(super) fn all_acked(node: &Node, streams: &[Stream]) {
    let acked = node.world.model.lock().healed_acks.clone();
    for stream in streams {
        let id = stream.id();
        node.world.check(liveness::done(acked.contains(&id), || {
            format!("stream {id} acknowledged nothing in the healed life")
        }));
    }
}

/// Everything written is uploaded and committed, and the store says so.
pub(super) async fn upload_all(node: &Node, streams: &[Stream]) {
    if let Err(error) = node.store.flush().await {
        return node.excuse("flush", &error);
    }
    node.world.check(all_let_go(&node.store));
    for stream in streams {
        let committed = node
            .store
            .metadata()
            .read(|state| state.stream(stream.id()).map(|s| s.end));
        let result = liveness::committed(stream.id(), committed, stream.high_watermark());
        node.world.check(result);
    }
}

/// Reads every stream from start to end.
pub(super) async fn read_all(node: &Node, streams: &[Stream]) {
    for stream in streams {
        let (start, end) = (stream.start().0, stream.high_watermark().0);
        let mut seen = Vec::new();
        let mut next = start;
        while next < end {
            match read_checked(node, stream, next, 10_000).await {
                Ok(entries) if entries.is_empty() => break,
                Ok(entries) => {
                    next = entries
                        .last()
                        .map_or(next, |entry| entry.base + entry.count);
                    seen.extend(entries);
                }
                Err(error) => return node.excuse("final fetch", &error),
            }
        }
        let result = {
            let mut model = node.world.model.lock();
            model
                .streams
                .entry(stream.id())
                .or_default()
                .final_read(start, &seen, end)
        };
        node.world.check(result);
    }
}

/// The objects and the metadata agree.
pub(super) async fn fsck(world: &Arc<World>) -> Result<(), Violation> {
    let tag = world.next_tag();
    common::fsck(&world.handle, world.plan.seed, tag, &world.bucket).await
}
