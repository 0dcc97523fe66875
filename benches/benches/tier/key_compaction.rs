//! `tier/key_compaction`: one pass over a stream of which a tenth, or all but a tenth, is superseded.
//!
//! *Owns*: the cells, a bucket and a share each; the limit: the reads of the pass without a pass.
//! *Does not own*: filling the stream. Its owner's records have a fixed size, so what is measured is
//! the engine; a broker parses batches besides.
//!
//! Invariants
//! 1. Every round compacts a stream that never was.
//! 2. No rate is set: the pass goes as fast as it can.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use serde_json::json;
use tidewater_benches::{Cpu, GetLog, Rounds, Row, noise, replay_gets};
use tidewater_bucket::Bucket;
use tidewater_s3stream::keyed::{KeyOwner, KeyPolicy, KeyedRecord, NotKeyed};
use tidewater_s3stream::{Entry, Tier, TierConfig, TierCounters};
use tidewater_types::{Env, Offset, StreamId};

use crate::fill::{EPOCH, Filling, NODE};
use crate::part::{Failure, Kind, Part, Rig};

const BENCH: &str = "tier/key_compaction";
const KINDS: [Kind; 2] = [Kind::Memory, Kind::Local];
/// Records of which so many in a hundred are superseded.
const SUPERSEDED: [u64; 2] = [10, 90];
/// A key of 8 bytes and a value of 92.
const RECORD_BYTES: usize = 100;
const KEY_BYTES: usize = 8;
/// Records of an entry, as a batch of a producer under load.
const RECORDS: u64 = 160;

pub(crate) struct KeyCompaction;

impl Part for KeyCompaction {
    fn ids(&self) -> Vec<String> {
        cells().map(id).collect()
    }

