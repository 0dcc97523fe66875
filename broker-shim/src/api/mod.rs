//! The APIs: from a request's bytes to a response's segments.
//!
//! *Owns*: which APIs and versions are served, decoding, dispatch, encoding.
//! *Does not own*: sockets (net), state (broker).
//!
//! Invariants
//! 1. Only what is in `SUPPORTED` is advertised, and everything in it works.
//! 2. As in Kafka, the requests of a connection are handled one after the other; only the wait
//!    for durability of a Produce overlaps with the requests behind it.
//!
//! *IO: none*

mod cluster;
mod configs;
mod create_topics;
mod delete_topics;
mod fetch;
mod group_admin;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_id;
mod stats;
mod versions;

use std::sync::Arc;

use tidewater_protocol::{ApiKey, Encoder, Message, RequestHeader, encode_response_header};
use tidewater_types::BoxFuture;
use tracing::{debug, error};

use crate::broker::Broker;
use crate::net::{Handler, Reply, Request, STATS_API_KEY, Staged, encode_stats_response};

/// The APIs that are served, with the first and the last version.
pub(crate) const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    // Versions 0 to 2 are only advertised: old librdkafka turns compression off otherwise.
    (ApiKey::Produce, 0, 13),
    (ApiKey::Fetch, 4, 18),
    (ApiKey::ListOffsets, 1, 11),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 10),
    (ApiKey::OffsetFetch, 1, 10),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
];

/// The part of a request every handler needs.
pub(crate) struct Call {
    pub(crate) broker: Arc<Broker>,
    pub(crate) header: RequestHeader,
    pub(crate) client_host: String,
}

/// Answers requests with the broker's state.
pub(crate) struct Api {
    pub(crate) broker: Arc<Broker>,
}

impl Handler for Api {
    fn served(&self, api_key: i16) -> Option<(i16, i16)> {
        if api_key == STATS_API_KEY {
            return Some((0, 0));
        }
        let found = SUPPORTED.iter().find(|(api, _, _)| api.code() == api_key);
        // What is advertised below the schema's first version cannot be decoded.
        found.map(|&(api, first, last)| (first.max(api.versions().min), last))
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Staged> {
        Box::pin(dispatch(&self.broker, request))
    }
}

async fn dispatch(broker: &Arc<Broker>, request: Request) -> Staged {
    let Request {
        header,
        mut body,
        client_host,
        ..
    } = request;
    let (key, version) = (header.api_key, header.api_version);
    let call = Call {
        broker: Arc::clone(broker),
        header,
        client_host,
    };
    if key == STATS_API_KEY {
        let json = stats::json(&call.broker);
        let segments = encode_stats_response(call.header.correlation_id, json);
        return Staged::ready(Reply::Segments(segments));
    }
    let Some(api) = ApiKey::from_i16(key) else {
        return Staged::ready(Reply::Close);
    };
    /// Decodes the body, runs the handler, encodes its answer.
    macro_rules! answer {
        ($handler:path) => {
            match Message::decode(&mut body, version) {
                Ok(message) => {
                    let response = $handler(&call, message).await;
                    Staged::ready(reply(&call.header, &response))
                }
                Err(error) => Staged::ready(malformed(&call, &error)),
            }
        };
    }
    match api {
        ApiKey::Produce => match Message::decode(&mut body, version) {
            Ok(message) => produce::handle(call, message).await,
            Err(error) => Staged::ready(malformed(&call, &error)),
        },
        // A read without effect: it may wait and be answered beside what comes behind it, and one
        // large answer is held at a time.
        ApiKey::Fetch => match Message::decode(&mut body, version) {
            Ok(message) => Staged::in_turn(async move {
                let response = fetch::handle(&call, message).await;
                reply(&call.header, &response)
            }),
            Err(error) => Staged::ready(malformed(&call, &error)),
        },
        ApiKey::ListOffsets => answer!(list_offsets::handle),
        ApiKey::Metadata => answer!(metadata::handle),
        ApiKey::OffsetCommit => answer!(offsets::commit),
        ApiKey::OffsetFetch => answer!(offsets::fetch),
        ApiKey::FindCoordinator => answer!(cluster::find_coordinator),
        ApiKey::JoinGroup => answer!(groups::join),
        ApiKey::Heartbeat => answer!(groups::heartbeat),
        ApiKey::LeaveGroup => answer!(groups::leave),
        ApiKey::SyncGroup => answer!(groups::sync),
        ApiKey::DescribeGroups => answer!(group_admin::describe),
        ApiKey::ListGroups => answer!(group_admin::list),
        ApiKey::DeleteGroups => answer!(group_admin::delete),
        ApiKey::ApiVersions => answer!(versions::handle),
        ApiKey::CreateTopics => answer!(create_topics::handle),
        ApiKey::DeleteTopics => answer!(delete_topics::handle),
        ApiKey::CreatePartitions => answer!(partitions::handle),
        ApiKey::InitProducerId => answer!(producer_id::handle),
        ApiKey::DescribeConfigs => answer!(configs::handle),
        ApiKey::DescribeCluster => answer!(cluster::describe),
        other => {
            error!(
                api = other.name(),
                "an API is in the table but has no handler"
            );
            Staged::ready(Reply::Close)
        }
    }
}

fn malformed(call: &Call, error: &tidewater_protocol::DecodeError) -> Reply {
    let (key, version) = (call.header.api_key, call.header.api_version);
    debug!(key, version, %error, host = call.client_host, "malformed request; closing");
    Reply::Close
}

/// The response's segments: header and message.
pub(crate) fn reply<M: Message>(request: &RequestHeader, message: &M) -> Reply {
    let mut out = Encoder::new();
    let (key, version) = (request.api_key, request.api_version);
    let encoded = encode_response_header(&mut out, key, version, request.correlation_id)
        .and_then(|()| message.encode(&mut out, version));
    match encoded {
        Ok(()) => Reply::Segments(out.finish()),
        Err(error) => {
            error!(message = M::NAME, version, %error, "a response cannot be encoded; closing");
            Reply::Close
        }
    }
}
