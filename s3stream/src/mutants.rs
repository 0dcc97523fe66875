//! Each seeded bug of this crate breaks what it should, so that the simulator has something to find.
//!
//! *Owns*: one scenario a mutant. *Does not own*: the hunt for them; the simulator does that.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_types::{Epoch, Offset, set_mutant};

use crate::testing::{Fault, Op, Rig, entries, register, small_config};
use crate::{FsckOptions, MetaError, MetaOp, NewRange, Severity, fsck};

/// Switched off again even if the test panics.
struct Active;

impl Active {
    fn new(id: u16) -> Self {
        set_mutant(id);
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        set_mutant(0);
    }
}

#[tokio::test(start_paused = true)]
async fn mutant_24_commits_an_object_that_is_not_there() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(24);
    rig.bucket
        .script(Op::Create, "data/", &[Fault::Throttle; 10_000]);
    rig.tail.append(stream, Epoch(1), entries(0, 5, 1, 10));
    let flush = tokio::time::timeout(std::time::Duration::from_secs(5), rig.uploader.flush()).await;
    assert!(flush.is_err());
    let report = fsck(rig.bucket.clone(), rig.env.clone(), FsckOptions::default())
        .await
        .unwrap();
    assert_eq!(report.severity(), Some(Severity::Error));
}

#[tokio::test(start_paused = true)]
async fn mutant_25_stores_offsets_that_cannot_be_read() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    let _mutant = Active::new(25);
    rig.upload(stream, entries(0, 3, 16, 10)).await;
    assert!(rig.tier.fetch(stream, Offset(0), 1_000).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn mutant_26_moves_the_committed_end_back() {
    let rig = Rig::new(small_config()).await;
    let stream = rig.stream().await;
    rig.upload(stream, entries(0, 10, 1, 10)).await;
    let _mutant = Active::new(26);
    let metadata = rig.tier.metadata();
    register(metadata).await;
    let object = metadata.read(|state| {
        state
            .objects()
            .next()
            .map(|(id, object)| (id, *object))
            .unwrap()
    });
    let objects = vec![crate::NewObject {
        id: object.0,
        kind: object.1.kind,
        size: object.1.size,
        index_position: object.1.index_position,
        footer_crc: object.1.footer_crc,
    }];
    let range = NewRange {
        stream,
        epoch: Epoch(1),
        start: Offset(0),
        end: Offset(5),
        timestamp_ms_max: 0,
        object: 0,
    };
    let (node, node_epoch) = (crate::testing::NODE, rig.node_epoch);
    let stale = MetaOp::CommitUpload {
        node,
        node_epoch,
        objects,
        ranges: vec![range],
        snapshots: vec![],
    };
    metadata.propose(vec![stale]).await.unwrap();
    assert_eq!(
        metadata.read(|state| state.stream(stream).unwrap().end),
        Offset(5)
    );
}

#[tokio::test(start_paused = true)]
async fn mutant_27_applies_a_change_twice() {
    let rig = Rig::new(small_config()).await;
    let _mutant = Active::new(27);
    rig.bucket
        .script(Op::Create, "meta/log/", &[Fault::LoseAnswer]);
    let (key, value) = ("key".to_owned(), Bytes::from_static(b"value"));
    let put = MetaOp::PutKey {
        key,
        value,
        expected_version: Some(0),
    };
    let err = rig.tier.metadata().propose(vec![put]).await.unwrap_err();
    assert!(
        matches!(err, MetaError::Rejected { .. }),
        "its own first try is in the way"
    );
}
