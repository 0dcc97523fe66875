//! What was encoded decodes to the same; what was damaged or made up does not pass.

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_types::{Epoch, NodeId, Offset, StreamId, crc32c};

use super::{EncodedObject, encode};
use crate::entry::{Entry, StateSnapshot};
use crate::format::{block, index, object};
use crate::meta::state::ObjectState;
use crate::object_id::{ObjectId, ObjectKind};
use crate::read::source::decode_index;
use crate::tail::SealedRange;
use crate::upload::plan::ObjectPlan;

const ID: ObjectId = ObjectId {
    node: NodeId(1),
    epoch: Epoch(2),
    counter: 3,
    nonce: 4,
};

fn any_ranges() -> impl Strategy<Value = Vec<SealedRange>> {
    let entry = (1u32..2_000, any::<i64>(), 0usize..1_500);
    let range = (
        1u64..1 << 40,
        prop::collection::vec(entry, 0..12),
        any::<Option<u16>>(),
    );
    prop::collection::btree_map(1u64..100, range, 1..6).prop_map(|ranges| {
        let ranges = ranges
            .into_iter()
            .map(|(stream, (base, entries, state_size))| {
                let mut next = Offset(base);
                let entries = entries
                    .into_iter()
                    .map(|(record_count, timestamp_ms_max, size)| {
                        let payload = Bytes::from(vec![record_count.to_le_bytes()[0]; size]);
                        let entry = Entry {
                            base_offset: next,
                            record_count,
                            timestamp_ms_max,
                            payload,
                        };
                        next = entry.end_offset();
                        entry
                    });
                let entries: Vec<_> = entries.collect();
                let state = |size: u16| StateSnapshot {
                    as_of: next,
                    bytes: Bytes::from(vec![7; size.into()]),
                };
                let snapshot = state_size.map(state);
                SealedRange {
                    stream: StreamId(stream),
                    stream_epoch: Epoch(1),
                    entries,
                    snapshot,
                }
            });
        ranges
            .filter(|range| !range.entries.is_empty() || range.snapshot.is_some())
            .collect()
    })
}

fn state_of(encoded: &EncodedObject) -> ObjectState {
    let new = encoded.object;
    ObjectState {
        kind: new.kind,
        size: new.size,
        index_position: new.index_position,
        footer_crc: new.footer_crc,
        num_references: 1,
        died_seq: None,
    }
}

proptest! {
    #[test]
    fn objects_round_trip(ranges in any_ranges(), block_bytes in 256usize..4_000) {
        let plan = ObjectPlan { kind: ObjectKind::StreamSet, ranges };
        let encoded = encode(ID, &plan, block_bytes);
        let bytes = Bytes::from(encoded.body.concat());
        prop_assert_eq!(bytes.len() as u64, encoded.object.size);
        prop_assert_eq!(object::decode_header(bytes.slice(..48)).unwrap(), (ID, ObjectKind::StreamSet));
        let tail = bytes.slice(encoded.object.index_position as usize..);
        let index = decode_index(tail, ID, &state_of(&encoded)).unwrap();
        let part = |position: u64, size: u32| bytes.slice(position as usize..position as usize + size as usize);
        for range in &plan.ranges {
            let mut found = Vec::new();
            for row in index.blocks_from(range.stream, Offset(0)) {
                let block = block::decode_data(part(row.position, row.size), row).unwrap();
                prop_assert!(row.entry_count == 1 || block.num_bytes() <= block_bytes);
                found.extend(block.entries_from(Offset(0)));
            }
            prop_assert_eq!(&found, &range.entries);
            // From any offset on: the entry that holds it comes first.
            for entry in &range.entries {
                let last = Offset(entry.end_offset().0 - 1);
                let row = index.blocks_from(range.stream, last).next().unwrap();
                let block = block::decode_data(part(row.position, row.size), row).unwrap();
                prop_assert_eq!(&block.entries_from(last).next().unwrap(), entry);
            }
        }
        for snapshot in &encoded.snapshots {
            let bytes = part(snapshot.position, snapshot.size);
            let state = block::decode_snapshot(bytes, snapshot.stream, snapshot.as_of, ID.nonce).unwrap();
            let range = plan.ranges.iter().find(|range| range.stream == snapshot.stream).unwrap();
            prop_assert_eq!(&state, &range.snapshot.as_ref().unwrap().bytes);
        }
    }

    #[test]
    fn arbitrary_rows_and_tables_do_no_harm(
        rows in prop::collection::vec(any::<u8>(), 0..400), payload in prop::collection::vec(any::<u8>(), 64..400)
    ) {
        // Behind checksums that hold: only the structure protects.
        let _index = index::decode(Bytes::from(rows), 48, 4, 0);
        let entry =
            Entry { base_offset: Offset(0), record_count: 9, timestamp_ms_max: 0, payload: Bytes::from(payload) };
        let mut sealed = block::encode_data(StreamId(1), ID.nonce, 48, &[entry]);
        let mut bytes = sealed.parts.concat();
        // The payload is taken for the rest of the entry table.
        bytes[12..16].copy_from_slice(&3u32.to_le_bytes());
        let crc = crc32c(&[&bytes[..4], &bytes[8..]]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        (sealed.row.entry_count, sealed.row.crc) = (3, crc);
        if let Ok(block) = block::decode_data(Bytes::from(bytes), &sealed.row) {
            prop_assert_eq!(block.entries_from(Offset(0)).count(), 3);
        }
    }
}
