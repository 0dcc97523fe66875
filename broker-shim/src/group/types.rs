//! Requests, responses and configuration of the coordinator, free of wire versions.
//!
//! *Owns*: what the API layer translates to and from.
//! *Does not own*: defaults of the wire format for fields an error leaves unset.
//!
//! *IO: none*

use bytes::Bytes;
use tidewater_protocol::ErrorCode;

/// Names a request whose answer may come later; the caller draws it and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Both clocks: time-outs must not follow a wall clock that jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// Monotonic, milliseconds.
    pub(crate) ms: i64,
    /// Milliseconds since the Unix epoch; goes into records.
    pub(crate) wall_ms: i64,
}

/// Bounds and delays. The names in Kafka's configuration stand beside each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub(crate) session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub(crate) session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub(crate) initial_rebalance_delay_ms: i64,
    /// `group.max.size`
    pub(crate) num_members_max: usize,
    /// How long a join of a member that has no id yet may wait (5 minutes in Kafka).
    pub(crate) new_member_join_ms_max: i64,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as Kafka does.
    pub(crate) metadata_len_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub(crate) offset_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub(crate) expiry_check_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            num_members_max: i32::MAX as usize,
            new_member_join_ms_max: 300_000,
            metadata_len_max: 4_096,
            offset_retention_ms: 7 * 24 * 3_600_000,
            expiry_check_ms: 600_000,
        }
    }
}

/// A protocol a member offers, in its order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinRequest {
    pub(crate) group: String,
    /// Empty on a first join.
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    /// Before v1: the session time-out.
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// v4 and later: a first join without instance id gets an id and joins again.
    pub(crate) require_member_id: bool,
    /// v9 and later: the response can say that the assignment stands.
    pub(crate) can_skip_assignment: bool,
    /// Random text (a UUID) that makes a new member id unique.
    pub(crate) random: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) metadata: Bytes,
}

/// With an error all but `error` and `member_id` is unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinResponse {
    pub(crate) error: ErrorCode,
    /// −1 with an error.
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    /// Empty with an error.
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// All members, for the leader alone.
    pub(crate) members: Vec<JoinedMember>,
}

impl JoinResponse {
    pub(crate) fn failed(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncRequest {
    pub(crate) group: String,
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    /// v5 and later.
    pub(crate) protocol_type: Option<String>,
    /// v5 and later.
    pub(crate) protocol: Option<String>,
    /// From the leader: member id and assignment.
    pub(crate) assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncResponse {
    pub(crate) error: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl SyncResponse {
    pub(crate) fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeartbeatRequest {
    pub(crate) group: String,
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaveMember {
    /// Empty when an administrator removes a static member by its instance id.
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaveRequest {
    pub(crate) group: String,
    /// Before v3 exactly one; its error is then the response's.
    pub(crate) members: Vec<LeaveMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaveResponse {
    pub(crate) error: ErrorCode,
    /// In request order.
    pub(crate) members: Vec<(LeaveMember, ErrorCode)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// −1 for none.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitRequest {
    pub(crate) group: String,
    /// −1 outside group membership.
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    /// v2 to v4, unless −1: how long the offsets are kept, in place of the configuration.
    pub(crate) retention_ms: Option<i64>,
    /// v9 and later: an unknown group is 69 instead of 22.
    pub(crate) knows_group_not_found: bool,
    pub(crate) partitions: Vec<CommitPartition>,
}

/// One code for each partition of the request, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitResponse {
    pub(crate) errors: Vec<ErrorCode>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Join(JoinResponse),
    Sync(SyncResponse),
    Heartbeat(ErrorCode),
    Leave(LeaveResponse),
    Commit(CommitResponse),
    Delete(ErrorCode),
}

impl Response {
    /// The answer of the same kind that says `error`.
    pub(crate) fn failed(self, error: ErrorCode) -> Self {
        match self {
            Self::Join(join) => Self::Join(JoinResponse::failed(error, &join.member_id)),
            Self::Sync(_) => Self::Sync(SyncResponse::failed(error)),
            Self::Heartbeat(_) => Self::Heartbeat(error),
            Self::Leave(_) => Self::Leave(LeaveResponse {
                error,
                members: Vec::new(),
            }),
            Self::Commit(commit) => Self::Commit(CommitResponse {
                errors: vec![error; commit.errors.len()],
            }),
            Self::Delete(_) => Self::Delete(error),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub(crate) member_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// Empty unless the group is stable.
    pub(crate) metadata: Bytes,
    /// Empty unless the group is stable.
    pub(crate) assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupDescription {
    /// Kafka's name of the state.
    pub(crate) state: &'static str,
    pub(crate) protocol_type: String,
    /// Empty unless the group is stable.
    pub(crate) protocol: String,
    pub(crate) members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedGroup {
    pub(crate) group: String,
    pub(crate) protocol_type: String,
    /// Kafka's name of the state.
    pub(crate) state: &'static str,
}
