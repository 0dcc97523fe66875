//! Responses come in the order of the requests, decode, and answer what was asked.
//!
//! *Owns*: the verdict on one response. *Does not own*: the connection.
//!
//! *IO: none*

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewater_protocol::{Message, decode_response_header};

use super::Violation;

const CHECKER: &str = "protocol";

/// A response arrives while the request with the id `asked` is the first without one.
///
/// # Errors
/// It is another request's, or nobody's.
pub(crate) fn in_turn(asked: Option<i32>, frame: &[u8]) -> Result<(), Violation> {
    let found = frame.first_chunk().map(|head| i32::from_be_bytes(*head));
    if asked.is_some() && found == asked {
        return Ok(());
    }
    let detail = format!("response {found:?} where {asked:?} was due");
    Err(Violation::new(CHECKER, detail))
}

/// The message in a response to a request of this kind and version.
///
/// # Errors
/// It does not decode, or bytes are left.
pub(crate) fn decoded<R: Message>(
    mut frame: Bytes,
    api: i16,
    version: i16,
) -> Result<R, Violation> {
    let decoded = decode_response_header(&mut frame, api, version)
        .and_then(|_| R::decode_exact(frame, version));
    decoded.map_err(|error| {
        let detail = format!("{} version {version}: {error}", R::NAME);
        Violation::new(CHECKER, detail)
    })
}

/// A response has an answer for the only `partition` that was asked for.
///
/// # Errors
/// It has none, or one for another partition.
pub(crate) fn answers(partition: i32, found: Option<i32>) -> Result<(), Violation> {
    if found == Some(partition) {
        return Ok(());
    }
    let detail = format!("no answer for partition {partition}");
    Err(Violation::new(CHECKER, detail))
}

/// A response has an answer for `partition`: what was `asked` of it.
///
/// # Errors
/// Nothing was.
pub(crate) fn asked_for<T>(partition: i32, asked: &BTreeMap<i32, T>) -> Result<&T, Violation> {
    asked.get(&partition).ok_or_else(|| {
        let detail = format!("partition {partition} was not asked for");
        Violation::new(CHECKER, detail)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use tidewater_protocol::Message;
    use tidewater_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

    use super::{answers, asked_for, decoded, in_turn};
    use crate::check::Violation;

    fn complaint<T: std::fmt::Debug>(result: Result<T, Violation>) -> String {
        let violation = result.unwrap_err();
        assert_eq!(violation.checker, "protocol");
        violation.detail
    }

    fn frame(correlation: i32, body: &[u8]) -> Vec<u8> {
        [&correlation.to_be_bytes()[..], body].concat()
    }

    /// A response to a heartbeat of version 1: throttle time, error code.
    fn heartbeat(body: &[u8]) -> Result<HeartbeatResponse, Violation> {
        let frame = Bytes::from(frame(7, body));
        decoded(frame, HeartbeatRequest::API_KEY.expect("a request"), 1)
    }

    #[test]
    fn responses_in_turn_that_decode_pass() {
        in_turn(Some(7), &frame(7, &[1, 2])).unwrap();
        let response = heartbeat(&[0, 0, 0, 0, 0, 27]).unwrap();
        assert_eq!(response.error_code, 27);
        answers(3, Some(3)).unwrap();
        let asked = BTreeMap::from([(2, "from 5"), (3, "from 7")]);
        assert_eq!(asked_for(3, &asked), Ok(&"from 7"));
    }

    #[test]
    fn a_response_out_of_turn_is_seen() {
        assert!(complaint(in_turn(Some(7), &frame(8, &[]))).contains("Some(8) where Some(7)"));
        assert!(complaint(in_turn(Some(7), &frame(6, &[]))).contains("Some(6) where Some(7)"));
    }

    #[test]
    fn a_response_that_nobody_asked_for_is_seen() {
        assert!(complaint(in_turn(None, &frame(7, &[]))).contains("where None was due"));
        assert!(complaint(in_turn(None, &[])).contains("None was due"));
    }

    #[test]
    fn a_response_without_an_id_is_seen() {
        assert!(complaint(in_turn(Some(7), &[0, 0, 7])).contains("response None"));
    }

    #[test]
    fn a_message_that_breaks_off_or_goes_on_is_seen() {
        assert!(complaint(heartbeat(&[0, 0, 0, 0, 0])).contains("version 1"));
        assert!(complaint(heartbeat(&[])).contains("version 1"));
        assert!(complaint(heartbeat(&[0, 0, 0, 0, 0, 27, 0])).contains("version 1"));
    }

    #[test]
    fn answers_for_other_partitions_or_none_are_seen() {
        assert!(complaint(answers(3, None)).contains("no answer for partition 3"));
        assert!(complaint(answers(3, Some(4))).contains("no answer for partition 3"));
        let asked = BTreeMap::from([(3, ()), (5, ())]);
        assert!(complaint(asked_for(4, &asked)).contains("4 was not asked for"));
        assert!(complaint(asked_for(-1, &asked)).contains("-1 was not asked for"));
        assert!(complaint(asked_for(3, &BTreeMap::<i32, ()>::new())).contains("3 was not"));
    }
}
