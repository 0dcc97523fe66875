//! The group coordinator: classic consumer groups and committed offsets of one
//! `__consumer_offsets` partition.
//!
//! *Owns*: membership, rebalances, generations, offsets, the records of the offsets
//! log, the snapshot of that log.
//! *Does not own*: the log itself, durability, time-outs' clock, the wire structs
//! (the API layer translates), authorisation.
//!
//! Invariants
//! 1. Every ticket is answered exactly once.
//! 2. What a restart must remember is answered only after its append is durable,
//!    and committed offsets are read only as far as they are durable.
//! 3. A generation never comes back; in one generation a member has one assignment.
//!
//! *IO: none*

mod compacted;
mod coordinator;
mod join;
mod log;
mod member;
mod offsets;
mod outbox;
mod partition;
mod record;
mod session;
mod state;
mod timeouts;
mod types;

pub(crate) use coordinator::Coordinator;
pub(crate) use offsets::CommittedOffset;
pub(crate) use outbox::{AppendId, Effect, LogRecord};
pub(crate) use partition::partition_for;
pub(crate) use types::{
    CommitPartition, CommitRequest, CommitResponse, GroupConfig, GroupDescription,
    HeartbeatRequest, JoinRequest, JoinResponse, LeaveMember, LeaveRequest, LeaveResponse,
    ListedGroup, Now, Protocol, Response, SyncRequest, SyncResponse, Ticket,
};
