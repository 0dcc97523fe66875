//! Kafka record batches, format v2 (magic 2): the only form the broker stores.
//!
//! *Owns*: reading a batch's header and records, what a produced batch must
//! satisfy, the in-place patches the broker may make, look-up by timestamp inside
//! a batch, building uncompressed batches for the broker's own topics.
//! *Does not own*: offsets (the partition assigns them), producer state
//! (`producer`), request framing, topic configuration.
//!
//! Invariants
//! 1. Every length is checked against the bytes that remain before it is used;
//!    nothing is allocated on the word of a length field alone.
//! 2. Decompression streams through a small buffer and stops at a limit.
//! 3. Records are never re-encoded but by key compaction: until then a batch keeps
//!    the bytes its producer sent, save base offset, leader epoch and, by rule,
//!    timestamp type, maximum timestamp and checksum.
//!
//! *IO: none*

mod builder;
mod codec;
mod compression;
mod fault;
mod header;
mod input;
mod iterate;
mod lookup;
mod lz4;
mod parse;
mod patch;
mod rewrite;
mod snappy;
#[cfg(test)]
pub(crate) mod testdata;
mod validate;

pub(crate) use builder::BatchBuilder;
#[cfg(test)]
pub(crate) use builder::ProducerStamp;
pub(crate) use codec::DecompressionLimit;
pub(crate) use header::{BatchHeader, TimestampType, increment_sequence};
pub(crate) use iterate::records;
pub(crate) use lookup::{TimestampedOffset, find_timestamp, max_timestamp};
pub(crate) use rewrite::{rewrite, without_records};
pub(crate) use validate::{ProduceRules, ValidBatch, validate_produce};
