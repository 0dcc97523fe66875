//! Produced batches and the error code each fault has.
//!
//! *Owns*: the tests of `validate`. *Does not own*: the codecs' own tests.
//!
//! *IO: none*

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_types::crc32c;

use super::super::builder::BatchBuilder;
use super::super::testdata;
use super::*;

const T: i64 = 1_700_000_000_000;

fn rules() -> ProduceRules {
    ProduceRules {
        produce_version: 11,
        num_bytes_max: 1_048_588,
        decompression_limit: DecompressionLimit::default(),
        compacted: false,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_ms_max: i64::MAX,
        timestamp_after_ms_max: 3_600_000,
        now_ms: T,
    }
}

/// Overwrites bytes and makes the checksum right again.
fn with(at: usize, new: &[u8]) -> Bytes {
    let mut bytes = testdata::kafka_python("none").to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    seal(bytes)
}

fn seal(mut bytes: Vec<u8>) -> Bytes {
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&[&bytes[21..]]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

fn fault(bytes: &Bytes) -> ProduceFault {
    validate_produce(bytes, &rules()).unwrap_err()
}

#[test]
fn batches_of_real_clients_pass_and_keep_their_bytes() {
    for name in testdata::CODEC_NAMES {
        for batch in [
            testdata::aiokafka(name),
            testdata::kafka_python(name),
            testdata::raw_snappy(),
        ] {
            let valid = validate_produce(&batch, &rules()).unwrap();
            assert_eq!(
                (
                    valid.num_records(),
                    valid.max_timestamp,
                    valid.log_append_time()
                ),
                (3, T + 7, -1)
            );
            let stored = valid.into_stored(77, 5);
            let header = BatchHeader::parse(&stored).unwrap();
            assert_eq!((header.base_offset, header.partition_leader_epoch), (77, 5));
            header.check_crc(&stored).unwrap();
            assert_eq!(stored[16..], batch[16..]);
        }
    }
}

#[test]
fn zero_batches_and_several_are_invalid_record() {
    let batch = testdata::aiokafka("none");
    for bytes in [
        Bytes::new(),
        batch.slice(..16),
        batch.slice(..40),
        batch.slice(..batch.len() - 1),
    ] {
        assert_eq!(
            fault(&bytes),
            ProduceFault::NoBatch,
            "{} bytes",
            bytes.len()
        );
    }
    let two = Bytes::from([&batch[..], &batch[..]].concat());
    assert_eq!(
        fault(&two),
        ProduceFault::SeveralBatches {
            num_bytes: batch.len()
        }
    );
    assert_eq!((fault(&two).code(), fault(&Bytes::new()).code()), (87, 87));
}

#[test]
fn old_formats_are_invalid_record_and_unknown_ones_corrupt() {
    for (magic, code) in [(0u8, 87), (1, 87), (3, 2), (0xff, 2)] {
        assert_eq!(fault(&with(16, &[magic])).code(), code, "magic {magic}");
    }
}

#[test]
fn a_base_offset_other_than_zero_is_invalid_record() {
    let found = fault(&with(0, &7i64.to_be_bytes()));
    assert_eq!(
        (found.code(), found),
        (87, ProduceFault::BaseOffset { found: 7 })
    );
}

#[test]
fn a_wrong_checksum_is_corrupt_message() {
    let mut bytes = testdata::aiokafka("lz4").to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(fault(&Bytes::from(bytes)).code(), 2);
    let mut short = testdata::aiokafka("none").to_vec();
    short[8..12].copy_from_slice(&3i32.to_be_bytes());
    assert_eq!(fault(&Bytes::from(short)).code(), 2);
}

#[test]
fn the_size_limit_counts_the_whole_batch() {
    let batch = testdata::aiokafka("zstd");
    let at = |num_bytes_max| {
        validate_produce(
            &batch,
            &ProduceRules {
                num_bytes_max,
                ..rules()
            },
        )
    };
    assert!(at(batch.len()).is_ok());
    assert_eq!(at(batch.len() - 1).unwrap_err().code(), 10);
}

#[test]
fn zstd_below_produce_v7_is_unsupported_compression() {
    let batch = testdata::aiokafka("zstd");
    let at = |produce_version| {
        validate_produce(
            &batch,
            &ProduceRules {
                produce_version,
                ..rules()
            },
        )
    };
    assert_eq!(at(6).unwrap_err().code(), 76);
    assert!(at(7).is_ok());
    for id in 5..8 {
        assert_eq!(
            fault(&with(21, &[0, id])),
            ProduceFault::UnknownCodec { id }
        );
    }
}

#[test]
fn count_and_offsets_must_agree() {
    assert_eq!(fault(&with(23, &1i32.to_be_bytes())).code(), 87);
    assert_eq!(fault(&with(23, &(-1i32).to_be_bytes())).code(), 87);
    assert_eq!(fault(&with(57, &0i32.to_be_bytes())).code(), 87);
    let four = [
        &3i32.to_be_bytes()[..],
        &with(57, &4i32.to_be_bytes())[27..],
    ]
    .concat();
    let missing = fault(&with(23, &four));
    assert!(
        matches!(
            missing,
            ProduceFault::Unreadable(RecordsError::Record { index: 3, .. })
        ),
        "{missing}"
    );
    let two = [
        &1i32.to_be_bytes()[..],
        &with(57, &2i32.to_be_bytes())[27..],
    ]
    .concat();
    let left_over = fault(&with(23, &two));
    assert_eq!(
        left_over,
        ProduceFault::Unreadable(RecordsError::BytesAfterRecords { num_records: 2 })
    );
}

#[test]
fn control_batches_and_missing_sequences_are_invalid_record() {
    let control = fault(&with(21, &(1i16 << 5).to_be_bytes()));
    assert_eq!((control.code(), control), (87, ProduceFault::Control));
    let sequence = fault(&with(53, &(-1i32).to_be_bytes()));
    assert_eq!(
        (sequence.code(), sequence),
        (
            87,
            ProduceFault::Sequence {
                producer_id: 4000,
                sequence: -1
            }
        )
    );
}

#[test]
fn record_offsets_count_from_zero_in_every_codec() {
    // The first record's offset delta stands behind size, attributes and timestamp.
    let swapped = fault(&with(61 + 4, &[2]));
    assert_eq!(
        (swapped.code(), swapped),
        (87, ProduceFault::OffsetDelta { index: 0, found: 1 })
    );
}

#[test]
fn timestamps_out_of_range_name_their_records() {
    let batch = testdata::aiokafka("gzip");
    let narrow = ProduceRules {
        timestamp_after_ms_max: 2,
        timestamp_before_ms_max: 100,
        ..rules()
    };
    let found = validate_produce(&batch, &narrow).unwrap_err();
    assert_eq!(found.code(), 32);
    let indexes: Vec<i32> = found
        .record_errors()
        .iter()
        .map(|e| e.batch_index)
        .collect();
    assert_eq!(indexes, [1, 2]);
    assert_eq!(
        found.record_errors()[0].reason.to_string(),
        format!(
            "timestamp {} is out of range, it should be within [{}, {}]",
            T + 7,
            T - 100,
            T + 2
        )
    );
    let old = ProduceRules {
        now_ms: T + 4,
        timestamp_before_ms_max: 1,
        timestamp_after_ms_max: 10,
        ..rules()
    };
    assert_eq!(
        validate_produce(&batch, &old)
            .unwrap_err()
            .record_errors()
            .len(),
        1
    );
}

#[test]
fn a_producer_may_not_claim_log_append_time() {
    for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
        let claimed = with(21, &(1i16 << 3).to_be_bytes());
        let found = validate_produce(
            &claimed,
            &ProduceRules {
                timestamp_type,
                ..rules()
            },
        )
        .unwrap_err();
        assert_eq!((found.code(), found.record_errors().len()), (32, 3));
    }
}

