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

mod call;
mod cluster;
mod configs;
mod create_topics;
mod delete_topics;
mod fetch;
mod fsck;
mod group_admin;
mod groups;
mod list_offsets;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_id;
mod segments;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;

use bytes::Bytes;
use tidewater_protocol::{ApiKey, Message};
use tidewater_types::BoxFuture;
use tracing::error;

use crate::broker::Broker;
use crate::coordinator::Groups;
use crate::net::{
    FSCK_API_KEY, Handler, Reply, Request, STATS_API_KEY, Staged, encode_private_response,
};
use call::{Call, malformed, reply};
use table::SUPPORTED;

/// Answers requests with the broker's state.
pub(crate) struct Api {
    broker: Arc<Broker>,
    groups: Arc<Groups>,
}

impl Api {
    /// The APIs of `broker`, and the groups it coordinates.
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        let groups = Arc::default();
        Self { broker, groups }
    }
}

impl Handler for Api {
    fn served(&self, api_key: i16) -> Option<(i16, i16)> {
        if [STATS_API_KEY, FSCK_API_KEY].contains(&api_key) {
            return Some((0, 0));
        }
        let found = SUPPORTED.iter().find(|(api, _, _)| api.code() == api_key);
        // What is advertised below the schema's first version cannot be decoded.
        found.map(|&(api, first, last)| (first.max(api.versions().min), last))
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Staged> {
        let Request {
            header,
            body,
            client_host,
            pool,
            ..
        } = request;
        let (broker, groups) = (Arc::clone(&self.broker), Arc::clone(&self.groups));
        let call = Call {
            broker,
            groups,
            header,
            client_host,
            pool,
        };
        if call.header.api_key == STATS_API_KEY {
            let json = stats::json(&call.broker, &call.pool);
            let segments = encode_private_response(call.header.correlation_id, json);
            return Box::pin(std::future::ready(Staged::ready(Reply::Segments(segments))));
        }
        if call.header.api_key == FSCK_API_KEY {
            let check = async move {
                let json = fsck::json(call.broker, body).await;
                Reply::Segments(encode_private_response(call.header.correlation_id, json))
            };
            return Box::pin(std::future::ready(Staged::concurrent(check)));
        }
        match ApiKey::from_i16(call.header.api_key) {
            Some(api) => Box::pin(dispatch(call, api, body)),
            None => Box::pin(std::future::ready(Staged::ready(Reply::Close))),
        }
    }
}

async fn dispatch(call: Call, api: ApiKey, mut body: Bytes) -> Staged {
    let version = call.header.api_version;
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
