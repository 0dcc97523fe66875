//! ApiVersions, DescribeCluster and FindCoordinator.
//!
//! *IO: none*

use tidewater_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest,
};

use super::super::table::SUPPORTED;
use super::client::{Client, NODE};

#[tokio::test]
async fn everything_that_is_served_is_advertised() {
    let client = Client::open().await;
    for version in client.versions::<ApiVersionsRequest>() {
        let request = ApiVersionsRequest {
            client_software_name: "tests".to_owned(),
            client_software_version: "1.0".to_owned(),
        };
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        let found = answer
            .api_keys
            .iter()
            .map(|k| (k.api_key, k.min_version, k.max_version));
        let expected = SUPPORTED
            .iter()
            .map(|&(api, first, last)| (api.code(), first, last));
        assert!(found.eq(expected), "v{version}");
        // Old librdkafka turns compression off where Produce begins above 0.
        assert!(
            answer
                .api_keys
                .iter()
                .any(|k| (k.api_key, k.min_version, k.max_version) == (0, 0, 13))
        );
        assert_eq!(
            answer.finalized_features_epoch,
            if version >= 3 { 0 } else { -1 }
        );
        assert!(answer.supported_features.is_empty() && answer.finalized_features.is_empty());
    }
}

#[tokio::test]
async fn a_client_must_name_its_software_legally() {
    let client = Client::open().await;
    for version in client.versions::<ApiVersionsRequest>() {
        for (name, number) in [
            ("", "1"),
            ("a b", "1"),
            ("a", ""),
            ("a", "-1"),
            ("a", "1\n"),
        ] {
            let request = ApiVersionsRequest {
                client_software_name: name.to_owned(),
                client_software_version: number.to_owned(),
            };
            let answer = client.call(version, &request).await;
            let code = if version >= 3 { 42 } else { 0 };
            assert_eq!(answer.error_code, code, "v{version} {name:?} {number:?}");
        }
    }
}

#[tokio::test]
async fn the_cluster_is_described_to_those_who_ask_for_brokers() {
    let client = Client::open().await;
    for version in client.versions::<DescribeClusterRequest>() {
        let answer = client
            .call(version, &DescribeClusterRequest::default())
            .await;
        assert_eq!((answer.error_code, answer.controller_id), (0, NODE));
        assert_eq!(answer.cluster_id, client.broker.facts.cluster_id);
        assert!(!answer.cluster_id.is_empty());
        assert_eq!(answer.brokers[0].broker_id, NODE);
        assert_eq!(answer.cluster_authorized_operations, i32::MIN);
        if version == 0 {
            continue;
        }
        for (endpoint_type, code) in [(1, 0), (2, 114), (3, 115), (0, 115), (-1, 115)] {
            let request = DescribeClusterRequest {
                endpoint_type,
                ..Default::default()
            };
            let answer = client.call(version, &request).await;
            assert_eq!(answer.error_code, code, "v{version} {endpoint_type}");
        }
    }
}

#[tokio::test]
async fn this_broker_coordinates_every_group() {
    let client = Client::open().await;
    for version in client.versions::<FindCoordinatorRequest>() {
        let mut request = FindCoordinatorRequest::default();
        let keys = ["g", "h", ""].map(str::to_owned);
        if version < 4 {
            request.key = keys[0].clone();
            let answer = client.call(version, &request).await;
            assert_eq!(
                (answer.error_code, answer.node_id, answer.port),
                (0, NODE, 9092)
            );
            continue;
        }
        request.coordinator_keys = keys.to_vec();
        let answer = client.call(version, &request).await;
        let found = answer
            .coordinators
            .iter()
            .map(|c| (c.key.clone(), c.error_code, c.node_id));
        assert!(
            found.eq(keys.into_iter().map(|key| (key, 0, NODE))),
            "v{version}"
        );
    }
}

#[tokio::test]
async fn coordinators_of_transactions_are_refused() {
    let client = Client::open().await;
    for version in 1..=6 {
        for key_type in [1, 2, 7, -1] {
            let mut request = FindCoordinatorRequest {
                key_type,
                ..Default::default()
            };
            if version < 4 {
                request.key = "t".to_owned();
                let answer = client.call(version, &request).await;
                assert_eq!((answer.error_code, answer.node_id), (42, -1), "v{version}");
            } else {
                request.coordinator_keys = vec!["t".to_owned()];
                let answer = client.call(version, &request).await.coordinators.remove(0);
                assert_eq!((answer.error_code, answer.node_id), (42, -1), "v{version}");
            }
        }
    }
}
