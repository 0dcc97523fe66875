//! What happens to a group when nothing happens.
//!
//! *Owns*: sessions, ids given out, the first rebalance's delay, join and sync phases
//! running out of time.
//! *Does not own*: the clock; `tick` is told the time.
//!
//! Invariants
//! 1. A member that is owed an answer is not given up, unless it is new.
//! 2. After `tick` nothing is due any more.
//!
//! *IO: none*

use super::member::Member;
use super::outbox::Turn;
use super::state::{Group, Wait};

impl Group {
    /// The earliest time something times out, monotonic ms.
    pub(crate) fn deadline_ms(&self) -> Option<i64> {
        let wait = match self.wait {
            Wait::Nothing => None,
            Wait::Initial { due_ms, .. } | Wait::Join { due_ms } | Wait::Sync { due_ms } => {
                Some(due_ms)
            }
        };
        let sessions = self
            .members
            .values()
            .filter_map(|member| member.session_ends_ms);
        sessions
            .chain(self.pending.values().copied())
            .chain(wait)
            .min()
    }

    /// Lets everything time out that is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.ms;
        let num_pending = self.pending.len();
        self.pending.retain(|_, ends_ms| *ends_ms > now_ms);
        if self.pending.len() < num_pending {
            self.try_complete_join(turn);
        }
        let is_due = |member: &Member| {
            member
                .session_ends_ms
                .is_some_and(|ends_ms| ends_ms <= now_ms)
        };
        let due: Vec<String> = self
            .members
            .iter()
            .filter(|(_, m)| is_due(m))
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in due {
            self.end_session(&member_id, turn);
        }
        match self.wait {
            Wait::Initial {
                due_ms,
                remaining_ms,
                has_grown,
            } if due_ms <= now_ms => {
                if has_grown && remaining_ms > 0 {
                    let delay_ms = turn.config.initial_rebalance_delay_ms.min(remaining_ms);
                    let due_ms = now_ms.saturating_add(delay_ms);
                    self.wait = Wait::Initial {
                        due_ms,
                        remaining_ms: remaining_ms - delay_ms,
                        has_grown: false,
                    };
                } else {
                    self.complete_join(turn);
                }
            }
            Wait::Join { due_ms } if due_ms <= now_ms => self.complete_join(turn),
            Wait::Sync { due_ms } if due_ms <= now_ms => self.drop_unsynced(turn),
            _ => {}
        }
    }

    fn end_session(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let is_owed = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
        if is_owed && !member.is_new {
            // Its answer will renew the session.
            member.session_ends_ms = None;
            return;
        }
        self.remove_member(member_id, turn);
        self.rebalance(turn);
    }

    fn drop_unsynced(&mut self, turn: &mut Turn<'_>) {
        self.wait = Wait::Nothing;
        let unsynced = std::mem::take(&mut self.unsynced);
        if unsynced.is_empty() {
            return;
        }
        for member_id in unsynced {
            self.remove_member(&member_id, turn);
        }
        self.rebalance(turn);
    }
}