    fn run(&self, wanted: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure> {
        let cell = cells().find(|cell| id(*cell) == wanted);
        let (kind, superseded) = cell.ok_or("no such cell")?;
        let (env, plan) = (rig.env.clone(), rig.plan);
        let num_entries = plan.num_bytes / (RECORDS * RECORD_BYTES as u64);
        let num_keys = num_entries * RECORDS * (100 - superseded) / 100;
        let (mut values, mut limits, mut cpu) =
            (Rounds::default(), Rounds::default(), Rounds::default());
        for _ in 0..plan.rounds {
            let ways = rig.bucket(kind)?;
            let runtime = &rig.runtime;
            let filling = filled(ways.near.clone(), env.clone(), num_entries, num_keys);
            let stream = runtime.block_on(filling)?;
            let bucket = ways.received(kind);
            let log = Arc::new(GetLog::new(bucket.clone()));
            // Never twice: what was compacted cannot be compacted again.
            rig.quiet.wait();
            let pass = runtime.block_on(pass(log.clone(), env.clone(), stream))?;
            let raw = runtime.block_on(replay_gets(bucket, &log.take()))?;
            let num_records = pass.counters.key_records_kept + pass.counters.key_records_dropped;
            let share = pass.counters.key_records_dropped * 100 / num_records.max(1);
            if share.abs_diff(superseded) > 2 {
                return Err(format!("{share} % dropped").into());
            }
            let rate = |time: Duration| num_records as f64 / time.as_secs_f64();
            values.push(rate(pass.elapsed));
            limits.push(rate(raw.0));
            cpu.push(pass.cpu.as_nanos() as f64 / num_records as f64);
        }
        let params = json!({
            "bucket": kind.name(), "mib": plan.num_bytes >> 20, "record": RECORD_BYTES,
            "superseded": superseded,
        });
        let what = "the reads of the pass alone";
        let row = Row::new(BENCH, params, "throughput", "records/s", values)
            .with_limit(what.to_owned(), &limits)
            .with_cpu(&cpu);
        Ok(vec![row])
    }
}

fn cells() -> impl Iterator<Item = (Kind, u64)> {
    let of = |kind| SUPERSEDED.into_iter().map(move |share| (kind, share));
    KINDS.into_iter().flat_map(of)
}

fn id((kind, superseded): (Kind, u64)) -> String {
    format!("key_compaction/{}/{superseded}", kind.name())
}

/// A stream in a new bucket whose keys go round.
async fn filled(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    num_entries: u64,
    num_keys: u64,
) -> Result<StreamId, Failure> {
    /// As many as are in memory at a time.
    const ENTRIES: u64 = 2_048;
    let (filling, noise) = (Filling::begin(bucket, env).await?, noise(1 << 20));
    for first in (0..num_entries).step_by(usize::try_from(ENTRIES)?) {
        let numbers = first..num_entries.min(first + ENTRIES);
        let entries = numbers.map(|number| entry(number, num_keys, &noise));
        filling.upload(entries.collect()).await?;
    }
    Ok(filling.end().await)
}

/// What one pass did.
struct Pass {
    elapsed: Duration,
    cpu: Duration,
    counters: TierCounters,
}

async fn pass(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    stream: StreamId,
) -> Result<Pass, Failure> {
    let mut config = TierConfig::default();
    config.compact.rate = 1 << 40;
    config.compact.key_map_bytes = 1 << 30;
    // Nothing is joined before.
    config.compact.objects_min = 64;
    config.compact.object_bytes = 8 << 20;
    let tier = Tier::open(bucket, env, config).await?;
    tier.set_key_owner(stream, Some(Arc::new(Owner)));
    let (begun, cpu) = (Instant::now(), Cpu::now());
    tier.compact_until_done(NODE, EPOCH).await?;
    Ok(Pass {
        elapsed: begun.elapsed(),
        cpu: cpu.spent(),
        counters: tier.counters(),
    })
}

/// Entry number `number`: keys go round, so that each is written about equally often.
fn entry(number: u64, num_keys: u64, noise: &Bytes) -> Entry {
    let mut payload = noise
        .slice(..usize::try_from(RECORDS).expect("few") * RECORD_BYTES)
        .to_vec();
    for (record, first) in payload.chunks_mut(RECORD_BYTES).zip(number * RECORDS..) {
        record[..KEY_BYTES].copy_from_slice(&(first % num_keys).to_le_bytes());
    }
    Entry {
        base_offset: Offset(number * RECORDS),
        record_count: u32::try_from(RECORDS).expect("few"),
        timestamp_ms_max: 1,
        payload: Bytes::from(payload),
    }
}

struct Owner;

impl KeyOwner for Owner {
    fn policy(&self) -> KeyPolicy {
        KeyPolicy {
            lag_ms_min: 0,
            lag_ms_max: i64::MAX,
            dirty_permille: 500,
            few_ms_max: i64::MAX,
            delete_retention_ms: 0,
        }
    }

    fn bound(&self) -> Offset {
        Offset(u64::MAX)
    }

    /// It has no state, and so it takes no snapshots.
    fn replays(&self) -> bool {
        false
    }

    /// The records lie one behind the other, so the key tells where it was.
    fn records(
        &self,
        _stream: StreamId,
        entry: &Entry,
        each: &mut dyn FnMut(KeyedRecord<'_>),
    ) -> Result<Option<i64>, NotKeyed> {
        for (record, offset) in entry
            .payload
            .chunks(RECORD_BYTES)
            .zip(entry.base_offset.0..)
        {
            each(KeyedRecord {
                offset: Offset(offset),
                key: Some(&record[..KEY_BYTES]),
                is_tombstone: false,
            });
        }
        Ok(None)
    }

    fn rewrite(
        &self,
        _stream: StreamId,
        entry: &Entry,
        keep: &[bool],
        _delete_horizon_ms: Option<i64>,
    ) -> Result<Option<Entry>, NotKeyed> {
        let records = entry.payload.chunks(RECORD_BYTES).zip(keep);
        let kept: Vec<&[u8]> = records
            .filter_map(|(record, keep)| keep.then_some(record))
            .collect();
        let payload = Bytes::from(kept.concat());
        Ok(payload.has_remaining().then(|| Entry {
            payload,
            ..entry.clone()
        }))
    }
}
