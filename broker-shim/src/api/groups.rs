//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: the wire's side of the classic protocol.
//!
//! *Owns*: translation between the versions' fields and the coordinator's requests.
//! *Does not own*: the rules (group), the log behind them (coordinator).
//!
//! *IO: none*

use tidewater_protocol::messages::heartbeat_request::HeartbeatRequest;
use tidewater_protocol::messages::heartbeat_response::HeartbeatResponse;
use tidewater_protocol::messages::join_group_request::JoinGroupRequest;
use tidewater_protocol::messages::join_group_response::{
    JoinGroupResponse, JoinGroupResponseMember,
};
use tidewater_protocol::messages::leave_group_request::LeaveGroupRequest;
use tidewater_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use tidewater_protocol::messages::sync_group_request::SyncGroupRequest;
use tidewater_protocol::messages::sync_group_response::SyncGroupResponse;
use tidewater_protocol::{ErrorCode, Uuid};

use super::call::Call;
use crate::group::{self, LeaveMember, Protocol};

pub(crate) async fn join(call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let version = call.header.api_version;
    let protocols = request.protocols.into_iter();
    let asked = group::JoinRequest {
        group: request.group_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        client_id: call.header.client_id.clone().unwrap_or_default(),
        client_host: call.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        protocol_type: request.protocol_type,
        protocols: protocols
            .map(|p| Protocol {
                name: p.name,
                metadata: p.metadata,
            })
            .collect(),
        require_member_id: version >= 4,
        can_skip_assignment: version >= 9,
        random: Uuid(call.broker.random_uuid()).to_string(),
    };
    let joined = call.groups.join(&call.broker, asked).await;
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            metadata: member.metadata,
        });
    JoinGroupResponse {
        error_code: joined.error.code(),
        generation_id: joined.generation,
        protocol_type: joined.protocol_type,
        // Before version 7 the name cannot be null.
        protocol_name: joined.protocol.or_else(|| (version < 7).then(String::new)),
        leader: joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..Default::default()
    }
}

pub(crate) async fn sync(call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let assignments = request.assignments.into_iter();
    let asked = group::SyncRequest {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|a| (a.member_id, a.assignment)).collect(),
    };
    let synced = call.groups.sync(&call.broker, asked).await;
    SyncGroupResponse {
        error_code: synced.error.code(),
        protocol_type: synced.protocol_type,
        protocol_name: synced.protocol,
        assignment: synced.assignment,
        ..Default::default()
    }
}

pub(crate) async fn heartbeat(call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let asked = group::HeartbeatRequest {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        group_instance_id: request.group_instance_id,
    };
    let error = call.groups.heartbeat(&call.broker, asked).await;
    HeartbeatResponse {
        error_code: error.code(),
        ..Default::default()
    }
}

pub(crate) async fn leave(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let many = call.header.api_version >= 3;
    let members = if many {
        let member =
            |m: tidewater_protocol::messages::leave_group_request::MemberIdentity| LeaveMember {
                member_id: m.member_id,
                group_instance_id: m.group_instance_id,
            };
        request.members.into_iter().map(member).collect()
    } else {
        vec![LeaveMember {
            member_id: request.member_id,
            group_instance_id: None,
        }]
    };
    let asked = group::LeaveRequest {
        group: request.group_id,
        members,
    };
    let left = call.groups.leave(&call.broker, asked).await;
    if !many {
        // The one member's error is the response's.
        let own = left
            .members
            .first()
            .map_or(ErrorCode::NONE, |(_, error)| *error);
        let error = if left.error.is_none() {
            own
        } else {
            left.error
        };
        return LeaveGroupResponse {
            error_code: error.code(),
            ..Default::default()
        };
    }
    let members = left
        .members
        .into_iter()
        .map(|(member, error)| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: error.code(),
        });
    LeaveGroupResponse {
        error_code: left.error.code(),
        members: members.collect(),
        ..Default::default()
    }
}
