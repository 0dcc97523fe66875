//! What bytes from an unauthenticated peer may cost.
//!
//! *Owns*: the proof by counting allocator that decoding neither panics nor takes more memory than
//! its bound, for random bytes, damaged messages and announced lengths without bytes behind them.
//!
//! *Does not own*: agreement on valid bytes (`differential`).
//!
//! *IO: none*

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use tidewater_protocol::testing::{Arbitrary, Entropy};
use tidewater_protocol::{
    DecodeError, MAX_EXPANSION, Message, decode_request_header, encode_to_bytes, for_each_message,
    messages,
};

/// Bookkeeping of `bytes` when a buffer is first shared.
const SLACK: usize = 256;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged; the counters are plain cells
// of this thread that never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn grow(size: usize) {
    LIVE.set(LIVE.get().wrapping_add(size));
    PEAK.set(PEAK.get().max(LIVE.get()));
    LARGEST.set(LARGEST.get().max(size));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result, the highest memory in use during the call, and the largest single allocation.
fn measure<T>(run: impl FnOnce() -> T) -> (T, usize, usize) {
    LIVE.set(1 << 40);
    PEAK.set(1 << 40);
    LARGEST.set(0);
    let result = run();
    (result, PEAK.get() - (1 << 40), LARGEST.get())
}

/// Decodes the bytes as every version of one message.
fn decode_within_bounds<M: Message>(bytes: &Bytes) {
    for version in M::VERSIONS.min..=M::VERSIONS.max {
        let mut input = Bytes::from(bytes.to_vec());
        let (_, peak, _) = measure(|| M::decode(&mut input, version).is_ok());
        let bound = MAX_EXPANSION * bytes.len() + SLACK;
        assert!(
            peak <= bound,
            "{} v{version}: {peak} bytes for {}",
            M::NAME,
            bytes.len()
        );
    }
}

fn decode_damaged<M: Message + Arbitrary>(seed: u64) {
    let mut entropy = Entropy::new(seed);
    for version in M::VERSIONS.min..=M::VERSIONS.max {
        let valid = encode_to_bytes(&M::arbitrary(&mut entropy, version), version);
        let mut damaged = valid.expect("a made-up message can be encoded").to_vec();
        for _ in 0..=entropy.below(3) {
            damage(&mut damaged, &mut entropy);
        }
        let mut input = Bytes::from(damaged.clone());
        let (_, peak, _) = measure(|| M::decode(&mut input, version).is_ok());
        let bound = MAX_EXPANSION * damaged.len() + SLACK;
        assert!(
            peak <= bound,
            "{} v{version}: {peak} bytes for {damaged:?}",
            M::NAME
        );
    }
}

fn damage(bytes: &mut Vec<u8>, entropy: &mut Entropy) {
    if bytes.is_empty() {
        return;
    }
    let at = entropy.below(bytes.len() as u64) as usize;
    match entropy.below(5) {
        0 => bytes[at] = entropy.next_u64() as u8,
        1 => bytes[at] ^= 1 << entropy.below(8),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, entropy.next_u64() as u8),
        _ => {
            let edge = [0xff, 0x7f, 0x80, 0x00][entropy.below(4) as usize];
            bytes
                .iter_mut()
                .skip(at)
                .take(5)
                .for_each(|byte| *byte = edge);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_stay_within_the_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        let bytes = Bytes::from(bytes);
        macro_rules! all {
            ($($name:ident),*) => { $( decode_within_bounds::<messages::$name>(&bytes); )* };
        }
        for_each_message!(all);
        let _ = decode_request_header(&mut bytes.clone());
    }

    #[test]
    fn damaged_messages_stay_within_the_bound(seed: u64) {
        macro_rules! all {
            ($($name:ident),*) => { $( decode_damaged::<messages::$name>(seed); )* };
        }
        for_each_message!(all);
    }
}

/// One repeated byte makes the densest messages: lists of the smallest elements there are.
#[test]
fn repeated_bytes_stay_within_the_bound() {
    for byte in [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff] {
        let bytes = Bytes::from(vec![byte; 4096]);
        macro_rules! all {
            ($($name:ident),*) => { $( decode_within_bounds::<messages::$name>(&bytes); )* };
        }
        for_each_message!(all);
    }
}

