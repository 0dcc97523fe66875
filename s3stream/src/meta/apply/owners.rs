//! Who owns a stream, and on whose behalf a transaction is.
//!
//! *Owns*: the rules of taking a stream, giving it up, and of guards.
//! *Does not own*: what an owner may do (apply.rs).
//!
//! Invariants
//! 1. A stream's epoch only ascends.
//! 2. A guard changes nothing.
//! 3. A stream knows with which epoch its owner took it from others: what a WAL holds from before is
//!    not the owner's tail.
//!
//! *IO: none*

use tidewater_types::{Epoch, NodeId, StreamId, mutant};

use crate::error::Rejection;

use super::{Judge, Verdict};

impl Judge<'_> {
    pub(super) fn require_node(&self, node: NodeId, node_epoch: Epoch) -> Verdict {
        if mutant!(82) {
            return Ok(());
        }
        self.live_node(node, node_epoch).map(drop)
    }

    pub(super) fn require_owner(&self, stream: StreamId, node: NodeId) -> Verdict {
        let head = self.changes.head(stream);
        let head = head.ok_or(Rejection::StreamUnknown { stream })?;
        match head.owner.filter(|owner| *owner != node) {
            Some(owner) if !mutant!(83) => Err(Rejection::StreamOwned { stream, owner }),
            _ => Ok(()),
        }
    }

    pub(super) fn release_stream(&mut self, stream: StreamId, epoch: Epoch) -> Verdict {
        let head = self.changes.head(stream);
        let mut head = head.ok_or(Rejection::StreamUnknown { stream })?;
        if head.epoch != epoch {
            let current = head.epoch;
            return Err(Rejection::StreamEpochStale { stream, current });
        }
        head.owner = None;
        self.changes.set_head(stream, head);
        Ok(())
    }

    pub(super) fn open_stream(
        &mut self,
        stream: StreamId,
        node: NodeId,
        node_epoch: Epoch,
        epoch: Epoch,
    ) -> Verdict {
        self.live_node(node, node_epoch)?;
        let mut head = self
            .changes
            .head(stream)
            .ok_or(Rejection::StreamUnknown { stream })?;
        if epoch <= head.epoch {
            return Err(Rejection::StreamEpochStale {
                stream,
                current: head.epoch,
            });
        }
        if head.owner != Some(node) && head.epoch > Epoch(0) && !mutant!(87) {
            head.owned_since = epoch;
        }
        (head.epoch, head.owner) = (epoch, Some(node));
        self.changes.set_head(stream, head);
        Ok(())
    }
}
