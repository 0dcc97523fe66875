//! Who owns the WAL of a store that lies in the bucket.
//!
//! *Owns*: who owns it now and who may be fenced; its settings.
//! *Does not own*: the lives (zombies.rs, life.rs), the models.
//!
//! Invariants
//! 1. Who owns the WAL is told by its epoch: a life may open after a later owner did.
//! 2. What an owner accepted after a later one had opened is never given to the model: if it is
//!    acknowledged or shown, that is a violation.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidewater_bucket::Bucket;
use tidewater_stream_store::{ObjectWalConfig, ObjectWalOpener};
use tidewater_types::{Env, NodeId, sometimes};

use crate::exec::Tag;
use crate::plan::{Life, Plan};
use crate::rng::Rng;

/// The node.
pub(super) const NODE: NodeId = NodeId(1);

/// Who has, and who had, the WAL in the bucket.
#[derive(Debug, Default)]
pub(super) struct Owners {
    latest: Tag,
    /// Lives that have not opened yet; a zombie among them would be the later owner.
    opening: BTreeSet<Tag>,
    /// Lives that began while another one was opening.
    crowded: BTreeSet<Tag>,
    /// Epochs of the WAL.
    epochs: BTreeMap<Tag, u64>,
    owner: u64,
}

impl Owners {
    pub(super) fn begin(&mut self, tag: Tag) {
        self.latest = tag;
        if !self.opening.is_empty() {
            self.crowded.insert(tag);
        }
        self.opening.insert(tag);
    }

    /// The life `tag` was told that the WAL is its own.
    pub(super) fn opened(&mut self, tag: Tag, epoch: u64) {
        self.opening.remove(&tag);
        self.epochs.insert(tag, epoch);
        if epoch < self.owner {
            sometimes!("store: opened after a later owner");
        }
        self.owner = self.owner.max(epoch);
    }

    /// The life `tag` ended before it opened.
    pub(super) fn gave_up(&mut self, tag: Tag) {
        self.opening.remove(&tag);
    }

    /// Those that were opening are dead now; answers which.
    pub(super) fn end_openings(&mut self) -> BTreeSet<Tag> {
        std::mem::take(&mut self.opening)
    }

    /// Whether nobody has opened the WAL after `tag` did. A device has no other owner.
    pub(super) fn is_owner(&self, tag: Tag) -> bool {
        self.epochs.get(&tag).is_none_or(|of| *of == self.owner)
    }

    /// Whether somebody may have fenced `tag`, told so or not.
    pub(super) fn is_contested(&self, tag: Tag) -> bool {
        tag < self.latest || self.crowded.contains(&tag)
    }
}

/// How long a life lasts whose end does not wait for its work.
pub(super) fn time_of(plan: &Plan, life: Life) -> Duration {
    let ops = life.after_ops.min(4_000);
    Duration::from_nanos(ops * plan.bucket.way_ns / 3)
}

/// How a life in the bucket gets its WAL: as a store does in production.
pub(super) fn opener(bucket: Arc<dyn Bucket>, env: Arc<dyn Env>, plan: &Plan) -> ObjectWalOpener {
    ObjectWalOpener {
        bucket,
        node: NODE,
        config: object_config(plan),
        env,
    }
}

/// Small windows and short waits, so that takers and zombies meet.
pub(crate) fn object_config(plan: &Plan) -> ObjectWalConfig {
    let mut rng = Rng::new(plan.seed, "store: object wal");
    let window = u32::try_from(rng.between(1, 6)).expect("small");
    let depth = u32::try_from(rng.between(1, window.into())).expect("small");
    ObjectWalConfig {
        window,
        depth,
        linger_ms_max: rng.below(3),
        hedge_ms: rng.below(2) * 5,
        attempt_ms_max: [15, 40][rng.index(2)],
        give_up_ms: 60_000,
        reserve_ms_max: 10_000,
        trim_idle_ms: rng.below(4),
        delete_delay_ms: rng.below(3),
        pool_bytes: 256 << 10,
        object_bytes_max: plan.payload_bytes_max.max(1024),
        ..ObjectWalConfig::tiny()
    }
}

/// The epoch of the WAL, as it tells the operator.
pub(super) fn epoch_of(description: &str) -> u64 {
    let (_, epoch) = description.rsplit_once(' ').expect("object store, epoch N");
    epoch.parse().expect("object store, epoch N")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_contested_once_another_begins_or_while_one_was_opening() {
        let mut owners = Owners::default();
        owners.begin(Tag(1));
        assert!(!owners.is_contested(Tag(1)));
        owners.begin(Tag(2));
        assert!(owners.is_contested(Tag(1)) && owners.is_contested(Tag(2)));
        owners.opened(Tag(2), 2);
        owners.opened(Tag(1), 1);
        assert!(owners.is_owner(Tag(2)) && !owners.is_owner(Tag(1)));
        owners.begin(Tag(3));
        owners.opened(Tag(3), 3);
        assert!(!owners.is_contested(Tag(3)));
        assert!(!owners.is_owner(Tag(2)));
    }

    #[test]
    fn whatever_has_no_epoch_is_its_own_owner() {
        assert!(Owners::default().is_owner(Tag(7)));
    }

    #[test]
    fn the_epoch_is_read_off_the_description() {
        assert_eq!(epoch_of("object store, epoch 12"), 12);
    }
}
