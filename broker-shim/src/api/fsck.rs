//! The broker checks its own data while it works, behind the private check request.
//!
//! *Owns*: one check at a time, the answer's shape.
//! *Does not own*: the check; the names in the report (`report.rs`).
//!
//! Invariants
//! 1. A check reads; it holds no lock that a request of a client waits for.
//! 2. Of two checks at a time the second is refused: each reads all of the cluster's metadata.
//!
//! *IO: none*

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tidewater_stream_store::{Fsck, bucket::Bucket};
use tidewater_types::NodeId;

use crate::broker::Broker;
use crate::report;

/// In the first byte of a request: every checksum.
const CHECKSUMS: u8 = 1;
/// In its place: how far is the check that is under way?
const PROGRESS: u8 = 2;

/// Dropped with the check, also when whoever asked for it is gone.
struct ProgressEnd<'a>(&'a Broker);

impl Drop for ProgressEnd<'_> {
    fn drop(&mut self) {
        *self.0.check_progress.lock() = None;
    }
}

/// The report as JSON, or `{"refused", "code"}` with the exit code it stands for.
pub(crate) async fn json(broker: Arc<Broker>, body: Bytes) -> String {
    let flags = body.first().copied().unwrap_or_default();
    if flags & PROGRESS != 0 {
        let progress = broker.check_progress.lock();
        let (done, total) = progress.as_ref().map_or((0, 0), |progress| progress());
        return json!({"done": done, "total": total}).to_string();
    }
    let Ok(_only) = broker.checking.try_lock() else {
        let refused = "a check is under way: expected none, found one";
        return json!({"refused": refused, "code": 3}).to_string();
    };
    let node = NodeId(u32::try_from(broker.facts.node_id).expect("not negative"));
    let durable = broker.store.counters().watermarks.durable;
    let bucket: Arc<dyn Bucket> = broker.bucket.clone();
    let mut fsck = Fsck::new(Arc::clone(&broker.env), bucket)
        .with_checksums(flags & CHECKSUMS != 0)
        .with_durable(node, durable);
    if let Some(path) = &broker.device_wal {
        fsck = fsck.with_device_wal(node, path.clone(), true);
    }
    *broker.check_progress.lock() = Some(Box::new(fsck.progress()));
    let _end = ProgressEnd(&broker);
    match fsck.run().await {
        Ok(found) => report::as_json(&found, None).to_string(),
        Err(error) => {
            let code = match (error.is_foreign(), error.is_damage()) {
                (true, _) => 4,
                (_, true) => 5,
                _ => 3,
            };
            json!({"refused": error.to_string(), "code": code}).to_string()
        }
    }
}
