//! A producer: batches in rounds, several under way, the same ones again until they are
//! acknowledged.
//!
//! *Owns*: sequences, retries, what an answer means.
//! *Does not own*: whether what was acknowledged is kept (the models).
//!
//! Invariants
//! 1. While a batch is not acknowledged no new one is made, so that it stays among the last five that
//!    the broker remembers; Kafka's own client stops for a retry, too.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidewater_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
};
use tidewater_types::sometimes;

use super::batch::{Stamp, encode};
use super::conn::{Answer, Client, Lost};
use super::world::{TOPIC, World, partitions};
use crate::check::partition::Value;
use crate::check::{Violation, excuse, protocol};

/// What clients call this work.
pub(super) const WORK: &str = "producer";
/// What a producer does that comes when all others are done.
const FRESH: &str = "fresh producer";
/// Numbers of other producers stay below.
const FIRST_FRESH: u32 = 2_000_000;

/// A batch that is not acknowledged.
struct Batch {
    partition: i32,
    values: Vec<Value>,
    bytes: Bytes,
}

struct Producer {
    client: Client,
    number: u32,
    idempotent: bool,
    id: i64,
    next_sequence: u32,
    /// The next sequence of each partition, as the protocol counts it.
    sequences: BTreeMap<i32, i32>,
    unacked: VecDeque<Batch>,
    acks: i16,
    hasty: bool,
    pause: Duration,
}

/// What an answer says of its batch.
enum Outcome {
    Acked(i64),
    Again,
}

pub(super) async fn run(world: Arc<World>, number: u32, idempotent: bool) {
    let mut producer = Producer::new(&world, number, idempotent);
    producer.hasty = producer.client.rng.chance(500);
    if idempotent {
        producer.id = producer.init().await;
    } else if producer.client.rng.chance(500) {
        producer.acks = 1;
    }
    let mut left = world.plan.broker.batches;
    while left > 0 || !producer.unacked.is_empty() {
        if producer.unacked.is_empty() {
            if left == 1 {
                // Whoever serves in the end is written to as well.
                world.until_healed().await;
            }
            let held_back = u32::from(!world.is_healed());
            while left > held_back && producer.unacked.len() < world.plan.broker.depth {
                let partition = producer.some_partition();
                producer.makes_batch(partition);
                left -= 1;
            }
        }
        if producer.round().await.is_err() {
            producer.client.pause(Duration::from_millis(5)).await;
        }
        if producer.client.rng.chance(300) && !world.is_healed() {
            let pause = producer.pause;
            producer.client.pause(pause).await;
        }
    }
    world.ends(WORK);
}

/// A producer that nobody knows yet has a record acknowledged on each partition, by whoever serves.
pub(super) async fn fresh(world: &Arc<World>) {
    let number = FIRST_FRESH + world.next_tag().0;
    world.begins(FRESH);
    let mut producer = Producer::new(world, number, true);
    producer.id = producer.init().await;
    partitions(world).for_each(|partition| producer.makes_batch(partition));
    while !producer.unacked.is_empty() && world.failed().is_ok() {
        if producer.round().await.is_err() {
            producer.client.pause(Duration::from_millis(5)).await;
        }
    }
    world.ends(FRESH);
}

impl Producer {
    fn new(world: &Arc<World>, number: u32, idempotent: bool) -> Self {
        Self {
            client: Client::new(world, "producer"),
            number,
            idempotent,
            id: -1,
            next_sequence: 0,
            sequences: BTreeMap::new(),
            unacked: VecDeque::new(),
            acks: -1,
            hasty: false,
            pause: world.pause_of(world.plan.broker.batches),
        }
    }

    /// A producer id; asks until it has one.
    async fn init(&mut self) -> i64 {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        loop {
            let answer: Result<Answer<InitProducerIdResponse>, Lost> =
                self.client.ask(4, &request).await;
            let Ok(Answer { message, .. }) = answer else {
                self.client.pause(Duration::from_millis(20)).await;
                continue;
            };
            if message.error_code == 0 {
                let world = &self.client.world;
                let result = world.model.lock().producer_ids.given(message.producer_id);
                world.check(result);
                return message.producer_id;
            }
            self.refused("init producer id", message.error_code);
            self.client.pause(Duration::from_millis(20)).await;
        }
    }

    fn some_partition(&mut self) -> i32 {
        let partitions = self.client.world.plan.broker.partitions;
        i32::try_from(self.client.rng.below(partitions.into())).expect("few")
    }

