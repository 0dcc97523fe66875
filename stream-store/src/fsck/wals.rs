//! The write-ahead logs of a cluster, as a check sees them.
//!
//! *Owns*: finding and reading them, which of them the metadata name, what their damage is called.
//! *Does not own*: what their frames mean for the streams (`union.rs`).
//!
//! Invariants
//! 1. Only the heads of frames are kept.
//!
//! *IO: none* (through ports; the blocking look is in driver.rs)

use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::Bucket;
use tidewater_s3stream::{Finding, FindingKind, MetaState, Severity, TierError};
use tidewater_types::{Env, Lsn, NodeId};
use tidewater_wal::{Identity, ObjectWal, ObjectWalConfig, WalError};

use super::log::{Headed, Log};
use super::union::Union;
use crate::driver::{DevicePlace, look_at_device};
use crate::error::StoreError;
use crate::format::frame::FrameHead;

/// What the keys of object WALs begin with.
const OBJECT_WALS: &str = "wal/";
/// Attempts of one listing.
const LIST_ATTEMPTS: u32 = 8;

/// All logs that were found.
#[derive(Debug, Default)]
pub(super) struct Wals {
    logs: Vec<Log>,
    /// Nodes with a log that cannot be read; why is among the findings.
    unreadable: Vec<NodeId>,
    pub(super) findings: Vec<Finding>,
}

