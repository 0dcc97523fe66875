//! Fixed bytes for headers and a few messages, written by hand from the protocol's description.
//!
//! *Owns*: decode → encode → the same bytes; errors as variants.
//!
//! *Does not own*: breadth (`differential`).
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchResponse, MetadataRequest, OffsetCommitKey,
    OffsetCommitValue, ProduceRequest, ProduceResponse, fetch_response, metadata_request,
    produce_request, produce_response,
};
use tidewater_protocol::{
    ApiKey, DecodeError, EncodeError, Encoder, ErrorCode, Message, Records, RequestHeader, Uuid,
    decode_request_header, decode_response_header, encode_request_header, encode_response_header,
    encode_to_bytes, request_header_version, response_header_version,
};

/// Hex with spaces, and comments from `#` to the end of the line.
fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().bytes())
        .filter(|c| !c.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn golden<M: Message + PartialEq + std::fmt::Debug>(text: &str, version: i16, value: M) {
    let bytes = hex(text);
    assert_eq!(M::decode_exact(bytes.clone(), version).as_ref(), Ok(&value));
    assert_eq!(encode_to_bytes(&value, version), Ok(bytes));
}

#[test]
fn header_v1_has_no_tags() {
    let mut bytes = hex("0003 0001 0000002a 0005 6b61666b61  ffffffff");
    let wire = bytes.clone();
    let header = decode_request_header(&mut bytes).unwrap();
    let expected = RequestHeader {
        api_key: 3,
        api_version: 1,
        correlation_id: 42,
        client_id: Some("kafka".to_owned()),
    };
    assert_eq!(header, expected);
    assert_eq!(bytes, hex("ffffffff"));
    let mut out = Encoder::new();
    encode_request_header(&mut out, &header).unwrap();
    assert_eq!(out.finish().concat(), wire[..15]);
}

#[test]
fn flexible_header_with_a_null_client_id_still_carries_tags() {
    let mut bytes = hex("0012 0003 00000007  # ApiVersions v3, correlation id 7
         ffff                # client id null, in the old form
         00                  # no tags
         04 616263 02 78 00  # the body begins here");
    let header = decode_request_header(&mut bytes).unwrap();
    assert_eq!((header.correlation_id, header.client_id), (7, None));
    let body = ApiVersionsRequest::decode_exact(bytes, 3).unwrap();
    assert_eq!(body.client_software_name, "abc");
    assert_eq!(body.client_software_version, "x");
}

#[test]
fn unknown_tags_in_a_header_are_skipped() {
    let mut bytes = hex("0012 0003 00000007 0001 61  02 00 01 ff 8001 03 010203  aa");
    let header = decode_request_header(&mut bytes).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("a"));
    assert_eq!(bytes, hex("aa"));
}

#[test]
fn unknown_api_key_gives_the_fixed_part() {
    let error = decode_request_header(&mut hex("03e7 0002 0000000b ff")).unwrap_err();
    let expected = DecodeError::UnknownApiKey {
        api_key: 999,
        api_version: 2,
        correlation_id: 11,
    };
    assert_eq!(error, expected);
}

#[test]
fn api_versions_from_the_future_always_yields_a_correlation_id() {
    for rest in ["", "ff", "0001 61 00", "8000 ffffffffffff"] {
        let mut bytes = hex(&format!("0012 0063 0000000d {rest}"));
        let header = decode_request_header(&mut bytes).unwrap();
        assert_eq!(
            (header.api_version, header.correlation_id),
            (99, 13),
            "{rest}"
        );
    }
    // A version that exists gets no such grace.
    assert!(decode_request_header(&mut hex("0012 0003 0000000d 8000")).is_err());
}

#[test]
fn header_shorter_than_its_fixed_part_is_truncated() {
    let error = decode_request_header(&mut hex("0012 0003 0000")).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::Truncated {
                needed: 8,
                remaining: 6,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn header_versions_follow_flexibility_and_api_versions_is_the_exception() {
    assert_eq!(
        (request_header_version(0, 8), request_header_version(0, 9)),
        (1, 2)
    );
    assert_eq!(
        (response_header_version(0, 8), response_header_version(0, 9)),
        (0, 1)
    );
    assert_eq!(
        (request_header_version(18, 2), request_header_version(18, 3)),
        (1, 2)
    );
    assert!((0..=4).all(|version| response_header_version(18, version) == 0));
    assert_eq!(
        (
            request_header_version(999, 5),
            response_header_version(999, 5)
        ),
        (1, 0)
    );
}

#[test]
fn response_headers_round_trip() {
    for (key, version, wire) in [
        (0, 3, "00000005"),
        (0, 9, "00000005 00"),
        (18, 4, "00000005"),
    ] {
        let mut out = Encoder::new();
        encode_response_header(&mut out, key, version, 5).unwrap();
        let mut bytes = Bytes::from(out.finish().concat());
        assert_eq!(bytes, hex(wire));
        assert_eq!(decode_response_header(&mut bytes, key, version), Ok(5));
        assert!(bytes.is_empty());
    }
}

#[test]
fn api_versions_v0_with_error_35_is_plain() {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.code(),
        api_keys: vec![
            tidewater_protocol::messages::api_versions_response::ApiVersion {
                api_key: ApiKey::ApiVersions.code(),
                min_version: 0,
                max_version: 4,
            },
        ],
        ..Default::default()
    };
    golden("0023  00000001  0012 0000 0004", 0, response);
}

#[test]
fn metadata_null_means_all_topics_and_empty_means_none() {
    golden(
        "ffffffff",
        1,
        MetadataRequest {
            topics: None,
            ..Default::default()
        },
    );
    golden(
        "00000000",
        1,
        MetadataRequest {
            topics: Some(Vec::new()),
            ..Default::default()
        },
    );
    let topic = metadata_request::MetadataRequestTopic {
        topic_id: Uuid([1; 16]),
        name: None,
    };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        ..Default::default()
    };
    golden(
        "02 01010101010101010101010101010101 00 00  01 00 00",
        12,
        request,
    );
    // Version 0 has no null list; version 9 no null name.
    let error = MetadataRequest::decode_exact(hex("ffffffff"), 0).unwrap_err();
    assert!(
        matches!(error, DecodeError::UnexpectedNull { .. }),
        "{error}"
    );
    let error = MetadataRequest::decode_exact(hex("02 00 00 01 00 00 00"), 9).unwrap_err();
    assert!(
        matches!(error, DecodeError::UnexpectedNull { .. }),
        "{error}"
    );
    let error = encode_to_bytes(
        &MetadataRequest {
            topics: None,
            ..Default::default()
        },
        0,
    );
    assert!(matches!(
        error,
        Err(EncodeError::UnexpectedNull {
            field: "MetadataRequest.topics",
            ..
        })
    ));
}

fn produce(name: &str, topic_id: Uuid, records: Option<Records>) -> ProduceRequest {
    let partition_data = vec![produce_request::PartitionProduceData { index: 5, records }];
    let topic = produce_request::TopicProduceData {
        name: name.to_owned(),
        topic_id,
        partition_data,
    };
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..Default::default()
    }
}

