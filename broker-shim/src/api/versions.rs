//! ApiVersions: what this broker serves.
//!
//! *Owns*: the table's wire form.
//! *Does not own*: the answer to an unknown version of ApiVersions (net/open.rs).
//!
//! *IO: none*

use tidewater_protocol::messages::api_versions_request::ApiVersionsRequest;
use tidewater_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use tidewater_protocol::{ApiKey, ErrorCode};

use super::call::Call;
use super::table::SUPPORTED;

/// Answers the table. From version 3 on the client must name its software legally.
pub(crate) async fn handle(call: &Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let software = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if call.header.api_version >= 3 && !software.into_iter().all(|text| is_software(text)) {
        let error_code = ErrorCode::INVALID_REQUEST.code();
        return ApiVersionsResponse {
            error_code,
            ..Default::default()
        };
    }
    ApiVersionsResponse {
        api_keys: SUPPORTED.iter().map(|&entry| advertised(entry)).collect(),
        finalized_features_epoch: 0,
        ..Default::default()
    }
}

fn advertised((api, min_version, max_version): (ApiKey, i16, i16)) -> ApiVersion {
    ApiVersion {
        api_key: api.code(),
        min_version,
        max_version,
    }
}

/// Kafka's pattern: letters, digits, '-' and '.', beginning and ending with letter or digit.
fn is_software(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() && bytes.iter().all(inner)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        assert!(is_software("apache-kafka-java") && is_software("4.3.1") && is_software("x"));
        for bad in ["", "-x", "x.", "a b", "ä", "a\n"] {
            assert!(!is_software(bad), "{bad:?}");
        }
    }

    #[test]
    fn everything_advertised_can_be_decoded() {
        for &(api, first, last) in SUPPORTED {
            let versions = api.versions();
            assert_eq!(versions.max, last, "{}", api.name());
            let from = if api == ApiKey::Produce { 3 } else { first };
            assert_eq!(versions.min, from, "{}", api.name());
        }
    }
}
