//! What a node of the cluster runs on.
//!
//! *Owns*: the choice of its WAL. *Does not own*: the life, the fork that opens on copies.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_bucket::Bucket;
use tidewater_stream_store::{ObjectWalOpener, WalOpener};
use tidewater_types::{Env, NodeId};

use super::node::OpenedWal;
use crate::disk::Device;
use crate::plan::{Plan, Sync};
use crate::scenario::common::wal_config;
use crate::scenario::store::opener::SimOpener;
use crate::scenario::store::owners::object_config;

/// What a store runs on.
pub(super) struct Ports {
    pub(super) env: Arc<dyn Env>,
    pub(super) bucket: Arc<dyn Bucket>,
    pub(super) device: Device,
}

/// How a node gets its WAL; one on a device is shown in `opened`.
pub(super) fn opener(
    plan: &Plan,
    node: NodeId,
    ports: Ports,
    opened: OpenedWal,
) -> Box<dyn WalOpener> {
    let Ports {
        env,
        bucket,
        device,
    } = ports;
    if plan.cluster.object_wal {
        return Box::new(ObjectWalOpener {
            bucket,
            node,
            config: object_config(plan),
            env,
        });
    }
    Box::new(SimOpener {
        device,
        env,
        config: wal_config(plan, Sync::Flush),
        opened,
    })
}
