//! Errors that nothing explains, each of which must be told, and those that something does.
//!
//! *IO: none*

use std::sync::Arc;

use tidewater_bucket::BucketError;
use tidewater_protocol::ErrorCode;
use tidewater_s3stream::{MetaError, TierError};
use tidewater_stream_store::StoreError;
use tidewater_types::{Epoch, Lsn, Offset, StreamId};
use tidewater_wal::{Resource, WalError};

use super::{
    Facts, broker_call, client_answer, cluster_call, device_call, device_close, device_open,
    metadata_call, object_call, object_open, store_call, tier_call, tier_read,
};

/// Nothing fails any more.
const HEALED: Facts = Facts {
    planned: false,
    disk_fails: true,
    reads_fail: true,
    bucket_fails: true,
    contested: false,
    closing: false,
    outpaced: true,
    logs_lost: false,
    impatient: false,
    trimmed: false,
};
/// A plan without any fault.
const FINE: Facts = Facts {
    planned: true,
    disk_fails: false,
    reads_fail: false,
    bucket_fails: false,
    outpaced: false,
    ..HEALED
};
/// A plan with all of them.
const ROUGH: Facts = Facts {
    planned: true,
    contested: true,
    closing: true,
    impatient: true,
    trimmed: true,
    ..HEALED
};

fn poisoned() -> WalError {
    let cause = Arc::new(WalError::Closed);
    WalError::Poisoned { cause }
}

fn full() -> WalError {
    let what = Resource::Ring;
    WalError::Full { what }
}

fn missing() -> WalError {
    let path = "wal".to_owned();
    WalError::Missing { path }
}

fn slots() -> WalError {
    let (path, first, second) = ("wal".to_owned(), "checksum", "checksum");
    WalError::SuperblocksDamaged {
        path,
        first,
        second,
    }
}

fn corrupt() -> WalError {
    WalError::Corrupt {
        path: "wal".to_owned(),
        position: 1,
        lsn: Lsn(1),
        expected: "1".to_owned(),
        found: "2".to_owned(),
    }
}

fn fenced() -> WalError {
    let (key, epoch, by) = ("wal/3".to_owned(), Epoch(1), Epoch(2));
    WalError::Fenced { key, epoch, by }
}

fn throttled() -> BucketError {
    let key = "wal/3".to_owned();
    BucketError::Throttled { key }
}

fn unavailable() -> WalError {
    let (key, cause) = ("wal/3".to_owned(), throttled());
    WalError::Bucket { key, cause }
}

const OUTPACED: MetaError = MetaError::Outpaced {
    seq: 1,
    boundary: 2,
};

#[test]
fn a_log_on_a_device_opens_unless_its_disk_fails() {
    assert!(device_open(&poisoned(), ROUGH));
    assert!(device_open(&full(), FINE));
    assert!(device_open(&slots(), ROUGH));
    assert!(!device_open(&poisoned(), FINE));
    assert!(!device_open(&slots(), FINE));
    assert!(!device_open(&poisoned(), HEALED));
    assert!(!device_open(&slots(), HEALED));
    assert!(!device_open(&full(), HEALED));
    assert!(!device_open(&corrupt(), ROUGH));
    assert!(!device_open(&missing(), ROUGH));
}

#[test]
fn a_log_is_poisoned_by_a_disk_that_fails_alone() {
    assert!(device_call(&poisoned(), ROUGH));
    assert!(device_call(&full(), FINE));
    assert!(!device_call(&full(), HEALED));
    assert!(!device_call(&WalError::Closed, HEALED));
    assert!(!device_call(&poisoned(), FINE));
    assert!(!device_call(&poisoned(), HEALED));
    let io = WalError::Io {
        operation: "write",
        path: "wal".to_owned(),
        position: 0,
        cause: Arc::new(std::io::Error::other("EIO")),
    };
    assert!(!device_call(&io, FINE));
}

#[test]
fn a_log_closes_in_order_on_a_disk_that_is_fine() {
    assert!(device_close(&poisoned(), ROUGH));
    assert!(device_close(&full(), FINE));
    assert!(!device_close(&poisoned(), FINE));
    assert!(!device_close(&poisoned(), HEALED));
    assert!(!device_close(&full(), HEALED));
}

#[test]
fn a_log_in_a_bucket_is_taken_over_unless_others_do_or_requests_fail() {
    assert!(object_open(&fenced(), FINE));
    assert!(object_open(&unavailable(), ROUGH));
    assert!(!object_open(&fenced(), HEALED));
    assert!(!object_open(&unavailable(), FINE));
    assert!(!object_open(&unavailable(), HEALED));
    assert!(!object_open(&corrupt(), ROUGH));
    assert!(!object_open(&missing(), ROUGH));
}

#[test]
fn an_owner_goes_on_unless_it_is_fenced_or_requests_fail() {
    assert!(object_call(&fenced(), FINE));
    assert!(object_call(&poisoned(), ROUGH));
    assert!(object_call(&full(), FINE));
    assert!(!object_call(&full(), HEALED));
    assert!(!object_call(&WalError::Closed, HEALED));
    assert!(!object_call(&fenced(), HEALED));
    assert!(!object_call(&poisoned(), FINE));
    assert!(!object_call(&poisoned(), HEALED));
}

#[test]
fn metadata_answers_unless_faults_are_planned() {
    assert!(metadata_call(&OUTPACED, FINE));
    assert!(metadata_call(&MetaError::Unavailable(throttled()), FINE));
    assert!(!metadata_call(&OUTPACED, HEALED));
    assert!(!metadata_call(&MetaError::Unavailable(throttled()), HEALED));
    let key = "meta/log/3".to_owned();
    assert!(!metadata_call(&MetaError::MissingEntry { key }, ROUGH));
}

