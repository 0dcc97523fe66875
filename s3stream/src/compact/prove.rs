//! The proof that an object holds what it takes the place of.
//!
//! *Owns*: reading the index back, and what was copied at its edges; what is committed then.
//! *Does not own*: the commit (`job`).
//!
//! Invariants
//! 1. Nothing is committed of what was not read back and compared with the sources.
//!
//! *IO: none* (requests go through the bucket port)

use tidewater_types::{mutant, sometimes};

use crate::error::TierError;
use crate::format::index::IndexRow;
use crate::meta::op::{MovedSnapshot, NewObject, Replacement, SourceRange, TargetRange};
use crate::meta::state::ObjectState;
use crate::upload::encode::EncodedObject;

use super::merge::holds;
use super::plan::Run;
use super::steps::Steps;
use super::sum::{Sum, sum};

/// An object that is there, and what it holds.
pub(super) struct Output {
    pub(super) object: NewObject,
    pub(super) replacements: Vec<Replacement>,
}

impl Output {
    /// The metadata takes objects in the order of their counters.
    pub(super) fn counter(&self) -> u64 {
        self.object.id.counter
    }
}

impl Steps {
    /// Reads the index of the object back: it must hold of each run what is expected of it.
    pub(super) async fn prove(
        &self,
        encoded: &EncodedObject,
        runs: &[(Run, Sum)],
    ) -> Result<Output, TierError> {
        let NewObject {
            id,
            kind,
            size,
            index_position,
            footer_crc,
        } = encoded.object;
        let object = ObjectState {
            kind,
            size,
            index_position,
            footer_crc,
            num_references: 0,
            died_seq: None,
        };
        let index = self.source.index(id, &object).await?;
        // The seeded bug believes the store.
        for row in copied_edges(&index.rows, id.nonce) {
            sometimes!("s3stream: copied blocks looked at");
            if !mutant!(109) {
                let _sound = self.source.block(id, row).await?;
            }
        }
        let mut replacements = Vec::with_capacity(runs.len());
        for (run, expected) in runs {
            let stream = run.stream;
            if !holds(&index, stream, expected) {
                let found = sum(index.blocks_from(stream, expected.start));
                return Err(TierError::Corrupt {
                    object: id.key(),
                    position: index_position,
                    what: "records that compaction must keep",
                    expected: expected.num_records,
                    found: found.map_or(0, |found| found.num_records),
                });
            }
            let written = sum(index.blocks_from(stream, expected.start)).unwrap_or(*expected);
            let target = TargetRange {
                start: written.start,
                end: written.end,
                timestamp_ms_max: written.timestamp_ms_max,
                object: 0,
            };
            let snapshot = run.snapshot.and_then(|old| {
                let row = index.snapshot(stream, old.as_of)?;
                Some(MovedSnapshot {
                    from: old.object,
                    from_position: old.position,
                    object: 0,
                    position: row.position,
                    size: row.size,
                })
            });
            replacements.push(replacement(run, target, snapshot));
        }
        Ok(Output {
            object: encoded.object,
            replacements,
        })
    }
}

/// The first and the last of each stretch of blocks that the store copied: a copy of a wrong place
/// shows there.
fn copied_edges(rows: &[IndexRow], nonce: u64) -> impl Iterator<Item = &IndexRow> {
    let stretches = rows.chunk_by(|a, b| a.origin == b.origin);
    let copied = stretches.filter(move |rows| rows[0].origin != nonce);
    copied.flat_map(|rows| match rows {
        [first, .., last] => vec![first, last],
        rows => rows.iter().collect(),
    })
}

fn replacement(run: &Run, target: TargetRange, snapshot: Option<MovedSnapshot>) -> Replacement {
    let sources = run.sources.iter().map(|(start, range)| SourceRange {
        start: *start,
        end: range.end,
        object: range.object,
    });
    Replacement {
        stream: run.stream,
        epoch: run.epoch,
        sources: sources.collect(),
        targets: vec![target],
        snapshot,
    }
}
