//! Random histories of clients, crashes, slow disks and time.
//!
//! *Owns*: what must hold in every history. *Does not own*: single behaviours.
//!
//! *IO: none*

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::super::types::CommitRequest;
use super::harness::{Harness, again, config, first_join, protocols, static_join};
use super::offset_tests::commit_request;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    JoinFirst { client: u8, require_id: bool },
    JoinStatic { instance: u8 },
    JoinAgain { client: usize, narrow: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize },
    Delete,
    Pass { ms: i64 },
    Flush,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u8..5, any::<bool>()).prop_map(|(client, require_id)| Step::JoinFirst { client, require_id }),
        2 => (0u8..2).prop_map(|instance| Step::JoinStatic { instance }),
        6 => (0usize..8, any::<bool>()).prop_map(|(client, narrow)| Step::JoinAgain { client, narrow }),
        8 => (0usize..8).prop_map(|client| Step::Sync { client }),
        3 => (0usize..8).prop_map(|client| Step::Heartbeat { client }),
        1 => (0usize..8).prop_map(|client| Step::Leave { client }),
        3 => (0usize..8).prop_map(|client| Step::Commit { client }),
        1 => Just(Step::Delete),
        3 => (1i64..70_000).prop_map(|ms| Step::Pass { ms }),
        6 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a client remembers of its last join.
#[derive(Clone, Debug)]
struct Client {
    member_id: String,
    instance: Option<String>,
    generation: i32,
    members: Vec<String>,
}

#[derive(Default)]
struct Seen {
    clients: Vec<Client>,
    syncs: BTreeMap<Ticket, (String, i32)>,
    commits: BTreeMap<Ticket, i64>,
    /// Assignment each owner got in each generation.
    assigned: BTreeMap<(i32, String), Bytes>,
    /// Tickets a crash took along.
    lost: BTreeSet<Ticket>,
    num_checked: usize,
    generation_max: i32,
    offset_max: i64,
}

impl Seen {
    fn client(&self, index: usize) -> Option<Client> {
        (!self.clients.is_empty()).then(|| self.clients[index % self.clients.len()].clone())
    }

    fn check(&mut self, h: &Harness) {
        self.check_answers(h);
        if h.coordinator.describe("g").is_none() {
            // Deleted or let go: its successor begins anew.
            self.begin_anew();
        }
        let read = h
            .coordinator
            .fetch("g", "t", 0)
            .map_or(0, |offset| offset.offset);
        assert!(
            read >= self.offset_max,
            "acknowledged {} but read {read}",
            self.offset_max
        );
    }

    fn begin_anew(&mut self) {
        (self.offset_max, self.generation_max) = (0, 0);
        self.assigned.clear();
    }

    /// Looks at the answers that came since the last time.
    fn check_answers(&mut self, h: &Harness) {
        for ticket in &h.answered[self.num_checked..] {
            let response = &h.answers[ticket];
            assert!(!self.lost.contains(ticket), "answered after the crash");
            match response {
                Response::Join(join) if !join.member_id.is_empty() => self.check_join(join),
                Response::Sync(sync) if sync.error.is_none() => {
                    let (owner, generation) = self.syncs[ticket].clone();
                    let earlier = self
                        .assigned
                        .insert((generation, owner), sync.assignment.clone());
                    assert!(
                        earlier.is_none_or(|earlier| earlier == sync.assignment),
                        "two assignments"
                    );
                }
                Response::Commit(commit) if commit.errors == [ErrorCode::NONE] => {
                    self.offset_max = self.offset_max.max(self.commits[ticket]);
                }
                _ => {}
            }
        }
        self.num_checked = h.answered.len();
        // Two members of a generation never own the same partition.
        let mut owners = BTreeSet::new();
        for ((generation, _), assignment) in
            self.assigned.iter().filter(|(_, bytes)| !bytes.is_empty())
        {
            for partition in assignment {
                assert!(
                    owners.insert((*generation, *partition)),
                    "two owners in generation {generation}"
                );
            }
        }
    }

    fn check_join(&mut self, join: &JoinResponse) {
        if join.error.is_none() {
            assert!(
                join.generation >= self.generation_max,
                "generation went back"
            );
            self.generation_max = join.generation;
        }
        if join.error.is_none() || join.error == ErrorCode::MEMBER_ID_REQUIRED {
            let members = join
                .members
                .iter()
                .map(|member| member.member_id.clone())
                .collect();
            self.clients
                .retain(|client| client.member_id != join.member_id);
            let instance = join
                .member_id
                .strip_prefix('i')
                .map(|rest| format!("i{}", &rest[..1]));
            let (member_id, generation) = (join.member_id.clone(), join.generation);
            self.clients.push(Client {
                member_id,
                instance,
                generation,
                members,
            });
        }
    }
}

