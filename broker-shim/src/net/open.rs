//! Looking at a frame before anybody handles it: key, version, header.
//!
//! *Owns*: what is refused without the broker, and the answer to an ApiVersions
//! request of an unknown version.
//! *Does not own*: which versions are served (`Handler::served`), the bodies.
//!
//! Invariants
//! 1. A version outside the served range reaches no decoder of a body.
//! 2. ApiVersions is always answered (KIP-511): with error 35 and its own range,
//!    in version 0, where the version is unknown.
//!
//! *IO: none*

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidewater_protocol::{ApiKey, DecodeError, ErrorCode, RequestHeader, decode_request_header};

use super::private_wire::{FSCK_API_KEY, STATS_API_KEY, decode_private_header};

/// Why a frame closes its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No API has this key.
    #[error("unknown API key {api_key}")]
    UnknownApi { api_key: i16 },
    /// Nobody serves this version.
    #[error("version {api_version} of API {api_key} is not served, versions {min} to {max} are")]
    Version {
        api_key: i16,
        api_version: i16,
        min: i16,
        max: i16,
    },
    /// The bytes are no request header.
    #[error("bad request header: {0}")]
    Header(DecodeError),
    /// The bytes are no header of a private request.
    #[error("bad header of a private request")]
    PrivateHeader,
}

/// What to do with a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Hand it to the broker.
    Serve { header: RequestHeader, body: Bytes },
    /// This is its response already, without the length in front.
    Answer(Bytes),
}

/// Looks at a frame of at least eight bytes.
pub(crate) fn open(
    mut frame: Bytes,
    served: impl Fn(i16) -> Option<(i16, i16)>,
) -> Result<Opened, Refusal> {
    let mut fixed = &frame[..8];
    let (api_key, api_version) = (fixed.get_i16(), fixed.get_i16());
    let correlation_id = fixed.get_i32();
    let Some((min, max)) = served(api_key) else {
        return Err(Refusal::UnknownApi { api_key });
    };
    if !(min..=max).contains(&api_version) {
        if api_key == ApiKey::ApiVersions.code() {
            return Ok(Opened::Answer(unsupported_api_versions(
                correlation_id,
                min,
                max,
            )));
        }
        return Err(Refusal::Version {
            api_key,
            api_version,
            min,
            max,
        });
    }
    let header = if [STATS_API_KEY, FSCK_API_KEY].contains(&api_key) {
        decode_private_header(&mut frame).ok_or(Refusal::PrivateHeader)?
    } else {
        decode_request_header(&mut frame).map_err(Refusal::Header)?
    };
    Ok(Opened::Serve {
        header,
        body: frame,
    })
}

/// Header version 0; then version 0 of the body: error code, one API with its range.
fn unsupported_api_versions(correlation_id: i32, min: i16, max: i16) -> Bytes {
    let mut response = BytesMut::with_capacity(16);
    response.put_i32(correlation_id);
    response.put_i16(ErrorCode::UNSUPPORTED_VERSION.code());
    response.put_i32(1);
    response.put_i16(ApiKey::ApiVersions.code());
    response.put_i16(min);
    response.put_i16(max);
    response.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(api_key: i16) -> Option<(i16, i16)> {
        match api_key {
            0 => Some((3, 13)),
            18 => Some((0, 4)),
            STATS_API_KEY => Some((0, 0)),
            _ => None,
        }
    }

    fn frame(api_key: i16, api_version: i16, rest: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i16(api_key);
        frame.put_i16(api_version);
        frame.put_i32(99);
        frame.put_slice(rest);
        frame.freeze()
    }

    #[test]
    fn api_versions_from_the_future_is_answered_in_version_0_with_error_35() {
        for version in [5, 127, i16::MAX, -1] {
            let opened = open(frame(18, version, &[0xff; 3]), served).unwrap();
            let expected = [0, 0, 0, 99, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
            assert_eq!(opened, Opened::Answer(Bytes::copy_from_slice(&expected)));
        }
    }

    #[test]
    fn other_apis_and_versions_nobody_serves_are_refused() {
        let (api_key, min, max) = (0, 3, 13);
        for api_version in [2, 14, -1] {
            let refused = Refusal::Version {
                api_key,
                api_version,
                min,
                max,
            };
            assert_eq!(open(frame(0, api_version, &[]), served), Err(refused));
        }
        assert_eq!(
            open(frame(1, 4, &[]), served),
            Err(Refusal::UnknownApi { api_key: 1 })
        );
        assert!(matches!(
            open(frame(0, 3, &[0x7f, 0xff]), served),
            Err(Refusal::Header(_))
        ));
        assert_eq!(
            open(frame(STATS_API_KEY, 0, &[]), served),
            Err(Refusal::PrivateHeader)
        );
    }

    #[test]
    fn the_body_is_what_follows_the_header() {
        let opened = open(frame(0, 3, &[0, 1, b'c', 1, 2, 3]), served).unwrap();
        let Opened::Serve { header, body } = opened else {
            panic!()
        };
        assert_eq!(
            (header.api_key, header.api_version, header.correlation_id),
            (0, 3, 99)
        );
        assert_eq!(header.client_id.as_deref(), Some("c"));
        assert_eq!(body, &[1u8, 2, 3][..]);
    }

    #[test]
    fn a_flexible_header_without_client_id_still_has_its_tagged_fields() {
        let opened = open(frame(0, 9, &[0xff, 0xff, 0, 42]), served).unwrap();
        let Opened::Serve { header, body } = opened else {
            panic!()
        };
        assert_eq!(header.client_id, None);
        assert_eq!(body, &[42u8][..]);
    }
}
