//! Proposals that wait for their log entry.
//!
//! *Owns*: their order, how many share an entry, what fits at all.
//! *Does not own*: the entry, its commit.
//!
//! Invariants
//! 1. First in, first out.
//! 2. A batch fits an entry: a proposal that alone does not is refused at the door.
//! 3. What waits or is under way is bounded in bytes: each holds a permit for its size.
//!
//! *IO: none*

use std::collections::VecDeque;

use tidewater_types::{Epoch, NodeId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::entry::CommitReport;
use crate::error::MetaError;

use super::format::entry::HEADER_SIZE;
use super::format::op::encode_txn;
use super::op::MetaOp;

/// Key bytes that the codec can hold; the state machine rejects far shorter ones.
const KEY_BYTES_ENCODABLE: usize = u16::MAX as usize;

#[derive(Default)]
pub(super) struct Queue {
    pub(super) proposals: VecDeque<Proposal>,
    pub(super) committer_runs: bool,
    /// The node and epoch this process registered last.
    pub(super) node: Option<(NodeId, Epoch)>,
    /// The node and epoch on whose behalf all proposals are made, once there is one.
    pub(super) owner: Option<(NodeId, Epoch)>,
    /// Why the log cannot be continued.
    pub(super) failed: Option<MetaError>,
}

impl Queue {
    /// The proposals of the next entry; empty if there are none.
    pub(super) fn take_batch(&mut self, entry_bytes_max: usize) -> Vec<Proposal> {
        let (mut batch, mut num_bytes) = (Vec::new(), HEADER_SIZE);
        while let Some(next) = self.proposals.front() {
            num_bytes += next.encoded.len();
            if num_bytes > entry_bytes_max && !batch.is_empty() {
                break;
            }
            batch.extend(self.proposals.pop_front());
        }
        batch
    }
}

/// A transaction and whoever waits for its verdict.
pub(super) struct Proposal {
    pub(super) txn: Vec<MetaOp>,
    pub(super) encoded: Vec<u8>,
    /// Operations in front of what was proposed.
    pub(super) num_guards: usize,
    pub(super) reply: oneshot::Sender<Result<CommitReport, MetaError>>,
    /// Its share of the memory for proposals, given back with it.
    _room: OwnedSemaphorePermit,
}

/// A transaction that fits an entry.
pub(super) struct Encoded {
    txn: Vec<MetaOp>,
    num_guards: usize,
    bytes: Vec<u8>,
}

impl Encoded {
    /// Refuses a transaction of more than `max` bytes. One that `owner` proposes is guarded: once the
    /// owner is fenced it is rejected for that, whatever else stands against it.
    pub(super) fn new(
        mut txn: Vec<MetaOp>,
        owner: Option<(NodeId, Epoch)>,
        max: usize,
    ) -> Result<Self, MetaError> {
        let unguarded = owner.filter(|owner| !txn.first().is_some_and(|op| op.relies_on(*owner)));
        let num_guards = usize::from(unguarded.is_some());
        if let Some((node, node_epoch)) = unguarded {
            txn.insert(0, MetaOp::RequireNode { node, node_epoch });
        }
        for op in &txn {
            if let MetaOp::PutKey { key, .. } | MetaOp::DeleteKey { key, .. } = op
                && key.len() > KEY_BYTES_ENCODABLE
            {
                return Err(MetaError::TooLarge {
                    num_bytes: key.len(),
                    max: KEY_BYTES_ENCODABLE,
                });
            }
        }
        let bytes = encode_txn(&txn);
        if bytes.len() > max {
            return Err(MetaError::TooLarge {
                num_bytes: bytes.len(),
                max,
            });
        }
        Ok(Self {
            txn,
            num_guards,
            bytes,
        })
    }

    /// Its size in bytes; never 0.
    pub(super) fn num_bytes(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("an entry is smaller")
    }
}

impl Proposal {
    pub(super) fn new(
        Encoded {
            txn,
            num_guards,
            bytes,
        }: Encoded,
        room: OwnedSemaphorePermit,
        reply: oneshot::Sender<Result<CommitReport, MetaError>>,
    ) -> Self {
        Self {
            txn,
            num_guards,
            encoded: bytes,
            reply,
            _room: room,
        }
    }

    /// The last node registration in it.
    pub(super) fn registration(&self) -> Option<(NodeId, Epoch)> {
        self.txn.iter().rev().find_map(|op| match op {
            MetaOp::RegisterNode { node, epoch } => Some((*node, *epoch)),
            _ => None,
        })
    }
}
