//! Tests of what is proposed by a process that acts for a node.
//!
//! *IO: none*

use tidewater_types::{Epoch, ErrorKind, StreamId};

use super::{open, put, version};
use crate::testing::{FaultyBucket, NODE, register};
use crate::{MetaError, MetaOp, Rejection};

#[tokio::test(start_paused = true)]
async fn whoever_acts_for_a_node_changes_nothing_once_it_is_registered_anew() {
    let bucket = FaultyBucket::new();
    let old = open(&bucket, 1).await;
    let epoch = register(&old).await;
    old.act_for(NODE, epoch);
    old.propose(vec![put("key", "one")]).await.unwrap();
    let new = open(&bucket, 2).await;
    register(&new).await;
    let refused = old.propose(vec![put("key", "two")]).await.unwrap_err();
    let reason = Rejection::NodeFenced {
        node: NODE,
        current: Epoch(2),
    };
    assert_eq!(refused, MetaError::Rejected { index: 0, reason });
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert!(!refused.is_conflict());
    assert_eq!(version(&old, "key"), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_was_replaced_hears_that_and_not_what_its_successor_did_since() {
    let bucket = FaultyBucket::new();
    let old = open(&bucket, 1).await;
    let node_epoch = register(&old).await;
    old.act_for(NODE, node_epoch);
    let new = open(&bucket, 2).await;
    register(&new).await;
    // The stream is nobody's, so that the first of these would be refused for itself.
    let stream = StreamId(9);
    let opening = vec![
        MetaOp::RequireOwner { stream, node: NODE },
        MetaOp::OpenStream {
            stream,
            node: NODE,
            node_epoch,
            epoch: Epoch(1),
        },
    ];
    let refused = old.propose(opening).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Fenced, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_operation_as_the_proposer_counts_them() {
    let bucket = FaultyBucket::new();
    let metadata = open(&bucket, 1).await;
    let epoch = register(&metadata).await;
    metadata.act_for(NODE, epoch);
    let absent = MetaOp::DeleteStream {
        stream: StreamId(9),
    };
    let refused = metadata.propose(vec![put("key", "one"), absent]).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, MetaError::Rejected { index: 1, .. }),
        "{refused}"
    );
    assert!(refused.is_conflict());
}
