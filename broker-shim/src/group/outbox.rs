//! What a turn of the coordinator leaves behind for its driver.
//!
//! *Owns*: effects, and the consequences that wait for an append.
//! *Does not own*: carrying them out.
//!
//! Invariants
//! 1. A reply that depends on an append is not an effect until the append is durable.
//!
//! *IO: none*

use bytes::Bytes;

use super::types::{GroupConfig, JoinResponse, Now, Response, Ticket};

/// Names an append; ascending in the order the driver must append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AppendId(pub(crate) u64);

/// A record of the offsets log; a `None` value is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// What the driver does, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Append the records as one batch behind all earlier ones. Once durable, tell
    /// the coordinator with `durable`; if it fails, `close` the coordinator.
    Append {
        id: AppendId,
        records: Vec<LogRecord>,
    },
    /// Answer the request.
    Reply { ticket: Ticket, response: Response },
}

/// What happens once an append is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Reply(Ticket, Response),
    /// A static member's new id is stored: it goes on where the old one was.
    Rejoined(Ticket, JoinResponse),
    /// The leader's assignment holds, unless the group moved on.
    Assign {
        generation: i32,
        assignments: Vec<(String, Bytes)>,
    },
    /// The group's tombstone is written.
    Remove,
}

/// Records to append for one group, and what follows.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) records: Vec<LogRecord>,
    pub(crate) then: Vec<Then>,
    /// Partitions these records commit offsets of.
    pub(crate) commits: Vec<(String, i32)>,
}

/// Collects what one turn brings about.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) replies: Vec<(Ticket, Response)>,
    pub(crate) drafts: Vec<Draft>,
}

impl Outbox {
    pub(crate) fn reply(&mut self, ticket: Ticket, response: Response) {
        self.replies.push((ticket, response));
    }

    pub(crate) fn append(&mut self, records: Vec<LogRecord>, then: Vec<Then>) {
        self.drafts.push(Draft {
            records,
            then,
            commits: Vec::new(),
        });
    }
}

/// What the handling of one event has at hand.
pub(crate) struct Turn<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupConfig,
    pub(crate) out: &'a mut Outbox,
}
