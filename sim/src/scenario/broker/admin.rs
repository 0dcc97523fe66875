//! Administration: the topic of everybody, and topics that come, grow and go.
//!
//! *Owns*: what must be listed after which answer, and once all is healed.
//! *Does not own*: what is written to topics.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidewater_protocol::messages::create_topics_request::CreatableTopic;
use tidewater_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewater_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, MetadataRequest, MetadataResponse,
};
use tidewater_types::sometimes;

use super::conn::{Answer, Client, Lost};
use super::producer::refused;
use super::world::{TOPIC, World};
use crate::check::Violation;
use crate::check::topics::TopicModel;

/// What clients call this work.
pub(super) const WORK: &str = "admin";

/// The longest pause between two rounds once nothing fails.
const HEALED_PAUSE: Duration = Duration::from_millis(200);

/// A refusal after which the client asks once more; the controller is looked for anew if it was not
/// asked.
fn again(client: &mut Client, what: &str, code: ErrorCode) {
    refused(&client.world, what, code.code());
    if code == ErrorCode::NOT_CONTROLLER {
        sometimes!("broker: a broker that was replaced administers nothing");
        client.hang_up();
    }
}

/// Creates a topic; asks until it exists. Whether a request without answer may still create it.
async fn create(client: &mut Client, name: &str, num_partitions: i32) -> bool {
    let mut may_come_late = false;
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    loop {
        let answer: Result<Answer<CreateTopicsResponse>, Lost> = client.ask(5, &request).await;
        let code = answer.ok().and_then(|answer| {
            let topics = answer.message.topics;
            topics.first().map(|topic| ErrorCode(topic.error_code))
        });
        match code {
            Some(ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS) => return may_come_late,
            Some(code) => again(client, "create topic", code),
            None => may_come_late = true,
        }
        client.pause(Duration::from_millis(20)).await;
    }
}

async fn delete(client: &mut Client, name: &str) {
    let request = DeleteTopicsRequest {
        topic_names: vec![name.to_owned()],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let mut may_be_gone = false;
    loop {
        let answer: Result<Answer<DeleteTopicsResponse>, Lost> = client.ask(4, &request).await;
        let in_charge = client.world.life();
        let answer = answer.ok().and_then(|answer| {
            let topics = answer.message.responses;
            let code = topics.first().map(|topic| ErrorCode(topic.error_code))?;
            Some((code, answer.life == in_charge))
        });
        match answer {
            Some((ErrorCode::NONE, _)) => return,
            Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true)) => {
                return check(&client.world, |topics| topics.unknown(name, may_be_gone));
            }
            // One that was replaced may not have heard of the topic.
            Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, false)) => client.hang_up(),
            Some((code, _)) => {
                may_be_gone = true;
                again(client, "delete topic", code);
            }
            None => may_be_gone = true,
        }
        client.pause(Duration::from_millis(20)).await;
    }
}

async fn grow(client: &mut Client, name: &str, count: i32) {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: name.to_owned(),
            count,
            assignments: None,
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    loop {
        let answer: Result<Answer<CreatePartitionsResponse>, Lost> = client.ask(1, &request).await;
        let code = answer.ok().and_then(|answer| {
            let topics = answer.message.results;
            topics.first().map(|topic| ErrorCode(topic.error_code))
        });
        match code {
            // Refused if an earlier attempt whose answer was lost did it.
            Some(ErrorCode::NONE | ErrorCode::INVALID_PARTITIONS) => return,
            Some(code) => again(client, "create partitions", code),
            None => {}
        }
        client.pause(Duration::from_millis(20)).await;
    }
}

/// The topics that there are, each with its number of partitions: all, or the one of this name; asks
/// until the broker in charge tells.
async fn list(client: &mut Client, name: Option<&str>) -> BTreeMap<String, usize> {
    let topics = name.map(|name| {
        vec![MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        }]
    });
    let request = MetadataRequest {
        topics,
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    loop {
        let answer: Result<Answer<MetadataResponse>, Lost> = client.ask(8, &request).await;
        match answer {
            Ok(Answer { message, life }) if life == client.world.life() => {
                let found = message.topics.into_iter();
                let found = found.filter(|topic| topic.error_code == 0);
                return found
                    .map(|topic| (topic.name.unwrap_or_default(), topic.partitions.len()))
                    .collect();
            }
            Ok(_) => {
                sometimes!("broker: administration asks a broker that was replaced");
                client.hang_up();
            }
            Err(Lost) => {}
        }
        client.pause(Duration::from_millis(20)).await;
    }
}

/// Creates the topic of everybody.
pub(super) async fn prepare(world: &Arc<World>) {
    let mut client = Client::new(world, "admin");
    let partitions = i32::try_from(world.plan.broker.partitions).expect("few");
    create(&mut client, TOPIC, partitions).await;
    has(world, TOPIC, usize::try_from(partitions).expect("few"));
    look(&mut client, TOPIC).await;
    world.prepared();
}

fn has(world: &World, name: &str, num_partitions: usize) {
    world.model.lock().topics.has(name, num_partitions);
}

fn check(world: &World, found: impl FnOnce(&TopicModel) -> Result<(), Violation>) {
    let result = found(&world.model.lock().topics);
    world.check(result);
}

/// Looks at a topic of which something is expected.
async fn look(client: &mut Client, name: &str) {
    let is_known = client.world.model.lock().topics.is_known(name);
    if is_known {
        let found = list(client, Some(name)).await;
        let count = found.get(name).copied().unwrap_or(0);
        check(&client.world, |topics| topics.listed(name, count));
    }
}

async fn all_listed(client: &mut Client) {
    let found = list(client, None).await;
    check(&client.world, |topics| topics.all_listed(&found));
}

/// Looks at every topic that ever was, once nobody administers any.
pub(super) async fn look_at_all(world: &Arc<World>) {
    world.begins(WORK);
    let mut client = Client::new(world, "admin");
    all_listed(&mut client).await;
    world.ends(WORK);
}

/// Topics come, grow and go.
pub(super) async fn run(world: Arc<World>) {
    let mut client = Client::new(&world, "admin");
    // A broker that was paused and replaced shall find its request waiting when it wakes up.
    client.patience = Duration::from_secs(10);
    let rounds = 4 * world.plan.broker.rounds;
    let pause = world.pause_of(rounds);
    for number in 0..rounds {
        let name = format!("topic-{number}");
        let may_come_late = create(&mut client, &name, 1).await;
        has(&world, &name, 1);
        look(&mut client, &name).await;
        if client.rng.chance(200) {
            grow(&mut client, &name, 3).await;
            has(&world, &name, 3);
            look(&mut client, &name).await;
        }
        let healed = world.is_healed();
        let pause = if healed { HEALED_PAUSE } else { pause };
        client.pause(pause).await;
        // Whoever took over meanwhile has them all.
        all_listed(&mut client).await;
        if client.rng.chance(800) {
            delete(&mut client, &name).await;
            world.model.lock().topics.deleted(&name, may_come_late);
            look(&mut client, &name).await;
        }
    }
    world.ends(WORK);
}
