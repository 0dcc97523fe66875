//! A producer that waits for no answer: acks=0, each batch sent once.
//!
//! *Owns*: what it sends. *Does not own*: what becomes of it: kept once, or lost.
//!
//! *IO: none*

use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::sometimes;

use super::batch::{Stamp, encode};
use super::conn::Client;
use super::producer::{WORK, request};
use super::world::World;
use crate::check::partition::Value;

pub(super) async fn run(world: Arc<World>, number: u32) {
    let mut client = Client::new(&world, "unacked producer");
    let batches = world.plan.broker.batches;
    let pause = world.pause_of(batches);
    for sequence in 0..batches {
        if sequence + 1 == batches {
            // Whoever serves in the end is written to as well.
            world.until_healed().await;
        }
        let partitions = u64::from(world.plan.broker.partitions);
        let partition = i32::try_from(client.rng.below(partitions)).expect("few");
        let num_bytes = usize::try_from(client.rng.between(16, 200)).expect("few");
        let value = Value {
            producer: number,
            sequence,
        };
        let batch = sent_once(&world, partition, value, num_bytes);
        let request = request(partition, batch, 0, 10_000);
        if client.send_unanswered(7, &request).await.is_ok() {
            sometimes!("broker: a batch is sent without waiting for an answer");
        }
        if client.rng.chance(300) && !world.is_healed() {
            client.pause(pause).await;
        }
    }
    world.ends(WORK);
}

/// The batch of a value that belongs to no idempotent producer and is sent once, whatever comes of it.
pub(super) fn sent_once(world: &World, partition: i32, value: Value, num_bytes: usize) -> Bytes {
    let what = format_args!(
        "produce producer={} from={}",
        value.producer, value.sequence
    );
    world.tell(&what, partition, &[value]);
    world.partition(partition, |model| {
        model.unordered(value.producer);
        model.sent(value);
    });
    let now_ms = i64::try_from(world.handle.now().0 / 1_000_000).unwrap_or(0);
    encode(Stamp::NONE, 1_793_491_200_000 + now_ms, &[value], num_bytes)
}
