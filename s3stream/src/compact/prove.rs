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
use crate::format::index::ObjectIndex;
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
    /// Reads the index of the object back: it must hold of each run what is expected of it. `None` if
    /// the store copied something wrongly, or copied damage: without copies it is made anew, and says
    /// which of its sources is damaged.
    pub(super) async fn prove(
        &self,
        encoded: &EncodedObject,
        runs: &[(Run, Sum)],
    ) -> Result<Option<Output>, TierError> {
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
        if !self.copies_are_right(encoded, &index).await? {
            return Ok(None);
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
        Ok(Some(Output {
            object: encoded.object,
            replacements,
        }))
    }

    /// Looks at the first and the last block of each copy that was asked for: a copy of a wrong place
    /// shows there.
    async fn copies_are_right(
        &self,
        encoded: &EncodedObject,
        index: &ObjectIndex,
    ) -> Result<bool, TierError> {
        // The seeded bug believes the store.
        if mutant!(109) {
            return Ok(true);
        }
        let edges = encoded.copied_edges.iter();
        for row in edges.filter_map(|place| index.rows.get(*place)) {
            sometimes!("s3stream: copied blocks looked at");
            match self.source.block(encoded.object.id, row).await {
                Ok(_) => {}
                Err(err @ TierError::Corrupt { .. }) => {
                    tracing::error!(%err, "copies within the store are given up");
                    self.storer.copies.give_up();
                    return Ok(false);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(true)
    }
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
