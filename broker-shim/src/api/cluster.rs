//! DescribeCluster and FindCoordinator: which nodes there are and who coordinates what.
//!
//! *Owns*: the answers about nodes. *Does not own*: groups (groups.rs).
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use tidewater_protocol::messages::describe_cluster_response::{
    DescribeClusterBroker, DescribeClusterResponse,
};
use tidewater_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use tidewater_protocol::messages::find_coordinator_response::{
    Coordinator, FindCoordinatorResponse,
};

use super::call::Call;
use crate::refusal::Refusal;

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;
const KEY_GROUP: i8 = 0;

pub(crate) async fn describe(
    call: &Call,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let facts = &call.broker.facts;
    let refuse = |code: ErrorCode, message: String| DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(message),
        endpoint_type: request.endpoint_type,
        ..Default::default()
    };
    match request.endpoint_type {
        ENDPOINT_BROKERS => {}
        ENDPOINT_CONTROLLERS => {
            let message = "this listener serves brokers, not controllers".to_owned();
            return refuse(ErrorCode::MISMATCHED_ENDPOINT_TYPE, message);
        }
        other => {
            let message = format!("endpoint type {other} is unknown");
            return refuse(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, message);
        }
    }
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: facts.cluster_id.clone(),
        controller_id: facts.node_id,
        brokers: vec![DescribeClusterBroker {
            broker_id: facts.node_id,
            host: facts.host.clone(),
            port: facts.port.into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) async fn find_coordinator(
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let facts = &call.broker.facts;
    let ready = match request.key_type {
        KEY_GROUP => call.groups.ready(&call.broker).await,
        other => {
            let message = format!("coordinators of key type {other} are not served");
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, message))
        }
    };
    let (code, message) = match &ready {
        Ok(()) => (ErrorCode::NONE, None),
        Err(refusal) => (refusal.code, Some(refusal.message.clone())),
    };
    let (node_id, host, port) = match ready {
        Ok(()) => (facts.node_id, facts.host.clone(), i32::from(facts.port)),
        Err(_) => (-1, String::new(), -1),
    };
    if call.header.api_version < 4 {
        return FindCoordinatorResponse {
            error_code: code.code(),
            error_message: message,
            node_id,
            host,
            port,
            ..Default::default()
        };
    }
    let answer = |key: String| Coordinator {
        key,
        node_id,
        host: host.clone(),
        port,
        error_code: code.code(),
        error_message: message.clone(),
    };
    let coordinators = request.coordinator_keys.into_iter().map(answer).collect();
    FindCoordinatorResponse {
        coordinators,
        ..Default::default()
    }
}
