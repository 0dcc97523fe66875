//! A broker in this process and a client that speaks to its API layer in bytes.
//!
//! *Owns*: opening, asking, and what tests ask again and again.
//! *Does not own*: any assertion but that a plain request is answered.
//!
//! *IO: none* (memory bucket and memory WAL unless told otherwise)

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidewater_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use tidewater_protocol::messages::fetch_response::PartitionData;
use tidewater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewater_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use tidewater_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidewater_protocol::messages::produce_response::PartitionProduceResponse;
use tidewater_protocol::messages::{
    CreateTopicsRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
};
use tidewater_protocol::{RequestHeader, Uuid, decode_request_header};
use tidewater_stream_store::bucket::{Bucket, MemoryBucket, Metered};
use tidewater_stream_store::{MemoryWalOpener, StoreConfig, TokioEnv, WalOpener};
use tidewater_types::Env;

use super::super::Api;
use super::wire::{Ask, decode, encode};
use crate::broker::{Broker, Facts, Parts};
use crate::coordinator::OFFSETS_PARTITIONS;
use crate::net::{Handler, Pool, Reply, Request, Staged};
use crate::partition::Partition;

pub(super) const NODE: i32 = 1;

/// The topic of a test that needs one.
pub(super) const TOPIC: &str = "orders";

pub(super) struct Client {
    pub(super) broker: Arc<Broker>,
    api: Arc<Api>,
    client_id: Option<String>,
}

pub(super) fn memory_wal() -> Box<dyn WalOpener> {
    Box::new(MemoryWalOpener {
        capacity_bytes: 16 << 20,
        reserve_ms_max: 1_000,
        env: Arc::new(TokioEnv::current()),
    })
}

impl Client {
    /// A client of a new broker in memory.
    pub(super) async fn open() -> Self {
        Self::open_on(Arc::new(MemoryBucket::new()), memory_wal()).await
    }

    /// A client of a new broker with the topic `TOPIC`.
    pub(super) async fn with_topic(num_partitions: i32) -> Self {
        let client = Self::open().await;
        client.create(TOPIC, num_partitions, &[]).await;
        client
    }

    pub(super) async fn open_on(bucket: Arc<dyn Bucket>, wal: Box<dyn WalOpener>) -> Self {
        Self::open_as(StoreConfig::default(), bucket, wal).await
    }

    pub(super) async fn open_as(
        config: StoreConfig,
        bucket: Arc<dyn Bucket>,
        wal: Box<dyn WalOpener>,
    ) -> Self {
        let env: Arc<dyn Env> = Arc::new(TokioEnv::current());
        let facts = Facts {
            node_id: NODE,
            host: "broker.test".to_owned(),
            port: 9092,
            cluster_id: String::new(),
            default_partitions: 3,
            offsets_partitions: OFFSETS_PARTITIONS,
            response_bytes_max: 55 << 20,
            auto_create_topics: true,
        };
        let parts = Parts {
            device_wal: None,
            env,
            bucket: Arc::new(Metered::new(bucket)),
            wal,
            config,
            facts,
        };
        let broker = Broker::open(parts).await.unwrap();
        let api = Arc::new(Api::new(Arc::clone(&broker)));
        Self {
            broker,
            api,
            client_id: Some("tests".to_owned()),
        }
    }

    /// Another client of the same broker.
    pub(super) fn named(&self, client_id: &str) -> Self {
        Self {
            broker: Arc::clone(&self.broker),
            api: Arc::clone(&self.api),
            client_id: Some(client_id.to_owned()),
        }
    }

    /// The versions of `Q` the broker serves, first and last.
    pub(super) fn versions<Q: Ask>(&self) -> std::ops::RangeInclusive<i16> {
        let (first, last) = self.api.served(Q::KEY).expect("served");
        first..=last
    }

    /// Runs the ordered stage of a request.
    pub(super) async fn stage<Q: Ask>(&self, version: i16, request: &Q) -> Staged {
        assert!(self.versions::<Q>().contains(&version), "{}", Q::NAME);
        let header = RequestHeader {
            api_key: Q::KEY,
            api_version: version,
            correlation_id: 7,
            client_id: self.client_id.clone(),
        };
        let mut body = encode(&header, request);
        let header = decode_request_header(&mut body).unwrap();
        let request = Request {
            header,
            body,
            peer: SocketAddr::from(([127, 0, 0, 1], 5)),
            client_host: "/127.0.0.1".to_owned(),
            pool: Pool::new(512 << 20),
            connection: 1,
        };
        self.api.handle(request).await
    }

