//! The private requests behind `tidewater stats` and `tidewater fsck`: their bytes, both ways.
//!
//! *Owns*: the API keys and both forms.
//! *Does not own*: the counters and the check, sockets.
//!
//! A request like any other, with a key far above Kafka's, version 0 and a header of version 1. The
//! body of statistics (20000) is empty, that of a check (20001) one byte of flags: bit 0 asks for
//! every checksum. The response: header of version 0, then a four-byte length and that many bytes of
//! JSON. Never advertised.
//!
//! *IO: none*

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidewater_protocol::RequestHeader;

/// Counters. Not a Kafka API: Kafka's keys stay below a few hundred.
pub(crate) const STATS_API_KEY: i16 = 20_000;
/// A check of the broker's data.
pub(crate) const FSCK_API_KEY: i16 = 20_001;
/// Their only version.
const PRIVATE_API_VERSION: i16 = 0;

/// Bytes that are no answer to a private request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrivateWireError {
    /// The bytes end too early, or too late.
    #[error("{expected} bytes of an answer, found {found}")]
    Length { expected: usize, found: usize },
    /// The answer to another request.
    #[error("correlation id {expected}, found {found}")]
    Correlation { expected: i32, found: i32 },
    /// Not UTF-8.
    #[error("UTF-8 text, found other bytes")]
    Text,
}

/// The request as one frame, its length in front.
pub(crate) fn encode_private_request(api_key: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    const CLIENT: &[u8] = b"tidewater-tools";
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(8 + 2 + CLIENT.len() + body.len()).expect("short"));
    frame.put_i16(api_key);
    frame.put_i16(PRIVATE_API_VERSION);
    frame.put_i32(correlation_id);
    frame.put_u16(u16::try_from(CLIENT.len()).expect("short"));
    frame.put_slice(CLIENT);
    frame.put_slice(body);
    frame.freeze()
}

/// The header of version 1 of a private request; the body is left in `frame`.
pub(crate) fn decode_private_header(frame: &mut Bytes) -> Option<RequestHeader> {
    if frame.remaining() < 10 {
        return None;
    }
    let (api_key, api_version) = (frame.get_i16(), frame.get_i16());
    let correlation_id = frame.get_i32();
    let client_id = match frame.get_i16() {
        -1 => None,
        len => {
            let len = usize::try_from(len)
                .ok()
                .filter(|&len| len <= frame.remaining())?;
            Some(String::from_utf8(frame.split_to(len).to_vec()).ok()?)
        }
    };
    Some(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
    })
}

/// The response's segments, without the length in front.
pub(crate) fn encode_private_response(correlation_id: i32, json: String) -> Vec<Bytes> {
    let mut head = BytesMut::with_capacity(8);
    head.put_i32(correlation_id);
    head.put_u32(u32::try_from(json.len()).expect("an answer is short"));
    vec![head.freeze(), Bytes::from(json)]
}

/// The JSON of a response, without the length in front.
pub(crate) fn decode_private_response(
    correlation_id: i32,
    mut frame: Bytes,
) -> Result<String, PrivateWireError> {
    let found = frame.remaining();
    if found < 8 {
        return Err(PrivateWireError::Length { expected: 8, found });
    }
    let answered = frame.get_i32();
    if answered != correlation_id {
        let expected = correlation_id;
        return Err(PrivateWireError::Correlation {
            expected,
            found: answered,
        });
    }
    let expected = usize::try_from(frame.get_u32()).unwrap_or(usize::MAX);
    if frame.remaining() != expected {
        let found = frame.remaining();
        return Err(PrivateWireError::Length { expected, found });
    }
    String::from_utf8(frame.to_vec()).map_err(|_| PrivateWireError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_and_response_round_trip() {
        let mut frame = encode_private_request(STATS_API_KEY, 7, &[]);
        assert_eq!(usize::try_from(frame.get_u32()).unwrap(), frame.len());
        let header = decode_private_header(&mut frame).unwrap();
        assert_eq!((header.api_key, header.correlation_id), (STATS_API_KEY, 7));
        assert_eq!(header.client_id.as_deref(), Some("tidewater-tools"));
        assert!(frame.is_empty());
        let response = encode_private_response(7, "{\"a\":1}".to_owned()).concat();
        assert_eq!(
            decode_private_response(7, response.into()).unwrap(),
            "{\"a\":1}"
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let answer = Bytes::from(encode_private_response(7, "{}".to_owned()).concat());
        let (expected, found) = (8, 7);
        assert_eq!(
            decode_private_response(8, answer.clone()),
            Err(PrivateWireError::Correlation { expected, found })
        );
        let short = answer.slice(..answer.len() - 1);
        assert!(matches!(
            decode_private_response(7, short),
            Err(PrivateWireError::Length {
                expected: 2,
                found: 1
            })
        ));
        assert!(matches!(
            decode_private_response(7, answer.slice(..5)),
            Err(PrivateWireError::Length { .. })
        ));
        let bytes = Bytes::from_static(&[0, 0, 0, 7, 0, 0, 0, 1, 0xff]);
        assert_eq!(
            decode_private_response(7, bytes),
            Err(PrivateWireError::Text)
        );
    }

    #[test]
    fn a_header_with_a_lying_length_is_refused() {
        let mut frame = Bytes::from_static(&[0x4e, 0x20, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, b'x']);
        assert_eq!(decode_private_header(&mut frame), None);
    }
}
