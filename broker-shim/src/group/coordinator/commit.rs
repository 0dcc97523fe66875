//! OffsetCommit, the deletion of groups, and the expiry of offsets.
//!
//! *Owns*: which offsets are written and which are let go.
//! *Does not own*: the right of a member to commit (`session`).
//!
//! Invariants
//! 1. A commit is answered when it is durable, and read from then on.
//! 2. Deleting a group takes along commits that are not durable yet.
//! 3. Offsets of a group with members go only for topics it does not subscribe to.
//!
//! *IO: none*

use std::collections::BTreeSet;

use tidewater_protocol::ErrorCode;
use tidewater_types::mutant;

use super::super::log;
use super::super::offsets::CommittedOffset;
use super::super::outbox::{Draft, Effect, Then};
use super::super::state::{Group, GroupState};
use super::super::types::{CommitPartition, CommitRequest, CommitResponse, Now, Response, Ticket};
use super::Coordinator;

impl Coordinator {
    /// OffsetCommit.
    pub(crate) fn commit(
        &mut self,
        ticket: Ticket,
        request: &CommitRequest,
        now: Now,
    ) -> Vec<Effect> {
        if !self.groups.contains_key(&request.group) {
            if request.generation >= 0 {
                let not_found = request.knows_group_not_found;
                let error = if not_found {
                    ErrorCode::GROUP_ID_NOT_FOUND
                } else {
                    ErrorCode::ILLEGAL_GENERATION
                };
                return refuse(ticket, request, error);
            }
            // Whoever commits without membership needs no group first.
            self.groups
                .insert(request.group.clone(), Group::new(&request.group));
        }
        let draft = self.commit_draft(ticket, request, now);
        let is_written = draft.as_ref().is_ok_and(|draft| !draft.records.is_empty());
        let mut effects = self.turn(&request.group, now, |group, turn| {
            let draft = match group.check_commit(request, turn) {
                Err(error) => Err(failed(request, error)),
                Ok(()) => draft,
            };
            match draft {
                Ok(draft) => turn.out.drafts.push(draft),
                Err(response) => turn.out.reply(ticket, Response::Commit(response)),
            }
        });
        if mutant!(49) && is_written {
            self.acknowledge_early(&mut effects);
        }
        effects
    }

