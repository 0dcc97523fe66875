//! What a node does with the streams it has: appends and reads, held against the models.
//!
//! *Owns*: the workload and the final read. *Does not own*: which streams those are (life.rs).
//!
//! *IO: none*

use std::time::Duration;

use bytes::Bytes;
use tidewater_stream_store::{AppendRequest, StoreError, Stream};
use tidewater_types::{ErrorKind, Offset, sometimes};

use super::node::Node;
use super::oracle;
use crate::check::payload;
use crate::check::streams::Seen;
use crate::rng::Rng;
use crate::scenario::common::served::seen_of;
use crate::scenario::progress::tell_read;

/// Starts the writers and readers of a life.
pub(super) fn start(node: &Node) {
    let plan = &node.world.plan.cluster;
    for _ in 0..plan.writers {
        let rng = Rng::new(node.world.below(u64::MAX), "writer");
        node.spawn("writer", writer(node.clone(), rng));
    }
    for _ in 0..plan.readers {
        let rng = Rng::new(node.world.below(u64::MAX), "reader");
        node.spawn("reader", reader(node.clone(), rng));
    }
}

fn some_stream(node: &Node, rng: &mut Rng) -> Option<Stream> {
    let held = node.held.lock();
    let streams: Vec<&Stream> = held.values().collect();
    (!streams.is_empty()).then(|| streams[rng.index(streams.len())].clone())
}

async fn writer(node: Node, mut rng: Rng) {
    loop {
        let pause = Duration::from_micros(rng.below(6_000));
        node.world.handle.sleep(pause).await;
        let Some(stream) = some_stream(&node, &mut rng) else {
            continue;
        };
        match append(&node, &stream, &mut rng).await {
            Ok(()) => {}
            Err(error) => {
                node.excuse("append", &error);
                if error.kind() == ErrorKind::Closed {
                    return;
                }
            }
        }
    }
}

/// Appends one value; its acknowledgement is waited for beside.
async fn append(node: &Node, stream: &Stream, rng: &mut Rng) -> Result<(), StoreError> {
    let world = &node.world;
    let (id, value) = (stream.id(), world.next_value());
    let num_bytes = usize::try_from(rng.between(16, 600)).expect("small");
    let record_count = u32::try_from(rng.between(1, 3)).expect("small");
    let request = AppendRequest {
        record_count,
        timestamp_ms_max: i64::try_from(value).unwrap_or(0),
        num_bytes,
    };
    let bytes = Bytes::from(payload(value, num_bytes));
    let filled = bytes.clone();
    let appended = stream
        .append(request, |base| {
            let (node, end) = (node.node, base.0 + u64::from(record_count));
            world.handle.line(|| {
                format!("node  {node} append stream={id} base={base} end={end} value={value}")
            });
            if world.is_owner(stream) {
                world.stream(id, |model| model.given(value, base.0, record_count.into()));
            } else {
                sometimes!("cluster: a zombie appends");
            }
            filled
        })
        .await?;
    let (waiting, stream) = (node.clone(), stream.clone());
    node.spawn("ack", async move {
        match stream.wait_durable(appended.end_offset).await {
            Ok(()) => {
                let world = &waiting.world;
                world
                    .handle
                    .line(|| format!("node  {} ack stream={id} value={value}", waiting.node));
                waiting.tell_progress();
                oracle::acked(&waiting, id, value, appended.lsn, &bytes);
            }
            Err(error) => waiting.excuse("ack", &error),
        }
    });
    Ok(())
}

/// Two values to each stream; how many were acknowledged.
pub(super) async fn append_some(node: &Node) -> u64 {
    let mut num_acked = 0;
    let mut rng = Rng::new(node.world.below(u64::MAX), "healed");
    let streams: Vec<Stream> = node.held.lock().values().cloned().collect();
    for stream in streams {
        for _ in 0..2 {
            if let Err(error) = append(node, &stream, &mut rng).await {
                node.excuse("append", &error);
                return num_acked;
            }
        }
        if let Err(error) = stream.wait_durable(stream.end()).await {
            node.excuse("ack", &error);
            return num_acked;
        }
        num_acked += 2;
    }
    num_acked
}

/// A few appends that nobody waits for.
pub(super) async fn append_to_lose(node: &Node, stream: &Stream) {
    let mut rng = Rng::new(node.world.below(u64::MAX), "to lose");
    for _ in 0..rng.between(1, 4) {
        let bytes = Bytes::from(payload(0, 100));
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: bytes.len(),
        };
        if let Err(error) = stream.append(request, |_| bytes).await {
            return node.excuse("append", &error);
        }
    }
    let pause = Duration::from_micros(rng.below(5_000));
    node.world.handle.sleep(pause).await;
}

async fn reader(node: Node, mut rng: Rng) {
    loop {
        let pause = Duration::from_micros(rng.between(50, 8_000));
        node.world.handle.sleep(pause).await;
        let Some(stream) = some_stream(&node, &mut rng) else {
            continue;
        };
        let offset = rng.between(0, stream.high_watermark().0);
        match read(&node, &stream, offset, [100, 5_000][rng.index(2)]).await {
            Ok(_) => {}
            Err(error) => {
                node.excuse("fetch", &error);
                if error.kind() == ErrorKind::Closed {
                    return;
                }
            }
        }
    }
}

/// Reads from `offset` and holds what it saw against the model.
async fn read(
    node: &Node,
    stream: &Stream,
    offset: u64,
    bytes_max: usize,
) -> Result<Vec<Seen>, StoreError> {
    let world = &node.world;
    let id = stream.id();
    let is_owner = world.is_owner(stream);
    let floor = world.stream(
        id,
        |model| {
            if is_owner { model.high_watermark() } else { 0 }
        },
    );
    let fetched = stream.fetch(Offset(offset), bytes_max).await?;
    let seen = seen_of(&fetched.entries);
    node.tell_progress();
    tell_read(&world.handle, "node", id, &seen);
    let high_watermark = fetched.high_watermark.0;
    let result = world.stream(id, |model| {
        model.fetched(offset, &seen, high_watermark, floor)
    });
    world.check(result);
    Ok(seen)
}

/// Reads every stream from start to end.
pub(super) async fn read_all(node: &Node) {
    let streams: Vec<Stream> = node.held.lock().values().cloned().collect();
    for stream in streams {
        let (start, end) = (stream.start().0, stream.high_watermark().0);
        let (mut all, mut next) = (Vec::new(), start);
        while next < end {
            match read(node, &stream, next, 10_000).await {
                Ok(seen) if seen.is_empty() => break,
                Ok(seen) => {
                    next = seen.last().map_or(next, |entry| entry.base + entry.count);
                    all.extend(seen);
                }
                Err(error) => return node.excuse("final fetch", &error),
            }
        }
        let result = node
            .world
            .stream(stream.id(), |model| model.final_read(start, &all, end));
        node.world.check(result);
    }
}
