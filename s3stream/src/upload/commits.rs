//! Divides uploaded objects into commits.
//!
//! *Owns*: how much one commit holds, and the operation it becomes.
//! *Does not own*: the objects, the log.
//!
//! Invariants
//! 1. A commit fits a log entry.
//! 2. Object counters ascend through all commits of a batch: the metadata takes
//!    no id below one it knows.
//!
//! *IO: none*

use tidewater_types::{Epoch, NodeId, sometimes};

use crate::entry::CommitReport;
use crate::error::{MetaError, Rejection, TierError};
use crate::meta::log::Metadata;
use crate::meta::op::MetaOp;

use super::encode::EncodedObject;
use super::plan::{COMMIT_OVERHEAD, OBJECT_COMMIT_BYTES, STREAM_COMMIT_BYTES};
use super::store::ObjectStorer;

/// Divides the objects of a batch.
pub(crate) fn commits(
    mut objects: Vec<EncodedObject>,
    entry_bytes_max: usize,
) -> Vec<Vec<EncodedObject>> {
    objects.sort_by_key(|object| object.object.id.counter);
    let (mut commits, mut room) = (Vec::<Vec<EncodedObject>>::new(), 0);
    for object in objects {
        let num_streams = object.ranges.len().max(object.snapshots.len());
        let size = OBJECT_COMMIT_BYTES + num_streams * STREAM_COMMIT_BYTES;
        if size > room || commits.is_empty() {
            commits.push(Vec::new());
            room = entry_bytes_max - COMMIT_OVERHEAD;
        }
        room = room.saturating_sub(size);
        commits.last_mut().expect("pushed above").push(object);
    }
    commits
}

/// The commit of uploaded objects.
pub(crate) fn commit_op(node: NodeId, node_epoch: Epoch, uploaded: Vec<EncodedObject>) -> MetaOp {
    let (mut objects, mut ranges, mut snapshots) = (Vec::new(), Vec::new(), Vec::new());
    for (index, encoded) in (0u32..).zip(uploaded) {
        objects.push(encoded.object);
        ranges.extend(encoded.ranges.into_iter().map(|mut range| {
            range.object = index;
            range
        }));
        snapshots.extend(encoded.snapshots.into_iter().map(|mut snapshot| {
            snapshot.object = index;
            snapshot
        }));
    }
    MetaOp::CommitUpload {
        node,
        node_epoch,
        objects,
        ranges,
        snapshots,
    }
}

/// Commits `op`; a bucket that refuses is asked again until it does not.
pub(crate) async fn commit(
    metadata: &Metadata,
    storer: &ObjectStorer,
    op: MetaOp,
) -> Result<CommitReport, TierError> {
    let mut backoff = storer.backoff();
    loop {
        let answer = metadata.enqueue(vec![op.clone()]).await?;
        let err = match answer.await.unwrap_or(Err(MetaError::Closed)) {
            Ok(report) => return Ok(report),
            Err(err) => err,
        };
        match err {
            MetaError::Rejected {
                reason: Rejection::NodeFenced { node, .. },
                ..
            } => {
                sometimes!("s3stream: writer of objects fenced");
                let epoch = storer.node_epoch;
                return Err(TierError::Fenced { node, epoch });
            }
            MetaError::Unavailable(cause) => {
                if (backoff.attempts() + 1).is_power_of_two() {
                    tracing::warn!(%cause, "commit of objects will be tried again");
                }
                backoff.wait(&*storer.env).await;
            }
            err => return Err(TierError::Meta(err)),
        }
    }
}
