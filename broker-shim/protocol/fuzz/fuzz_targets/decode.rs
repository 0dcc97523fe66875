//! Fuzz target: any bytes as any message.
//!
//! *Owns*: the search for a panic, an abort by memory, and a message that changes when it is written
//! and read again.
//!
//! *Does not own*: agreement with other codecs (`tests/differential.rs`).
//!
//! *IO: driver*
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidewater_protocol::{
    Message, decode_request_header, encode_to_bytes, for_each_message, messages,
};

fuzz_target!(|data: &[u8]| {
    // Two bytes choose message and version, so that the fuzzer can hold on to a fruitful pair.
    let [which, version, body @ ..] = data else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let _ = decode_request_header(&mut body.clone());
    let mut index = 0u8;
    macro_rules! all {
        ($($name:ident),*) => { $(
            if index == *which {
                check::<messages::$name>(i16::from(*version), body.clone());
            }
            index += 1;
        )* };
    }
    for_each_message!(all);
    let _ = index;
});

/// Bytes that decode must encode, and what was encoded must decode to the same value.
fn check<M: Message + PartialEq + std::fmt::Debug>(version: i16, mut body: Bytes) {
    let Ok(message) = M::decode(&mut body, version) else {
        return;
    };
    let bytes = encode_to_bytes(&message, version).expect("a decoded message can be encoded");
    assert_eq!(M::decode_exact(bytes, version), Ok(message));
}
