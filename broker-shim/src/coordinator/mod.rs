//! The group coordinators on their log: which shard a group belongs to, and one call an API.
//!
//! *Owns*: the partitions of `__consumer_offsets`, loading each at first use.
//! *Does not own*: the rules of groups (group), the order of appends (shard.rs).
//!
//! Invariants
//! 1. A group is always handled by the same shard: the partition its name hashes to.
//! 2. A shard answers only after its whole log was replayed.
//!
//! *IO: none* (through ports)

mod load;
mod shard;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidewater_protocol::{ErrorCode, Uuid};
use tidewater_stream_store::Stream;
use tokio::sync::Mutex;
use tracing::error;

use crate::broker::{Broker, NewTopic};
use crate::group::{
    CommitRequest, CommitResponse, CommittedOffset, GroupDescription, HeartbeatRequest,
    JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, ListedGroup, Response, SyncRequest,
    SyncResponse, partition_for,
};
use crate::refusal::Refusal;
use crate::topics::names::CONSUMER_OFFSETS;

use shard::Shard;

/// Partitions of `__consumer_offsets` when this broker creates it; Kafka's own default.
pub(crate) const OFFSETS_PARTITIONS: i32 = 50;

/// All groups of the cluster.
#[derive(Default)]
pub(crate) struct Groups {
    slots: Mutex<Option<Slots>>,
}

/// The shards of one offsets topic. A topic that takes its place has shards of its own.
#[derive(Clone)]
struct Slots {
    topic_id: Uuid,
    slots: Arc<Vec<Slot>>,
}

/// One partition of the offsets topic; its shard is loaded at first use, and again after its
/// log failed.
struct Slot {
    stream: Stream,
    shard: Mutex<Option<Arc<Shard>>>,
}

impl Groups {
    /// Makes sure that there is an offsets topic.
    pub(crate) async fn ready(&self, broker: &Broker) -> Result<(), Refusal> {
        self.slots(broker).await.map(|_| ())
    }

    async fn slots(&self, broker: &Broker) -> Result<Arc<Vec<Slot>>, Refusal> {
        let mut opened = self.slots.lock().await;
        let current = broker.topics.by_name(CONSUMER_OFFSETS);
        if let (Some(opened), Some(current)) = (&*opened, current)
            && opened.topic_id == current.record.id
        {
            return Ok(Arc::clone(&opened.slots));
        }
        let slots = open_slots(broker).await?;
        Ok(Arc::clone(&opened.insert(slots).slots))
    }

    async fn shard(&self, broker: &Broker, group: &str) -> Result<Arc<Shard>, Refusal> {
        let slots = self.slots(broker).await?;
        let count = i32::try_from(slots.len()).expect("the number of partitions is bounded");
        let index = usize::try_from(partition_for(group, count)).expect("not negative");
        slots[index].shard(broker).await
    }