#[test]
fn log_append_time_topics_take_any_timestamp_and_set_their_own() {
    let topic = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        now_ms: T + 99_000_000,
        timestamp_before_ms_max: 1,
        ..rules()
    };
    let valid = validate_produce(&testdata::aiokafka("snappy"), &topic).unwrap();
    assert_eq!(valid.log_append_time(), T + 99_000_000);
    let stored = valid.into_stored(0, 0);
    let header = BatchHeader::parse(&stored).unwrap();
    assert_eq!(
        (header.timestamp_type(), header.max_timestamp),
        (TimestampType::LogAppendTime, T + 99_000_000)
    );
    header.check_crc(&stored).unwrap();
}

#[test]
fn a_record_without_key_on_a_compacted_topic_is_invalid_record() {
    for name in testdata::CODEC_NAMES {
        let compacted = ProduceRules {
            compacted: true,
            ..rules()
        };
        let found = validate_produce(&testdata::aiokafka(name), &compacted).unwrap_err();
        assert_eq!(found.code(), 87);
        assert_eq!(
            found.record_errors(),
            [RecordError {
                batch_index: 1,
                reason: RecordErrorReason::NoKey
            }]
        );
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_corrected_when_stored() {
    let valid = validate_produce(&with(35, &9i64.to_be_bytes()), &rules()).unwrap();
    let stored = valid.into_stored(0, 0);
    let header = BatchHeader::parse(&stored).unwrap();
    assert_eq!(header.max_timestamp, T + 7);
    header.check_crc(&stored).unwrap();
}

#[test]
fn record_errors_are_capped() {
    let mut builder = BatchBuilder::new();
    for _ in 0..1000 {
        builder.append(T, None, Some(b"v"), &[]);
    }
    let compacted = ProduceRules {
        compacted: true,
        ..rules()
    };
    let found = validate_produce(&builder.build(0, 0), &compacted).unwrap_err();
    assert_eq!(found.record_errors().len(), RECORD_ERRORS_MAX);
}

#[test]
fn a_bomb_is_too_large_and_cheap_to_refuse() {
    let mut bytes = testdata::aiokafka("zstd")[..61].to_vec();
    bytes.extend_from_slice(&zstd::bulk::compress(&vec![0u8; 8 << 20], 1).unwrap());
    let tight = ProduceRules {
        decompression_limit: DecompressionLimit(1 << 10),
        ..rules()
    };
    assert_eq!(
        validate_produce(&seal(bytes), &tight).unwrap_err().code(),
        10
    );
    let mut builder = BatchBuilder::new();
    builder.append(T, None, Some(&[0u8; 5000]), &[]);
    let plain = builder.build(0, 0);
    let mut bytes = plain[..61].to_vec();
    bytes[22] = 4;
    bytes.extend_from_slice(&zstd::bulk::compress(&plain[61..], 1).unwrap());
    assert_eq!(
        validate_produce(&seal(bytes), &tight).unwrap_err(),
        ProduceFault::DecompressedTooLarge { limit: 1024 }
    );
}

proptest! {
    #[test]
    fn no_change_of_one_byte_under_a_right_checksum_panics(name in 0usize..5, at in 61usize..130, value in any::<u8>()) {
        let mut bytes = testdata::aiokafka(testdata::CODEC_NAMES[name]).to_vec();
        if at < bytes.len() {
            bytes[at] = value;
            let _ = validate_produce(&seal(bytes), &rules());
        }
    }

    #[test]
    fn no_bytes_panic(head in proptest::collection::vec(any::<u8>(), 0..200), codec in 0u8..8) {
        let _ = validate_produce(&Bytes::from(head.clone()), &rules());
        let mut bytes = testdata::aiokafka("none")[..61].to_vec();
        bytes[22] = codec;
        bytes.extend_from_slice(&head);
        let _ = validate_produce(&seal(bytes), &rules());
    }

    #[test]
    fn what_the_builder_builds_passes(records in proptest::collection::vec((0i64..1000, any::<Option<u16>>(), 0usize..300), 1..50)) {
        let mut builder = BatchBuilder::new();
        for (time, key, size) in &records {
            let key = key.map(u16::to_be_bytes);
            builder.append(T + time, key.as_ref().map(|k| &k[..]), Some(&vec![1; *size]), &[("h", None)]);
        }
        let valid = validate_produce(&builder.build(0, 0), &rules()).unwrap();
        prop_assert_eq!(valid.num_records() as usize, records.len());
    }
}
