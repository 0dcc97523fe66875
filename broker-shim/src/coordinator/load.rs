//! Rebuilding a coordinator from its log: the last snapshot, then every batch behind it.
//!
//! *Owns*: reading the offsets partition to its end.
//! *Does not own*: what the records mean (group).
//!
//! *IO: none* (through ports)

use std::sync::Arc;

use tidewater_protocol::ErrorCode;
use tidewater_stream_store::Stream;
use tidewater_types::{Env, sometimes};
use tracing::error;

use super::shard::now;
use crate::group::{Coordinator, GroupConfig};
use crate::partition::{from_wire, moved_on, wire};
use crate::records::{BatchHeader, DecompressionLimit, records};
use crate::refusal::Refusal;

/// Bytes read at a time.
const READ_BYTES: usize = 4 << 20;

pub(crate) async fn load(stream: &Stream, env: &Arc<dyn Env>) -> Result<Coordinator, Refusal> {
    let config = GroupConfig::default();
    // What an earlier shard appended may be under way still; without it the groups would be those
    // of a log that is about to end otherwise.
    let end = stream.end();
    stream.wait_durable(end).await?;
    let mut groups = match stream.snapshot().await? {
        Some(snapshot) => Coordinator::restore(config, &snapshot.bytes).map_err(damaged)?,
        None => Coordinator::new(config),
    };
    let known = from_wire(groups.next_offset()).unwrap_or_default();
    let mut next = known.max(stream.start());
    if next > end {
        sometimes!("broker: groups' state of a later owner");
        return Err(moved_on());
    }
    groups.skip_to(wire(next));
    while next < end {
        let fetched = stream.fetch(next, READ_BYTES).await?;
        if fetched.entries.is_empty() {
            return Err(moved_on());
        }
        for entry in &fetched.entries {
            let header = BatchHeader::parse(&entry.payload).map_err(damaged)?;
            if !header.is_control() {
                let limit = DecompressionLimit::default();
                for record in records(&entry.payload, limit).map_err(damaged)? {
                    let record = record.map_err(damaged)?;
                    if let Some(key) = &record.key
                        && record.offset >= wire(next)
                    {
                        groups
                            .replay(record.offset, key, record.value.as_ref())
                            .map_err(damaged)?;
                    }
                }
            }
            next = entry.end_offset();
            groups.skip_to(wire(next));
        }
    }
    groups.loaded(now(env.as_ref()));
    Ok(groups)
}

fn damaged(cause: impl std::fmt::Display) -> Refusal {
    error!(%cause, "the offsets log cannot be replayed");
    Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, cause.to_string())
}
