//! Every API in every version: a plain request is answered, with as many fields filled as can be.
//!
//! A field that a version cannot carry makes encoding fail, which closes the connection: the
//! answers here are from states and errors that fill what later versions know.
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_protocol::Uuid;
use tidewater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use tidewater_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use tidewater_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use tidewater_protocol::messages::leave_group_request::MemberIdentity;
use tidewater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewater_protocol::messages::metadata_request::MetadataRequestTopic;
use tidewater_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use tidewater_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
};

use super::super::table::SUPPORTED;
use super::client::{Client, TOPIC};
use super::group_tests::{GROUP, join_request, sole_member};
use super::offset_tests::commit_request;
use super::samples::{batch, damaged};
use super::wire::Ask;
use crate::records::testdata;

const NOWHERE: &str = "nowhere";

struct Table {
    client: Client,
    seen: BTreeSet<i16>,
}

impl Table {
    /// Asks in every version; the answers are decoded in full. Returns how many there were.
    async fn ask<Q: Ask>(&mut self, requests: impl Fn(&Client, i16) -> Vec<Q>) {
        for version in self.client.versions::<Q>() {
            for request in requests(&self.client, version) {
                self.client.call(version, &request).await;
            }
        }
        self.seen.insert(Q::KEY);
    }
}

#[tokio::test]
async fn every_version_of_every_api_answers() {
    let client = Client::with_topic(2).await;
    client
        .create("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let seen = BTreeSet::new();
    let mut table = Table { client, seen };
    records(&mut table).await;
    groups(&mut table).await;
    cluster(&mut table).await;
    topics(&mut table).await;
    let expected: BTreeSet<_> = SUPPORTED.iter().map(|(api, _, _)| api.code()).collect();
    assert_eq!(table.seen, expected, "an API without a row in this table");
}

async fn records(table: &mut Table) {
    table
        .ask(|client: &Client, version| {
            let mut good = client.produce_request(version, TOPIC, vec![(0, batch(2))]);
            let bad = vec![(0, testdata::aiokafka("lz4")), (1, batch(1))];
            let keyless = client.produce_request(version, "compacted", bad);
            let broken = vec![(0, damaged(&batch(1))), (9, batch(1))];
            let broken = client.produce_request(version, TOPIC, broken);
            let unknown = client.produce_request(version, NOWHERE, vec![(0, batch(1))]);
            good.topic_data.extend(keyless.topic_data);
            good.topic_data.extend(broken.topic_data);
            good.topic_data.extend(unknown.topic_data);
            let mut acks: ProduceRequest = good.clone();
            acks.acks = 5;
            vec![good, acks]
        })
        .await;
    table
        .ask(|client: &Client, version| {
            let mut all = client.fetch_request(version, TOPIC, &[(0, 0), (1, 0), (1, 99), (9, 0)]);
            all.isolation_level = 1;
            all.topics
                .extend(client.fetch_request(version, NOWHERE, &[(0, 0)]).topics);
            let mut fenced = client.fetch_request(version, TOPIC, &[(0, 0)]);
            if version >= 9 {
                fenced.topics[0].partitions[0].current_leader_epoch = 0;
            }
            let mut session: FetchRequest = fenced.clone();
            if version >= 7 {
                session.session_id = 3;
            }
            vec![all, fenced, session]
        })
        .await;
    times_and_ids(table).await;
}

async fn times_and_ids(table: &mut Table) {
    table
        .ask(|_, version| {
            let partition = |index, timestamp| ListOffsetsPartition {
                partition_index: index,
                timestamp,
                current_leader_epoch: if version >= 4 { 0 } else { -1 },
            };
            let plain = |partition_index, timestamp| ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            };
            let topic = |name: &str, partitions| ListOffsetsTopic {
                name: name.to_owned(),
                partitions,
            };
            let times = [-1, -2, -3, -4, -5, -6, -9, 0, i64::MAX];
            let mut requests: Vec<_> = times
                .iter()
                .map(|&at| vec![topic(TOPIC, vec![plain(0, at), plain(1, at)])])
                .collect();
            requests.push(vec![
                topic(NOWHERE, vec![plain(0, 0)]),
                topic(TOPIC, vec![partition(0, -1)]),
            ]);
            let request = |topics| ListOffsetsRequest {
                topics,
                ..Default::default()
            };
            requests.into_iter().map(request).collect()
        })
        .await;
    table
        .ask(|_, _| {
            let transactional = InitProducerIdRequest {
                transactional_id: Some("t".to_owned()),
                ..Default::default()
            };
            let idempotent = InitProducerIdRequest {
                transactional_id: None,
                ..Default::default()
            };
            vec![idempotent, transactional]
        })
        .await;
}

