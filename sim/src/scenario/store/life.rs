//! One life of the node: open the store, write, read, trim, upload.
//!
//! *Owns*: the workload. *Does not own*: its end; the life can be cut off at any await.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_stream_store::{AppendRequest, StoreError, Stream, StreamStore, WalOpener};
use tidewater_types::{Env, ErrorKind, Offset, StreamId, sometimes};
use tidewater_wal::DeviceWal;
use tokio::sync::oneshot;

use super::node::{Node, excuse, read_checked};
use super::opener::SimOpener;
use super::owners;
use super::verify;
use super::world::{Began, Work, World, store_config};
use crate::check::{Violation, damage, payload};
use crate::env::SimEnv;
use crate::plan::{End, Life, Sync};
use crate::rng::Rng;
use crate::scenario::common::{Opening, wal_config};
use crate::scenario::told::told;

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, began: Began, life: Life) {
    let Began { tag, work, bucket } = began;
    let env: Arc<dyn Env> = Arc::new(
        SimEnv::new(
            world.handle.clone(),
            world.plan.seed,
            tag,
            life.wall_shift_ms,
        )
        .with_clock(world.plan.clock),
    );
    let opened = Arc::new(Mutex::new(None));
    let opener = opener(&world, &bucket, &env, life.sync, &opened);
    let config = store_config(&world.plan, work == Work::ReadAllWithoutWal);
    let guard = Opening::new(&world.handle);
    let outcome = StreamStore::open(env, bucket, opener, config).await;
    guard.over();
    let store = match outcome {
        opened if work == Work::Wiped => {
            return world.check(damage::without_log(&opened));
        }
        Ok(store) => store,
        Err(error) => {
            excuse(&world, tag, work, "open", &error);
            return world.model.lock().owners.gave_up(tag);
        }
    };
    if let Some(cache) = world.cache.clone() {
        store.attach_cache(Arc::new(cache));
    }
    let wal = opened.lock().take();
    if world.plan.object_wal {
        let mut model = world.model.lock();
        model.cluster = Some(store.cluster_id());
        let epoch = owners::epoch_of(&store.describe_wal());
        model.owners.opened(tag, epoch);
    }
    world
        .handle
        .line(|| format!("store opened: {}", store.describe_wal()));
    let node = Node {
        world,
        store,
        wal,
        tag,
        work,
    };
    let streams = match open_streams(&node).await {
        Ok(streams) => streams,
        Err(error) => return node.excuse("open_stream", &error),
    };
    match work {
        Work::Planned => workload(&node, life, &streams).await,
        Work::Healed => {
            workload(&node, life, &streams).await;
            verify::all_acked(&node, &streams);
            verify::upload_all(&node, &streams).await;
            verify::read_all(&node, &streams).await;
        }
        Work::Wiped => unreachable!("it does not open"),
        Work::ReadAll | Work::ReadAllWithoutWal => verify::read_all(&node, &streams).await,
    }
    if life.end == End::Close {
        node.world.model.lock().closing = true;
        if let Err(error) = node.store.close().await {
            node.excuse("close", &error);
        }
    }
}

fn opener(
    world: &World,
    bucket: &Arc<dyn Bucket>,
    env: &Arc<dyn Env>,
    sync: Sync,
    opened: &Arc<Mutex<Option<Arc<DeviceWal>>>>,
) -> Box<dyn WalOpener> {
    let env = Arc::clone(env);
    if world.plan.object_wal {
        let opener = owners::opener(Arc::clone(bucket), env, &world.plan);
        return told(&world.handle, owners::NODE, Box::new(opener));
    }
    let opener = SimOpener {
        device: world.device.clone(),
        env,
        config: wal_config(&world.plan, sync),
        opened: Arc::clone(opened),
    };
    told(&world.handle, owners::NODE, Box::new(opener))
}

