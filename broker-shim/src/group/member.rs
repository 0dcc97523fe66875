//! One member of a classic group.
//!
//! *Owns*: what a member said of itself, its pending requests, its session.
//! *Does not own*: the group's decisions.
//!
//! *IO: none*

use bytes::Bytes;

use super::types::{JoinRequest, Protocol, Ticket};

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) group_instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In order of preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// It has joined and not yet got its first answer.
    pub(crate) is_new: bool,
    pub(crate) awaiting_join: Option<Ticket>,
    pub(crate) awaiting_sync: Option<Ticket>,
    /// When it is given up, monotonic ms; `None` while an answer is owed to it.
    pub(crate) session_ends_ms: Option<i64>,
}

impl Member {
    pub(crate) fn new(request: &JoinRequest) -> Self {
        Self {
            group_instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: None,
            awaiting_sync: None,
            session_ends_ms: None,
        }
    }

    /// Takes over what a later join says.
    pub(crate) fn update(&mut self, request: &JoinRequest) {
        self.protocols.clone_from(&request.protocols);
        self.session_timeout_ms = request.session_timeout_ms;
        self.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }

    pub(crate) fn offers(&self, protocol: &str) -> bool {
        self.protocols
            .iter()
            .any(|offered| offered.name == protocol)
    }

    /// What it said for `protocol`; empty if it does not offer it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self
            .protocols
            .iter()
            .find(|offered| offered.name == protocol);
        offered
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }

    pub(crate) fn renew_session(&mut self, now_ms: i64) {
        self.session_ends_ms = Some(now_ms.saturating_add(i64::from(self.session_timeout_ms)));
    }
}
