//! Entries to append.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::Offset;

use crate::entry::Entry;

/// An entry whose payload follows from its offset.
pub(crate) fn entry(base_offset: u64, record_count: u32, num_bytes: usize) -> Entry {
    let payload: Vec<u8> = (0..num_bytes)
        .map(|at| (base_offset as usize * 31 + at) as u8)
        .collect();
    let timestamp_ms_max = 1_000 + base_offset as i64 * 10;
    Entry {
        base_offset: Offset(base_offset),
        record_count,
        timestamp_ms_max,
        payload: Bytes::from(payload),
    }
}

/// Contiguous entries of `record_count` records each.
pub(crate) fn entries(start: u64, count: u64, record_count: u32, num_bytes: usize) -> Vec<Entry> {
    (0..count)
        .map(|index| {
            entry(
                start + index * u64::from(record_count),
                record_count,
                num_bytes,
            )
        })
        .collect()
}
