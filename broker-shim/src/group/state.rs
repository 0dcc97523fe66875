//! The state machine of a classic group: phases, generations, time-outs.
//!
//! *Owns*: `Group` and every change of its state.
//! *Does not own*: how requests are judged (`join`, `session`).
//!
//! ```text
//!   Empty ──join──▶ PreparingRebalance ──all joined / time-out──▶ CompletingRebalance
//!     ▲                  ▲        ▲                                   │ leader's assignment
//!     └──none joined─────┘        └──join, leave, time-out── Stable ◀─┘ durable
//! ```
//!
//! Invariants
//! 1. The generation grows with every completed join phase and never otherwise.
//! 2. Only `CompletingRebalance` becomes `Stable`, by the leader's durable assignment.
//! 3. A member waits for a join answer in `PreparingRebalance` alone.
//! 4. A member leaves together with its pending tickets answered.
//!
//! *IO: none*

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidewater_protocol::ErrorCode;

use super::member::Member;
use super::outbox::Turn;
use super::types::{JoinResponse, JoinedMember, Response, SyncResponse};

/// Phase of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    /// Its tombstone is on the way.
    Dead,
}

impl GroupState {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// What the group as a whole waits for; times are monotonic ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Nothing,
    /// The first rebalance waits for more members to come, in rounds.
    Initial {
        due_ms: i64,
        remaining_ms: i64,
        has_grown: bool,
    },
    /// Members that have not joined again are dropped.
    Join {
        due_ms: i64,
    },
    /// Members that joined and have not synced are dropped.
    Sync {
        due_ms: i64,
    },
}

/// A classic group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) state: GroupState,
    /// Wall clock; `None` in records older than Kafka 2.1.
    pub(crate) state_since_ms: Option<i64>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Instance id → member id.
    pub(crate) static_ids: BTreeMap<String, String>,
    /// Ids given out by "member id required", with the time each is forgotten.
    pub(crate) pending: BTreeMap<String, i64>,
    pub(crate) unsynced: BTreeSet<String>,
    pub(crate) wait: Wait,
    /// Topics a consumer group subscribes to; `None` when that is not known.
    pub(crate) subscribed: Option<BTreeSet<String>>,
}