async fn groups(table: &mut Table) {
    let (member, generation) = sole_member(&table.client, GROUP).await;
    let member = member.as_str();
    table
        .ask(|_, version| {
            let of_group = |group: &str| HeartbeatRequest {
                group_id: group.to_owned(),
                generation_id: generation,
                member_id: member.to_owned(),
                group_instance_id: (version >= 3).then(|| "nobody".to_owned()),
            };
            vec![of_group(GROUP), of_group("missing")]
        })
        .await;
    table
        .ask(|_, version| {
            let mut of_static = join_request(version, &format!("static-{version}"), "");
            of_static.group_instance_id = (version >= 5).then(|| "host".to_owned());
            let stranger = join_request(version, GROUP, "nobody");
            let mut impatient: JoinGroupRequest = join_request(version, "g", "");
            impatient.session_timeout_ms = 0;
            vec![
                join_request(version, &format!("g-{version}"), ""),
                of_static,
                stranger,
                impatient,
            ]
        })
        .await;
    table
        .ask(|_, version| {
            let sync = |group: &str, member: &str| SyncGroupRequest {
                group_id: group.to_owned(),
                generation_id: generation,
                member_id: member.to_owned(),
                protocol_type: (version >= 5).then(|| "consumer".to_owned()),
                protocol_name: (version >= 5).then(|| "range".to_owned()),
                ..Default::default()
            };
            vec![
                sync(GROUP, member),
                sync(GROUP, "nobody"),
                sync("missing", "x"),
            ]
        })
        .await;
    table
        .ask(|_, _| {
            let names = [GROUP, "static-9", "missing"];
            let request = DescribeGroupsRequest {
                groups: names.map(str::to_owned).to_vec(),
                ..Default::default()
            };
            vec![request]
        })
        .await;
    table.ask(|_, _| vec![ListGroupsRequest::default()]).await;
    offsets(table, member, generation).await;
    leaving(table, member).await;
}

async fn leaving(table: &mut Table, member: &str) {
    table
        .ask(|_, version| {
            let mut request = LeaveGroupRequest {
                group_id: GROUP.to_owned(),
                ..Default::default()
            };
            if version < 3 {
                request.member_id = "nobody".to_owned();
            } else {
                let identity = |member_id: &str, instance: Option<&str>| MemberIdentity {
                    member_id: member_id.to_owned(),
                    group_instance_id: instance.map(str::to_owned),
                    ..Default::default()
                };
                request.members = vec![identity(member, None), identity("", Some("nobody"))];
            }
            vec![request]
        })
        .await;
    table
        .ask(|_, _| {
            let names = ["static-9", "missing"];
            let groups_names = names.map(str::to_owned).to_vec();
            vec![DeleteGroupsRequest { groups_names }]
        })
        .await;
}

async fn offsets(table: &mut Table, member: &str, generation: i32) {
    table
        .ask(|client: &Client, version| {
            let offsets = [(TOPIC, 0, 1), (TOPIC, 9, 2), (NOWHERE, 0, 3)];
            let mut own: OffsetCommitRequest = commit_request(client, version, &offsets);
            let anonymous = own.clone();
            own.member_id = member.to_owned();
            own.generation_id_or_member_epoch = generation;
            vec![own, anonymous]
        })
        .await;
    table
        .ask(|client: &Client, version| {
            let mut request = OffsetFetchRequest::default();
            let mut all = request.clone();
            if version < 8 {
                request.group_id = GROUP.to_owned();
                let topic = |name: &str| OffsetFetchRequestTopic {
                    name: name.to_owned(),
                    partition_indexes: vec![0, 1],
                };
                request.topics = Some(vec![topic(TOPIC), topic(NOWHERE)]);
                all.group_id = GROUP.to_owned();
                all.topics = (version < 2).then(Vec::new);
                return vec![request, all];
            }
            let topic = |name: &str| OffsetFetchRequestTopics {
                name: if version < 10 {
                    name.to_owned()
                } else {
                    String::new()
                },
                topic_id: if version < 10 {
                    Uuid::ZERO
                } else {
                    client.id(name)
                },
                partition_indexes: vec![0, 1],
            };
            let group = |id: &str, topics| OffsetFetchRequestGroup {
                group_id: id.to_owned(),
                topics,
                ..Default::default()
            };
            let chosen = Some(vec![topic(TOPIC), topic(NOWHERE)]);
            request.groups = vec![group(GROUP, chosen), group("missing", None)];
            all.groups = vec![group(GROUP, None)];
            all.require_stable = true;
            vec![request, all]
        })
        .await;
}

