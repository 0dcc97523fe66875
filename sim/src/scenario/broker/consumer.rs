//! Reading: what every reader asks and checks, and the consumer outside groups.
//!
//! *Owns*: Fetch and ListOffsets, held against the models.
//! *Does not own*: where a group's members stand (member.rs).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tidewater_protocol::messages::fetch_response::PartitionData;
use tidewater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewater_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};

use super::batch::decode;
use super::conn::{Answer, Client, Lost};
use super::producer::{self, refused};
use super::world::{TOPIC, World, partitions};
use crate::check::partition::{Floor, Value};
use crate::check::{Violation, protocol, watermarks};
use crate::exec::Tag;

/// What clients call this work.
pub(super) const WORK: &str = "consumer";

/// What one look at a partition showed.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) records: Vec<(i64, Value)>,
    pub(super) high_watermark: i64,
}

/// Fetches from each of `positions` on, and holds what it sees against the models.
pub(super) async fn fetch(
    client: &mut Client,
    positions: &BTreeMap<i32, i64>,
    wait: Duration,
) -> Result<BTreeMap<i32, Look>, Lost> {
    let world = Arc::clone(&client.world);
    let version = [4, 7, 11, 12][client.rng.index(4)];
    let bytes_max = [1, 500, 1 << 20][client.rng.index(3)];
    // A session is asked for, and may be denied: KIP-227.
    let session_epoch = if version >= 7 && client.rng.chance(500) {
        0
    } else {
        -1
    };
    let partitions = positions
        .iter()
        .map(|(&partition, &fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: bytes_max,
            ..Default::default()
        });
    let request = FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch,
        topics: vec![FetchTopic {
            topic: TOPIC.to_owned(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let floor = |index| world.partition(index, |model| model.floor());
    let asked: BTreeMap<i32, (i64, Floor)> = positions
        .iter()
        .map(|(&index, &offset)| (index, (offset, floor(index))))
        .collect();
    let answer: Answer<FetchResponse> = client.ask(version, &request).await?;
    if answer.message.error_code != 0 {
        refused(&world, "fetch", answer.message.error_code);
        return Err(Lost);
    }
    let mut looks = BTreeMap::new();
    let mut failed = false;
    let parts = answer.message.responses.into_iter();
    for part in parts.flat_map(|topic| topic.partitions) {
        let index = part.partition_index;
        let looked = protocol::asked_for(index, &asked)
            .and_then(|(offset, floor)| look(&world, *offset, *floor, part, answer.life));
        match looked {
            Ok(Some(look)) => _ = looks.insert(index, look),
            // What the others show counts all the same.
            Ok(None) => failed = true,
            Err(violation) => world.fail(violation),
        }
    }
    if failed { Err(Lost) } else { Ok(looks) }
}

/// What a partition's answer shows; `None` if it is an error to try again after.
fn look(
    world: &World,
    offset: i64,
    floor: Floor,
    part: PartitionData,
    life: Tag,
) -> Result<Option<Look>, Violation> {
    // One that was paused and replaced may say old things until it notices.
    let is_old = life != world.life();
    let code = ErrorCode(part.error_code);
    if code != ErrorCode::NONE {
        if !(code == ErrorCode::OFFSET_OUT_OF_RANGE && is_old) {
            refused(world, "fetch", part.error_code);
        }
        return Ok(None);
    }
    let bytes = part.records.unwrap_or_default().into_bytes();
    let records = decode(&bytes)?;
    let high_watermark = part.high_watermark;
    watermarks::nothing_open(part.last_stable_offset, high_watermark)?;
    world.partition(part.partition_index, |model| {
        let floor = if is_old { Floor::default() } else { floor };
        model.marks(part.log_start_offset.max(0), high_watermark, floor)?;
        model.read(offset, &records, high_watermark)
    })?;
    if world.handle.is_told() {
        let offsets: Vec<String> = records.iter().map(|(at, _)| at.to_string()).collect();
        let values: Vec<Value> = records.iter().map(|(_, value)| *value).collect();
        let offsets = offsets.join(",");
        let what = format_args!("read from={offset} hw={high_watermark} offsets={offsets}");
        world.tell(&what, part.partition_index, &values);
        world.tell_progress();
    }
    Ok(Some(Look {
        records,
        high_watermark,
    }))
}

/// Reads from random places until the producers are done, and to the end.
pub(super) async fn run(world: Arc<World>) {
    let mut client = Client::new(&world, "consumer");
    let mut positions: BTreeMap<i32, i64> = partitions(&world).map(|index| (index, 0)).collect();
    loop {
        let last = world.is_healed() && !world.works(producer::WORK);
        let wait = Duration::from_millis([0, 10, 200][client.rng.index(3)]);
        match fetch(&mut client, &positions, wait).await {
            Ok(looks) => {
                let mut at_end = looks.len() == positions.len();
                for (index, look) in looks {
                    if let Some((offset, _)) = look.records.last() {
                        positions.insert(index, offset + 1);
                    }
                    at_end &= positions[&index] >= look.high_watermark;
                }
                if last && at_end {
                    break;
                }
            }
            Err(Lost) => client.pause(Duration::from_millis(10)).await,
        }
        if client.rng.chance(50) && !last {
            for position in positions.values_mut() {
                *position =
                    i64::try_from(client.rng.below(u64::try_from(*position).unwrap_or(0) + 1))
                        .unwrap_or(0);
            }
        }
        if client.rng.chance(100) {
            list_offsets(&mut client).await;
        }
        client.pause(Duration::from_millis(20)).await;
    }
    world.ends(WORK);
}

/// Asks where the log ends; the answer is not older than what was known.
async fn list_offsets(client: &mut Client) {
    const LATEST: i64 = -1;
    let world = Arc::clone(&client.world);
    let asked = partitions(&world).map(|partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: LATEST,
        ..Default::default()
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.to_owned(),
            partitions: asked.collect(),
        }],
        ..Default::default()
    };
    let floors: Vec<Floor> = partitions(&world)
        .map(|index| world.partition(index, |model| model.floor()))
        .collect();
    let version = [1, 5, 7][client.rng.index(3)];
    let answer: Result<Answer<ListOffsetsResponse>, Lost> = client.ask(version, &request).await;
    let Ok(answer) = answer else {
        return;
    };
    let is_old = answer.life != world.life();
    let found = answer.message.topics.into_iter();
    for part in found.flat_map(|topic| topic.partitions) {
        if part.error_code != 0 {
            refused(&world, "list offsets", part.error_code);
            continue;
        }
        let index = usize::try_from(part.partition_index).unwrap_or(usize::MAX);
        let floor = floors.get(index).copied().filter(|_| !is_old);
        let floor = floor.unwrap_or_default();
        world.check(world.partition(part.partition_index, |model| {
            model.marks(floor.start, part.offset, floor)
        }));
    }
}