impl Group {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: GroupState::Empty,
            state_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_ids: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            wait: Wait::Nothing,
            subscribed: None,
        }
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Nobody would miss it: it has no members, no ids given out and no history.
    pub(crate) fn is_blank(&self) -> bool {
        let empty =
            self.state == GroupState::Empty && self.members.is_empty() && self.pending.is_empty();
        empty && self.generation == 0 && self.protocol_type.is_none()
    }

    /// Its tombstone is durable: nothing of it is left.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(&self.id);
    }

    fn enter(&mut self, state: GroupState, turn: &Turn<'_>) {
        self.state = state;
        self.state_since_ms = Some(turn.now.wall_ms);
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn num_awaiting_join(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.awaiting_join.is_some())
            .count()
    }

    fn all_joined(&self) -> bool {
        self.pending.is_empty()
            && self
                .members
                .values()
                .all(|member| member.awaiting_join.is_some())
    }

    /// Takes a member out and answers what it waits for.
    pub(crate) fn remove_member(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        self.pending.remove(member_id);
        self.unsynced.remove(member_id);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(ticket) = member.awaiting_join {
            turn.out.reply(
                ticket,
                Response::Join(JoinResponse::failed(ErrorCode::UNKNOWN_MEMBER_ID, "")),
            );
        }
        if let Some(ticket) = member.awaiting_sync {
            turn.out.reply(
                ticket,
                Response::Sync(SyncResponse::failed(ErrorCode::UNKNOWN_MEMBER_ID)),
            );
        }
        if let Some(instance_id) = &member.group_instance_id {
            self.static_ids.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Starts a rebalance, or goes on with the one under way.
    pub(crate) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(turn)
            }
            GroupState::PreparingRebalance => self.try_complete_join(turn),
            GroupState::Dead => {}
        }
    }

    fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(turn);
        }
        self.unsynced.clear();
        let timeout_ms = self.rebalance_timeout_ms();
        let is_initial = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, turn);
        if !is_initial {
            self.wait = Wait::Join {
                due_ms: turn.now.ms.saturating_add(timeout_ms),
            };
            self.try_complete_join(turn);
            return;
        }
        let delay_ms = turn.config.initial_rebalance_delay_ms;
        if delay_ms == 0 {
            self.complete_join(turn);
        } else {
            let remaining_ms = (timeout_ms - delay_ms).max(0);
            self.wait = Wait::Initial {
                due_ms: turn.now.ms.saturating_add(delay_ms),
                remaining_ms,
                has_grown: false,
            };
        }
    }

    /// A rebalance began before the leader's assignment held.
    fn fail_syncs(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.renew_session(turn.now.ms);
                turn.out.reply(
                    ticket,
                    Response::Sync(SyncResponse::failed(ErrorCode::REBALANCE_IN_PROGRESS)),
                );
            }
        }
    }

    /// Completes the join phase if everybody is there; a first rebalance waits its time.
    pub(crate) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let may = self.state == GroupState::PreparingRebalance
            && !matches!(self.wait, Wait::Initial { .. });
        if may && self.all_joined() {
            self.complete_join(turn);
        }
    }

    pub(crate) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| {
                member.awaiting_join.is_none() && member.group_instance_id.is_none()
            })
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in missing {
            self.remove_member(&member_id, turn);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none of them is here: wait for
            // them, or for their sessions to end.
            self.wait = Wait::Join {
                due_ms: turn
                    .now
                    .ms
                    .saturating_add(self.rebalance_timeout_ms().max(1)),
            };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(turn)
        } else {
            self.begin_generation(turn)
        }
    }

    /// Whether the leader has joined, or another member was made leader that has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|member| member.awaiting_join.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(elected) = self.members.keys().find(|id| has_joined(id)).cloned() else {
            return false;
        };
        self.leader = Some(elected);
        true
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.protocol = None;
        self.leader = None;
        self.wait = Wait::Nothing;
        self.enter(GroupState::Empty, turn);
        self.subscribed = self.subscribed_topics();
        let record = self.to_record(&[]);
        turn.out.append(vec![record], Vec::new());
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        self.protocol = Some(self.select_protocol());
        self.enter(GroupState::CompletingRebalance, turn);
        self.subscribed = self.subscribed_topics();
        self.wait = Wait::Sync {
            due_ms: turn.now.ms.saturating_add(self.rebalance_timeout_ms()),
        };
        self.unsynced = self.members.keys().cloned().collect();
        for member_id in self.unsynced.clone() {
            let response = self.joined(&member_id);
            let member = self
                .members
                .get_mut(&member_id)
                .expect("listed a line above");
            member.is_new = false;
            member.renew_session(turn.now.ms);
            if let Some(ticket) = member.awaiting_join.take() {
                turn.out.reply(ticket, Response::Join(response));
            }
        }
    }

    /// The answer to a join in the current generation.
    pub(crate) fn joined(&self, member_id: &str) -> JoinResponse {
        let is_leader = self.is_leader(member_id);
        JoinResponse {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if is_leader {
                self.joined_members()
            } else {
                Vec::new()
            },
        }
    }

    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }

    /// Every member votes for the first of its protocols that all members offer.
    pub(crate) fn select_protocol(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|offered| self.members.values().all(|m| m.offers(&offered.name)));
            let choice = choice.expect("a join that leaves no common protocol is refused");
            *votes.entry(&choice.name).or_default() += 1;
        }
        let (elected, _) = votes
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .expect("a group with members");
        elected.to_owned()
    }

    /// The leader's assignment is durable: it holds unless the group moved on.
    pub(crate) fn assign(
        &mut self,
        generation: i32,
        assignments: &[(String, Bytes)],
        turn: &mut Turn<'_>,
    ) {
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return;
        }
        let by_id: BTreeMap<&String, &Bytes> =
            assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        self.enter(GroupState::Stable, turn);
        for (id, member) in &mut self.members {
            member.assignment = by_id
                .get(id)
                .map(|bytes| (*bytes).clone())
                .unwrap_or_default();
            if let Some(ticket) = member.awaiting_sync.take() {
                member.renew_session(turn.now.ms);
                let assignment = member.assignment.clone();
                let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
                let response = SyncResponse {
                    error: ErrorCode::NONE,
                    protocol_type,
                    protocol,
                    assignment,
                };
                turn.out.reply(ticket, Response::Sync(response));
            }
        }
    }

    /// Gives every pending ticket `error`.
    pub(crate) fn fail_all(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.awaiting_join.take() {
                turn.out
                    .reply(ticket, Response::Join(JoinResponse::failed(error, id)));
            }
            if let Some(ticket) = member.awaiting_sync.take() {
                turn.out
                    .reply(ticket, Response::Sync(SyncResponse::failed(error)));
            }
        }
    }
}
