//! A producer that stays with a broker that is replaced: what it sends is looked at when a broker that
//! slept wakes up, beside its successor.
//!
//! *Owns*: what it sends, and that an acknowledgement counts. *Does not own*: why the broker is replaced.
//!
//! *IO: none*

use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::messages::ProduceResponse;
use tidewater_types::sometimes;

use super::conn::Client;
use super::producer::{refused, request};
use super::unacked::sent_once;
use super::world::{World, partitions};
use crate::check::partition::Value;
use crate::exec::Tag;

/// Numbers of other producers stay below.
const FIRST_NUMBER: u32 = 1_000_000;

/// One connects to `life` at once, and sends a record to each partition within `most`.
pub(super) fn stays(world: &Arc<World>, node: usize, life: Tag, most: Duration) {
    let stray = run(Arc::clone(world), node, life, most);
    world.handle.spawn(Tag(0), "stray", Box::pin(stray));
}

async fn run(world: Arc<World>, node: usize, life: Tag, most: Duration) {
    let mut client = Client::new(&world, "stray producer");
    if client.connect_to(node).await.is_err() {
        return;
    }
    client.pause(most).await;
    let number = FIRST_NUMBER + life.0;
    for (sequence, partition) in (0..).zip(partitions(&world)) {
        // Whoever reads everything in the end reads what nobody adds to.
        if world.is_healed() || !client.is_connected() {
            return;
        }
        let value = Value {
            producer: number,
            sequence,
        };
        let batch = sent_once(&world, partition, value, 20);
        let request = request(partition, batch.clone(), -1, 200);
        let Ok(under_way) = client.send(9, &request).await else {
            return;
        };
        let Ok(answer) = client.receive::<ProduceResponse>(under_way).await else {
            return;
        };
        let found = answer.message.responses.first();
        let Some(found) = found.and_then(|topic| topic.partition_responses.first()) else {
            return;
        };
        if found.error_code == 0 {
            let base = found.base_offset;
            world.tell(&format_args!("ack base={base}"), partition, &[value]);
            world.acked(partition, base, &[value], &batch);
        } else {
            sometimes!("broker: a replaced broker refuses who stayed with it");
            refused(&world, "produce of a stray", found.error_code);
        }
    }
}
