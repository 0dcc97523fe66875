//! The private request behind `tidewater stats`: its bytes, both ways.
//!
//! *Owns*: the API key and both forms.
//! *Does not own*: the counters, sockets.
//!
//! A request like any other, with the key 20000 (far above Kafka's), version 0,
//! a header of version 1 and no body. The response: header of version 0, then a
//! four-byte length and that many bytes of JSON. Never advertised.
//!
//! *IO: none*

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidewater_protocol::RequestHeader;

/// Not a Kafka API: Kafka's keys stay below a few hundred.
pub(crate) const STATS_API_KEY: i16 = 20_000;
/// Its only version.
pub(crate) const STATS_API_VERSION: i16 = 0;

/// Bytes that are no answer to the statistics request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StatsWireError {
    /// The bytes end too early, or too late.
    #[error("{expected} bytes of statistics, found {found}")]
    Length { expected: usize, found: usize },
    /// The answer to another request.
    #[error("correlation id {expected}, found {found}")]
    Correlation { expected: i32, found: i32 },
    /// Not UTF-8.
    #[error("UTF-8 text, found other bytes")]
    Text,
}

/// The request as one frame, its length in front.
pub(crate) fn encode_stats_request(correlation_id: i32) -> Bytes {
    const CLIENT: &[u8] = b"tidewater-stats";
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(8 + 2 + CLIENT.len()).expect("short"));
    frame.put_i16(STATS_API_KEY);
    frame.put_i16(STATS_API_VERSION);
    frame.put_i32(correlation_id);
    frame.put_u16(u16::try_from(CLIENT.len()).expect("short"));
    frame.put_slice(CLIENT);
    frame.freeze()
}

/// The header of version 1 of a statistics request.
pub(crate) fn decode_stats_header(frame: &mut Bytes) -> Option<RequestHeader> {
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
pub(crate) fn encode_stats_response(correlation_id: i32, json: String) -> Vec<Bytes> {
    let mut head = BytesMut::with_capacity(8);
    head.put_i32(correlation_id);
    head.put_u32(u32::try_from(json.len()).expect("statistics are short"));
    vec![head.freeze(), Bytes::from(json)]
}

/// The JSON of a response, without the length in front.
pub(crate) fn decode_stats_response(
    correlation_id: i32,
    mut frame: Bytes,
) -> Result<String, StatsWireError> {
    let found = frame.remaining();
    if found < 8 {
        return Err(StatsWireError::Length { expected: 8, found });
    }
    let answered = frame.get_i32();
    if answered != correlation_id {
        let expected = correlation_id;
        return Err(StatsWireError::Correlation {
            expected,
            found: answered,
        });
    }
    let expected = usize::try_from(frame.get_u32()).unwrap_or(usize::MAX);
    if frame.remaining() != expected {
        let found = frame.remaining();
        return Err(StatsWireError::Length { expected, found });
    }
    String::from_utf8(frame.to_vec()).map_err(|_| StatsWireError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_and_response_round_trip() {
        let mut frame = encode_stats_request(7);
        assert_eq!(usize::try_from(frame.get_u32()).unwrap(), frame.len());
        let header = decode_stats_header(&mut frame).unwrap();
        assert_eq!((header.api_key, header.correlation_id), (STATS_API_KEY, 7));
        assert_eq!(header.client_id.as_deref(), Some("tidewater-stats"));
        assert!(frame.is_empty());
        let response = encode_stats_response(7, "{\"a\":1}".to_owned()).concat();
        assert_eq!(
            decode_stats_response(7, response.into()).unwrap(),
            "{\"a\":1}"
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let answer = Bytes::from(encode_stats_response(7, "{}".to_owned()).concat());
        let (expected, found) = (8, 7);
        assert_eq!(
            decode_stats_response(8, answer.clone()),
            Err(StatsWireError::Correlation { expected, found })
        );
        let short = answer.slice(..answer.len() - 1);
        assert!(matches!(
            decode_stats_response(7, short),
            Err(StatsWireError::Length {
                expected: 2,
                found: 1
            })
        ));
        assert!(matches!(
            decode_stats_response(7, answer.slice(..5)),
            Err(StatsWireError::Length { .. })
        ));
        let bytes = Bytes::from_static(&[0, 0, 0, 7, 0, 0, 0, 1, 0xff]);
        assert_eq!(decode_stats_response(7, bytes), Err(StatsWireError::Text));
    }

    #[test]
    fn a_header_with_a_lying_length_is_refused() {
        let mut frame = Bytes::from_static(&[0x4e, 0x20, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, b'x']);
        assert_eq!(decode_stats_header(&mut frame), None);
    }
}
