//! What outlives the owners: the bucket, the models, randomness.
//!
//! *Owns*: the state that the parts of the scenario share, and the first violation.
//! *Does not own*: what the parts do.
//!
//! *IO: none*

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tidewater_types::{ClusterId, Epoch, NodeId, WalId};
use tidewater_wal::{Identity, ObjectWalConfig};

use crate::bucket::{BucketFaults, SimBucket};
use crate::check::Violation;
use crate::check::frames::FrameModel;
use crate::exec::{Handle, Tag};
use crate::plan::Plan;
use crate::rng::Rng;

/// What outlives the owners.
pub(super) struct World {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) bucket: SimBucket,
    pub(super) config: ObjectWalConfig,
    pub(super) model: Mutex<Model>,
}

pub(super) struct Model {
    pub(super) frames: FrameModel,
    pub(super) rng: Rng,
    pub(super) next_value: u64,
    next_tag: u32,
    /// The latest epoch whose owner was told that the log is its own.
    pub(super) owner: Epoch,
    /// The WAL that the first owner made.
    pub(super) wal: Option<WalId>,
    pub(super) num_forks: u64,
    /// Lives that have not opened yet; a zombie among them would be the later owner.
    pub(super) opening: BTreeSet<Tag>,
    pub(super) failure: Option<Violation>,
}

impl World {
    pub(super) fn new(handle: Handle, plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed, "object-wal");
        let config = config(&mut rng, plan);
        let model = Model {
            frames: FrameModel::default(),
            rng,
            next_value: 0,
            next_tag: 0,
            owner: Epoch(0),
            wal: None,
            num_forks: 0,
            opening: BTreeSet::new(),
            failure: None,
        };
        Self {
            bucket: SimBucket::new(handle.clone(), plan.seed, plan.bucket),
            handle,
            plan: plan.clone(),
            config,
            model: Mutex::new(model),
        }
    }

    pub(super) fn next_tag(&self) -> Tag {
        let mut model = self.model.lock();
        model.next_tag += 1;
        let tag = Tag(model.next_tag);
        model.opening.insert(tag);
        tag
    }

    /// From now on no zombie takes the WAL over; those that own it run on.
    pub(super) fn end_openings(&self) {
        let opening = std::mem::take(&mut self.model.lock().opening);
        opening.into_iter().for_each(|tag| self.handle.kill(tag));
    }

    /// How long a zombie sleeps before it goes on; none, some requests, a takeover and more.
    pub(super) fn draw_pause(&self) -> Duration {
        let mut model = self.model.lock();
        let most = [0, 5, 50, 300][model.rng.index(4)];
        let ways = model.rng.below(most + 1);
        Duration::from_nanos(ways * self.plan.bucket.way_ns)
    }

    /// Keeps the first violation.
    pub(super) fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().failure.get_or_insert(violation);
    }

    pub(super) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    /// Whether no request was ever planned to fail.
    pub(super) fn bucket_is_fine(&self) -> bool {
        let BucketFaults {
            way_ns, page_keys, ..
        } = self.plan.bucket;
        let fine = BucketFaults {
            way_ns,
            page_keys,
            ..BucketFaults::default()
        };
        self.plan.bucket == fine
    }
}

/// Small windows and short waits, so that takers and zombies meet.
fn config(rng: &mut Rng, plan: &Plan) -> ObjectWalConfig {
    let window = u32::try_from(rng.between(1, 6)).expect("small");
    let depth = u32::try_from(rng.between(1, window.into())).expect("small");
    ObjectWalConfig {
        window,
        depth,
        linger_ms_max: rng.below(3),
        hedge_ms: rng.below(2) * 5,
        attempt_ms_max: [15, 40][rng.index(2)],
        give_up_ms: 20_000,
        trim_idle_ms: rng.below(4),
        delete_delay_ms: rng.below(3),
        object_bytes_max: plan.payload_bytes_max.max(1024),
        ..ObjectWalConfig::tiny()
    }
}

/// Whose log it is.
pub(super) fn identity() -> Identity {
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: None,
    }
}
