//! Which errors the faults of a plan explain; any other one is a violation.
//!
//! *Owns*: the decision, for each thing that is called. *Does not own*: the facts; a scenario knows
//! them when the error comes.
//!
//! Invariants
//! 1. Once all is healed nothing excuses an error but what the facts name: a log that was taken away on
//!    purpose, a trim, an object that a slow reader came too late for; and what clients have to try again.
//! 2. Damage is told by name, and only where a plan does damage, or makes both superblocks unreadable.
//!
//! *IO: none*

use tidewater_protocol::ErrorCode;
use tidewater_s3stream::{MetaError, TierError};
use tidewater_stream_store::StoreError;
use tidewater_types::ErrorKind;
use tidewater_wal::WalError;

/// What is known when an error comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that hold or not")]
pub(crate) struct Facts {
    /// Faults are planned: nothing is healed yet.
    pub(crate) planned: bool,
    /// The disk fails in this plan.
    pub(crate) disk_fails: bool,
    /// Reads of the disk fail, so that both superblocks may look damaged.
    pub(crate) reads_fail: bool,
    /// Requests to the bucket fail in this plan.
    pub(crate) bucket_fails: bool,
    /// Somebody else has taken over, or is at it.
    pub(crate) contested: bool,
    /// The life is closing.
    pub(crate) closing: bool,
    /// Other nodes shorten the metadata log meanwhile.
    pub(crate) outpaced: bool,
    /// The logs were taken away, or the life replaces its own by force.
    pub(crate) logs_lost: bool,
    /// Objects may go while they are read.
    pub(crate) impatient: bool,
    /// A trim beyond what is read was asked for.
    pub(crate) trimmed: bool,
}

/// Reads that failed explain that both superblocks look damaged.
fn unreadable(error: &WalError, facts: Facts) -> bool {
    facts.reads_fail && matches!(error, WalError::SuperblocksDamaged { .. })
}

/// A log on a device is not opened.
pub(crate) fn device_open(error: &WalError, facts: Facts) -> bool {
    facts.planned
        && match error.kind() {
            // A read or a flush that failed: the next life tries again.
            ErrorKind::Closed | ErrorKind::Retry => facts.disk_fails,
            // Too many epochs without a trim: a refusal by name, not a loss.
            ErrorKind::Full => true,
            _ => unreadable(error, facts),
        }
}

/// A call of an open log on a device fails.
pub(crate) fn device_call(error: &WalError, facts: Facts) -> bool {
    let is_poisoned = matches!(error, WalError::Poisoned { .. } | WalError::Io { .. });
    facts.planned && (!is_poisoned || facts.disk_fails)
}

/// A log on a device does not close in order.
pub(crate) fn device_close(error: &WalError, facts: Facts) -> bool {
    // The ring is full of frames that nobody trims: what was not acknowledged is given up.
    facts.planned && (error.kind() == ErrorKind::Full || facts.disk_fails)
}

/// A log in a bucket is not taken over.
pub(crate) fn object_open(error: &WalError, facts: Facts) -> bool {
    match error.kind() {
        // Another owner came later.
        ErrorKind::Fenced => facts.planned,
        // Too many requests failed in a row.
        ErrorKind::Retry => facts.planned && facts.bucket_fails,
        _ => false,
    }
}

/// A call of an open log in a bucket fails.
pub(crate) fn object_call(error: &WalError, facts: Facts) -> bool {
    match error {
        WalError::Fenced { .. } => facts.planned,
        WalError::Poisoned { .. } => facts.planned && facts.bucket_fails,
        _ => facts.planned,
    }
}

/// A call of the metadata fails.
pub(crate) fn metadata_call(error: &MetaError, facts: Facts) -> bool {
    match error.kind() {
        // Held up for too long, or too many requests failed in a row.
        ErrorKind::Closed | ErrorKind::Retry => facts.planned,
        _ => false,
    }
}