    /// The next batch, which nobody has acknowledged.
    fn makes_batch(&mut self, partition: i32) {
        let world = Arc::clone(&self.client.world);
        let rng = &mut self.client.rng;
        let count = u32::try_from(rng.between(1, 3)).expect("few");
        let num_bytes = usize::try_from(rng.between(16, 200)).expect("few");
        let values: Vec<Value> = (0..count)
            .map(|index| Value {
                producer: self.number,
                sequence: self.next_sequence + index,
            })
            .collect();
        let first = self.next_sequence;
        self.next_sequence += count;
        let sequence = self.sequences.entry(partition).or_default();
        let stamp = if self.idempotent {
            Stamp {
                id: self.id,
                epoch: 0,
                sequence: *sequence,
            }
        } else {
            Stamp::NONE
        };
        *sequence += i32::try_from(count).expect("few");
        let what = format_args!("produce producer={} from={first}", self.number);
        world.tell(&what, partition, &values);
        world.partition(partition, |model| {
            if !self.idempotent {
                model.plain(self.number);
            }
            for value in &values {
                model.sent(*value);
            }
        });
        let now_ms = i64::try_from(world.handle.now().0 / 1_000_000).unwrap_or(0);
        let bytes = encode(stamp, 1_793_491_200_000 + now_ms, &values, num_bytes);
        self.unacked.push_back(Batch {
            partition,
            values,
            bytes,
        });
    }

    /// Sends everything that is not acknowledged, in order, and hears what becomes of it.
    async fn round(&mut self) -> Result<(), Lost> {
        let version = [3, 7, 9, 12][self.client.rng.index(4)];
        let timeout_ms = [5, 200, 10_000][self.client.rng.index(3)];
        // Some clients give up early, and what they gave up arrives late.
        self.client.patience = if self.hasty && !self.client.world.is_healed() {
            Duration::from_millis(60)
        } else {
            Duration::from_secs(3)
        };
        let mut under_way = Vec::new();
        for batch in &self.unacked {
            let timeout_ms = if self.client.world.is_healed() {
                10_000
            } else {
                timeout_ms
            };
            let request = request(batch.partition, batch.bytes.clone(), self.acks, timeout_ms);
            under_way.push(self.client.send(version, &request).await?);
        }
        let mut left = VecDeque::new();
        let mut failed = BTreeSet::new();
        let mut lost = false;
        let mut answers = under_way.into_iter();
        for batch in std::mem::take(&mut self.unacked) {
            let answer = answers.next().filter(|_| !lost);
            let answer = match answer {
                Some(under_way) => self.client.receive::<ProduceResponse>(under_way).await.ok(),
                None => None,
            };
            lost |= answer.is_none();
            match answer.map(|answer| self.outcome(&batch, &answer, &failed)) {
                Some(Outcome::Acked(base)) => self.acked(&batch, base),
                Some(Outcome::Again) | None => {
                    failed.insert(batch.partition);
                    left.push_back(batch);
                }
            }
        }
        self.unacked = left;
        if lost || !failed.is_empty() {
            sometimes!("broker: a batch is sent again");
            return Err(Lost);
        }
        Ok(())
    }

    fn outcome(
        &self,
        batch: &Batch,
        answer: &Answer<ProduceResponse>,
        failed: &BTreeSet<i32>,
    ) -> Outcome {
        let found = answer.message.responses.first();
        let found = found.and_then(|topic| topic.partition_responses.first());
        let answered = protocol::answers(batch.partition, found.map(|found| found.index));
        let Some(found) = found.filter(|_| answered.is_ok()) else {
            self.client.world.check(answered);
            return Outcome::Again;
        };
        let code = ErrorCode(found.error_code);
        if code == ErrorCode::NONE {
            return Outcome::Acked(found.base_offset);
        }
        let is_out_of_order = code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        // Behind one that failed, or told by a broker that is not in charge any more.
        let explained =
            failed.contains(&batch.partition) || answer.life != self.client.world.life();
        if !(is_out_of_order && explained) {
            self.refused("produce", found.error_code);
        }
        Outcome::Again
    }

    fn acked(&self, batch: &Batch, base: i64) {
        let world = &self.client.world;
        world.tell(
            &format_args!("ack base={base}"),
            batch.partition,
            &batch.values,
        );
        world.tell_progress();
        world.acked(batch.partition, base, &batch.values, &batch.bytes);
    }

    fn refused(&self, what: &str, code: i16) {
        refused(&self.client.world, what, code);
    }
}

/// One batch for one partition.
pub(super) fn request(partition: i32, batch: Bytes, acks: i16, timeout_ms: i32) -> ProduceRequest {
    let data = PartitionProduceData {
        index: partition,
        records: Some(batch.into()),
    };
    ProduceRequest {
        acks,
        timeout_ms,
        topic_data: vec![TopicProduceData {
            name: TOPIC.to_owned(),
            partition_data: vec![data],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// An error that a client does not just try again after is a violation.
pub(super) fn refused(world: &World, what: &str, code: i16) {
    world.handle.line(|| format!("{what} refused: {code}"));
    sometimes!("broker: a client is refused");
    let name = ErrorCode(code);
    if !excuse::client_answer(name) {
        world.fail(Violation::new("refused", format!("{what}: {name:?}")));
    }
}
