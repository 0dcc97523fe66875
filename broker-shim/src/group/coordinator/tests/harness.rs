//! Plays the driver: appends, makes durable when told, collects answers.
//!
//! *Owns*: `Harness` and requests with sensible fields. *Does not own*: any assertion
//! but that no ticket is answered twice.
//!
//! *IO: none*

use super::*;

pub(super) const T: i64 = 1_700_000_000_000;

pub(super) struct Harness {
    pub(super) coordinator: Coordinator,
    pub(super) now_ms: i64,
    pub(super) answers: BTreeMap<Ticket, Response>,
    /// Tickets in the order of their answers.
    pub(super) answered: Vec<Ticket>,
    /// Not durable yet.
    pub(super) appends: VecDeque<(AppendId, Vec<LogRecord>)>,
    /// Durable.
    pub(super) log: Vec<LogRecord>,
    pub(super) num_tickets: u64,
    /// Whether appends become durable at once.
    pub(super) prompt: bool,
}

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        num_members_max: 4,
        ..GroupConfig::default()
    }
}

impl Harness {
    pub(super) fn new(config: GroupConfig) -> Self {
        let mut this = Self {
            coordinator: Coordinator::new(config),
            now_ms: 1_000_000,
            answers: BTreeMap::new(),
            answered: Vec::new(),
            appends: VecDeque::new(),
            log: Vec::new(),
            num_tickets: 0,
            prompt: true,
        };
        let now = this.now();
        this.coordinator.loaded(now);
        this
    }

    pub(super) fn now(&self) -> Now {
        Now {
            ms: self.now_ms,
            wall_ms: T + self.now_ms,
        }
    }

    /// Runs one event with a fresh ticket.
    pub(super) fn ask(
        &mut self,
        event: impl FnOnce(&mut Coordinator, Ticket, Now) -> Vec<Effect>,
    ) -> Ticket {
        let ticket = Ticket(self.num_tickets);
        self.num_tickets += 1;
        let now = self.now();
        let effects = event(&mut self.coordinator, ticket, now);
        self.carry_out(effects);
        ticket
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append { id, records } => self.appends.push_back((id, records)),
                Effect::Reply { ticket, response } => {
                    let earlier = self.answers.insert(ticket, response);
                    assert_eq!(earlier, None, "{ticket:?} answered twice");
                    self.answered.push(ticket);
                }
            }
        }
        if self.prompt {
            self.flush();
        }
    }

    /// Makes the oldest append durable; `false` if there is none.
    pub(super) fn flush_one(&mut self) -> bool {
        let Some((id, records)) = self.appends.pop_front() else {
            return false;
        };
        let base_offset = i64::try_from(self.log.len()).unwrap();
        self.log.extend(records);
        let now = self.now();
        let effects = self.coordinator.durable(id, base_offset, now);
        self.carry_out(effects);
        true
    }

    pub(super) fn flush(&mut self) {
        while self.flush_one() {}
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, wait_ms: i64) {
        let until_ms = self.now_ms + wait_ms;
        while let Some(due_ms) = self
            .coordinator
            .next_deadline_ms()
            .filter(|due_ms| *due_ms <= until_ms)
        {
            self.now_ms = self.now_ms.max(due_ms);
            let now = self.now();
            let effects = self.coordinator.tick(now);
            self.carry_out(effects);
        }
        self.now_ms = until_ms;
    }

    /// A coordinator loaded from the durable log, as after a crash.
    pub(super) fn reload(&self) -> Coordinator {
        let mut coordinator = Coordinator::new(config());
        for (offset, record) in self.log.iter().enumerate() {
            coordinator
                .replay(
                    i64::try_from(offset).unwrap(),
                    &record.key,
                    record.value.as_ref(),
                )
                .unwrap();
        }
        coordinator.loaded(self.now());
        coordinator
    }

    /// Crashes: what is not durable is lost, every open ticket with it.
    pub(super) fn crash(&mut self) {
        self.appends.clear();
        self.coordinator = self.reload();
    }

    pub(super) fn join(&mut self, request: &JoinRequest) -> Ticket {
        self.ask(|coordinator, ticket, now| coordinator.join(ticket, request, now))
    }

    pub(super) fn join_answer(&self, ticket: Ticket) -> &JoinResponse {
        match &self.answers[&ticket] {
            Response::Join(join) => join,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> Ticket {
        let request = SyncRequest {
            group: "g".to_owned(),
            generation,
            member_id: member_id.to_owned(),
            group_instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, b)| ((*id).to_owned(), Bytes::from_static(b)))
                .collect(),
        };
        self.ask(|coordinator, ticket, now| coordinator.sync(ticket, &request, now))
    }

    pub(super) fn sync_answer(&self, ticket: Ticket) -> (ErrorCode, &[u8]) {
        match &self.answers[&ticket] {
            Response::Sync(sync) => (sync.error, &sync.assignment),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(member_id, generation, None)
    }

    pub(super) fn heartbeat_as(
        &mut self,
        member_id: &str,
        generation: i32,
        instance: Option<&str>,
    ) -> ErrorCode {
        let request = HeartbeatRequest {
            group: "g".to_owned(),
            generation,
            member_id: member_id.to_owned(),
            group_instance_id: instance.map(str::to_owned),
        };
        let ticket =
            self.ask(|coordinator, ticket, now| coordinator.heartbeat(ticket, &request, now));
        match self.answers[&ticket] {
            Response::Heartbeat(error) => error,
            ref other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<ErrorCode> {
        let members = members.iter().map(|(member_id, instance)| LeaveMember {
            member_id: (*member_id).to_owned(),
            group_instance_id: instance.map(str::to_owned),
        });
        let request = LeaveRequest {
            group: "g".to_owned(),
            members: members.collect(),
        };
        let ticket = self.ask(|coordinator, ticket, now| coordinator.leave(ticket, &request, now));
        match &self.answers[&ticket] {
            Response::Leave(leave) => leave.members.iter().map(|(_, error)| *error).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self) -> &'static str {
        self.coordinator
            .describe("g")
            .map_or("Dead", |group| group.state)
    }

    /// Members that join one after the other and sync; ids and the generation.
    pub(super) fn stable(&mut self, num_members: usize) -> (Vec<String>, i32) {
        let mut ids: Vec<String> = Vec::new();
        for number in 0..num_members {
            let ticket = self.join(&first_join(&format!("c{number}")));
            for id in ids.clone() {
                self.join(&again(&id));
            }
            ids.push(self.join_answer(ticket).member_id.clone());
        }
        let generation = i32::try_from(num_members).unwrap();
        for id in &ids {
            self.sync(id, generation, &[]);
        }
        assert_eq!(self.state(), "Stable");
        (ids, generation)
    }
}

/// A join without member id, of a version that does not ask for one.
pub(super) fn first_join(client_id: &str) -> JoinRequest {
    JoinRequest {
        group: "g".to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        client_id: client_id.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range", "roundrobin"]),
        require_member_id: false,
        can_skip_assignment: false,
        random: "uuid".to_owned(),
    }
}

pub(super) fn again(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.to_owned(),
        ..first_join("again")
    }
}

pub(super) fn static_join(instance: &str, random: &str) -> JoinRequest {
    JoinRequest {
        group_instance_id: Some(instance.to_owned()),
        random: random.to_owned(),
        ..first_join("c")
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<Protocol> {
    // A subscription of version 0 to the topic "orders".
    let metadata = Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\xff\xff\xff\xff");
    names
        .iter()
        .map(|name| Protocol {
            name: (*name).to_owned(),
            metadata: metadata.clone(),
        })
        .collect()
}
