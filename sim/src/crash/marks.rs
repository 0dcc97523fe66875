//! What the workload says about itself, in a few letters that fit into one mark.
//!
//! *Owns*: the text: `o` (the log was opened), `a1f,20` (these values were acknowledged), `tff`
//! (a trim up to this LSN begins). Numbers are hexadecimal.
//! *Does not own*: where marks are written (marker.rs).
//!
//! Invariants
//! 1. A mark has no space and at most [`MARK_BYTES_MAX`] bytes: the device mapper splits
//!    messages at spaces and cuts longer ones.
//!
//! *IO: none*

use tidewater_types::Lsn;

/// Text that fits behind the header of an entry in a sector of 512 bytes, less the final zero.
pub(super) const MARK_BYTES_MAX: usize = 479;

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// From now on the log must be there.
    Opened,
    /// The frames of these values were acknowledged.
    Acked(Vec<u64>),
    /// Frames below may be forgotten.
    Trim(Lsn),
}

/// The texts that say `values` were acknowledged.
pub(super) fn acked(values: &[u64]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text = String::new();
    for value in values {
        let number = format!("{value:x}");
        if text.len() + 1 + number.len() > MARK_BYTES_MAX {
            texts.push(std::mem::take(&mut text));
        }
        text.push(if text.is_empty() { 'a' } else { ',' });
        text += &number;
    }
    if !text.is_empty() {
        texts.push(text);
    }
    texts
}

impl Mark {
    /// The promise a text makes; `None` for what others wrote into the log.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let rest = text.get(1..)?;
        match text.as_bytes()[0] {
            b'o' if rest.is_empty() => Some(Self::Opened),
            b't' => number(rest).map(|lsn| Self::Trim(Lsn(lsn))),
            b'a' => {
                let values: Option<Vec<u64>> = rest.split(',').map(number).collect();
                values.map(Self::Acked)
            }
            _ => None,
        }
    }
}

/// The text that says the log was opened.
pub(super) fn opened() -> String {
    "o".to_owned()
}

/// The text that says a trim begins.
pub(super) fn trim(up_to: Lsn) -> String {
    format!("t{:x}", up_to.0)
}

#[cfg(test)]
mod tests {
    use super::{MARK_BYTES_MAX, Mark, acked, opened, trim};
    use tidewater_types::Lsn;

    #[test]
    fn marks_read_back_as_written() {
        assert_eq!(Mark::parse(&opened()), Some(Mark::Opened));
        assert_eq!(Mark::parse(&trim(Lsn(0xfff))), Some(Mark::Trim(Lsn(0xfff))));
        let values: Vec<u64> = (0..1000).map(|value| value * value).collect();
        let texts = acked(&values);
        let read: Vec<u64> = texts
            .iter()
            .flat_map(|text| match Mark::parse(text) {
                Some(Mark::Acked(values)) => values,
                other => panic!("{text} is {other:?}"),
            })
            .collect();
        assert_eq!(read, values);
        assert!(texts.iter().all(|text| text.len() <= MARK_BYTES_MAX));
    }

    #[test]
    fn what_others_wrote_is_no_promise() {
        for text in ["", "dm-log-writes-end", "a", "a1,,2", "tx", "opened"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
