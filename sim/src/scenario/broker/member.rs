//! A member of the consumer group: joins, consumes from the committed offsets, commits.
//!
//! *Owns*: the classic protocol as a client speaks it, slow and late members included.
//! *Does not own*: the rules a group must keep (the model).
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewater_protocol::ErrorCode;
use tidewater_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use tidewater_protocol::messages::leave_group_request::MemberIdentity;
use tidewater_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use tidewater_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use tidewater_types::sometimes;

use super::conn::{Answer, Client, Lost};
use super::consumer::fetch;
use super::offsets::{commit, committed};
use super::producer::{self, refused};
use super::world::{GROUP, World, partitions};

/// What clients call this work.
pub(super) const WORK: &str = "member";

const SESSION: Duration = Duration::from_secs(6);

/// One member.
pub(super) struct Member {
    pub(super) client: Client,
    pub(super) id: String,
    pub(super) generation: i32,
    /// The name under which it keeps its place over a restart.
    pub(super) instance: Option<String>,
}

/// What the member must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Rejoin,
    /// Everything is consumed and committed.
    Done,
}

pub(super) async fn run(world: Arc<World>, number: u32) {
    let mut client = Client::new(&world, "member");
    // Others may take long to join.
    client.patience = Duration::from_secs(12);
    let mut member = Member {
        client,
        id: String::new(),
        generation: -1,
        instance: (world.plan.broker.static_members).then(|| format!("instance-{number}")),
    };
    let mut rounds = world.plan.broker.rounds;
    loop {
        let before = member.generation;
        let Some(owned) = member.join().await else {
            member.client.pause(Duration::from_millis(100)).await;
            continue;
        };
        if before >= 0 && before < member.generation && member.client.rng.chance(300) {
            member.late_commit(before).await;
        }
        match member.consume(&owned, &mut rounds).await {
            Next::Done => break,
            Next::GoOn => {
                // Enough for this generation.
                if member.instance.is_some() {
                    sometimes!("broker: a static member starts anew");
                    member.forget();
                } else if member.client.rng.chance(500) {
                    member.leave().await;
                }
            }
            Next::Rejoin => {}
        }
    }
    member.leave().await;
    world.ends(WORK);
}

