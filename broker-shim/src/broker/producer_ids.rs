//! Where producer ids come from: blocks reserved in the metadata log.
//!
//! *Owns*: reserving a block before any of its ids is handed out.
//! *Does not own*: the arithmetic of blocks (producer/ids.rs).
//!
//! Invariants
//! 1. An id is handed out only after the block that holds it is committed as reserved.
//!
//! *IO: none* (through ports)

use bytes::Bytes;
use tidewater_protocol::ErrorCode;
use tidewater_stream_store::{MetaOp, Metadata};
use tokio::sync::Mutex;

use crate::producer::{IdBlock, IdRefill, ProducerIds};
use crate::refusal::Refusal;

const KEY: &str = "producer-ids/next";

/// Hands out producer ids that no producer ever had.
#[derive(Debug, Default)]
pub(crate) struct IdSource {
    ids: Mutex<ProducerIds>,
}

impl IdSource {
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<i64, Refusal> {
        let mut ids = self.ids.lock().await;
        loop {
            if let Some(id) = ids.take() {
                return Ok(id);
            }
            ids.refill(reserve(metadata).await?);
        }
    }
}

async fn reserve(metadata: &Metadata) -> Result<IdBlock, Refusal> {
    loop {
        let stored = metadata.read(|state| {
            state
                .key(KEY)
                .map(|(value, version)| (value.clone(), version))
        });
        let (value, version) = stored.map_or((None, 0), |(value, version)| (Some(value), version));
        let refill = IdRefill::plan(value.as_deref()).map_err(|error| {
            Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, format!("{KEY}: {error}"))
        })?;
        let op = MetaOp::PutKey {
            key: KEY.to_owned(),
            value: Bytes::copy_from_slice(&refill.value),
            expected_version: Some(version),
        };
        match metadata.propose(vec![op]).await {
            Ok(()) => return Ok(refill.block),
            // Another broker reserved in between; its block is known now.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
}