fn run(h: &mut Harness, seen: &mut Seen, step: &Step) {
    let random = h.num_tickets.to_string();
    match step {
        Step::JoinFirst { client, require_id } => {
            let request = first_join(&format!("c{client}"));
            h.join(&JoinRequest {
                require_member_id: *require_id,
                random,
                ..request
            });
        }
        Step::JoinStatic { instance } => {
            h.join(&static_join(&format!("i{instance}"), &random));
        }
        Step::JoinAgain { client, .. }
        | Step::Sync { client }
        | Step::Heartbeat { client }
        | Step::Leave { client }
        | Step::Commit { client } => {
            if let Some(client) = seen.client(*client) {
                run_client(h, seen, step, client);
            }
        }
        Step::Delete => delete(h, seen),
        Step::Pass { ms } => h.pass(*ms),
        Step::Flush => {
            h.flush_one();
        }
        Step::Crash => {
            let unanswered = |ticket: &Ticket| !h.answers.contains_key(ticket);
            seen.lost
                .extend((0..h.num_tickets).map(Ticket).filter(unanswered));
            // A generation that was not stable is not in the log; its number comes again
            // with other members, whose ids are new.
            h.crash();
            seen.generation_max = 0;
        }
    }
}

fn run_client(h: &mut Harness, seen: &mut Seen, step: &Step, client: Client) {
    match step {
        Step::JoinAgain { narrow, .. } => {
            let offered = if *narrow {
                &["range"][..]
            } else {
                &["range", "roundrobin"]
            };
            let request = again(&client.member_id);
            h.join(&JoinRequest {
                group_instance_id: client.instance,
                protocols: protocols(offered),
                ..request
            });
        }
        Step::Sync { .. } => sync(h, seen, client),
        Step::Heartbeat { .. } => {
            h.heartbeat_as(
                &client.member_id,
                client.generation,
                client.instance.as_deref(),
            );
        }
        Step::Leave { .. } => {
            h.leave(&[(&client.member_id, client.instance.as_deref())]);
        }
        _ => {
            let offset = i64::try_from(h.num_tickets).unwrap();
            let request = commit_request(&client.member_id, client.generation, "t", offset);
            let request = CommitRequest {
                group_instance_id: client.instance,
                ..request
            };
            seen.commits.insert(Ticket(h.num_tickets), offset);
            h.ask(|coordinator, ticket, now| coordinator.commit(ticket, &request, now));
        }
    }
}

fn sync(h: &mut Harness, seen: &mut Seen, client: Client) {
    let assign = |(n, id): (u8, &String)| (id.clone(), Bytes::from(vec![n]));
    let request = SyncRequest {
        group: "g".to_owned(),
        generation: client.generation,
        member_id: client.member_id.clone(),
        group_instance_id: client.instance.clone(),
        protocol_type: None,
        protocol: None,
        assignments: (0u8..).zip(&client.members).map(assign).collect(),
    };
    // A static member owns under its instance id: a new member id takes over.
    let owner = client.instance.unwrap_or(client.member_id);
    seen.syncs
        .insert(Ticket(h.num_tickets), (owner, client.generation));
    h.ask(|coordinator, ticket, now| coordinator.sync(ticket, &request, now));
}

fn delete(h: &mut Harness, seen: &mut Seen) {
    let ticket = h.ask(|coordinator, ticket, now| coordinator.delete(ticket, "g", now));
    let is_refused =
        matches!(h.answers.get(&ticket), Some(Response::Delete(error)) if !error.is_none());
    if !is_refused {
        h.flush();
        seen.check_answers(h);
        seen.begin_anew();
    }
}

proptest! {
    #[test]
    fn every_history_keeps_the_invariants(steps in steps()) {
        let mut h = Harness::new(config());
        h.prompt = false;
        let mut seen = Seen::default();
        for step in &steps {
            run(&mut h, &mut seen, step);
            seen.check(&h);
        }
        // Everything is answered in the end: disks catch up and time passes.
        h.prompt = true;
        h.flush();
        h.pass(2_000_000);
        seen.check(&h);
        for ticket in (0..h.num_tickets).map(Ticket) {
            prop_assert!(h.answers.contains_key(&ticket) != seen.lost.contains(&ticket), "{:?}", ticket);
        }
        // What a restart finds is what was known.
        let reloaded = h.reload();
        prop_assert!(reloaded.fetch_all("g").eq(h.coordinator.fetch_all("g")));
        let generation = |c: &Coordinator| c.groups.get("g").map_or(0, |group| group.generation);
        prop_assert_eq!(generation(&reloaded), generation(&h.coordinator));
    }
}
