//! What several tests share: a model disk, a small executor, the reader of vectors.
//!
//! *IO: reads docs/formats/vectors*

pub(crate) mod driver;
pub(crate) mod env;
pub(crate) mod lives;
pub(crate) mod model;

use std::fs;
use std::path::PathBuf;

pub(crate) use crate::conformance::frame_bytes;

fn vector_path(name: &str) -> PathBuf {
    [
        env!("CARGO_MANIFEST_DIR"),
        "..",
        "docs",
        "formats",
        "vectors",
        name,
    ]
    .iter()
    .collect()
}

/// Hex with `#` comments; `*N` repeats the byte before it N times more.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(vector_path(name)).unwrap();
    let mut bytes = Vec::new();
    for token in text
        .lines()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(str::split_whitespace)
    {
        match token.strip_prefix('*') {
            Some(count) => {
                let last = *bytes.last().unwrap();
                bytes.resize(bytes.len() + count.parse::<usize>().unwrap(), last);
            }
            None => {
                for pair in token.as_bytes().chunks(2) {
                    bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
                }
            }
        }
    }
    bytes
}
