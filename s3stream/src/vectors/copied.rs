//! Vectors of objects with blocks that the store copied.
//!
//! *IO: none*

use super::*;
use crate::format::index::{self, IndexRow};
use crate::format::object::{Footer, encode_footer, encode_header};

const COPIED: &str = include_str!("../../../docs/formats/vectors/stream-object-v2.hex");

/// The rows, the bytes of the blocks, and the entries in them.
type Taken = (Vec<IndexRow>, Vec<Bytes>, Vec<Entry>);

fn take_apart(bytes: Bytes) -> Result<Taken, FormatError> {
    let (footer, footer_crc) = decode_footer(bytes.slice(bytes.len() - FOOTER_SIZE..))?;
    let object = ObjectState {
        kind: footer.kind,
        size: bytes.len() as u64,
        index_position: footer.index_position,
        footer_crc,
        num_references: 1,
        died_seq: None,
    };
    let rows = decode_index(bytes.slice(footer.index_position as usize..), ID, &object)?.rows;
    assert_eq!(
        decode_header(bytes.slice(..HEADER_SIZE))?,
        (ID, ObjectKind::Stream)
    );
    let (mut blocks, mut entries) = (Vec::new(), Vec::new());
    for row in &rows {
        let start = row.position as usize;
        let part = bytes.slice(start..start + row.size as usize);
        entries.extend(block::decode_data(part.clone(), row)?.entries_from(Offset(0)));
        blocks.push(part);
    }
    Ok((rows, blocks, entries))
}

fn put_together((rows, blocks, _): Taken) -> Bytes {
    let last = rows.last().unwrap();
    let (index, origin_count) = index::encode(&rows, ID.nonce);
    let footer = Footer {
        id: ID,
        kind: ObjectKind::Stream,
        index_position: last.position + u64::from(last.size),
        index_crc: tidewater_types::crc32c(&[&index]),
        block_count: u32::try_from(rows.len()).unwrap(),
        stream_count: 1,
        origin_count,
    };
    let mut whole = vec![encode_header(&ID, ObjectKind::Stream)];
    whole.extend(blocks);
    whole.extend([index, encode_footer(&footer).0]);
    Bytes::from(whole.concat())
}

#[test]
fn stream_objects_with_copied_blocks() {
    check(COPIED, take_apart, |taken| {
        let (a, b) = (0xa1a2_a3a4_a5a6_a7a8, 0xb1b2_b3b4_b5b6_b7b8);
        let origins: Vec<_> = taken.0.iter().map(|row| row.origin).collect();
        assert_eq!(origins, [ID.nonce, a, b, a]);
        let payloads: Vec<_> = taken.2.iter().map(|entry| &entry.payload[..]).collect();
        let expected: [&[u8]; 5] = [b"first", b"second", b"third", b"fourth", b"fifth"];
        assert_eq!(payloads, expected);
        put_together(taken)
    });
}
