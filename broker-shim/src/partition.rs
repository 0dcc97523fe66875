//! One partition: its stream and the state of its producers.
//!
//! *Owns*: the order check → append → remember, under one lock; loading the producers' state.
//! *Does not own*: the rules of sequences (producer), of batches (records), of durability
//! (stream-store).
//!
//! Invariants
//! 1. A batch's offset and its place in the producers' ledger are given under one lock, so the
//!    ledger's order is the log's.
//! 2. The answer to a duplicate waits until the original is durable.
//! 3. No batch is appended before the producers' state is loaded.
//!
//! *IO: none* (through ports)

use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_protocol::ErrorCode;
use tidewater_stream_store::{AppendRequest, StateSnapshot, StateSource, Stream};
use tidewater_types::{ErrorKind, Offset, mutant, sometimes};
use tokio::sync::OnceCell;
use tracing::error;

use crate::producer::{Decision, ProducerLedger, ProducerLimits};
use crate::records::{BatchHeader, ValidBatch};
use crate::refusal::Refusal;

/// Bytes read at a time when producers' state is rebuilt.
const REPLAY_BYTES: usize = 4 << 20;

/// One partition.
pub(crate) struct Partition {
    pub(crate) stream: Stream,
    ledger: OnceCell<Arc<Mutex<ProducerLedger>>>,
}

/// A batch that has its place in the log. To be acknowledged once `end` is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    pub(crate) end: Offset,
    pub(crate) log_append_time: i64,
}

/// An offset as the wire counts it.
pub(crate) fn wire(offset: Offset) -> i64 {
    i64::try_from(offset.0).expect("offsets stay within i64")
}

/// An offset from the wire; `None` if it is negative.
pub(crate) fn from_wire(offset: i64) -> Option<Offset> {
    u64::try_from(offset).ok().map(Offset)
}