#[test]
fn produce_in_its_first_first_flexible_and_last_version() {
    let records = Some(Records::from(Bytes::from_static(b"\x01\x02\x03")));
    golden(
        "ffff ffff 00007530             # no transactional id, acks -1, 30 s
         00000001 0002 6f6b             # one topic, ok
         00000001 00000005 00000003 010203",
        3,
        produce("ok", Uuid::ZERO, records.clone()),
    );
    golden(
        "00 ffff 00007530
         02 03 6f6b
         02 00000005 04 010203 00       # tags of the partition
         00 00                          # of the topic, of the request",
        9,
        produce("ok", Uuid::ZERO, records.clone()),
    );
    golden(
        "00 ffff 00007530
         02 02020202020202020202020202020202
         02 00000005 04 010203 00 00 00",
        13,
        produce("", Uuid([2; 16]), records),
    );
    golden(
        "ffff ffff 00007530 00000001 0000 00000001 00000005 ffffffff",
        3,
        produce("", Uuid::ZERO, None),
    );
}

#[test]
fn known_tags_are_written_when_set_and_refused_before_their_version() {
    let leader = produce_response::LeaderIdAndEpoch {
        leader_id: 2,
        leader_epoch: 7,
    };
    let partition = produce_response::PartitionProduceResponse {
        index: 0,
        error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER.code(),
        base_offset: -1,
        current_leader: leader,
        ..Default::default()
    };
    let response = ProduceResponse {
        responses: vec![produce_response::TopicProduceResponse {
            name: "t".to_owned(),
            partition_responses: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    golden(
        "02 02 74 02
         00000000 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00
         01 00 09 00000002 00000007 00  # one tag: number 0, 9 bytes, with tags of its own
         00 00000000 00",
        10,
        response.clone(),
    );
    let expected = EncodeError::UnsupportedField {
        message: "ProduceResponse",
        field: "PartitionProduceResponse.current_leader",
        version: 9,
    };
    assert_eq!(encode_to_bytes(&response, 9), Err(expected));
}

#[test]
fn a_tag_with_another_size_than_announced_is_refused() {
    let text = "02 02 74 02
         00000000 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00
         01 00 0a 00000002 00000007 00 00 00000000 00";
    let error = ProduceResponse::decode_exact(hex(text), 10).unwrap_err();
    let matches = matches!(
        error,
        DecodeError::TagSize {
            tag: 0,
            announced: 10,
            found: 9,
            ..
        }
    );
    assert!(matches, "{error}");
}

#[test]
fn ignorable_fields_are_left_out_and_others_refused() {
    // The name is ignorable, the transactional id exists everywhere, a cluster id is version 10 on.
    let response = ProduceResponse {
        throttle_time_ms: 5,
        ..Default::default()
    };
    assert!(encode_to_bytes(&response, 3).is_ok());
    let named = produce("name", Uuid([2; 16]), None);
    assert_eq!(
        encode_to_bytes(&named, 13),
        encode_to_bytes(&produce("", Uuid([2; 16]), None), 13)
    );
    let request = MetadataRequest {
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let error = encode_to_bytes(&request, 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MetadataRequest: MetadataRequest.allow_auto_topic_creation is set, but version 3 does not carry it"
    );
}

#[test]
fn fetch_response_sends_record_segments_without_copying_them() {
    let segments = vec![Bytes::from(vec![1; 10]), Bytes::from(vec![2; 2000])];
    let partition = fetch_response::PartitionData {
        records: Some(Records(segments.clone())),
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![fetch_response::FetchableTopicResponse {
            topic: "t".to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut out = Encoder::new();
    response.encode(&mut out, 12).unwrap();
    let len = out.len();
    let sent = out.finish();
    assert_eq!(sent.iter().map(Bytes::len).sum::<usize>(), len);
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[1].as_ptr(), segments[0].as_ptr());
    assert_eq!(sent[2].as_ptr(), segments[1].as_ptr());
    assert_eq!(
        FetchResponse::decode_exact(Bytes::from(sent.concat()), 12),
        Ok(response)
    );
}

#[test]
fn empty_records_are_empty_and_not_null() {
    let empty = produce("t", Uuid::ZERO, Some(Records::default()));
    let decoded = ProduceRequest::decode_exact(encode_to_bytes(&empty, 9).unwrap(), 9).unwrap();
    let records = &decoded.topic_data[0].partition_data[0].records;
    assert_eq!(records.as_ref().map(Records::len), Some(0));
}

#[test]
fn offset_records_have_the_layout_of_the_internal_topic() {
    let key = OffsetCommitKey {
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 3,
    };
    golden("0001 67 0001 74 00000003", 0, key);
    let value = OffsetCommitValue {
        offset: 9,
        leader_epoch: 1,
        metadata: "m".to_owned(),
        commit_timestamp: 2,
        ..Default::default()
    };
    golden(
        "0000000000000009 00000001 0001 6d 0000000000000002",
        3,
        value,
    );
}

#[test]
fn versions_outside_the_range_are_refused_on_both_sides() {
    let error = ProduceRequest::decode_exact(Bytes::new(), 2).unwrap_err();
    let expected = DecodeError::UnsupportedVersion {
        message: "ProduceRequest",
        version: 2,
        min: 3,
        max: 13,
    };
    assert_eq!(error, expected);
    let error = encode_to_bytes(&ProduceRequest::default(), 14).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::UnsupportedVersion {
            version: 14,
            max: 13,
            ..
        }
    ));
}

#[test]
fn bad_lengths_text_and_trailing_bytes_have_their_own_errors() {
    let decode = |text: &str| ProduceRequest::decode_exact(hex(text), 3).unwrap_err();
    assert!(matches!(
        decode("fffe"),
        DecodeError::BadLength { length: -2, .. }
    ));
    assert!(matches!(
        decode("0002 c328"),
        DecodeError::InvalidUtf8 { .. }
    ));
    assert!(matches!(
        decode("ffff ffff 00007530 fffffffe"),
        DecodeError::BadLength { .. }
    ));
    let trailing = decode("ffff ffff 00007530 00000000 00");
    assert_eq!(
        trailing,
        DecodeError::TrailingBytes {
            message: "ProduceRequest",
            remaining: 1
        }
    );
    let truncated = decode("ffff ff");
    assert_eq!(
        truncated.to_string(),
        "ProduceRequest: ProduceRequest.acks at byte 2: 2 bytes needed, 1 left"
    );
}

#[test]
fn strings_over_32767_bytes_are_refused() {
    let long = produce(&"x".repeat(32_768), Uuid::ZERO, None);
    for version in [3, 9] {
        let error = encode_to_bytes(&long, version).unwrap_err();
        assert!(matches!(
            error,
            EncodeError::TooLong {
                length: 32_768,
                max: 32_767,
                ..
            }
        ));
    }
    assert!(encode_to_bytes(&produce(&"x".repeat(32_767), Uuid::ZERO, None), 9).is_ok());
}

#[test]
fn api_keys_and_error_codes_have_kafkas_names() {
    assert_eq!(ApiKey::from_i16(18), Some(ApiKey::ApiVersions));
    assert_eq!(ApiKey::from_i16(4), None);
    assert_eq!(ApiKey::Fetch.name(), "Fetch");
    assert_eq!(ApiKey::Produce.versions().to_string(), "3-13");
    assert!(
        ApiKey::ALL
            .iter()
            .all(|api| ApiKey::from_i16(api.code()) == Some(*api))
    );
    assert_eq!(ErrorCode::UNKNOWN_SERVER_ERROR.code(), -1);
    assert_eq!(
        ErrorCode::OFFSET_OUT_OF_RANGE.to_string(),
        "OFFSET_OUT_OF_RANGE (1)"
    );
    assert_eq!(ErrorCode(133).name(), "SHARE_SESSION_LIMIT_REACHED");
    assert_eq!(ErrorCode(9999).name(), "UNLISTED");
    assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.is_retriable());
    assert!(!ErrorCode::INVALID_RECORD.is_retriable());
}