#[test]
fn a_store_works_unless_it_is_taken_over_or_its_disk_fails() {
    let wal = StoreError::Wal;
    assert!(store_call(&wal(poisoned()), ROUGH));
    assert!(store_call(&wal(fenced()), ROUGH));
    assert!(store_call(&wal(slots()), ROUGH));
    let closing = Facts {
        closing: true,
        ..FINE
    };
    assert!(store_call(&wal(WalError::Closed), closing));
    assert!(!store_call(&wal(poisoned()), FINE));
    assert!(!store_call(&wal(poisoned()), HEALED));
    assert!(!store_call(&wal(fenced()), FINE));
    assert!(!store_call(&wal(corrupt()), ROUGH));
    assert!(!store_call(&wal(full()), HEALED));
    let path = "wal".to_owned();
    assert!(!store_call(&wal(WalError::Exists { path }), ROUGH));
}

#[test]
fn a_node_keeps_its_streams_unless_others_take_them() {
    let stream = StreamId(1);
    assert!(cluster_call(&StoreError::Released { stream }, FINE));
    assert!(cluster_call(&StoreError::NoStream { stream }, FINE));
    assert!(cluster_call(&StoreError::Wal(fenced()), ROUGH));
    assert!(cluster_call(&StoreError::Wal(poisoned()), ROUGH));
    for fact in [
        Facts {
            disk_fails: true,
            ..FINE
        },
        Facts {
            bucket_fails: true,
            ..FINE
        },
        Facts {
            contested: true,
            ..FINE
        },
        Facts {
            closing: true,
            ..FINE
        },
    ] {
        assert!(cluster_call(&StoreError::Wal(WalError::Closed), fact));
    }
    assert!(!cluster_call(&StoreError::Wal(WalError::Closed), FINE));
    assert!(!cluster_call(&StoreError::Wal(poisoned()), FINE));
    assert!(!cluster_call(&StoreError::Wal(poisoned()), HEALED));
    assert!(!cluster_call(&StoreError::Meta(OUTPACED), FINE));
    assert!(!cluster_call(&StoreError::Released { stream }, HEALED));
    assert!(!cluster_call(&StoreError::Wal(fenced()), FINE));
    assert!(!cluster_call(&StoreError::Wal(corrupt()), ROUGH));
    assert!(!cluster_call(&StoreError::Wal(missing()), ROUGH));
    let logs_lost = true;
    let by_force = Facts { logs_lost, ..FINE };
    assert!(cluster_call(&StoreError::Wal(missing()), by_force));
    assert!(!cluster_call(&StoreError::Wal(corrupt()), by_force));
    let healed = Facts {
        logs_lost,
        ..HEALED
    };
    assert!(!cluster_call(&StoreError::Wal(missing()), healed));
    assert!(!cluster_call(&StoreError::Wal(full()), HEALED));
}

#[test]
fn a_broker_serves_unless_it_is_replaced_or_its_disk_fails() {
    let wal = StoreError::Wal;
    assert!(broker_call(&wal(poisoned()), ROUGH));
    assert!(broker_call(&wal(fenced()), ROUGH));
    assert!(broker_call(&StoreError::Meta(OUTPACED), ROUGH));
    let lost = Facts {
        logs_lost: true,
        ..HEALED
    };
    assert!(broker_call(&wal(missing()), lost));
    assert!(!broker_call(&wal(missing()), ROUGH));
    assert!(!broker_call(&wal(poisoned()), FINE));
    assert!(!broker_call(&wal(poisoned()), lost));
    assert!(!broker_call(&wal(fenced()), FINE));
    assert!(!broker_call(&StoreError::Meta(OUTPACED), HEALED));
    assert!(!broker_call(&wal(corrupt()), ROUGH));
}

#[test]
fn a_client_is_refused_with_what_it_may_try_again_after() {
    assert!(client_answer(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(client_answer(ErrorCode::REQUEST_TIMED_OUT));
    for code in [
        ErrorCode::NONE,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        assert!(!client_answer(code), "{code:?}");
    }
}

#[test]
fn the_tier_works_unless_faults_are_planned() {
    let object = || "data/1".to_owned();
    let missing = || TierError::Missing { object: object() };
    let corrupt = || TierError::Corrupt {
        object: object(),
        position: 1,
        what: "checksum",
        expected: 1,
        found: 2,
    };
    assert!(tier_call(&TierError::Closed, FINE));
    assert!(tier_call(&missing(), ROUGH));
    assert!(!tier_call(&TierError::Closed, HEALED));
    assert!(!tier_call(&missing(), FINE));
    assert!(!tier_call(&corrupt(), ROUGH));
    let trimmed = TierError::OutOfRange {
        stream: StreamId(1),
        offset: Offset(1),
        start: Offset(2),
        end: Offset(3),
    };
    let unavailable = || TierError::Unavailable(throttled());
    assert!(tier_read(&trimmed, ROUGH));
    assert!(!tier_read(&trimmed, FINE));
    assert!(tier_read(&unavailable(), FINE));
    assert!(!tier_read(&unavailable(), HEALED));
    assert!(tier_read(&missing(), ROUGH));
    assert!(!tier_read(&missing(), FINE));
    assert!(!tier_read(&corrupt(), ROUGH));
    assert!(!tier_read(&TierError::Closed, ROUGH));
}