    /// The records of a commit, or the answer if none of it can be written.
    fn commit_draft(
        &self,
        ticket: Ticket,
        request: &CommitRequest,
        now: Now,
    ) -> Result<Draft, CommitResponse> {
        let mut errors = Vec::with_capacity(request.partitions.len());
        let mut draft = Draft {
            records: Vec::new(),
            then: Vec::new(),
            commits: Vec::new(),
        };
        for partition in &request.partitions {
            let metadata = partition.metadata.clone().unwrap_or_default();
            if metadata.encode_utf16().count() > self.config.metadata_len_max {
                errors.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            errors.push(ErrorCode::NONE);
            let CommitPartition {
                topic,
                partition,
                offset,
                leader_epoch,
                ..
            } = partition;
            let committed = CommittedOffset {
                offset: *offset,
                leader_epoch: *leader_epoch,
                metadata,
                commit_ms: now.wall_ms,
                expire_ms: request
                    .retention_ms
                    .map(|retention_ms| now.wall_ms.saturating_add(retention_ms)),
            };
            draft.records.push(log::offset_record(
                &request.group,
                topic,
                *partition,
                &committed,
            ));
            draft.commits.push((topic.clone(), *partition));
        }
        let response = CommitResponse { errors };
        if draft.records.is_empty() {
            return Err(response);
        }
        draft
            .then
            .push(Then::Reply(ticket, Response::Commit(response)));
        Ok(draft)
    }

    /// Seeded bug: the commit is answered and read before it is durable.
    fn acknowledge_early(&mut self, effects: &mut Vec<Effect>) {
        let Some(pending) = self.pending.back_mut() else {
            return;
        };
        for then in std::mem::take(&mut pending.draft.then) {
            if let Then::Reply(ticket, response) = then {
                effects.push(Effect::Reply { ticket, response });
            }
        }
        for record in pending.draft.records.clone() {
            self.apply_offset(record);
        }
    }

    /// DeleteGroups, for one group: 69 if there is none, 68 if it has members.
    pub(crate) fn delete(&mut self, ticket: Ticket, group: &str, now: Now) -> Vec<Effect> {
        let refusal = match self.groups.get(group) {
            None => Some(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(found) => found.check_delete().err(),
        };
        if let Some(error) = refusal {
            return vec![Effect::Reply {
                ticket,
                response: Response::Delete(error),
            }];
        }
        let mut draft = self.deletion(group);
        draft
            .then
            .push(Then::Reply(ticket, Response::Delete(ErrorCode::NONE)));
        self.turn(group, now, |group, turn| {
            group.state = GroupState::Dead;
            turn.out.drafts.push(draft);
        })
    }

    /// Tombstones for a group and all its offsets, those under way included.
    fn deletion(&self, group: &str) -> Draft {
        let durable = self
            .offsets
            .of_group(group)
            .map(|(topic, partition, _)| (topic.to_owned(), partition));
        let mut partitions: BTreeSet<(String, i32)> = durable.collect();
        partitions.extend(self.commits_under_way(group));
        let mut records: Vec<_> = partitions
            .iter()
            .map(|(topic, partition)| log::offset_tombstone(group, topic, *partition))
            .collect();
        records.push(log::group_tombstone(group));
        Draft {
            records,
            then: vec![Then::Remove],
            commits: Vec::new(),
        }
    }

    fn commits_under_way(&self, group: &str) -> impl Iterator<Item = (String, i32)> {
        let of_group = self
            .pending
            .iter()
            .filter(move |pending| pending.group == group);
        of_group.flat_map(|pending| pending.draft.commits.iter().cloned())
    }

    /// Lets offsets go whose time is over, and groups that have nothing left.
    pub(super) fn expire_offsets(&mut self, now: Now) -> Vec<Effect> {
        let names: Vec<String> = self.groups.keys().cloned().collect();
        let mut effects = Vec::new();
        for name in names {
            // What is under way may renew what looks old.
            if self.pending.iter().any(|pending| pending.group == name) {
                continue;
            }
            let group = &self.groups[&name];
            let expired: Vec<(String, i32)> = self
                .offsets
                .of_group(&name)
                .filter(|(topic, _, offset)| self.is_expired(group, topic, offset, now))
                .map(|(topic, partition, _)| (topic.to_owned(), partition))
                .collect();
            let nothing_left = expired.len() == self.offsets.of_group(&name).count();
            let is_over =
                group.state == GroupState::Empty && group.pending.is_empty() && nothing_left;
            let draft = if is_over {
                self.deletion(&name)
            } else if expired.is_empty() {
                continue;
            } else {
                let tombstone = |(topic, partition): &(String, i32)| {
                    log::offset_tombstone(&name, topic, *partition)
                };
                Draft {
                    records: expired.iter().map(tombstone).collect(),
                    then: Vec::new(),
                    commits: Vec::new(),
                }
            };
            effects.extend(self.turn(&name, now, |group, turn| {
                if draft.then.contains(&Then::Remove) {
                    group.state = GroupState::Dead;
                }
                turn.out.drafts.push(draft);
            }));
        }
        effects
    }

    fn is_expired(&self, group: &Group, topic: &str, offset: &CommittedOffset, now: Now) -> bool {
        let counts_from = match (&group.protocol_type, group.state) {
            // Never a member: every offset by itself.
            (None, _) => offset.commit_ms,
            (Some(_), GroupState::Empty) => group
                .state_since_ms
                .unwrap_or(offset.commit_ms)
                .max(offset.commit_ms),
            (Some(_), GroupState::Stable) => match &group.subscribed {
                Some(topics) if !topics.contains(topic) => offset.commit_ms,
                _ => return false,
            },
            _ => return false,
        };
        match offset.expire_ms {
            Some(expire_ms) => now.wall_ms >= expire_ms,
            None => now.wall_ms.saturating_sub(counts_from) >= self.config.offset_retention_ms,
        }
    }
}

fn failed(request: &CommitRequest, error: ErrorCode) -> CommitResponse {
    CommitResponse {
        errors: vec![error; request.partitions.len()],
    }
}

fn refuse(ticket: Ticket, request: &CommitRequest, error: ErrorCode) -> Vec<Effect> {
    vec![Effect::Reply {
        ticket,
        response: Response::Commit(failed(request, error)),
    }]
}
