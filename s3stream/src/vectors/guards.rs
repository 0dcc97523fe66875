//! Vectors of guards, owners and the deletion delay.
//!
//! *IO: none*

use super::*;

const LOG_GUARD: &str = include_str!("../../../docs/formats/vectors/metadata-log-guard-v1.hex");
const LOG_DELAY: &str = include_str!("../../../docs/formats/vectors/metadata-log-delay-v1.hex");
const SNAPSHOT_DELAY: &str =
    include_str!("../../../docs/formats/vectors/metadata-snapshot-delay-v1.hex");
const SNAPSHOT_OWNED: &str =
    include_str!("../../../docs/formats/vectors/metadata-snapshot-owned-v1.hex");
const LOG_OWNER: &str = include_str!("../../../docs/formats/vectors/metadata-log-owner-v1.hex");

#[test]
fn metadata_log_entries_with_a_guard() {
    let (node, node_epoch) = (NodeId(3), Epoch(2));
    let txn = vec![
        MetaOp::RequireNode { node, node_epoch },
        MetaOp::PutKey {
            key: "key".to_owned(),
            value: Bytes::from_static(b"value"),
            expected_version: None,
        },
        MetaOp::DeleteStream {
            stream: StreamId(7),
        },
    ];
    check_entries(LOG_GUARD, &[txn]);
}

#[test]
fn metadata_log_entries_of_owners() {
    let (stream, node, epoch) = (StreamId(7), NodeId(3), Epoch(2));
    let take = vec![
        MetaOp::RequireOwner { stream, node },
        MetaOp::OpenStream {
            stream,
            node,
            node_epoch: epoch,
            epoch,
        },
    ];
    let release = vec![MetaOp::ReleaseStream { stream, epoch }];
    check_entries(LOG_OWNER, &[take, release]);
}

#[test]
fn first_entries_with_the_deletion_delay() {
    let delay_ns = 3_600_000_000_000;
    check(
        LOG_DELAY,
        |bytes| entry::decode(bytes, 1),
        |found| {
            assert_eq!(found.txns, [[MetaOp::SetDeleteDelay { delay_ns }]]);
            let txns: Vec<_> = found.txns.iter().map(|txn| op::encode_txn(txn)).collect();
            entry::encode(&found.header, txns.iter().map(|txn| &txn[..])).0
        },
    );
    check(
        SNAPSHOT_DELAY,
        |bytes| snapshot::decode(bytes, 1),
        |state| {
            assert_eq!(state.delete_delay_ns, delay_ns);
            snapshot::encode(&state)
        },
    );
}

#[test]
fn snapshots_of_streams_that_moved() {
    check(
        SNAPSHOT_OWNED,
        |bytes| snapshot::decode(bytes, 9),
        |state| {
            let since = |id| state.stream(StreamId(id)).unwrap().owned_since;
            assert_eq!((since(1), since(2)), (Epoch(2), Epoch(0)));
            snapshot::encode(&state)
        },
    );
}
