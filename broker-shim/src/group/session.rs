//! SyncGroup, Heartbeat, LeaveGroup and the right to commit offsets; what tools are told.
//!
//! *Owns*: the judgement of these requests. *Does not own*: rebalances (`state`).
//!
//! Invariants
//! 1. A request of another generation or of a replaced member changes nothing.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_protocol::ErrorCode;
use tidewater_types::mutant;

use super::outbox::{Then, Turn};
use super::state::{Group, GroupState, Wait};
use super::types::{
    CommitRequest, DescribedMember, GroupDescription, HeartbeatRequest, LeaveMember, LeaveRequest,
    LeaveResponse, Response, SyncRequest, SyncResponse, Ticket,
};

impl Group {
    /// Whether the ids name a member of this group.
    pub(crate) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_ids.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    pub(crate) fn sync(&mut self, ticket: Ticket, request: &SyncRequest, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_sync(request) {
            return turn
                .out
                .reply(ticket, Response::Sync(SyncResponse::failed(error)));
        }
        self.unsynced.remove(&request.member_id);
        if self.unsynced.is_empty() && matches!(self.wait, Wait::Sync { .. }) {
            self.wait = Wait::Nothing;
        }
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        let member = self.members.get_mut(&request.member_id).expect("checked");
        if self.state == GroupState::Stable {
            member.renew_session(turn.now.ms);
            let assignment = member.assignment.clone();
            let response = SyncResponse {
                error: ErrorCode::NONE,
                protocol_type,
                protocol,
                assignment,
            };
            return turn.out.reply(ticket, Response::Sync(response));
        }
        if let Some(earlier) = member.awaiting_sync.replace(ticket) {
            turn.out.reply(
                earlier,
                Response::Sync(SyncResponse::failed(ErrorCode::REBALANCE_IN_PROGRESS)),
            );
        }
        if self.is_leader(&request.member_id) {
            let record = self.to_record(&request.assignments);
            let (generation, assignments) = (self.generation, request.assignments.clone());
            turn.out.append(
                vec![record],
                vec![Then::Assign {
                    generation,
                    assignments,
                }],
            );
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |asked: &Option<String>, own: &Option<String>| {
            asked.is_some() && own.is_some() && asked != own
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, turn: &Turn<'_>) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        if let Err(error) =
            self.check_member(&request.member_id, request.group_instance_id.as_deref())
        {
            return error;
        }
        if request.generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.renew_session(&request.member_id, turn);
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        }
    }

    fn renew_session(&mut self, member_id: &str, turn: &Turn<'_>) {
        if let Some(member) = self
            .members
            .get_mut(member_id)
            .filter(|member| !member.is_new)
        {
            member.renew_session(turn.now.ms);
        }
    }

    pub(crate) fn leave(&mut self, request: &LeaveRequest, turn: &mut Turn<'_>) -> LeaveResponse {
        if self.state == GroupState::Dead {
            return LeaveResponse {
                error: ErrorCode::COORDINATOR_NOT_AVAILABLE,
                members: Vec::new(),
            };
        }
        let num_members = self.members.len();
        let mut members = Vec::with_capacity(request.members.len());
        for member in &request.members {
            members.push((member.clone(), self.leave_one(member, turn)));
        }
        if self.members.len() < num_members {
            self.rebalance(turn);
        } else {
            // An id that was given out and is now handed back may be the last one waited for.
            self.try_complete_join(turn);
        }
        LeaveResponse {
            error: ErrorCode::NONE,
            members,
        }
    }

    fn leave_one(&mut self, leaving: &LeaveMember, turn: &mut Turn<'_>) -> ErrorCode {
        if leaving.member_id.is_empty() {
            let known = leaving
                .group_instance_id
                .as_ref()
                .and_then(|id| self.static_ids.get(id))
                .cloned();
            let Some(member_id) = known else {
                return ErrorCode::UNKNOWN_MEMBER_ID;
            };
            self.remove_member(&member_id, turn);
            return ErrorCode::NONE;
        }
        if self.pending.remove(&leaving.member_id).is_some() {
            return ErrorCode::NONE;
        }
        match self.check_member(&leaving.member_id, leaving.group_instance_id.as_deref()) {
            Ok(()) => {
                self.remove_member(&leaving.member_id, turn);
                ErrorCode::NONE
            }
            Err(error) => error,
        }
    }

    /// Whether the sender may commit offsets; a member's session is renewed by it.
    pub(crate) fn check_commit(
        &mut self,
        request: &CommitRequest,
        turn: &Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if request.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let is_anonymous = request.generation < 0
            && request.member_id.is_empty()
            && request.group_instance_id.is_none();
        if is_anonymous {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.generation && !mutant!(48) {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.renew_session(&request.member_id, turn);
        Ok(())
    }

    /// Whether the group may be deleted.
    pub(crate) fn check_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            _ => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    /// Each member's assignment.
    pub(crate) fn assignments(&self) -> Vec<(String, Bytes)> {
        self.members
            .iter()
            .map(|(id, member)| (id.clone(), member.assignment.clone()))
            .collect()
    }

    pub(crate) fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self
            .protocol
            .as_deref()
            .filter(|_| stable)
            .unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable {
                member.metadata(protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        GroupDescription {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        }
    }
}
