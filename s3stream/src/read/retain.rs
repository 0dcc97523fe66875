//! Up to where a stream may be trimmed for its age or its size.
//!
//! *Owns*: the answer, from metadata and indices alone.
//! *Does not own*: the trim; the owner of the stream decides and asks for it.
//!
//! Invariants
//! 1. The answer never lies above the committed end, below the start, or inside a block.
//! 2. Nothing is given up that is younger than the age asked for, and at least the bytes asked
//!    for stay.
//!
//! *IO: none* (requests go through the bucket port)

use tidewater_types::{Offset, StreamId};

use crate::error::TierError;
use crate::format::index::IndexRow;
use crate::meta::state::RangeState;

use super::fetch::Reads;

/// Where each range begins, ascending.
type Ranges = Vec<(Offset, RangeState)>;

impl Reads {
    /// As `Tier::trim_point`.
    pub(crate) async fn trim_point(
        &self,
        stream: StreamId,
        older_than_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Result<Offset, TierError> {
        let first = self.try_trim_point(stream, older_than_ms, bytes_max).await;
        let Err(TierError::Missing { .. }) = first else {
            return first;
        };
        self.believe_missing().await?;
        self.try_trim_point(stream, older_than_ms, bytes_max).await
    }

    async fn try_trim_point(
        &self,
        stream: StreamId,
        older_than_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Result<Offset, TierError> {
        let (mut point, _, _) = self.ranges_of(stream)?;
        if let Some(timestamp_ms) = older_than_ms {
            point = point.max(self.by_time(stream, timestamp_ms).await?);
        }
        if let Some(bytes_max) = bytes_max {
            point = point.max(self.by_size(stream, bytes_max).await?);
        }
        Ok(point)
    }

    /// The first offset whose block holds a record of `timestamp_ms` or later.
    async fn by_time(&self, stream: StreamId, timestamp_ms: i64) -> Result<Offset, TierError> {
        let (start, end, ranges) = self.ranges_of(stream)?;
        let young = ranges
            .iter()
            .find(|(_, range)| range.timestamp_ms_max >= timestamp_ms);
        let Some((range_start, range)) = young else {
            return Ok(end.max(start));
        };
        let rows = self.rows_of(stream, *range_start, range).await?;
        let row = rows.iter().find(|row| row.timestamp_ms_max >= timestamp_ms);
        Ok(row.map_or(*range_start, |row| row.base_offset).max(start))
    }

    /// The greatest offset from which on at least `bytes_max` bytes of blocks stay.
    async fn by_size(&self, stream: StreamId, bytes_max: u64) -> Result<Offset, TierError> {
        let (start, end, ranges) = self.ranges_of(stream)?;
        let mut kept = 0u64;
        if bytes_max == 0 {
            return Ok(end.max(start));
        }
        for (range_start, range) in ranges.iter().rev() {
            for row in self
                .rows_of(stream, *range_start, range)
                .await?
                .iter()
                .rev()
            {
                kept = kept.saturating_add(u64::from(row.size));
                if kept >= bytes_max {
                    return Ok(row.base_offset.max(start));
                }
            }
        }
        Ok(start)
    }

    fn ranges_of(&self, stream: StreamId) -> Result<(Offset, Offset, Ranges), TierError> {
        let known = self.metadata.read(|state| {
            let known = state.stream(stream)?;
            let ranges = known.ranges();
            let ranges = ranges.map(|(offsets, range)| (offsets.start(), *range));
            Some((known.start, known.end, ranges.collect()))
        });
        known.ok_or(TierError::UnknownStream { stream })
    }

    /// The blocks of a range, without those of other ranges in the same object.
    async fn rows_of(
        &self,
        stream: StreamId,
        start: Offset,
        range: &RangeState,
    ) -> Result<Vec<IndexRow>, TierError> {
        let index = self.index_of(range).await?;
        let rows = index.blocks_from(stream, start);
        Ok(rows
            .take_while(|row| row.base_offset < range.end)
            .copied()
            .collect())
    }
}
