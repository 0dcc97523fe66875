//! DescribeGroups, ListGroups and DeleteGroups.
//!
//! *Owns*: translation to and from the wire, filters.
//! *Does not own*: the groups (group, coordinator).
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use tidewater_protocol::messages::delete_groups_response::{
    DeletableGroupResult, DeleteGroupsResponse,
};
use tidewater_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use tidewater_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use tidewater_protocol::messages::list_groups_request::ListGroupsRequest;
use tidewater_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};

use super::call::Call;

const DEAD: &str = "Dead";
const CLASSIC: &str = "classic";

/// First version that says GROUP_ID_NOT_FOUND instead of describing a dead group.
const NOT_FOUND_VERSION: i16 = 6;

pub(crate) async fn describe(
    call: &Call,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::new();
    for group_id in request.groups {
        groups.push(describe_one(call, group_id).await);
    }
    DescribeGroupsResponse {
        groups,
        ..Default::default()
    }
}

async fn describe_one(call: &Call, group_id: String) -> DescribedGroup {
    let found = match call.groups.describe(&call.broker, &group_id).await {
        Ok(found) => found,
        Err(error) => {
            let error_code = error.code();
            return DescribedGroup {
                error_code,
                group_id,
                ..Default::default()
            };
        }
    };
    let Some(group) = found else {
        let missing = call.header.api_version >= NOT_FOUND_VERSION;
        return DescribedGroup {
            error_code: if missing {
                ErrorCode::GROUP_ID_NOT_FOUND.code()
            } else {
                0
            },
            error_message: missing.then(|| format!("group {group_id} does not exist")),
            group_id,
            group_state: DEAD.to_owned(),
            ..Default::default()
        };
    };
    let members = group
        .members
        .into_iter()
        .map(|member| DescribedGroupMember {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            client_id: member.client_id,
            client_host: member.client_host,
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        });
    DescribedGroup {
        group_id,
        group_state: group.state.to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: members.collect(),
        ..Default::default()
    }
}

pub(crate) async fn list(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let groups = match call.groups.list(&call.broker).await {
        Ok(groups) => groups,
        Err(error) => {
            return ListGroupsResponse {
                error_code: error.code(),
                ..Default::default()
            };
        }
    };
    let among = |filter: &[String], value: &str| {
        filter.is_empty()
            || filter
                .iter()
                .any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = groups
        .into_iter()
        .filter(|group| among(&request.states_filter, group.state))
        .filter(|_| among(&request.types_filter, CLASSIC))
        .map(|group| ListedGroup {
            group_id: group.group,
            protocol_type: group.protocol_type,
            group_state: group.state.to_owned(),
            group_type: CLASSIC.to_owned(),
        });
    ListGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    }
}

pub(crate) async fn delete(call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::new();
    for group_id in request.groups_names {
        let error = call.groups.delete(&call.broker, &group_id).await;
        results.push(DeletableGroupResult {
            group_id,
            error_code: error.code(),
        });
    }
    DeleteGroupsResponse {
        results,
        ..Default::default()
    }
}