impl Wals {
    /// Reads the device WAL. One that is not there is missed later, by the metadata that name it.
    pub(super) async fn read_device(&mut self, place: &DevicePlace) -> Result<(), StoreError> {
        let name = place.path.display().to_string();
        let look = match look_at_device(place).await {
            Ok(look) => look,
            Err(WalError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if let Some(slot) = look.damaged_slot {
            let detail = format!("superblock slot {slot} is damaged; opening the log repairs it");
            let finding = Finding::new(Severity::Warning, FindingKind::Checksum, detail);
            self.findings.push(finding.object(name.clone()));
        }
        if let Some(refusal) = look.refusal {
            self.findings.push(damage(refusal, &name)?);
            self.unreadable.push(place.node);
            return Ok(());
        }
        let Some(identity) = look.identity else {
            return Ok(());
        };
        if identity.node != place.node {
            let (expected, found) = (place.node, identity.node);
            return Err(WalError::ForeignNode {
                path: name,
                expected,
                found,
            }
            .into());
        }
        self.add(identity, name, look.frames, look.end);
        Ok(())
    }

    /// Reads the log of every node that has one in the bucket, with the patience of `config`; with
    /// `remains` also what its earlier lives left, which no opening reads.
    pub(super) async fn read_objects(
        &mut self,
        bucket: &Arc<dyn Bucket>,
        env: &Arc<dyn Env>,
        config: &ObjectWalConfig,
        remains: bool,
    ) -> Result<(), StoreError> {
        for node in nodes(bucket, env).await? {
            let ports = || (Arc::clone(bucket), Arc::clone(env));
            let name = format!("{OBJECT_WALS}{:010}/", node.0);
            let (of, clock) = ports();
            match ObjectWal::look(of, clock, config.clone(), node).await {
                Ok(Some((identity, frames, report))) => {
                    let head = |(lsn, frame): &(Lsn, Bytes)| (*lsn, FrameHead::decode(frame));
                    let heads = frames.iter().map(head).collect();
                    self.add(identity, name.clone(), heads, report.end);
                }
                Ok(None) => {}
                Err(error) => {
                    self.findings.push(damage(error, &name)?);
                    self.unreadable.push(node);
                }
            }
            if remains {
                let (of, clock) = ports();
                let flaws = ObjectWal::look_at_remains(of, clock, config.clone(), node);
                self.add_remains(flaws.await?, &name)?;
            }
        }
        Ok(())
    }

    /// What opening gets by without; what it does not was said before.
    fn add_remains(&mut self, flaws: Vec<WalError>, name: &str) -> Result<(), StoreError> {
        for flaw in flaws {
            let mut finding = damage(flaw, name)?;
            finding.severity = Severity::Warning;
            let is_known = |known: &Finding| known.object == finding.object;
            if !self.findings.iter().any(is_known) {
                self.findings.push(finding);
            }
        }
        Ok(())
    }

    fn add(&mut self, identity: Identity, name: String, frames: Vec<Headed>, end: Lsn) {
        self.logs.push(Log {
            identity,
            name,
            frames,
            end,
        });
    }

    /// Hands the logs that the metadata name to the union and says which of them were not found.
    pub(super) fn check_against<'a>(
        &'a self,
        state: &MetaState,
        device: Option<&DevicePlace>,
        union: &mut Union<'a>,
    ) -> Result<(), StoreError> {
        for (node, known) in state.nodes() {
            let Some(named) = known.wal else { continue };
            let own = device.is_some_and(|place| place.node == node);
            let of_node = self.logs.iter().filter(|log| log.identity.node == node);
            let mut foreign = None;
            let mut found = false;
            for log in of_node {
                if log.identity.cluster != state.cluster_id() {
                    foreign = Some(log.identity.cluster);
                } else if log.identity.wal == Some(named) {
                    union.add(log);
                    found = true;
                }
            }
            if found || self.unreadable.contains(&node) {
                if !found {
                    union.incomplete();
                }
                continue;
            }
            if let (true, Some(cluster)) = (own, foreign) {
                let (found, expected) = (cluster.to_string(), state.cluster_id().to_string());
                return Err(StoreError::ForeignWal { found, expected });
            }
            union.incomplete();
            let (severity, where_) = match device {
                Some(place) if own => (Severity::Error, format!("not at {}", place.path.display())),
                _ => (Severity::Warning, "was not looked at".to_owned()),
            };
            let detail = format!("write-ahead log {named} of node {node} {where_}");
            union
                .findings
                .push(Finding::new(severity, FindingKind::Missing, detail));
        }
        Ok(())
    }

    /// The log of a running owner reaches what it has acknowledged.
    pub(super) fn check_reach(&self, node: NodeId, durable: Lsn, findings: &mut Vec<Finding>) {
        let of_node = self.logs.iter().filter(|log| log.identity.node == node);
        let Some(log) = of_node.max_by_key(|log| log.end) else {
            return;
        };
        if log.end < durable {
            let detail = format!(
                "the log ends at lsn {}, its owner has acknowledged up to {durable}",
                log.end
            );
            let finding = Finding::new(Severity::Error, FindingKind::Missing, detail);
            findings.push(finding.object(log.name.clone()));
        }
    }
}

/// The nodes with a log in the bucket, one request each and one more.
async fn nodes(bucket: &Arc<dyn Bucket>, env: &Arc<dyn Env>) -> Result<Vec<NodeId>, StoreError> {
    let (mut nodes, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut attempts = 0;
        let page = loop {
            let listed = bucket.list(
                tidewater_bucket::Purpose::Fsck,
                OBJECT_WALS,
                after.as_deref(),
            );
            match listed.await {
                Ok(page) => break page,
                Err(error) => {
                    attempts += 1;
                    if attempts == LIST_ATTEMPTS {
                        return Err(TierError::Unavailable(error).into());
                    }
                    env.sleep(std::time::Duration::from_millis(50 << attempts))
                        .await;
                }
            }
        };
        let Some(last) = page.entries.last() else {
            return Ok(nodes);
        };
        for entry in &page.entries {
            let digits = entry.key[OBJECT_WALS.len()..].split('/').next();
            if let Some(node) = digits.and_then(|digits| digits.parse().ok()).map(NodeId)
                && nodes.last() != Some(&node)
            {
                nodes.push(node);
            }
        }
        if !page.more {
            return Ok(nodes);
        }
        // Entries of the last node are of no interest here: go on behind them, and always behind
        // what was listed.
        let of_last = nodes.last();
        let behind = of_last.map(|node| format!("{OBJECT_WALS}{:010}/z", node.0));
        after = behind.max(Some(last.key.clone()));
    }
}

/// Damage as a finding; anything else ends the check.
fn damage(error: WalError, name: &str) -> Result<Finding, StoreError> {
    let (what, object) = match &error {
        WalError::Corrupt { path, found, .. } if found == "no object" || found == "a hole" => {
            (FindingKind::Missing, path.clone())
        }
        WalError::Corrupt { path, .. } => (FindingKind::Checksum, path.clone()),
        WalError::SuperblocksDamaged { .. } => (FindingKind::Checksum, name.to_owned()),
        WalError::Missing { .. } => (FindingKind::Missing, name.to_owned()),
        WalError::NewerFormat { path, .. } => (FindingKind::Format, path.clone()),
        WalError::ForeignWal { path, .. } => (FindingKind::Format, path.clone()),
        _ => return Err(error.into()),
    };
    Ok(Finding::new(Severity::Error, what, error.to_string()).object(object))
}