/// A long list of empty elements, announced truthfully, is the worst honest case.
#[test]
fn a_long_list_of_tiny_elements_decodes_within_the_bound() {
    let count = 100_000u32;
    let mut wire = varint(count + 1);
    wire.resize(wire.len() + count as usize, 1);
    wire.extend([0, 0, 0]);
    let len = wire.len();
    let mut input = Bytes::from(wire);
    let (decoded, peak, _) = measure(|| messages::DescribeGroupsRequest::decode(&mut input, 5));
    assert_eq!(
        decoded.map(|request| request.groups.len()),
        Ok(count as usize)
    );
    assert!(peak <= MAX_EXPANSION * len, "{peak} bytes for {len}");
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn refused_cheaply<M: Message>(wire: &[u8], version: i16) -> DecodeError {
    let mut input = Bytes::copy_from_slice(wire);
    let (result, peak, _) = measure(|| M::decode(&mut input, version).err());
    assert!(
        peak <= SLACK,
        "{} v{version}: {peak} bytes for {wire:?}",
        M::NAME
    );
    result.expect("the bytes are no message")
}

#[test]
fn five_bytes_that_announce_two_billion_topics_cost_nothing() {
    let compact = [0xff, 0xff, 0xff, 0xff, 0x07];
    let error = refused_cheaply::<messages::MetadataRequest>(&compact, 9);
    assert!(
        matches!(
            error,
            DecodeError::TooManyElements {
                count: 0x7fff_fffe,
                ..
            }
        ),
        "{error}"
    );
    let plain = [0x7f, 0xff, 0xff, 0xff, 0x00];
    let error = refused_cheaply::<messages::MetadataRequest>(&plain, 1);
    assert!(
        matches!(
            error,
            DecodeError::TooManyElements {
                count: 0x7fff_ffff,
                ..
            }
        ),
        "{error}"
    );
}

/// What can be sent before authentication: the header and ApiVersions.
#[test]
fn announced_lengths_without_bytes_cost_nothing_before_authentication() {
    let name = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let error = refused_cheaply::<messages::ApiVersionsRequest>(&name, 3);
    assert!(matches!(error, DecodeError::BadLength { .. }), "{error}");
    let error = refused_cheaply::<messages::ApiVersionsRequest>(&[0x80; 6], 3);
    assert!(
        matches!(error, DecodeError::VarintOverflow { .. }),
        "{error}"
    );

    let header = [0, 18, 0, 3, 0, 0, 0, 1, 0x7f, 0xff];
    let mut input = Bytes::copy_from_slice(&header);
    let (result, peak, _) = measure(|| decode_request_header(&mut input));
    assert!(
        matches!(result, Err(DecodeError::Truncated { needed: 0x7fff, .. })),
        "{result:?}"
    );
    assert!(peak <= SLACK);
    // Two billion tagged fields behind the client id.
    let header = [
        0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07,
    ];
    let mut input = Bytes::copy_from_slice(&header);
    let (result, peak, _) = measure(|| decode_request_header(&mut input));
    assert!(
        matches!(result, Err(DecodeError::Truncated { .. })),
        "{result:?}"
    );
    assert!(peak <= SLACK);
}

/// Nested lists that each announce as much as the bytes allow cannot add up: one budget holds all.
#[test]
fn a_megabyte_that_announces_lists_in_lists_stays_within_the_bound() {
    for byte in [0u8, 1, 2] {
        let mut wire = vec![0, 0, 0, 0, 0x00, 0x01];
        wire.resize(1 << 20, byte);
        let bytes = Bytes::from(wire);
        decode_within_bounds::<messages::ProduceRequest>(&bytes);
        decode_within_bounds::<messages::FetchRequest>(&bytes);
        decode_within_bounds::<messages::CreateTopicsRequest>(&bytes);
        decode_within_bounds::<messages::OffsetFetchRequest>(&bytes);
    }
}

/// Groups and the topics of the first group each announce as many elements as the bytes could hold.
#[test]
fn lists_in_lists_that_share_the_same_bytes_are_refused_for_their_sum() {
    let mut wire = varint(1000 + 1);
    wire.push(1);
    wire.extend(varint(990 + 1));
    wire.resize(3010, 1);
    let mut input = Bytes::from(wire);
    let (result, peak, _) = measure(|| messages::OffsetFetchRequest::decode(&mut input, 8));
    assert!(
        matches!(result, Err(DecodeError::MemoryBudget { .. })),
        "{result:?}"
    );
    assert!(peak <= MAX_EXPANSION * 3010, "{peak} bytes");
}

#[test]
fn records_are_slices_of_the_request() {
    let mut request = messages::ProduceRequest {
        acks: -1,
        ..Default::default()
    };
    let records = tidewater_protocol::Records::from(Bytes::from(vec![7; 1 << 20]));
    let partition = messages::produce_request::PartitionProduceData {
        index: 0,
        records: Some(records),
    };
    request
        .topic_data
        .push(messages::produce_request::TopicProduceData {
            name: "t".to_owned(),
            partition_data: vec![partition],
            ..Default::default()
        });
    let mut wire = encode_to_bytes(&request, 9).expect("version 9 carries the request");
    let within = wire.as_ptr_range();
    let (decoded, _, largest) = measure(|| messages::ProduceRequest::decode(&mut wire, 9));
    assert!(largest < 1024, "an allocation of {largest} bytes");
    let decoded = decoded.expect("the request decodes");
    let found = decoded.topic_data[0].partition_data[0]
        .records
        .clone()
        .expect("records");
    assert!(within.contains(&found.into_bytes().as_ptr()));
    assert_eq!(decoded, request);
}