/// Opens the streams there are, and creates those that are missing.
async fn open_streams(node: &Node) -> Result<Vec<Stream>, StoreError> {
    let known: Vec<StreamId> = node
        .store
        .metadata()
        .read(|state| state.streams().map(|(id, _)| id).collect());
    let mut streams = Vec::new();
    for id in known {
        streams.push(node.store.open_stream(id).await?);
    }
    let creates = matches!(node.work, Work::Planned | Work::Healed);
    while creates && (streams.len() as u64) < node.world.plan.streams {
        let id = node.store.create().await?;
        streams.push(node.store.open_stream(id).await?);
    }
    if !node.is_owner() {
        return Ok(streams);
    }
    let mut model = node.world.model.lock();
    for stream in &streams {
        let seen = model.streams.entry(stream.id()).or_default();
        let result = seen
            .seen_high_watermark(stream.high_watermark().0, seen.high_watermark())
            .and_then(|()| seen.seen_start(stream.start().0));
        if let Err(violation) = result {
            model.failure.get_or_insert(violation);
        }
    }
    let missing = model
        .streams
        .keys()
        .find(|id| !streams.iter().any(|stream| stream.id() == **id));
    if let Some(id) = missing {
        let violation = Violation::new("log", format!("stream {id} was opened before and is gone"));
        model.failure.get_or_insert(violation);
    }
    Ok(streams)
}

async fn workload(node: &Node, life: Life, streams: &[Stream]) {
    let world = &node.world;
    let plan = &world.plan;
    let mut rng = Rng::new(world.below(u64::MAX), "life");
    if node.work == Work::Planned {
        for _ in 0..plan.readers {
            node.spawn(
                "reader",
                reader(
                    node.clone(),
                    streams.to_vec(),
                    Rng::new(rng.next_u64(), "reader"),
                ),
            );
        }
        if plan.trim {
            node.spawn(
                "trimmer",
                trimmer(
                    node.clone(),
                    streams.to_vec(),
                    Rng::new(rng.next_u64(), "trimmer"),
                ),
            );
        }
    }
    let most = if plan.long { 150 } else { 30 };
    let writers = (0..plan.writers).map(|_| {
        let (sender, done) = oneshot::channel();
        let appends = if node.work == Work::Planned {
            usize::try_from(rng.between(3, most)).expect("small")
        } else {
            streams.len().max(4)
        };
        let writer = writer(
            node.clone(),
            streams.to_vec(),
            Rng::new(rng.next_u64(), "writer"),
            appends,
        );
        node.spawn("writer", async move {
            writer.await;
            _ = sender.send(());
        });
        done
    });
    let all = join_all(writers.collect::<Vec<_>>());
    let linger = Duration::from_millis(rng.below(120));
    let work = Box::pin(async move {
        drop(all.await);
        // Uploads go on when the writers are done; the end shall find them at it.
        world.handle.sleep(linger).await;
    });
    if life.end == End::Close && world.plan.object_wal && node.work == Work::Planned {
        let over = Box::pin(world.handle.sleep(owners::time_of(plan, life)));
        drop(select(over, work).await);
    } else if life.end == End::Close {
        let reached = world.device.after_ops(life.after_ops);
        drop(select(reached, work).await);
    } else {
        work.await;
    }
}

async fn writer(node: Node, streams: Vec<Stream>, mut rng: Rng, appends: usize) {
    let world = Arc::clone(&node.world);
    let depth = usize::try_from(world.plan.depth).expect("small");
    let mut under_way = Vec::new();
    for number in 0..appends {
        // Once all is healed, no stream is left out.
        let index = if node.work == Work::Healed {
            number % streams.len()
        } else {
            rng.index(streams.len())
        };
        match append(&node, &streams[index], &mut rng).await {
            Ok(done) => under_way.push(done),
            Err(error) if error.kind() == ErrorKind::Full && node.work == Work::Planned => {
                world.handle.sleep(Duration::from_millis(2)).await;
            }
            Err(error) => return node.excuse("append", &error),
        }
        if under_way.len() >= depth {
            drop(under_way.remove(0).await);
        }
        if rng.chance(150) {
            let pause = Duration::from_micros(rng.below(5_000));
            world.handle.sleep(pause).await;
        }
        if rng.chance(30)
            && let Err(error) = node.store.flush().await
        {
            node.excuse("flush", &error);
        }
    }
    join_all(under_way).await;
}

