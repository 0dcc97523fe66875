//! An append that can never be made: its records are larger than the log takes.
//!
//! *Owns*: who is told. *Does not own*: the limit; the driver meets it.
//!
//! Invariants
//! 1. The log and what is durable are as if it had never been asked for.
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;

use super::super::outbox::{AppendId, Effect, Then};
use super::super::types::{Now, Response};
use super::Coordinator;

impl Coordinator {
    /// The append `id` was refused for good; everything before it is durable. Whoever waits for it
    /// gets `error`. A group whose assignment is refused stays without one: its members join again
    /// or time out.
    ///
    /// # Panics
    /// If an append before it is still pending.
    pub(crate) fn refused(&mut self, id: AppendId, error: ErrorCode, now: Now) -> Vec<Effect> {
        let pending = self.pending.pop_front().expect("an append is pending");
        assert_eq!(pending.id, id, "appends are settled in order");
        let name = pending.group;
        self.turn(&name, now, |group, turn| {
            for then in pending.draft.then {
                match then {
                    Then::Reply(ticket, response) => {
                        turn.out.reply(ticket, response.failed(error));
                    }
                    Then::Rejoined(ticket, response) => {
                        turn.out
                            .reply(ticket, Response::Join(response).failed(error));
                    }
                    Then::Assign { .. } => group.fail_all(error, turn),
                    // The group is still there, and so is its record.
                    Then::Remove => {}
                }
            }
        })
    }
}
