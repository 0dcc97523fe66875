//! The coordinator of one `__consumer_offsets` partition.
//!
//! *Owns*: its groups and offsets, the order of appends, what waits for durability.
//! *Does not own*: the log and the clock; its driver appends, waits and ticks.
//!
//! The driver replays the log (`restore`, `replay`, `loaded`), then gives events in
//! and carries effects out. If an append fails it calls `close`, delivers the
//! replies, throws the coordinator away and loads a new one from the log.
//!
//! Invariants
//! 1. Appends become durable in the order of their ids.
//! 2. `fetch` and snapshots know only what is durable.
//! 3. Groups nobody knows of are forgotten at the end of a turn.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidewater_protocol::ErrorCode;
use tidewater_types::{ErrorKind, mutant};

use super::compacted::{CompactedLog, GroupSnapshotError};
use super::log::{self, Key, LogError};
use super::offsets::OffsetStore;
use super::outbox::{AppendId, Draft, Effect, LogRecord, Outbox, Then, Turn};
use super::state::Group;
use super::types::{
    GroupConfig, HeartbeatRequest, JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, Now,
    Response, SyncRequest, SyncResponse, Ticket,
};

mod commit;
mod refuse;
mod view;

/// Why the log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A record is damaged or of a newer release.
    #[error("record at offset {offset}: {source}")]
    Record { offset: i64, source: LogError },
    /// The snapshot is.
    #[error(transparent)]
    Snapshot(#[from] GroupSnapshotError),
}

impl ReplayError {
    #[allow(
        dead_code,
        reason = "the caller has one reaction to all of them so far"
    )]
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Record { source, .. } => source.kind(),
            Self::Snapshot(error) => error.kind(),
        }
    }
}

/// An append that is not durable yet.
#[derive(Debug)]
struct Pending {
    id: AppendId,
    group: String,
    draft: Draft,
}

/// Groups and offsets of one partition of the offsets topic.
#[derive(Debug)]
pub(crate) struct Coordinator {
    config: GroupConfig,
    groups: BTreeMap<String, Group>,
    /// When each group with a time-out is due, monotonic ms.
    deadlines: BTreeSet<(i64, String)>,
    due: BTreeMap<String, i64>,
    offsets: OffsetStore,
    log: CompactedLog,
    pending: VecDeque<Pending>,
    next_append: u64,
    next_expiry_ms: Option<i64>,
}