async fn cluster(table: &mut Table) {
    table
        .ask(|_, _| {
            let named = ApiVersionsRequest {
                client_software_name: "tests".to_owned(),
                client_software_version: "1".to_owned(),
            };
            vec![named, ApiVersionsRequest::default()]
        })
        .await;
    table
        .ask(|_, version| {
            let plain = DescribeClusterRequest::default();
            let mut other = plain.clone();
            if version >= 1 {
                other.endpoint_type = 2;
            }
            vec![plain, other]
        })
        .await;
    table
        .ask(|_, version| {
            let of_type = |key_type| {
                let mut request = FindCoordinatorRequest {
                    key_type,
                    ..Default::default()
                };
                if version >= 4 {
                    request.coordinator_keys = vec!["a".to_owned(), "b".to_owned()];
                } else {
                    request.key = "a".to_owned();
                }
                request
            };
            if version == 0 {
                vec![of_type(0)]
            } else {
                vec![of_type(0), of_type(1)]
            }
        })
        .await;
    table
        .ask(|_, version| {
            let resource = |resource_type, name: &str| DescribeConfigsResource {
                resource_type,
                resource_name: name.to_owned(),
                configuration_keys: None,
            };
            let request = DescribeConfigsRequest {
                resources: vec![
                    resource(2, "compacted"),
                    resource(2, NOWHERE),
                    resource(4, "1"),
                    resource(4, "9"),
                ],
                include_synonyms: true,
                include_documentation: version >= 3,
            };
            vec![request]
        })
        .await;
}

async fn topics(table: &mut Table) {
    table
        .ask(|client: &Client, version| {
            let topic = |name: &str| MetadataRequestTopic {
                name: Some(name.to_owned()),
                ..Default::default()
            };
            let some = MetadataRequest {
                topics: Some(vec![
                    topic(TOPIC),
                    topic("a b"),
                    topic(&format!("auto-{version}")),
                ]),
                ..Default::default()
            };
            let mut requests = vec![some];
            if version >= 1 {
                requests.push(MetadataRequest {
                    topics: None,
                    ..Default::default()
                });
            }
            if version >= 10 {
                let by_id = |topic_id| MetadataRequestTopic {
                    topic_id,
                    name: None,
                };
                requests.push(MetadataRequest {
                    topics: Some(vec![
                        by_id(client.id(TOPIC)),
                        by_id(Uuid([8; 16])),
                        by_id(Uuid::ZERO),
                    ]),
                    ..Default::default()
                });
            }
            requests
        })
        .await;
    topic_changes(table).await;
}

async fn topic_changes(table: &mut Table) {
    table
        .ask(|_, version| {
            let topic = |name: &str, num_partitions| CreatableTopic {
                name: name.to_owned(),
                num_partitions,
                replication_factor: 2,
                configs: vec![CreatableTopicConfig {
                    name: "retention.ms".to_owned(),
                    value: Some("1".to_owned()),
                }],
                ..Default::default()
            };
            let request = CreateTopicsRequest {
                topics: vec![
                    topic(&format!("new-{version}"), 2),
                    topic(TOPIC, 1),
                    topic("x", 0),
                ],
                ..Default::default()
            };
            vec![request]
        })
        .await;
    table
        .ask(|_, version| {
            let topic = |name: &str| CreatePartitionsTopic {
                name: name.to_owned(),
                count: 10 + i32::from(version),
                assignments: None,
            };
            let request = CreatePartitionsRequest {
                topics: vec![topic(TOPIC), topic(NOWHERE)],
                ..Default::default()
            };
            vec![request]
        })
        .await;
    table
        .ask(|client: &Client, version| {
            let names = [
                format!("auto-{version}"),
                NOWHERE.to_owned(),
                "a b".to_owned(),
            ];
            let mut request = DeleteTopicsRequest::default();
            if version < 6 {
                request.topic_names = names.to_vec();
                return vec![request];
            }
            let state = |name: Option<String>, topic_id| DeleteTopicState { name, topic_id };
            request.topics = names
                .into_iter()
                .map(|name| state(Some(name), Uuid::ZERO))
                .collect();
            request.topics.push(state(None, client.id(TOPIC)));
            request.topics.push(state(None, Uuid([8; 16])));
            vec![request]
        })
        .await;
}
