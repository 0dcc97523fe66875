//! One coordinator at work: requests in, appends in order, answers when they are due.
//!
//! *Owns*: the tickets' answers, the order of appends to the offsets log, the time-out timer.
//! *Does not own*: what a request does (group), durability (stream-store).
//!
//! Invariants
//! 1. Effects are carried out in the order the coordinator gave them.
//! 2. A reply that an append carries leaves after that append is durable.
//! 3. Every ticket is answered, if only because the shard closed.
//!
//! *IO: none* (through ports)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_protocol::ErrorCode;
use tidewater_stream_store::{AppendRequest, StateSnapshot, StateSource, StoreError, Stream};
use tidewater_types::{Env, ErrorKind, Offset};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, warn};

use crate::group::{AppendId, Coordinator, Effect, LogRecord, Now, Response, Ticket};
use crate::partition::wire;
use crate::records::BatchBuilder;

/// How long to rest before room for an append is asked for again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// An append the coordinator asked for.
type Asked = (AppendId, Vec<LogRecord>);

/// A running coordinator.
pub(crate) struct Shard {
    stream: Stream,
    env: Arc<dyn Env>,
    state: Arc<Mutex<State>>,
    /// The timer must be looked at again: an earlier deadline, or the end.
    timer: Notify,
    closed: AtomicBool,
}

struct State {
    groups: Coordinator,
    waiting: BTreeMap<Ticket, oneshot::Sender<Response>>,
    next_ticket: u64,
    appends: mpsc::UnboundedSender<Asked>,
}

/// Both clocks.
pub(crate) fn now(env: &dyn Env) -> Now {
    let ms = i64::try_from(env.now().0 / 1_000_000).unwrap_or(i64::MAX);
    Now {
        ms,
        wall_ms: env.wall_ms(),
    }
}

impl Shard {
    /// Starts the tasks that append and that time out.
    pub(crate) fn start(stream: Stream, env: Arc<dyn Env>, groups: Coordinator) -> Arc<Self> {
        let (appends, asked) = mpsc::unbounded_channel();
        let state = State {
            groups,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            appends,
        };
        let state = Arc::new(Mutex::new(state));
        let source = CoordinatorSource {
            state: Arc::clone(&state),
        };
        stream.set_state_source(Arc::new(source));
        let shard = Arc::new(Self {
            stream,
            env: Arc::clone(&env),
            state,
            timer: Notify::new(),
            closed: AtomicBool::new(false),
        });
        env.spawn(
            "groups: append",
            Box::pin(Arc::clone(&shard).append_all(asked)),
        );
        env.spawn("groups: time out", Box::pin(Arc::clone(&shard).time_out()));
        shard
    }

