//! The owner of the stream whose records have keys, as it answers the engine.
//!
//! *Owns*: the answers. *Does not own*: the bound, which the world draws.
//!
//! *IO: none*

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tidewater_s3stream::Entry;
use tidewater_s3stream::keyed::{KeyOwner, KeyPolicy, KeyedRecord, NotKeyed};
use tidewater_types::{Offset, StreamId};

use super::keys::Keys;
use super::world::World;
use crate::check::keyed::{Keyed, keyed_payload, parse_keyed};

pub(super) struct Owner {
    world: Weak<World>,
    policy: KeyPolicy,
}

impl Owner {
    pub(super) fn new(world: &Arc<World>, keys: &Keys) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::downgrade(world),
            policy: keys.policy,
        })
    }
}

fn read(stream: StreamId, entry: &Entry) -> Result<(Option<i64>, Vec<Keyed>), NotKeyed> {
    parse_keyed(&entry.payload).ok_or(NotKeyed {
        stream,
        offset: entry.base_offset,
        what: "not what was written",
    })
}

impl KeyOwner for Owner {
    fn policy(&self) -> KeyPolicy {
        self.policy
    }

    fn bound(&self) -> Offset {
        let bound = self.world.upgrade().and_then(|world| {
            let model = world.model.lock();
            let mut logs = model.streams.values();
            logs.find_map(|log| log.keyed.as_ref().map(|keyed| keyed.bound()))
        });
        Offset(bound.unwrap_or_default())
    }

    fn records(
        &self,
        stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed> {
        let (horizon, records) = read(stream, entry)?;
        for record in records {
            each(KeyedRecord {
                offset: Offset(entry.base_offset.0 + u64::from(record.delta)),
                key: Some(&[record.key]),
                is_tombstone: record.is_tombstone,
            });
        }
        Ok(horizon)
    }

    /// Some entries that lost their records stay without any, as the last one of a producer does.
    fn rewrite(
        &self,
        stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed> {
        let (horizon, mut records) = read(stream, entry)?;
        let mut keep = keep.iter();
        records.retain(|_| *keep.next().expect("one a record"));
        if records.is_empty() && !entry.base_offset.0.is_multiple_of(3) {
            return Ok(None);
        }
        let payload = keyed_payload(delete_horizon_ms.or(horizon), &records);
        Ok(Some(Entry {
            payload: Bytes::from(payload),
            ..entry.clone()
        }))
    }
}
