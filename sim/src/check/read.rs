//! What was promised can be read.
//!
//! *Owns*: the verdict on the read of one promised frame, on an answer without records, and on an
//! answer to a question below the start.
//! *Does not own*: what the records of an answer may be (`streams`, `keyed`).
//!
//! *IO: none*

use tidewater_stream_store::StoreError;
use tidewater_types::{Lsn, Offset, StreamId};
use tidewater_wal::WalError;

use super::{Violation, value_of};

const CHECKER: &str = "read";

/// The promised frame of `value` at `lsn` was read; an error counts if `must_be_there`.
///
/// # Errors
/// It is another one's bytes, or not there.
pub(crate) fn back<B: AsRef<[u8]>>(
    value: u64,
    lsn: Lsn,
    read: &Result<B, WalError>,
    must_be_there: bool,
) -> Result<(), Violation> {
    let wrong = match read {
        Ok(bytes) if value_of(bytes.as_ref()) == Some(value) => return Ok(()),
        Ok(_) => "other bytes".to_owned(),
        Err(_) if !must_be_there => return Ok(()),
        Err(error) => error.to_string(),
    };
    let detail = format!("promised frame {value} at {lsn} read back as: {wrong}");
    Err(Violation::new(CHECKER, detail))
}

/// A reader asked from `offset` on when the stream was known to end at `end` or later.
///
/// # Errors
/// There is something to read, and the answer is empty.
pub(crate) fn something(
    stream: StreamId,
    offset: Offset,
    end: Offset,
    is_empty: bool,
) -> Result<(), Violation> {
    if !is_empty || offset >= end {
        return Ok(());
    }
    let detail = format!("nothing at {offset} of stream {stream}, which ends at {end}");
    Err(Violation::new(CHECKER, detail))
}

/// A reader asked for `offset` and knew that the stream starts at `start`.
///
/// # Errors
/// The offset lies below that, and the answer is not that it does.
pub(crate) fn below_start<T>(
    offset: Offset,
    start: Offset,
    answer: &Result<T, StoreError>,
) -> Result<(), Violation> {
    let found = match answer {
        _ if offset >= start => return Ok(()),
        Err(StoreError::OutOfRange { start: told, .. }) if *told >= start => return Ok(()),
        Ok(_) => "an answer".to_owned(),
        Err(error) => error.to_string(),
    };
    let detail = format!("asked for {offset} below the start, {start}: {found}");
    Err(Violation::new("trimmed", detail))
}

#[cfg(test)]
mod tests {
    use super::{back, below_start, something};
    use crate::check::anomaly::anomaly;
    use crate::check::{Violation, payload};
    use tidewater_stream_store::StoreError;
    use tidewater_types::{Lsn, Offset, StreamId};
    use tidewater_wal::WalError;

    const LSN: Lsn = Lsn(30);

    fn frame(bytes: Vec<u8>) -> Result<(), Violation> {
        back(3, LSN, &Ok(bytes), true)
    }

    fn error(error: WalError, must_be_there: bool) -> Result<(), Violation> {
        back::<Vec<u8>>(3, LSN, &Err(error), must_be_there)
    }

    fn is_seen(result: Result<(), Violation>) -> String {
        let violation = result.unwrap_err();
        assert_eq!(violation.checker, "read");
        assert_eq!(anomaly(&violation), Some("lost-write"));
        violation.detail
    }

    #[test]
    fn the_frame_itself_and_an_error_of_one_that_may_be_gone_pass() {
        frame(payload(3, 40)).unwrap();
        error(WalError::Trimmed { lsn: LSN }, false).unwrap();
    }

    #[test]
    fn other_bytes_are_seen() {
        assert!(is_seen(frame(payload(4, 40))).contains("other bytes"));
        let mut altered = payload(3, 40);
        altered[30] ^= 1;
        assert!(is_seen(frame(altered)).contains("other bytes"));
        assert!(is_seen(frame(payload(3, 40)[..39].to_vec())).contains("other bytes"));
        assert!(is_seen(frame(Vec::new())).contains("other bytes"));
    }

    #[test]
    fn other_bytes_are_seen_even_of_a_frame_that_may_be_gone() {
        let read: Result<_, WalError> = Ok(payload(4, 40));
        assert!(is_seen(back(3, LSN, &read, false)).contains("other bytes"));
    }

    #[test]
    fn a_promised_frame_that_is_not_there_is_seen() {
        assert!(is_seen(error(WalError::NoFrame { lsn: LSN }, true)).contains("no frame"));
        assert!(is_seen(error(WalError::Trimmed { lsn: LSN }, true)).contains("trimmed"));
    }

    #[test]
    fn an_answer_without_records_in_front_of_the_end_is_seen() {
        let told =
            |offset, end, is_empty| something(StreamId(1), Offset(offset), Offset(end), is_empty);
        told(5, 5, true).unwrap();
        told(6, 5, true).unwrap();
        told(4, 5, false).unwrap();
        assert!(is_seen(told(4, 5, true)).contains("nothing at 4"));
        assert!(is_seen(told(0, 5, true)).contains("nothing at 0"));
        assert!(is_seen(told(0, 1, true)).contains("ends at 1"));
    }

    #[test]
    fn any_answer_below_the_start_but_that_it_is_one_is_seen() {
        let (offset, end) = (Offset(4), Offset(9));
        let refused = |start| {
            Err(StoreError::OutOfRange {
                stream: StreamId(1),
                offset,
                start: Offset(start),
                end,
            })
        };
        let told =
            |start, answer: Result<(), StoreError>| below_start(offset, Offset(start), &answer);
        told(4, Ok(())).unwrap();
        told(5, refused(5)).unwrap();
        told(5, refused(6)).unwrap();
        let stream = StreamId(1);
        for answer in [Ok(()), refused(4), Err(StoreError::Released { stream })] {
            let violation = told(5, answer).unwrap_err();
            assert_eq!(violation.checker, "trimmed");
            assert!(violation.detail.contains("asked for 4 below the start, 5"));
        }
    }
}