    /// Whether the log failed; the shard must be loaded anew.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Looks at the coordinator.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Coordinator) -> R) -> R {
        look(&self.state.lock().groups)
    }

    /// Hands a request over and waits for its answer; `None` if the shard closed before.
    pub(crate) async fn ask(
        &self,
        act: impl FnOnce(&mut Coordinator, Ticket, Now) -> Vec<Effect>,
    ) -> Option<Response> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if self.is_closed() {
                return None;
            }
            let ticket = Ticket(state.next_ticket);
            state.next_ticket += 1;
            state.waiting.insert(ticket, answer);
            self.turn(&mut state, |groups, now| act(groups, ticket, now));
        }
        answered.await.ok()
    }

    /// Lets the coordinator act, and carries out what follows.
    fn turn(&self, state: &mut State, act: impl FnOnce(&mut Coordinator, Now) -> Vec<Effect>) {
        let deadline = state.groups.next_deadline_ms();
        let effects = act(&mut state.groups, now(self.env.as_ref()));
        for effect in effects {
            match effect {
                Effect::Append { id, records } => {
                    // The receiver ends only once the shard is closed and everybody is answered.
                    let _ = state.appends.send((id, records));
                }
                Effect::Reply { ticket, response } => {
                    if let Some(answer) = state.waiting.remove(&ticket) {
                        // Who asked may be gone.
                        let _ = answer.send(response);
                    }
                }
            }
        }
        let due = state.groups.next_deadline_ms();
        let earlier = match (due, deadline) {
            (Some(due), Some(before)) => due < before,
            (due, _) => due.is_some(),
        };
        if earlier {
            self.timer.notify_one();
        }
    }

    /// Appends what is asked for, in order; whatever came meanwhile shares one wait.
    async fn append_all(self: Arc<Self>, mut asked: mpsc::UnboundedReceiver<Asked>) {
        let mut batch = Vec::new();
        while asked.recv_many(&mut batch, 256).await > 0 {
            if let Err(failure) = self.append_some(std::mem::take(&mut batch)).await {
                error!(%failure, "the offsets log cannot be written; its groups are loaded anew");
                self.close();
                return;
            }
        }
    }

    async fn append_some(&self, batch: Vec<Asked>) -> Result<(), StoreError> {
        let mut settled = Vec::with_capacity(batch.len());
        let mut end = Offset(0);
        for (id, records) in batch {
            match self.append_one(&records).await {
                Ok((base_offset, end_offset)) => {
                    settled.push((id, Some(base_offset)));
                    end = end.max(end_offset);
                }
                // One group has grown too large; the others of this log must not suffer for it.
                Err(error) if error.is_too_large() => {
                    warn!(%error, "a group's records do not fit the offsets log");
                    settled.push((id, None));
                }
                Err(error) => return Err(error),
            }
        }
        self.stream.wait_durable(end).await?;
        let mut state = self.state.lock();
        for (id, base_offset) in settled {
            self.turn(&mut state, |groups, now| match base_offset {
                Some(base_offset) => groups.durable(id, wire(base_offset), now),
                None => groups.refused(id, ErrorCode::UNKNOWN_SERVER_ERROR, now),
            });
        }
        Ok(())
    }

    async fn append_one(&self, records: &[LogRecord]) -> Result<(Offset, Offset), StoreError> {
        let mut builder = BatchBuilder::new();
        let timestamp_ms_max = self.env.wall_ms();
        for record in records {
            builder.append(
                timestamp_ms_max,
                Some(&record.key),
                record.value.as_deref(),
                &[],
            );
        }
        let leader_epoch = i32::try_from(self.stream.epoch().0).unwrap_or(i32::MAX);
        let num_bytes = builder.num_bytes();
        let record_count = u32::try_from(records.len()).expect("one request's records");
        let request = AppendRequest {
            record_count,
            timestamp_ms_max,
            num_bytes,
        };
        let reservation = loop {
            match self.stream.reserve(num_bytes).await {
                Err(error) if error.kind() == ErrorKind::Full => {
                    // Groups wait until there is room; their clients time out and try again.
                    self.env.sleep(FULL_PAUSE).await;
                }
                reserved => break reserved?,
            }
        };
        let appended = self
            .stream
            .append_reserved(reservation, request, |base_offset| {
                builder.build(wire(base_offset), leader_epoch)
            })?;
        Ok((appended.base_offset, appended.end_offset))
    }

    /// Answers everybody and takes no more requests.
    fn close(&self) {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        self.turn(&mut state, |groups, now| groups.close(now));
        state.waiting.clear();
        self.timer.notify_one();
    }

    /// Ticks the coordinator whenever something is due.
    async fn time_out(self: Arc<Self>) {
        while !self.is_closed() {
            let changed = self.timer.notified();
            let due = self.state.lock().groups.next_deadline_ms();
            let Some(due) = due else {
                changed.await;
                continue;
            };
            let wait = due.saturating_sub(now(self.env.as_ref()).ms);
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or(0));
            if !wait.is_zero() {
                let changed = std::pin::pin!(changed);
                if let Either::Left(_) = select(changed, self.env.sleep(wait)).await {
                    continue;
                }
            }
            let mut state = self.state.lock();
            self.turn(&mut state, Coordinator::tick);
        }
    }
}

/// Gives the groups' state to the uploads of the offsets log.
struct CoordinatorSource {
    state: Arc<Mutex<State>>,
}

impl StateSource for CoordinatorSource {
    fn snapshot_at(&self, offset: Offset) -> Option<StateSnapshot> {
        // The log may be durable a little further than the coordinator was told: then the older
        // snapshot stays, and loading replays a little more.
        let bytes: Bytes = self.state.lock().groups.snapshot_at(wire(offset)).ok()?;
        Some(StateSnapshot {
            as_of: offset,
            bytes,
        })
    }

    fn committed(&self, offset: Offset) {
        // Out of range for the same reason; a later commit releases it.
        let _ = self.state.lock().groups.release(wire(offset));
    }
}