impl Member {
    /// Joins and hears what it owns; `None` if that came to nothing.
    async fn join(&mut self) -> Option<Vec<i32>> {
        let world = Arc::clone(&self.client.world);
        let request = JoinGroupRequest {
            group_id: GROUP.to_owned(),
            session_timeout_ms: i32::try_from(SESSION.as_millis()).expect("small"),
            rebalance_timeout_ms: i32::try_from(SESSION.as_millis()).expect("small"),
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "share".to_owned(),
                metadata: Bytes::from_static(b"all"),
            }],
            ..Default::default()
        };
        let answer: Answer<JoinGroupResponse> = self.client.ask(5, &request).await.ok()?;
        let joined = answer.message;
        match ErrorCode(joined.error_code) {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = joined.member_id;
                return None;
            }
            code => {
                self.group_error("join", code);
                return None;
            }
        }
        self.id = joined.member_id.clone();
        self.generation = joined.generation_id;
        let assignments = if joined.leader == joined.member_id {
            assign(&world, &joined)
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest {
            group_id: GROUP.to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            assignments,
            ..Default::default()
        };
        let answer: Answer<SyncGroupResponse> = self.client.ask(3, &request).await.ok()?;
        let code = ErrorCode(answer.message.error_code);
        if code != ErrorCode::NONE {
            self.group_error("sync", code);
            return None;
        }
        let owned: Vec<i32> = answer
            .message
            .assignment
            .iter()
            .map(|p| i32::from(*p))
            .collect();
        let generation = self.generation;
        world
            .handle
            .line(|| format!("group {generation} {} owns {owned:?}", self.id));
        let result = {
            let mut model = world.model.lock();
            // Only now: an assignment that was told is durable, a number that was not may come again.
            model.group.joined(generation);
            let name = self.instance.as_ref().unwrap_or(&self.id);
            model.group.owns(generation, name, &owned)
        };
        world.check(result);
        Some(owned)
    }

    /// Consumes and commits until there is a reason to stop.
    async fn consume(&mut self, owned: &[i32], rounds: &mut u32) -> Next {
        let world = Arc::clone(&self.client.world);
        let Some(found) = committed(&mut self.client, owned).await else {
            return Next::Rejoin;
        };
        let mut positions: BTreeMap<i32, i64> = owned
            .iter()
            .map(|index| (*index, found.get(index).copied().unwrap_or(0)))
            .collect();
        loop {
            let may_end = *rounds == 0 && world.is_healed() && !world.works(producer::WORK);
            *rounds = rounds.saturating_sub(1);
            let mut at_end = true;
            if !positions.is_empty() {
                let wait = Duration::from_millis([0, 50, 400][self.client.rng.index(3)]);
                let Ok(looks) = fetch(&mut self.client, &positions, wait).await else {
                    self.client.pause(Duration::from_millis(50)).await;
                    continue;
                };
                at_end = looks.len() == positions.len();
                for (index, look) in looks {
                    let from = positions[&index];
                    let to = look.records.last().map_or(from, |(offset, _)| offset + 1);
                    positions.insert(index, to);
                    at_end &= to >= look.high_watermark;
                    let result = world.model.lock().processed.processed(index, from, to);
                    world.check(result);
                }
            }
            match self.commit_all(self.generation, &positions).await {
                Some(ErrorCode::NONE) if may_end && at_end => return Next::Done,
                Some(ErrorCode::NONE) | None => {}
                Some(code) => {
                    self.group_error("commit", code);
                    return Next::Rejoin;
                }
            }
            match self.heartbeat().await {
                Next::GoOn => {}
                next => return next,
            }
            self.rest().await;
            if self.client.rng.chance(50) && !may_end {
                return Next::GoOn;
            }
        }
    }

    /// A pause; now and then one that outlasts the session.
    async fn rest(&mut self) {
        let pause = if self.client.rng.chance(40) && !self.client.world.is_healed() {
            sometimes!("broker: a member outlasts its session");
            2 * SESSION
        } else {
            [Duration::from_millis(5), Duration::from_secs(1)][self.client.rng.index(2)]
        };
        self.client.pause(pause).await;
    }

    async fn heartbeat(&mut self) -> Next {
        let request = HeartbeatRequest {
            group_id: GROUP.to_owned(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
        };
        let answer: Result<Answer<HeartbeatResponse>, Lost> = self.client.ask(3, &request).await;
        let Ok(answer) = answer else {
            return Next::GoOn;
        };
        match ErrorCode(answer.message.error_code) {
            ErrorCode::NONE => Next::GoOn,
            code => {
                self.group_error("heartbeat", code);
                Next::Rejoin
            }
        }
    }

    /// Commits every position; the first error, or `None` if there was no answer.
    async fn commit_all(
        &mut self,
        generation: i32,
        positions: &BTreeMap<i32, i64>,
    ) -> Option<ErrorCode> {
        if positions.is_empty() {
            return Some(ErrorCode::NONE);
        }
        let named = (self.id.as_str(), self.instance.as_deref());
        commit(&mut self.client, named, generation, positions).await
    }

    /// A commit of an earlier generation that comes late, as an asynchronous one may.
    async fn late_commit(&mut self, generation: i32) {
        sometimes!("broker: a commit comes a generation late");
        let positions = partitions(&self.client.world)
            .map(|index| (index, 0))
            .collect();
        // The model knows that it must be refused.
        let _ = self.commit_all(generation, &positions).await;
    }

    /// As after a restart.
    fn forget(&mut self) {
        self.id = String::new();
        self.generation = -1;
    }

    async fn leave(&mut self) {
        if self.id.is_empty() {
            return;
        }
        let request = LeaveGroupRequest {
            group_id: GROUP.to_owned(),
            members: vec![MemberIdentity {
                member_id: std::mem::take(&mut self.id),
                group_instance_id: self.instance.clone(),
                ..Default::default()
            }],
            ..Default::default()
        };
        self.generation = -1;
        // If the answer is lost, the session ends by itself.
        let _ = self.client.ask::<LeaveGroupResponse>(3, &request).await;
    }

    /// What an error makes of the member; others than these are violations.
    fn group_error(&mut self, what: &str, code: ErrorCode) {
        self.client
            .world
            .handle
            .line(|| format!("group {what}: {code:?}"));
        match code {
            // The latter if a request of its own to join, given up long ago, was carried out late.
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_INSTANCE_ID => self.forget(),
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS => {}
            code => refused(&self.client.world, what, code.code()),
        }
    }
}

/// Shares the partitions out; a partition is a byte.
fn assign(world: &World, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    let mut shares: Vec<Vec<u8>> = joined.members.iter().map(|_| Vec::new()).collect();
    for index in partitions(world) {
        let place = usize::try_from(index).expect("few") % shares.len().max(1);
        shares[place].push(u8::try_from(index).expect("few"));
    }
    joined
        .members
        .iter()
        .zip(shares)
        .map(|(member, share)| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: Bytes::from(share),
        })
        .collect()
}
