//! Producers' sequences, windows and snapshots.
//!
//! *Owns*: the tests of the ledger. *Does not own*: the snapshot's vectors.
//!
//! *IO: none*

use proptest::prelude::*;

use super::super::state::SequenceFault;
use super::*;
use crate::records::{BatchBuilder, ProducerStamp};

const NOW: i64 = 1_700_000_000_000;

fn header(
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    num_records: i32,
) -> BatchHeader {
    let mut builder = BatchBuilder::new().with_producer(ProducerStamp {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: false,
    });
    builder.append(NOW, None, Some(b"v"), &[]);
    let mut header = BatchHeader::parse(&builder.build(0, 0)).unwrap();
    header.last_offset_delta = num_records - 1;
    header.num_records = num_records;
    header
}

fn ledger() -> ProducerLedger {
    ProducerLedger::new(ProducerLimits::default(), 0)
}

/// Appends as a partition does; the batch's base offset.
fn append(ledger: &mut ProducerLedger, header: &BatchHeader) -> i64 {
    assert_eq!(ledger.check(header), Decision::Append);
    let base_offset = ledger.next_offset();
    ledger.applied(header, base_offset, header.max_timestamp, NOW);
    base_offset
}

fn code(decision: Decision) -> i16 {
    match decision {
        Decision::Fault(fault) => fault.code(),
        other => panic!("no fault: {other:?}"),
    }
}

#[test]
fn the_last_batch_of_each_producer_is_known() {
    let mut ledger = ledger();
    let stored = |header: BatchHeader, base_offset| BatchHeader {
        base_offset,
        ..header
    };
    let first = append(&mut ledger, &header(1, 0, 0, 2));
    let second = append(&mut ledger, &header(1, 0, 2, 3));
    let other = append(&mut ledger, &header(2, 0, 0, 1));
    assert!(!ledger.is_last(&stored(header(1, 0, 0, 2), first)));
    assert!(ledger.is_last(&stored(header(1, 0, 2, 3), second)));
    assert!(ledger.is_last(&stored(header(2, 0, 0, 1), other)));
    assert!(!ledger.is_last(&stored(header(3, 0, 0, 1), other)));
}

#[test]
fn no_batch_of_a_new_producer_overtakes_one_that_was_refused() {
    let mut ledger = ledger();
    let (first, second) = (header(1, 0, 0, 2), header(1, 0, 2, 3));
    ledger.refused(&first);
    ledger.refused(&second);
    assert_eq!(code(ledger.check(&second)), 45);
    append(&mut ledger, &header(2, 0, 7, 1));
    append(&mut ledger, &first);
    append(&mut ledger, &second);
    // One that is known has its window.
    ledger.refused(&header(1, 0, 5, 1));
    append(&mut ledger, &header(1, 0, 5, 1));
}

#[test]
fn a_new_epoch_leaves_what_was_refused_behind() {
    let mut ledger = ledger();
    ledger.refused(&header(1, 0, 4, 2));
    assert_eq!(code(ledger.check(&header(1, 0, 0, 1))), 45);
    append(&mut ledger, &header(1, 1, 0, 1));
    append(&mut ledger, &header(1, 1, 1, 1));
}

#[test]
fn a_duplicate_of_the_last_five_batches_gets_its_original_offset() {
    let mut ledger = ledger();
    let batches: Vec<_> = (0..6).map(|n| header(1, 0, n * 10, 10)).collect();
    let offsets: Vec<_> = batches
        .iter()
        .map(|batch| append(&mut ledger, batch))
        .collect();
    for (batch, base_offset) in batches.iter().zip(&offsets).skip(1) {
        assert_eq!(
            ledger.check(batch),
            Decision::Duplicate {
                base_offset: *base_offset,
                last_offset: base_offset + 9,
                max_timestamp: NOW
            }
        );
    }
    assert_eq!(code(ledger.check(&batches[0])), 45, "older than the window");
}

#[test]
fn a_part_of_an_earlier_batch_is_no_duplicate() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, 0, 10));
    assert_eq!(code(ledger.check(&header(1, 0, 0, 9))), 45);
    assert_eq!(code(ledger.check(&header(1, 0, 1, 9))), 45);
}

#[test]
fn a_gap_is_out_of_order() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, 0, 10));
    assert_eq!(
        ledger.check(&header(1, 0, 11, 1)),
        Decision::Fault(SequenceFault::OutOfOrder {
            producer_id: 1,
            found: 11,
            expected: 10
        })
    );
}

#[test]
fn sequences_wrap_to_zero_after_the_greatest() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, i32::MAX - 4, 5));
    assert_eq!(code(ledger.check(&header(1, 0, 1, 1))), 45);
    append(&mut ledger, &header(1, 0, 0, 3));
    append(&mut ledger, &header(2, 0, i32::MAX - 1, 5));
    // 2³¹−2, 2³¹−1, 0, 1, 2
    assert_eq!(append(&mut ledger, &header(2, 0, 3, 1)), 13);
    assert!(matches!(
        ledger.check(&header(2, 0, i32::MAX - 1, 5)),
        Decision::Duplicate {
            base_offset: 8,
            last_offset: 12,
            ..
        }
    ));
}

