//! DescribeConfigs: topics and this broker.
//!
//! *IO: none*

use tidewater_protocol::messages::DescribeConfigsRequest;
use tidewater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use tidewater_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};

use super::client::{Client, TOPIC};

const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

fn describe(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(owned),
        }],
        ..Default::default()
    }
}

async fn ask(
    client: &Client,
    version: i16,
    asked: &DescribeConfigsRequest,
) -> DescribeConfigsResult {
    client.call(version, asked).await.results.remove(0)
}

fn entry<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result
        .configs
        .iter()
        .find(|config| config.name == name)
        .unwrap()
}

#[tokio::test]
async fn a_topic_shows_what_is_set_and_what_is_default() {
    let client = Client::open().await;
    client.create(TOPIC, 1, &[("retention.ms", "1000")]).await;
    for version in client.versions::<DescribeConfigsRequest>() {
        let mut request = describe(OF_TOPIC, TOPIC, None);
        let plain = ask(&client, version, &request).await;
        assert!(
            plain
                .configs
                .iter()
                .all(|config| config.synonyms.is_empty())
        );
        request.include_synonyms = true;
        let result = ask(&client, version, &request).await;
        assert_eq!(
            (result.error_code, result.resource_name.as_str()),
            (0, TOPIC)
        );
        let policy = entry(&result, "cleanup.policy");
        assert_eq!(
            (policy.value.as_deref(), policy.config_source),
            (Some("delete"), 5)
        );
        let retention = entry(&result, "retention.ms");
        assert_eq!(
            (retention.value.as_deref(), retention.config_source),
            (Some("1000"), 1)
        );
        let synonyms: Vec<_> = retention
            .synonyms
            .iter()
            .map(|s| (s.value.as_deref().unwrap(), s.source))
            .collect();
        assert_eq!(synonyms, [("1000", 1), ("604800000", 5)]);
        assert_eq!(
            entry(&result, "max.message.bytes").value.as_deref(),
            Some("1048588")
        );
        // LONG, LIST, INT, BOOLEAN as clients number them.
        let types = [
            "retention.ms",
            "cleanup.policy",
            "max.message.bytes",
            "preallocate",
        ];
        let found = types.map(|name| entry(&result, name).config_type);
        assert_eq!(found, if version >= 3 { [5, 7, 3, 1] } else { [0; 4] });
    }
}

#[tokio::test]
async fn this_broker_shows_the_keys_tools_read() {
    let client = Client::open().await;
    for version in client.versions::<DescribeConfigsRequest>() {
        let result = ask(&client, version, &describe(OF_BROKER, "1", None)).await;
        assert_eq!(result.error_code, 0);
        assert_eq!(entry(&result, "num.partitions").value.as_deref(), Some("3"));
        assert_eq!(entry(&result, "node.id").value.as_deref(), Some("1"));
        assert_eq!(
            entry(&result, "auto.create.topics.enable").value.as_deref(),
            Some("true")
        );
        assert_eq!(
            entry(&result, "delete.topic.enable").value.as_deref(),
            Some("true")
        );
        assert!(result.configs.iter().all(|config| config.read_only));
    }
    let defaults = ask(&client, 4, &describe(OF_BROKER, "", None)).await;
    assert_eq!((defaults.error_code, defaults.configs.len()), (0, 0));
}

#[tokio::test]
async fn keys_choose_and_unknown_ones_find_nothing() {
    let client = Client::with_topic(1).await;
    let keys = ["retention.ms", "no.such.key", "cleanup.policy"];
    let result = ask(&client, 4, &describe(OF_TOPIC, TOPIC, Some(&keys))).await;
    let mut found: Vec<_> = result.configs.iter().map(|c| c.name.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, ["cleanup.policy", "retention.ms"]);
    let result = ask(
        &client,
        4,
        &describe(OF_TOPIC, TOPIC, Some(&["no.such.key"])),
    )
    .await;
    assert_eq!((result.error_code, result.configs.len()), (0, 0));
}

#[tokio::test]
async fn others_than_this_broker_and_its_topics_are_refused() {
    let client = Client::open().await;
    for version in client.versions::<DescribeConfigsRequest>() {
        let cases = [
            (OF_TOPIC, "nowhere", 3),
            (OF_BROKER, "2", 42),
            (OF_BROKER, "x", 42),
            (99, "x", 42),
        ];
        for (kind, name, code) in cases {
            let result = ask(&client, version, &describe(kind, name, None)).await;
            assert_eq!(
                (result.error_code, result.configs.len()),
                (code, 0),
                "{kind} {name}"
            );
            assert!(result.error_message.is_some());
        }
    }
}