impl Coordinator {
    /// A coordinator of an empty log.
    pub(crate) fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            due: BTreeMap::new(),
            offsets: OffsetStore::default(),
            log: CompactedLog::default(),
            pending: VecDeque::new(),
            next_append: 0,
            next_expiry_ms: None,
        }
    }

    /// The coordinator a snapshot tells of; records behind its offset are to be replayed.
    ///
    /// # Errors
    /// The snapshot or a record in it is damaged or of a newer release.
    pub(crate) fn restore(config: GroupConfig, snapshot: &[u8]) -> Result<Self, ReplayError> {
        let mut this = Self::new(config);
        this.log = CompactedLog::decode(snapshot)?;
        let offset = this.log.next_offset();
        let records: Vec<(Bytes, Bytes)> = this
            .log
            .base()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (key, value) in records {
            this.load(key, Some(value))
                .map_err(|source| ReplayError::Record { offset, source })?;
        }
        Ok(this)
    }

    /// Takes a record of the log while loading.
    ///
    /// # Errors
    /// The record is damaged or of a newer release.
    pub(crate) fn replay(
        &mut self,
        offset: i64,
        key: &Bytes,
        value: Option<&Bytes>,
    ) -> Result<(), ReplayError> {
        self.log.push(offset, key, value.map(|value| &value[..]));
        if mutant!(50) && offset % 2 == 1 {
            return Ok(());
        }
        // Copies: slices would pin the batches they were read from.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        self.load(copy(key), value.map(copy))
            .map_err(|source| ReplayError::Record { offset, source })
    }

    /// Passes offsets that hold no group record, such as control batches.
    pub(crate) fn skip_to(&mut self, offset: i64) {
        self.log.skip_to(offset);
    }

    /// Loading is over: time-outs begin.
    pub(crate) fn loaded(&mut self, now: Now) {
        self.next_expiry_ms = Some(now.ms.saturating_add(self.config.expiry_check_ms));
        for group in self.groups.values_mut() {
            group.loaded(now);
        }
        let names: Vec<String> = self.groups.keys().cloned().collect();
        names.iter().for_each(|name| self.reschedule(name));
    }

    fn load(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), LogError> {
        match log::decode_key(key)? {
            Key::Offset {
                group,
                topic,
                partition,
            } => self.load_offset(group, topic, partition, value)?,
            Key::Group { group } => match value {
                Some(value) => {
                    let loaded = Group::from_value(&group, log::decode_group(value)?);
                    self.groups.insert(group, loaded);
                }
                None => {
                    self.groups.remove(&group);
                }
            },
            Key::Other { .. } => {}
        }
        Ok(())
    }

    fn load_offset(
        &mut self,
        group: String,
        topic: String,
        partition: i32,
        value: Option<Bytes>,
    ) -> Result<(), LogError> {
        match value {
            Some(value) => {
                let offset = log::decode_offset(value)?;
                self.groups
                    .entry(group.clone())
                    .or_insert_with(|| Group::new(&group));
                self.offsets.put(group, topic, partition, offset);
            }
            None => {
                self.offsets.remove(&group, &topic, partition);
                if self.groups.get(&group).is_some_and(Group::is_blank)
                    && !self.offsets.has_group(&group)
                {
                    self.groups.remove(&group);
                }
            }
        }
        Ok(())
    }

    /// JoinGroup.
    pub(crate) fn join(&mut self, ticket: Ticket, request: &JoinRequest, now: Now) -> Vec<Effect> {
        let (min, max) = (
            self.config.session_timeout_ms_min,
            self.config.session_timeout_ms_max,
        );
        let refusal = if request.group.is_empty() {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if !(min..=max).contains(&request.session_timeout_ms) {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if !request.member_id.is_empty() && !self.groups.contains_key(&request.group) {
            Some(ErrorCode::UNKNOWN_MEMBER_ID)
        } else {
            None
        };
        if let Some(error) = refusal {
            let response = Response::Join(JoinResponse::failed(error, &request.member_id));
            return vec![Effect::Reply { ticket, response }];
        }
        self.groups
            .entry(request.group.clone())
            .or_insert_with(|| Group::new(&request.group));
        self.turn(&request.group, now, |group, turn| {
            group.join(ticket, request, turn)
        })
    }

    /// SyncGroup.
    pub(crate) fn sync(&mut self, ticket: Ticket, request: &SyncRequest, now: Now) -> Vec<Effect> {
        if let Some(error) = self.refuse_stranger(&request.group) {
            let response = Response::Sync(SyncResponse::failed(error));
            return vec![Effect::Reply { ticket, response }];
        }
        self.turn(&request.group, now, |group, turn| {
            group.sync(ticket, request, turn)
        })
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        ticket: Ticket,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Vec<Effect> {
        if let Some(error) = self.refuse_stranger(&request.group) {
            return vec![Effect::Reply {
                ticket,
                response: Response::Heartbeat(error),
            }];
        }
        self.turn(&request.group, now, |group, turn| {
            let error = group.heartbeat(request, turn);
            turn.out.reply(ticket, Response::Heartbeat(error));
        })
    }

    /// LeaveGroup.
    pub(crate) fn leave(
        &mut self,
        ticket: Ticket,
        request: &LeaveRequest,
        now: Now,
    ) -> Vec<Effect> {
        let response = match self.refuse_stranger(&request.group) {
            Some(ErrorCode::UNKNOWN_MEMBER_ID) => {
                let members = request
                    .members
                    .iter()
                    .map(|m| (m.clone(), ErrorCode::UNKNOWN_MEMBER_ID))
                    .collect();
                LeaveResponse {
                    error: ErrorCode::NONE,
                    members,
                }
            }
            Some(error) => LeaveResponse {
                error,
                members: Vec::new(),
            },
            None => {
                return self.turn(&request.group, now, |group, turn| {
                    let response = group.leave(request, turn);
                    turn.out.reply(ticket, Response::Leave(response));
                });
            }
        };
        vec![Effect::Reply {
            ticket,
            response: Response::Leave(response),
        }]
    }

    fn refuse_stranger(&self, group: &str) -> Option<ErrorCode> {
        if group.is_empty() {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if self.groups.contains_key(group) {
            None
        } else {
            Some(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// Lets everything time out that is due.
    pub(crate) fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((due_ms, name)) = self.deadlines.first().cloned() {
            if due_ms > now.ms {
                break;
            }
            effects.extend(self.turn(&name, now, Group::tick));
        }
        if self.next_expiry_ms.is_some_and(|due_ms| due_ms <= now.ms) {
            self.next_expiry_ms = Some(now.ms.saturating_add(self.config.expiry_check_ms));
            effects.extend(self.expire_offsets(now));
        }
        effects
    }

    /// When `tick` has something to do, monotonic ms.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        let first = self.deadlines.first().map(|(due_ms, _)| *due_ms);
        first.into_iter().chain(self.next_expiry_ms).min()
    }

    /// The append `id` is durable, its first record at `base_offset`.
    ///
    /// # Panics
    /// If appends become durable out of order.
    pub(crate) fn durable(&mut self, id: AppendId, base_offset: i64, now: Now) -> Vec<Effect> {
        let pending = self.pending.pop_front().expect("an append is pending");
        assert_eq!(pending.id, id, "appends become durable in order");
        self.log.skip_to(base_offset);
        for record in pending.draft.records {
            self.log
                .push(self.log.next_offset(), &record.key, record.value.as_deref());
            self.apply_offset(record);
        }
        let name = pending.group;
        self.turn(&name.clone(), now, |group, turn| {
            for then in pending.draft.then {
                match then {
                    Then::Reply(ticket, response) => turn.out.reply(ticket, response),
                    Then::Rejoined(ticket, response) => group.rejoined(ticket, response, turn),
                    Then::Assign {
                        generation,
                        assignments,
                    } => group.assign(generation, &assignments, turn),
                    Then::Remove => group.forget(),
                }
            }
        })
    }

    /// Offsets are visible from here on; groups are ahead of their records.
    fn apply_offset(&mut self, record: LogRecord) {
        let key = log::decode_key(record.key).expect("encoded by this coordinator");
        if let Key::Offset {
            group,
            topic,
            partition,
        } = key
        {
            self.load_offset(group, topic, partition, record.value)
                .expect("encoded by this coordinator");
        }
    }

    /// The coordinator moved away or its log failed: answers every ticket with
    /// "not coordinator". Afterwards it must be thrown away.
    pub(crate) fn close(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Outbox::default();
        let mut turn = Turn {
            now,
            config: &self.config,
            out: &mut out,
        };
        for group in self.groups.values_mut() {
            group.fail_all(ErrorCode::NOT_COORDINATOR, &mut turn);
        }
        for then in self
            .pending
            .drain(..)
            .flat_map(|pending| pending.draft.then)
        {
            let (ticket, response) = match then {
                Then::Reply(ticket, response) => (ticket, response),
                Then::Rejoined(ticket, response) => (ticket, Response::Join(response)),
                Then::Assign { .. } | Then::Remove => continue,
            };
            out.reply(ticket, response.failed(ErrorCode::NOT_COORDINATOR));
        }
        out.replies
            .into_iter()
            .map(|(ticket, response)| Effect::Reply { ticket, response })
            .collect()
    }

    /// The state as of `offset` of the log, encoded.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub(crate) fn snapshot_at(&self, offset: i64) -> Result<Bytes, GroupSnapshotError> {
        self.log.snapshot_at(offset)
    }

    /// The snapshot at `offset` is committed: nothing below is asked for again.
    ///
    /// # Errors
    /// `OutOfRange`.
    pub(crate) fn release(&mut self, offset: i64) -> Result<(), GroupSnapshotError> {
        self.log.release(offset)
    }

    /// The offset behind the last durable record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.log.next_offset()
    }

    /// Lets `handle` act on a group, then turns what it left into effects.
    fn turn(
        &mut self,
        name: &str,
        now: Now,
        handle: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) -> Vec<Effect> {
        let mut out = Outbox::default();
        // A group may be gone while a consequence of its append was under way.
        let mut absent = Group::new(name);
        let group = self.groups.get_mut(name).unwrap_or(&mut absent);
        handle(
            group,
            &mut Turn {
                now,
                config: &self.config,
                out: &mut out,
            },
        );
        let is_known = self.offsets.has_group(name)
            || self.pending.iter().any(|pending| pending.group == name);
        if !is_known && out.drafts.is_empty() && self.groups.get(name).is_some_and(Group::is_blank)
        {
            self.groups.remove(name);
        }
        self.reschedule(name);
        let mut effects = Vec::with_capacity(out.replies.len() + out.drafts.len());
        for draft in out.drafts {
            let id = AppendId(self.next_append);
            self.next_append += 1;
            effects.push(Effect::Append {
                id,
                records: draft.records.clone(),
            });
            self.pending.push_back(Pending {
                id,
                group: name.to_owned(),
                draft,
            });
        }
        let replies = out.replies.into_iter();
        effects.extend(replies.map(|(ticket, response)| Effect::Reply { ticket, response }));
        effects
    }

    fn reschedule(&mut self, name: &str) {
        if let Some(due_ms) = self.due.remove(name) {
            self.deadlines.remove(&(due_ms, name.to_owned()));
        }
        if let Some(due_ms) = self.groups.get(name).and_then(Group::deadline_ms) {
            self.due.insert(name.to_owned(), due_ms);
            self.deadlines.insert((due_ms, name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
