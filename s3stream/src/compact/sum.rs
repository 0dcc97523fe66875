//! What blocks add up to: the proof that compaction keeps everything.
//!
//! *Owns*: the sum. *Does not own*: what is compared with it.
//!
//! *IO: none*

use tidewater_types::Offset;

use crate::format::index::IndexRow;

/// What the blocks of a run add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) num_records: u64,
    pub(crate) num_entries: u64,
    pub(crate) timestamp_ms_max: i64,
}

/// The sum of ascending rows, if each begins where the one before ends.
pub(crate) fn sum<'a>(rows: impl Iterator<Item = &'a IndexRow>) -> Option<Sum> {
    let mut sum: Option<Sum> = None;
    for row in rows {
        let last = sum.unwrap_or(Sum {
            start: row.base_offset,
            end: row.base_offset,
            num_records: 0,
            num_entries: 0,
            timestamp_ms_max: i64::MIN,
        });
        if last.end != row.base_offset {
            return None;
        }
        sum = Some(Sum {
            end: row.end_offset(),
            num_records: last.num_records + row.record_count,
            num_entries: last.num_entries + u64::from(row.entry_count),
            timestamp_ms_max: last.timestamp_ms_max.max(row.timestamp_ms_max),
            ..last
        });
    }
    sum
}
