//! JoinGroup: first joins, joins of known members, static members that come back.
//!
//! *Owns*: the judgement of a join. *Does not own*: what a rebalance does (`state`).
//!
//! Invariants
//! 1. After a join is accepted all members have a protocol in common.
//! 2. A static member's new id takes the old one's place and assignment; whoever
//!    still uses the old id is fenced (KIP-345).
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;

use super::member::Member;
use super::outbox::{Then, Turn};
use super::state::{Group, GroupState, Wait};
use super::types::{JoinRequest, JoinResponse, Response, SyncResponse, Ticket};

impl Group {
    /// Handles a join whose group exists or was just made for it.
    pub(crate) fn join(&mut self, ticket: Ticket, request: &JoinRequest, turn: &mut Turn<'_>) {
        let is_first = request.member_id.is_empty();
        let refusal = if self.state == GroupState::Dead {
            Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        } else if !self.has_room(&request.member_id, turn) {
            self.remove_member(&request.member_id, turn);
            self.try_complete_join(turn);
            return refuse(ticket, ErrorCode::GROUP_MAX_SIZE_REACHED, "", turn);
        } else if !self.has_common_protocol(request) {
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            None
        };
        if let Some(error) = refusal {
            return refuse(ticket, error, &request.member_id, turn);
        }
        if is_first {
            self.join_first(ticket, request, turn)
        } else {
            self.join_again(ticket, request, turn)
        }
    }