async fn append(
    node: &Node,
    stream: &Stream,
    rng: &mut Rng,
) -> Result<oneshot::Receiver<()>, StoreError> {
    let world = Arc::clone(&node.world);
    let id = stream.id();
    let value = {
        let mut model = world.model.lock();
        model.next_value += 1;
        model.next_value
    };
    let num_bytes = usize::try_from(rng.between(16, world.plan.payload_bytes_max)).expect("small");
    let record_count = u32::try_from(rng.between(1, 5)).expect("small");
    let timestamp_ms_max = i64::try_from(value).unwrap_or(0);
    let request = AppendRequest {
        record_count,
        timestamp_ms_max,
        num_bytes,
    };
    let bytes = Bytes::from(payload(value, num_bytes));
    let filled = bytes.clone();
    let teller = node.clone();
    let appended = stream
        .append(request, move |base| {
            let (handle, end) = (&teller.world.handle, base.0 + u64::from(record_count));
            handle.line(|| format!("store append stream={id} base={base} end={end} value={value}"));
            if !teller.is_owner() {
                sometimes!("store: a zombie appends");
                return filled;
            }
            let mut model = teller.world.model.lock();
            model
                .streams
                .entry(id)
                .or_default()
                .given(value, base.0, record_count.into());
            filled
        })
        .await?;
    let (sender, done) = oneshot::channel();
    let (node2, stream) = (node.clone(), stream.clone());
    node.spawn("ack", async move {
        match stream.wait_durable(appended.end_offset).await {
            Ok(()) => verify::acked(&node2, id, value, appended.lsn, &bytes),
            Err(error) => node2.excuse("ack", &error),
        }
        _ = sender.send(());
    });
    Ok(done)
}

async fn reader(node: Node, streams: Vec<Stream>, mut rng: Rng) {
    loop {
        node.world
            .handle
            .sleep(Duration::from_micros(rng.between(50, 5_000)))
            .await;
        let stream = &streams[rng.index(streams.len())];
        let (start, end) = (stream.start().0, stream.high_watermark().0);
        let offset = if start > 0 && rng.chance(50) {
            sometimes!("store: asked below the start");
            rng.below(start)
        } else {
            rng.between(start, end.max(start))
        };
        let bytes_max = [100, 2_000, 20_000][rng.index(3)];
        let read = Box::pin(read_checked(&node, stream, offset, bytes_max));
        let read = if rng.chance(100) {
            let patience = rng.below(2 * node.world.plan.bucket.way_ns);
            let over = node.world.handle.sleep(Duration::from_nanos(patience));
            let Either::Left((read, _)) = select(read, Box::pin(over)).await else {
                sometimes!("store: a reader gave up");
                continue;
            };
            read
        } else {
            read.await
        };
        match read {
            Ok(_) => {}
            // A trim overtook the read; the start it names must have been asked for.
            Err(StoreError::OutOfRange { start, .. }) if offset < start.0 => {
                if !node.is_owner() {
                    continue;
                }
                let mut model = node.world.model.lock();
                let known = model.streams.entry(stream.id()).or_default();
                if let Err(violation) = known.seen_start(start.0) {
                    model.failure.get_or_insert(violation);
                }
            }
            Err(StoreError::Tier(_)) if offset < stream.start().0 => {}
            Err(error) => node.excuse("fetch", &error),
        }
    }
}

async fn trimmer(node: Node, streams: Vec<Stream>, mut rng: Rng) {
    loop {
        node.world
            .handle
            .sleep(Duration::from_micros(rng.between(500, 30_000)))
            .await;
        // A fenced owner gives nothing up.
        if !node.is_owner() {
            return;
        }
        let stream = &streams[rng.index(streams.len())];
        let (start, end) = (stream.start().0, stream.high_watermark().0);
        let offset = rng.between(start, start + (end - start) / 2);
        node.world
            .model
            .lock()
            .streams
            .entry(stream.id())
            .or_default()
            .trim_asked(offset);
        match stream.trim(Offset(offset)).await {
            Ok(()) => {
                let mut model = node.world.model.lock();
                let known = model.streams.entry(stream.id()).or_default();
                let result = known.trim_done(offset);
                if let Err(violation) = result {
                    model.failure.get_or_insert(violation);
                }
            }
            Err(error) => node.excuse("trim", &error),
        }
    }
}
