//! DescribeConfigs: the settings of topics and of this broker.
//!
//! *Owns*: sources, synonyms and types as clients expect them.
//! *Does not own*: the table of topic keys (topics/configs.rs).
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use tidewater_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
    DescribeConfigsSynonym,
};

use super::call::Call;
use crate::broker::{Facts, unknown_topic};
use crate::refusal::Refusal;
use crate::topics::configs::{Key, Kind, TOPIC_KEYS};

/// Set on the topic.
pub(crate) const SOURCE_TOPIC: i8 = 1;
/// Set when the broker was started.
const SOURCE_STATIC_BROKER: i8 = 4;
/// Never set.
pub(crate) const SOURCE_DEFAULT: i8 = 5;

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

pub(crate) async fn handle(
    call: &Call,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let (code, error_message, configs) = match described(call, &resource) {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err(refusal) => (refusal.code, Some(refusal.message), Vec::new()),
        };
        let wanted = |config: &DescribeConfigsResourceResult| match &resource.configuration_keys {
            Some(keys) => keys.contains(&config.name),
            None => true,
        };
        let mut configs: Vec<_> = configs.into_iter().filter(wanted).collect();
        if !request.include_synonyms {
            configs
                .iter_mut()
                .for_each(|config| config.synonyms.clear());
        }
        DescribeConfigsResult {
            error_code: code.code(),
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        }
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn described(
    call: &Call,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = &resource.resource_name;
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = call
                .broker
                .topics
                .by_name(name)
                .ok_or_else(|| unknown_topic(name))?;
            let set = &topic.record.configs;
            Ok(TOPIC_KEYS
                .iter()
                .map(|key| topic_entry(key, set.get(key.name)))
                .collect())
        }
        RESOURCE_BROKER => {
            let facts = &call.broker.facts;
            if !name.is_empty() && *name != facts.node_id.to_string() {
                let message = format!("this is broker {}, not {name}", facts.node_id);
                return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
            }
            // The empty name asks for cluster-wide dynamic defaults; there are none.
            let keys = if name.is_empty() {
                Vec::new()
            } else {
                broker_keys(facts)
            };
            Ok(keys)
        }
        other => {
            let message = format!("resources of type {other} have no configuration here");
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn topic_entry(key: &Key, set: Option<&String>) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if let Some(value) = set {
        synonyms.push(synonym(key.name, value, SOURCE_TOPIC));
    }
    synonyms.push(synonym(key.name, key.default, SOURCE_DEFAULT));
    DescribeConfigsResourceResult {
        name: key.name.to_owned(),
        value: Some(set.map_or(key.default, String::as_str).to_owned()),
        read_only: false,
        config_source: if set.is_some() {
            SOURCE_TOPIC
        } else {
            SOURCE_DEFAULT
        },
        config_type: key.kind.code(),
        synonyms,
        ..Default::default()
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source,
    }
}

/// The broker's keys that tools read, as this broker behaves.
fn broker_keys(facts: &Facts) -> Vec<DescribeConfigsResourceResult> {
    const INT: Kind = Kind::Int(0, 0);
    const TEXT: Kind = Kind::Text(&[]);
    let listener = format!("PLAINTEXT://{}:{}", facts.host, facts.port);
    let node = facts.node_id.to_string();
    let offsets_partitions = crate::coordinator::OFFSETS_PARTITIONS.to_string();
    let stated = [
        ("advertised.listeners", Kind::List(&[]), listener.clone()),
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            facts.auto_create_topics.to_string(),
        ),
        ("broker.id", INT, node.clone()),
        ("listeners", Kind::List(&[]), listener),
        ("node.id", INT, node),
        ("num.partitions", INT, facts.default_partitions.to_string()),
    ];
    let fixed = [
        ("default.replication.factor", INT, "1"),
        ("delete.topic.enable", Kind::Boolean, "true"),
        ("group.initial.rebalance.delay.ms", INT, "0"),
        ("group.max.session.timeout.ms", INT, "1800000"),
        ("group.min.session.timeout.ms", INT, "6000"),
        ("log.cleanup.policy", Kind::List(&[]), "delete"),
        ("log.message.timestamp.type", TEXT, "CreateTime"),
        ("message.max.bytes", INT, "1048588"),
        ("min.insync.replicas", INT, "1"),
        ("offset.metadata.max.bytes", INT, "4096"),
        ("offsets.retention.minutes", INT, "10080"),
        ("offsets.topic.num.partitions", INT, &offsets_partitions),
        ("offsets.topic.replication.factor", Kind::Int(0, 0), "1"),
    ];
    let entry = |name: &str, kind: Kind, value: &str, source: i8| DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        read_only: true,
        config_source: source,
        config_type: kind.code(),
        synonyms: vec![synonym(name, value, source)],
        ..Default::default()
    };
    let stated = stated
        .iter()
        .map(|(n, kind, v)| entry(n, *kind, v, SOURCE_STATIC_BROKER));
    let fixed = fixed
        .iter()
        .map(|(n, kind, v)| entry(n, *kind, v, SOURCE_DEFAULT));
    let mut keys: Vec<_> = stated.chain(fixed).collect();
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    keys
}
