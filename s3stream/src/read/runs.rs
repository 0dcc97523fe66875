//! Neighbouring blocks become one request.
//!
//! *Owns*: which blocks are read together.
//! *Does not own*: reading them.
//!
//! Invariants
//! 1. Every block is in exactly one run, in the order given.
//! 2. A run of several blocks is no larger than the limit, and no two of its blocks are further
//!    apart than the gap.
//!
//! *IO: none*

use crate::format::index::IndexRow;

/// Blocks that one request reads, each with what belongs to it.
#[derive(Debug)]
pub(crate) struct Run<T> {
    /// First byte.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    pub(crate) blocks: Vec<(IndexRow, T)>,
}

/// The runs of `blocks`, which ascend by position.
pub(crate) fn runs<T>(
    blocks: impl IntoIterator<Item = (IndexRow, T)>,
    bytes_max: u64,
    gap_max: u64,
) -> Vec<Run<T>> {
    let mut runs: Vec<Run<T>> = Vec::new();
    for (row, own) in blocks {
        let (start, end) = (row.position, row.position + u64::from(row.size));
        match runs.last_mut() {
            Some(run)
                if start >= run.end
                    && start - run.end <= gap_max
                    && end - run.start <= bytes_max =>
            {
                run.end = end;
                run.blocks.push((row, own));
            }
            _ => runs.push(Run {
                start,
                end,
                blocks: vec![(row, own)],
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::runs;
    use crate::format::index::{BlockKind, IndexRow};
    use proptest::prelude::*;
    use tidewater_types::{Offset, StreamId};

    fn row(position: u64, size: u32) -> (IndexRow, ()) {
        let row = IndexRow {
            stream: StreamId(1),
            kind: BlockKind::Data,
            base_offset: Offset(position),
            offset_delta: 1,
            record_count: 1,
            timestamp_ms_max: 0,
            position,
            size,
            entry_count: 1,
            crc: 0,
            origin: 0,
        };
        (row, ())
    }

    fn spans(blocks: Vec<(IndexRow, ())>, bytes_max: u64, gap_max: u64) -> Vec<(u64, u64, usize)> {
        runs(blocks, bytes_max, gap_max)
            .iter()
            .map(|run| (run.start, run.end, run.blocks.len()))
            .collect()
    }

    #[test]
    fn neighbours_are_joined_up_to_the_limit_and_across_small_gaps() {
        let blocks = || vec![row(0, 10), row(10, 10), row(25, 10), row(100, 10)];
        assert_eq!(spans(blocks(), 100, 5), [(0, 35, 3), (100, 110, 1)]);
        assert_eq!(
            spans(blocks(), 100, 4),
            [(0, 20, 2), (25, 35, 1), (100, 110, 1)]
        );
        assert_eq!(
            spans(blocks(), 20, 100),
            [(0, 20, 2), (25, 35, 1), (100, 110, 1)]
        );
        assert_eq!(spans(vec![row(0, 500)], 100, 0), [(0, 500, 1)]);
        assert_eq!(spans(vec![], 100, 0), []);
    }

    proptest! {
        #[test]
        fn every_block_is_in_one_run(
            steps in proptest::collection::vec((0u64..20, 1u32..50), 0..50),
            bytes_max in 1u64..200,
            gap_max in 0u64..30,
        ) {
            let mut position = 0;
            let blocks: Vec<_> = steps.iter().map(|(gap, size)| {
                let block = row(position + gap, *size);
                position += gap + u64::from(*size);
                block
            }).collect();
            let runs = runs(blocks.clone(), bytes_max, gap_max);
            let all: Vec<_> = runs.iter().flat_map(|run| &run.blocks).map(|(row, ())| *row).collect();
            prop_assert_eq!(all, blocks.iter().map(|(row, ())| *row).collect::<Vec<_>>());
            for run in &runs {
                prop_assert!(run.blocks.len() == 1 || run.end - run.start <= bytes_max);
                let last = run.blocks.last().unwrap().0;
                prop_assert_eq!((run.start, run.end), (run.blocks[0].0.position, last.position + u64::from(last.size)));
            }
        }
    }
}
