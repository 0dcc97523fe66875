//! Record batches written by real clients, for tests.
//!
//! *Owns*: reading testdata/record-batches.txt. *Does not own*: anything in production.
//!
//! *IO: none*

use bytes::Bytes;

use super::iterate::{Header, Record};

pub(crate) const CODEC_NAMES: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A batch of aiokafka, without producer id.
pub(crate) fn aiokafka(codec: &str) -> Bytes {
    batch("aiokafka", codec)
}

/// A batch of kafka-python, with producer id.
pub(crate) fn kafka_python(codec: &str) -> Bytes {
    batch("kafka-python", codec)
}

/// Snappy without xerial framing.
pub(crate) fn raw_snappy() -> Bytes {
    batch("raw-snappy", "snappy")
}

/// The records in all of them.
pub(crate) fn expected_records() -> Vec<Record> {
    let header = |key: &'static str, value: Option<&'static str>| Header {
        key: Bytes::from(key),
        value: value.map(Bytes::from),
    };
    let t = 1_700_000_000_000;
    let value = "the first value, the first value, the first value";
    vec![
        Record {
            offset: 0,
            timestamp: t,
            key: Some(Bytes::from("k0")),
            value: Some(Bytes::from(value)),
            headers: vec![header("h", Some("1")), header("h", None)],
        },
        Record {
            offset: 1,
            timestamp: t + 7,
            key: None,
            value: Some(Bytes::from("second")),
            headers: Vec::new(),
        },
        Record {
            offset: 2,
            timestamp: t + 3,
            key: Some(Bytes::from("k2")),
            value: None,
            headers: vec![header("x", Some(""))],
        },
    ]
}

fn batch(encoder: &str, codec: &str) -> Bytes {
    let text = include_str!("../../testdata/record-batches.txt");
    let prefix = format!("{encoder} {codec} ");
    let hex = text
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .expect("the batch is listed");
    let digit = |d: u8| u8::try_from(char::from(d).to_digit(16).expect("hex")).expect("4 bits");
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