impl Partition {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            ledger: OnceCell::new(),
        }
    }

    /// The leader epoch: the stream's own, so it rises at each open and never goes back.
    pub(crate) fn leader_epoch(&self) -> i32 {
        i32::try_from(self.stream.epoch().0).unwrap_or(i32::MAX)
    }

    /// Whether a client's idea of the leader epoch is wrong, and how. −1 is no idea.
    pub(crate) fn check_epoch(&self, current: i32) -> Result<(), ErrorCode> {
        match current.cmp(&self.leader_epoch()) {
            _ if current < 0 => Ok(()),
            std::cmp::Ordering::Less => Err(ErrorCode::FENCED_LEADER_EPOCH),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        }
    }

    /// Appends a batch, or finds the one it repeats. It is durable once `Placed::end` is.
    pub(crate) async fn append(&self, batch: ValidBatch, now_ms: i64) -> Result<Placed, Refusal> {
        let ledger = self.ledger(now_ms).await?;
        let reservation = match self.stream.reserve(batch.bytes.len()).await {
            Ok(reservation) => reservation,
            Err(error) => {
                // Any other refusal is for good: the producer goes on without this batch.
                if error.kind() == ErrorKind::Full {
                    ledger.lock().refused(&batch.header);
                }
                return Err(error.into());
            }
        };
        let mut ledger = ledger.lock();
        match ledger.check(&batch.header) {
            Decision::Append => {}
            Decision::Duplicate {
                base_offset,
                last_offset,
                max_timestamp,
            } => {
                let log_append_time = batch.append_ms.map_or(-1, |_| max_timestamp);
                let end = if mutant!(42) {
                    // Known, so taken for durable.
                    self.stream.start()
                } else {
                    from_wire(last_offset + 1).expect("the ledger holds valid offsets")
                };
                return Ok(Placed {
                    base_offset,
                    end,
                    log_append_time,
                });
            }
            Decision::Fault(fault) => {
                return Err(Refusal::new(ErrorCode(fault.code()), fault.to_string()));
            }
        }
        let max_timestamp = batch.append_ms.unwrap_or(batch.max_timestamp);
        let request = AppendRequest {
            record_count: batch.num_records(),
            timestamp_ms_max: max_timestamp,
            num_bytes: batch.bytes.len(),
        };
        let log_append_time = batch.log_append_time();
        let header = batch.header;
        let leader_epoch = self.leader_epoch();
        let appended = self
            .stream
            .append_reserved(reservation, request, |base_offset| {
                batch.into_stored(wire(base_offset), leader_epoch)
            })?;
        let base_offset = wire(appended.base_offset);
        ledger.applied(&header, base_offset, max_timestamp, now_ms);
        Ok(Placed {
            base_offset,
            end: appended.end_offset,
            log_append_time,
        })
    }

    /// Whether the batch is the last one of its producer that the partition remembers. While the
    /// producers' state is not loaded, it may be.
    pub(crate) fn is_last_of_producer(&self, stored: &BatchHeader) -> bool {
        let ledger = self.ledger.get();
        ledger.is_none_or(|ledger| ledger.lock().is_last(stored))
    }

    /// The producers' state, loaded at the first call.
    async fn ledger(&self, now_ms: i64) -> Result<&Arc<Mutex<ProducerLedger>>, Refusal> {
        self.ledger.get_or_try_init(|| self.load(now_ms)).await
    }

    async fn load(&self, now_ms: i64) -> Result<Arc<Mutex<ProducerLedger>>, Refusal> {
        let limits = ProducerLimits::default();
        // What is on its way belongs to the state too, and is read once it is durable.
        let end = self.stream.end();
        self.stream.wait_durable(end).await?;
        let start = self.stream.start();
        let mut ledger = match self.stream.snapshot().await? {
            Some(snapshot) => ProducerLedger::restore(limits, &snapshot.bytes).map_err(damaged)?,
            None => ProducerLedger::new(limits, wire(start)),
        };
        let mut next = from_wire(ledger.next_offset())
            .unwrap_or_default()
            .max(start);
        if next > end {
            sometimes!("broker: producers' state of a later owner");
            return Err(moved_on());
        }
        if mutant!(43) {
            ledger = ProducerLedger::new(limits, wire(end));
            next = end;
        }
        while next < end {
            let fetched = self.stream.fetch(next, REPLAY_BYTES).await?;
            for entry in &fetched.entries {
                let header = BatchHeader::parse(&entry.payload).map_err(damaged)?;
                ledger.replay(&header, now_ms);
                next = entry.end_offset();
            }
            if fetched.entries.is_empty() {
                return Err(moved_on());
            }
        }
        let ledger = Arc::new(Mutex::new(ledger));
        self.stream.set_state_source(Arc::new(LedgerSource {
            ledger: Arc::clone(&ledger),
        }));
        Ok(ledger)
    }
}

/// A later owner has the stream: there is nothing to read below the high watermark, as it has compacted
/// what this one's log ends with, or a state behind that end, which it left.
pub(crate) fn moved_on() -> Refusal {
    let message = "another broker has the partition";
    Refusal::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, message)
}

fn damaged(cause: impl std::fmt::Display) -> Refusal {
    error!(%cause, "the producers' state cannot be rebuilt");
    Refusal::new(ErrorCode::KAFKA_STORAGE_ERROR, cause.to_string())
}

/// Gives the producers' state to the uploads of the stream.
struct LedgerSource {
    ledger: Arc<Mutex<ProducerLedger>>,
}

impl StateSource for LedgerSource {
    fn snapshot_at(&self, offset: Offset) -> Option<StateSnapshot> {
        match self.ledger.lock().snapshot_at(wire(offset)) {
            Ok(bytes) => Some(StateSnapshot {
                as_of: offset,
                bytes,
            }),
            Err(error) => {
                // The older snapshot stays; opening replays a little more.
                error!(%error, "no producer snapshot for an upload");
                None
            }
        }
    }

    fn committed(&self, offset: Offset) {
        if let Err(error) = self.ledger.lock().release(wire(offset)) {
            error!(%error, "producer state cannot be released");
        }
    }
}