#[test]
fn a_new_epoch_starts_at_zero_and_an_old_one_is_fenced() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 3, 0, 1));
    append(&mut ledger, &header(1, 3, 1, 1));
    assert_eq!(code(ledger.check(&header(1, 4, 2, 1))), 45);
    append(&mut ledger, &header(1, 4, 0, 1));
    assert_eq!(code(ledger.check(&header(1, 3, 2, 1))), 47);
    // The old epoch's batches are forgotten with it.
    assert_eq!(code(ledger.check(&header(1, 3, 1, 1))), 47);
    append(&mut ledger, &header(1, 4, 1, 1));
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    assert_eq!(ledger().check(&header(9, 5, 12345, 1)), Decision::Append);
}

#[test]
fn batches_without_producer_always_pass_and_take_offsets() {
    let mut ledger = ledger();
    let plain = header(-1, -1, -1, 4);
    assert_eq!(append(&mut ledger, &plain), 0);
    assert_eq!(append(&mut ledger, &plain), 4);
    assert_eq!((ledger.live.len(), ledger.next_offset()), (0, 8));
}

#[test]
fn an_idle_producer_is_forgotten_after_the_limit_and_not_before() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, 0, 1));
    let week = ProducerLimits::default().idle_ms_max;
    ledger.expire(NOW + week);
    assert_eq!(code(ledger.check(&header(1, 0, 7, 1))), 45);
    ledger.expire(NOW + week + 1);
    assert_eq!(ledger.check(&header(1, 0, 7, 1)), Decision::Append);
    assert_eq!(ledger.live.len(), 0);
}

#[test]
fn old_record_timestamps_do_not_make_a_producer_idle() {
    let mut ledger = ledger();
    let mut ancient = header(1, 0, 0, 1);
    ancient.max_timestamp = 5;
    ancient.base_offset = 0;
    ledger.replay(&ancient, NOW);
    ledger.expire(NOW + 1);
    assert_eq!(ledger.live.len(), 1);
}

#[test]
fn beyond_the_limit_the_idlest_producer_goes() {
    let limits = ProducerLimits {
        num_producers_max: 3,
        ..ProducerLimits::default()
    };
    let mut ledger = ProducerLedger::new(limits, 0);
    for (turn, producer_id) in [10, 11, 12, 10, 13].into_iter().enumerate() {
        let sequence = i32::from(turn == 3);
        let offset = ledger.next_offset();
        ledger.applied(
            &header(producer_id, 0, sequence, 1),
            offset,
            NOW,
            NOW + i64::try_from(turn).unwrap(),
        );
    }
    assert_eq!(ledger.live.len(), 3);
    assert_eq!(
        ledger.check(&header(11, 0, 99, 1)),
        Decision::Append,
        "11 was the idlest"
    );
    assert_eq!(code(ledger.check(&header(10, 0, 99, 1))), 45);
}

#[test]
fn a_restored_ledger_knows_duplicates_from_before() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, 0, 10));
    let cut = ledger.next_offset();
    append(&mut ledger, &header(1, 0, 10, 10));
    let mut restored =
        ProducerLedger::restore(ProducerLimits::default(), &ledger.snapshot_at(cut).unwrap())
            .unwrap();
    assert_eq!(restored.next_offset(), cut);
    assert!(matches!(
        restored.check(&header(1, 0, 0, 10)),
        Decision::Duplicate { base_offset: 0, .. }
    ));
    let mut tail = header(1, 0, 10, 10);
    tail.base_offset = cut;
    restored.replay(&tail, NOW);
    assert_eq!(
        restored.snapshot_at(20).unwrap(),
        ledger.snapshot_at(20).unwrap()
    );
}

#[test]
fn offsets_out_of_range_have_no_snapshot() {
    let mut ledger = ledger();
    append(&mut ledger, &header(1, 0, 0, 10));
    assert_eq!(
        ledger.snapshot_at(11).unwrap_err(),
        LedgerError::OutOfRange {
            offset: 11,
            first: 0,
            last: 10
        }
    );
    ledger.release(10).unwrap();
    assert!(ledger.snapshot_at(9).is_err());
    assert!(ledger.snapshot_at(10).is_ok());
}

proptest! {
    /// Base plus fold gives what a ledger that stopped at the offset has.
    #[test]
    fn snapshots_at_any_offset_are_exact(
        steps in proptest::collection::vec((0i64..6, 0i16..3, 0i32..4, 1i32..4, 0i64..40), 1..80),
        release_at in 0usize..80,
    ) {
        let limits = ProducerLimits { num_producers_max: 4, idle_ms_max: 100 };
        let mut ledger = ProducerLedger::new(limits, 0);
        let mut alone = ProducerLedger::new(limits, 0);
        let mut cuts: Vec<(i64, Bytes)> = Vec::new();
        let mut now_ms = NOW;
        for (producer_id, epoch, sequence, num_records, wait_ms) in steps {
            now_ms += wait_ms;
            let batch = header(producer_id - 1, epoch, sequence, num_records);
            ledger.expire(now_ms);
            alone.expire(now_ms);
            // The state before the next append is the state at its offset: expiry moves no offset.
            let offset = alone.next_offset();
            alone.release(offset).unwrap();
            cuts.retain(|(at, _)| *at != offset);
            cuts.push((offset, alone.snapshot_at(offset).unwrap()));
            for one in [&mut ledger, &mut alone] {
                if one.check(&batch) == Decision::Append {
                    one.applied(&batch, offset, NOW, now_ms);
                }
            }
        }
        let release_at = release_at.min(cuts.len() - 1);
        ledger.release(cuts[release_at].0).unwrap();
        for (offset, expected) in &cuts[release_at..] {
            prop_assert_eq!(&ledger.snapshot_at(*offset).unwrap(), expected);
        }
    }
}