/// A call of a store fails whose log others may take over.
pub(crate) fn store_call(error: &StoreError, facts: Facts) -> bool {
    let Facts {
        planned, contested, ..
    } = facts;
    match error.kind() {
        ErrorKind::Retry | ErrorKind::Full => planned,
        // The WAL is poisoned by a disk that fails, or the life is closing.
        ErrorKind::Closed => contested || planned && (facts.disk_fails || facts.closing),
        // The metadata of a WAL that somebody uses names it.
        ErrorKind::Invalid if matches!(error, StoreError::Wal(WalError::Exists { .. })) => false,
        ErrorKind::Fenced | ErrorKind::Invalid => contested,
        ErrorKind::Corrupt => planned && is_unreadable_wal(error, facts),
    }
}

/// A call of a store fails whose streams others take.
pub(crate) fn cluster_call(error: &StoreError, facts: Facts) -> bool {
    let planned = facts.planned;
    match error.kind() {
        // Whoever used a stream that was given up at that moment.
        _ if matches!(error, StoreError::Released { .. }) => planned,
        // What an earlier life sent was late, and names a log that this one has just replaced.
        _ if facts.logs_lost && is_missing_wal(error) => planned,
        ErrorKind::Retry | ErrorKind::Full => planned,
        // The WAL is poisoned by a disk or a bucket that fails, somebody took it, or the life closes.
        ErrorKind::Closed => {
            facts.contested || planned && (facts.disk_fails || facts.bucket_fails || facts.closing)
        }
        ErrorKind::Fenced => facts.contested,
        ErrorKind::Corrupt => planned && is_unreadable_wal(error, facts),
        // One that releases a stream while its release is under way.
        ErrorKind::Invalid => planned && matches!(error, StoreError::NoStream { .. }),
    }
}

/// The store of a broker fails.
pub(crate) fn broker_call(error: &StoreError, facts: Facts) -> bool {
    let Facts {
        planned, contested, ..
    } = facts;
    if facts.logs_lost && is_missing_wal(error) {
        return true;
    }
    match error.kind() {
        ErrorKind::Retry | ErrorKind::Full => planned,
        // It read the metadata log while another node deleted it, within the milliseconds of a plan.
        _ if planned && facts.outpaced && is_outpaced(error) => true,
        // The WAL is poisoned by a disk that fails, or a zombie took over.
        ErrorKind::Closed => planned && (facts.disk_fails || contested),
        ErrorKind::Fenced => planned && contested,
        ErrorKind::Corrupt => planned && is_unreadable_wal(error, facts),
        ErrorKind::Invalid => false,
    }
}

fn is_missing_wal(error: &StoreError) -> bool {
    matches!(error, StoreError::Wal(WalError::Missing { .. }))
}

fn is_unreadable_wal(error: &StoreError, facts: Facts) -> bool {
    matches!(error, StoreError::Wal(error) if unreadable(error, facts))
}

/// Whether the log was deleted by another node under who read it; whoever starts then starts again.
fn is_outpaced(error: &StoreError) -> bool {
    let (StoreError::Meta(cause) | StoreError::Tier(TierError::Meta(cause))) = error else {
        return false;
    };
    matches!(cause, MetaError::Outpaced { .. })
}

/// A client is answered with an error; it just tries again after these.
pub(crate) fn client_answer(code: ErrorCode) -> bool {
    const RETRIABLE: [ErrorCode; 9] = [
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::NOT_CONTROLLER,
    ];
    RETRIABLE.contains(&code)
}

/// A call of the object tier fails.
pub(crate) fn tier_call(error: &TierError, facts: Facts) -> bool {
    match error.kind() {
        ErrorKind::Fenced | ErrorKind::Retry | ErrorKind::Closed => facts.planned,
        // Somebody's metadata was older than the deletion of what it names.
        _ => matches!(error, TierError::Missing { .. }) && facts.impatient,
    }
}

/// A reader that just read the metadata is refused.
pub(crate) fn tier_read(error: &TierError, facts: Facts) -> bool {
    match error {
        // A trim that this reader learned of while it read.
        TierError::OutOfRange { .. } => facts.trimmed,
        TierError::Missing { .. } => facts.impatient,
        error => facts.planned && error.kind() == ErrorKind::Retry,
    }
}

#[cfg(test)]
mod tests;