    /// What comes of a request, be it an answer or not.
    pub(super) async fn outcome<Q: Ask>(&self, version: i16, request: &Q) -> Reply {
        self.stage(version, request).await.rest.await
    }

    /// The answer to a request.
    pub(super) async fn call<Q: Ask>(&self, version: i16, request: &Q) -> Q::Answer {
        match self.outcome(version, request).await {
            Reply::Segments(segments) => decode::<Q>(&segments, version, 7),
            other => panic!("{} v{version}: {other:?}", Q::NAME),
        }
    }

    pub(super) async fn create(
        &self,
        name: &str,
        num_partitions: i32,
        configs: &[(&str, &str)],
    ) -> Uuid {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        });
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let created = self.call(7, &request).await.topics.remove(0);
        assert_eq!(created.error_code, 0, "{created:?}");
        created.topic_id
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Arc<Partition> {
        let topic = self.broker.topics.by_name(topic).unwrap();
        Arc::clone(topic.partition(index).unwrap())
    }

    /// The topic's id; one that no topic has if it does not exist.
    pub(super) fn id(&self, topic: &str) -> Uuid {
        let known = self.broker.topics.by_name(topic);
        known.map_or(Uuid([9; 16]), |topic| topic.record.id)
    }

    /// A Produce request that names the topic as its version does.
    pub(super) fn produce_request(
        &self,
        version: i16,
        topic: &str,
        batches: Vec<(i32, Bytes)>,
    ) -> ProduceRequest {
        let partition_data = batches
            .into_iter()
            .map(|(index, batch)| PartitionProduceData {
                index,
                records: Some(batch.into()),
            });
        let data = TopicProduceData {
            name: if version < 13 {
                topic.to_owned()
            } else {
                String::new()
            },
            topic_id: if version < 13 {
                Uuid::ZERO
            } else {
                self.id(topic)
            },
            partition_data: partition_data.collect(),
        };
        ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![data],
            ..Default::default()
        }
    }

    pub(super) async fn produce_as(
        &self,
        version: i16,
        topic: &str,
        index: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = self.produce_request(version, topic, vec![(index, batch)]);
        let mut answer = self.call(version, &request).await;
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Produces with version 12; answers the error and the base offset.
    pub(super) async fn produce(&self, topic: &str, index: i32, batch: Bytes) -> (i16, i64) {
        let answer = self.produce_as(12, topic, index, batch).await;
        (answer.error_code, answer.base_offset)
    }

    /// A Fetch request without wait for one topic's partitions, each with an offset.
    pub(super) fn fetch_request(
        &self,
        version: i16,
        topic: &str,
        offsets: &[(i32, i64)],
    ) -> FetchRequest {
        let partitions = offsets
            .iter()
            .map(|&(partition, fetch_offset)| FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            });
        let asked = FetchTopic {
            topic: if version < 13 {
                topic.to_owned()
            } else {
                String::new()
            },
            topic_id: if version < 13 {
                Uuid::ZERO
            } else {
                self.id(topic)
            },
            partitions: partitions.collect(),
        };
        FetchRequest {
            max_wait_ms: 0,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![asked],
            ..Default::default()
        }
    }

    pub(super) async fn fetch_as(
        &self,
        version: i16,
        topic: &str,
        index: i32,
        offset: i64,
    ) -> PartitionData {
        let request = self.fetch_request(version, topic, &[(index, offset)]);
        let mut answer = self.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        answer.responses.remove(0).partitions.remove(0)
    }

    /// The bytes from `offset` on, by version 12.
    pub(super) async fn fetch(&self, topic: &str, index: i32, offset: i64) -> Bytes {
        let data = self.fetch_as(12, topic, index, offset).await;
        assert_eq!(data.error_code, 0);
        data.records.expect("never null").into_bytes()
    }

    pub(super) async fn list_offsets(
        &self,
        version: i16,
        topic: &str,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition {
            timestamp,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![partition],
            }],
            ..Default::default()
        };
        let mut answer = self.call(version, &request).await;
        answer.topics.remove(0).partitions.remove(0)
    }

    pub(super) async fn producer_id(&self) -> i64 {
        let request = InitProducerIdRequest {
            transactional_id: None,
            ..Default::default()
        };
        let answer = self.call(5, &request).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        answer.producer_id
    }
}
