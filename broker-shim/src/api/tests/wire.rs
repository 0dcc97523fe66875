//! Which answer belongs to which request, and the trip of both through their bytes.
//!
//! *Owns*: `Ask`. *Does not own*: what is asked.
//!
//! *IO: none*

use bytes::{Bytes, BytesMut};
use tidewater_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest,
    HeartbeatResponse, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest,
    ListGroupsResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    ProduceRequest, ProduceResponse, SyncGroupRequest, SyncGroupResponse,
};
use tidewater_protocol::{
    Encoder, Message, RequestHeader, decode_response_header, encode_request_header,
};

/// A request, with the answer it gets.
pub(super) trait Ask: Message {
    type Answer: Message + std::fmt::Debug;
    const KEY: i16;
}

macro_rules! asks {
    ($($request:ident => $response:ident,)*) => {
        $(impl Ask for $request {
            type Answer = $response;
            const KEY: i16 = match <$request as Message>::API_KEY {
                Some(key) => key,
                None => panic!("a request has a key"),
            };
        })*
    };
}

asks! {
    ApiVersionsRequest => ApiVersionsResponse,
    CreatePartitionsRequest => CreatePartitionsResponse,
    CreateTopicsRequest => CreateTopicsResponse,
    DeleteGroupsRequest => DeleteGroupsResponse,
    DeleteTopicsRequest => DeleteTopicsResponse,
    DescribeClusterRequest => DescribeClusterResponse,
    DescribeConfigsRequest => DescribeConfigsResponse,
    DescribeGroupsRequest => DescribeGroupsResponse,
    FetchRequest => FetchResponse,
    FindCoordinatorRequest => FindCoordinatorResponse,
    HeartbeatRequest => HeartbeatResponse,
    InitProducerIdRequest => InitProducerIdResponse,
    JoinGroupRequest => JoinGroupResponse,
    LeaveGroupRequest => LeaveGroupResponse,
    ListGroupsRequest => ListGroupsResponse,
    ListOffsetsRequest => ListOffsetsResponse,
    MetadataRequest => MetadataResponse,
    OffsetCommitRequest => OffsetCommitResponse,
    OffsetFetchRequest => OffsetFetchResponse,
    ProduceRequest => ProduceResponse,
    SyncGroupRequest => SyncGroupResponse,
}

/// A request as it stands on the wire, without the length in front.
pub(super) fn encode<Q: Ask>(header: &RequestHeader, request: &Q) -> Bytes {
    let (mut out, version) = (Encoder::new(), header.api_version);
    encode_request_header(&mut out, header).unwrap();
    let encoded = request.encode(&mut out, version);
    encoded.unwrap_or_else(|error| panic!("{} v{version}: {error}", Q::NAME));
    whole(&out.finish())
}

/// The answer in a reply's segments, which must hold nothing else.
pub(super) fn decode<Q: Ask>(segments: &[Bytes], version: i16, correlation_id: i32) -> Q::Answer {
    let mut frame = whole(segments);
    let found = decode_response_header(&mut frame, Q::KEY, version).unwrap();
    assert_eq!(found, correlation_id);
    Q::Answer::decode_exact(frame, version)
        .unwrap_or_else(|error| panic!("{} v{version}: {error}", Q::Answer::NAME))
}

fn whole(segments: &[Bytes]) -> Bytes {
    let mut frame = BytesMut::new();
    segments
        .iter()
        .for_each(|part| frame.extend_from_slice(part));
    frame.freeze()
}