    fn has_room(&self, member_id: &str, turn: &Turn<'_>) -> bool {
        let max = turn.config.num_members_max;
        let member = self.members.get(member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => {
                self.pending.len() < max || self.pending.contains_key(member_id)
            }
            // Counting who waits, not who is known, lets the last to rejoin be turned away.
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.num_awaiting_join() < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || self.members.len() < max
            }
        }
    }

    fn has_common_protocol(&self, request: &JoinRequest) -> bool {
        if self.members.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|offered| {
                self.members
                    .values()
                    .all(|member| member.offers(&offered.name))
            })
    }

    fn join_first(&mut self, ticket: Ticket, request: &JoinRequest, turn: &mut Turn<'_>) {
        let prefix = request
            .group_instance_id
            .as_deref()
            .unwrap_or(&request.client_id);
        let member_id = format!("{prefix}-{}", request.random);
        if let Some(instance_id) = &request.group_instance_id {
            return match self.static_ids.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(ticket, request, &old_id, &member_id, turn),
                None => self.add_member(ticket, request, &member_id, turn),
            };
        }
        if request.require_member_id {
            // An id that is known before the join is parked keeps retries from
            // leaving dead members behind (KIP-394).
            let ends_ms = turn
                .now
                .ms
                .saturating_add(i64::from(request.session_timeout_ms));
            self.pending.insert(member_id.clone(), ends_ms);
            return refuse(ticket, ErrorCode::MEMBER_ID_REQUIRED, &member_id, turn);
        }
        self.add_member(ticket, request, &member_id, turn);
    }

    fn add_member(
        &mut self,
        ticket: Ticket,
        request: &JoinRequest,
        member_id: &str,
        turn: &mut Turn<'_>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        let mut member = Member::new(request);
        member.awaiting_join = Some(ticket);
        // A new member cannot send heartbeats while its join is parked.
        member.session_ends_ms = Some(
            turn.now
                .ms
                .saturating_add(turn.config.new_member_join_ms_max),
        );
        if let Some(instance_id) = &request.group_instance_id {
            self.static_ids
                .insert(instance_id.clone(), member_id.to_owned());
        }
        self.pending.remove(member_id);
        self.members.insert(member_id.to_owned(), member);
        if self.leader.is_none() {
            self.leader = Some(member_id.to_owned());
        }
        if let Wait::Initial { has_grown, .. } = &mut self.wait {
            *has_grown = true;
        }
        self.rebalance(turn);
    }

    fn join_again(&mut self, ticket: Ticket, request: &JoinRequest, turn: &mut Turn<'_>) {
        let member_id = &request.member_id;
        if self.pending.contains_key(member_id) && request.group_instance_id.is_none() {
            return self.add_member(ticket, request, member_id, turn);
        }
        if let Err(error) = self.check_member(member_id, request.group_instance_id.as_deref()) {
            return refuse(ticket, error, member_id, turn);
        }
        let unchanged = self.members[member_id].protocols == request.protocols;
        let stands = match self.state {
            GroupState::PreparingRebalance => false,
            // It may have missed the answer to its join.
            GroupState::CompletingRebalance => unchanged,
            // A leader that joins again asks for a rebalance.
            GroupState::Stable => unchanged && !self.is_leader(member_id),
            // No member is known in these.
            GroupState::Empty | GroupState::Dead => {
                return refuse(ticket, ErrorCode::UNKNOWN_MEMBER_ID, member_id, turn);
            }
        };
        if stands {
            let response = self.joined(member_id);
            return turn.out.reply(ticket, Response::Join(response));
        }
        self.await_join(ticket, request, member_id, turn);
        self.rebalance(turn);
    }

    /// Parks the join; a join of the same member that waits already is let go.
    fn await_join(
        &mut self,
        ticket: Ticket,
        request: &JoinRequest,
        member_id: &str,
        turn: &mut Turn<'_>,
    ) {
        let member = self
            .members
            .get_mut(member_id)
            .expect("judged to be a member");
        member.update(request);
        if let Some(earlier) = member.awaiting_join.replace(ticket) {
            refuse(earlier, ErrorCode::REBALANCE_IN_PROGRESS, member_id, turn);
        }
    }

    fn replace_static(
        &mut self,
        ticket: Ticket,
        request: &JoinRequest,
        old_id: &str,
        new_id: &str,
        turn: &mut Turn<'_>,
    ) {
        let old_leader = self.leader.clone().unwrap_or_default();
        self.rename_member(old_id, new_id, turn);
        let member = self.members.get_mut(new_id).expect("renamed a line above");
        member.update(request);
        member.renew_session(turn.now.ms);
        if self.state == GroupState::Stable
            && self.protocol.as_deref() == Some(&self.select_protocol())
        {
            // Nothing changes for the others: the new id takes over the assignment.
            let mut response = self.joined(new_id);
            if request.can_skip_assignment {
                response.skip_assignment = self.is_leader(new_id);
            } else {
                // Without skipAssignment a leader would assign anew; told of the
                // old leader, it syncs as a follower.
                response.leader = old_leader;
                response.members = Vec::new();
            }
            let record = self.to_record(&self.assignments());
            turn.out
                .append(vec![record], vec![Then::Rejoined(ticket, response)]);
            return;
        }
        self.await_join(ticket, request, new_id, turn);
        self.rebalance(turn);
    }

    /// Answers a static member whose new id is durable, unless the group moved on.
    pub(crate) fn rejoined(&self, ticket: Ticket, response: JoinResponse, turn: &mut Turn<'_>) {
        let member_id = response.member_id.clone();
        if !self.members.contains_key(&member_id) {
            refuse(ticket, ErrorCode::UNKNOWN_MEMBER_ID, &member_id, turn);
        } else if response.generation != self.generation {
            refuse(ticket, ErrorCode::REBALANCE_IN_PROGRESS, &member_id, turn);
        } else {
            turn.out.reply(ticket, Response::Join(response));
        }
    }

    /// Gives a static member a new id; requests under the old one are fenced.
    fn rename_member(&mut self, old_id: &str, new_id: &str, turn: &mut Turn<'_>) {
        let mut member = self
            .members
            .remove(old_id)
            .expect("static ids name members");
        if let Some(ticket) = member.awaiting_join.take() {
            refuse(ticket, ErrorCode::FENCED_INSTANCE_ID, old_id, turn);
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            turn.out.reply(
                ticket,
                Response::Sync(SyncResponse::failed(ErrorCode::FENCED_INSTANCE_ID)),
            );
        }
        if let Some(instance_id) = &member.group_instance_id {
            self.static_ids
                .insert(instance_id.clone(), new_id.to_owned());
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(new_id.to_owned());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }
}

fn refuse(ticket: Ticket, error: ErrorCode, member_id: &str, turn: &mut Turn<'_>) {
    turn.out.reply(
        ticket,
        Response::Join(JoinResponse::failed(error, member_id)),
    );
}