    /// The shard, or the error its callers are answered with.
    async fn shard_or_code(&self, broker: &Broker, group: &str) -> Result<Arc<Shard>, ErrorCode> {
        self.shard(broker, group).await.map_err(|refusal| {
            error!(group, cause = refusal.message, "no coordinator");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }

    pub(crate) async fn join(&self, broker: &Broker, request: JoinRequest) -> JoinResponse {
        let failed = |error| JoinResponse::failed(error, &request.member_id);
        let shard = match self.shard_or_code(broker, &request.group).await {
            Ok(shard) => shard,
            Err(error) => return failed(error),
        };
        match shard
            .ask(|groups, ticket, now| groups.join(ticket, &request, now))
            .await
        {
            Some(Response::Join(response)) => response,
            _ => failed(ErrorCode::NOT_COORDINATOR),
        }
    }

    pub(crate) async fn sync(&self, broker: &Broker, request: SyncRequest) -> SyncResponse {
        let shard = match self.shard_or_code(broker, &request.group).await {
            Ok(shard) => shard,
            Err(error) => return SyncResponse::failed(error),
        };
        match shard
            .ask(|groups, ticket, now| groups.sync(ticket, &request, now))
            .await
        {
            Some(Response::Sync(response)) => response,
            _ => SyncResponse::failed(ErrorCode::NOT_COORDINATOR),
        }
    }

    pub(crate) async fn heartbeat(&self, broker: &Broker, request: HeartbeatRequest) -> ErrorCode {
        let shard = match self.shard_or_code(broker, &request.group).await {
            Ok(shard) => shard,
            Err(error) => return error,
        };
        match shard
            .ask(|groups, ticket, now| groups.heartbeat(ticket, &request, now))
            .await
        {
            Some(Response::Heartbeat(error)) => error,
            _ => ErrorCode::NOT_COORDINATOR,
        }
    }

    pub(crate) async fn leave(&self, broker: &Broker, request: LeaveRequest) -> LeaveResponse {
        let failed = |error| LeaveResponse {
            error,
            members: Vec::new(),
        };
        let shard = match self.shard_or_code(broker, &request.group).await {
            Ok(shard) => shard,
            Err(error) => return failed(error),
        };
        match shard
            .ask(|groups, ticket, now| groups.leave(ticket, &request, now))
            .await
        {
            Some(Response::Leave(response)) => response,
            _ => failed(ErrorCode::NOT_COORDINATOR),
        }
    }

    pub(crate) async fn commit(&self, broker: &Broker, request: CommitRequest) -> CommitResponse {
        let count = request.partitions.len();
        let failed = |error| CommitResponse {
            errors: vec![error; count],
        };
        let shard = match self.shard_or_code(broker, &request.group).await {
            Ok(shard) => shard,
            Err(error) => return failed(error),
        };
        match shard
            .ask(|groups, ticket, now| groups.commit(ticket, &request, now))
            .await
        {
            Some(Response::Commit(response)) => response,
            _ => failed(ErrorCode::NOT_COORDINATOR),
        }
    }

    pub(crate) async fn delete(&self, broker: &Broker, group: &str) -> ErrorCode {
        let shard = match self.shard_or_code(broker, group).await {
            Ok(shard) => shard,
            Err(error) => return error,
        };
        match shard
            .ask(|groups, ticket, now| groups.delete(ticket, group, now))
            .await
        {
            Some(Response::Delete(error)) => error,
            _ => ErrorCode::NOT_COORDINATOR,
        }
    }

    /// What a group committed, as far as it is durable.
    pub(crate) async fn offsets(
        &self,
        broker: &Broker,
        group: &str,
    ) -> Result<BTreeMap<(String, i32), CommittedOffset>, ErrorCode> {
        let shard = self.shard_or_code(broker, group).await?;
        Ok(shard.read(|groups| {
            let all = groups.fetch_all(group);
            all.map(|(topic, index, offset)| ((topic.to_owned(), index), offset.clone()))
                .collect()
        }))
    }

    pub(crate) async fn describe(
        &self,
        broker: &Broker,
        group: &str,
    ) -> Result<Option<GroupDescription>, ErrorCode> {
        let shard = self.shard_or_code(broker, group).await?;
        Ok(shard.read(|groups| groups.describe(group)))
    }

    /// All groups of all shards.
    pub(crate) async fn list(&self, broker: &Broker) -> Result<Vec<ListedGroup>, ErrorCode> {
        // No group was ever formed where there is no offsets topic; listing must not create it.
        if broker.topics.by_name(CONSUMER_OFFSETS).is_none() {
            return Ok(Vec::new());
        }
        let unavailable = |_| ErrorCode::COORDINATOR_NOT_AVAILABLE;
        let mut listed = Vec::new();
        for slot in self.slots(broker).await.map_err(unavailable)?.iter() {
            let shard = slot.shard(broker).await.map_err(unavailable)?;
            listed.extend(shard.read(|groups| groups.list().collect::<Vec<_>>()));
        }
        Ok(listed)
    }
}

impl Slot {
    async fn shard(&self, broker: &Broker) -> Result<Arc<Shard>, Refusal> {
        let mut shard = self.shard.lock().await;
        match shard.as_ref().filter(|shard| !shard.is_closed()) {
            Some(running) => Ok(Arc::clone(running)),
            None => {
                let loaded = load::load(&self.stream, &broker.env).await?;
                let started = Shard::start(self.stream.clone(), Arc::clone(&broker.env), loaded);
                *shard = Some(Arc::clone(&started));
                Ok(started)
            }
        }
    }
}

async fn open_slots(broker: &Broker) -> Result<Slots, Refusal> {
    if broker.topics.by_name(CONSUMER_OFFSETS).is_none() {
        let configs = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
        ];
        let owned = configs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let new = NewTopic {
            name: CONSUMER_OFFSETS.to_owned(),
            num_partitions: broker.facts.offsets_partitions,
            replication: 1,
            configs: BTreeMap::from(owned),
        };
        match broker.create_topic(new, false).await {
            Err(refusal) if refusal.code != ErrorCode::TOPIC_ALREADY_EXISTS => {
                return Err(refusal);
            }
            _ => {}
        }
    }
    let topic = broker.topics.by_name(CONSUMER_OFFSETS).ok_or_else(|| {
        Refusal::new(
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            "the offsets topic is gone",
        )
    })?;
    let slot = |partition: &Arc<crate::partition::Partition>| Slot {
        stream: partition.stream.clone(),
        shard: Mutex::default(),
    };
    Ok(Slots {
        topic_id: topic.record.id,
        slots: Arc::new(topic.partitions.iter().map(slot).collect()),
    })
}
