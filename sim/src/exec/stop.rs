//! When a run ends without the answer of its root.
//!
//! *Owns*: the reasons and the limits. *Does not own*: who notices (exec.rs).
//!
//! *IO: none*

use std::time::Duration;

/// Why a run ended without the answer of its root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Nothing is ready and nothing will ever happen.
    #[error("deadlock at {now_ns} ns: nothing is ready and no event is due")]
    Deadlock {
        /// Virtual time.
        now_ns: u64,
    },
    /// The run took more polls or virtual time than it may.
    #[error("no end after {polls} polls and {now_ns} ns of virtual time")]
    Endless {
        /// Polls made.
        polls: u64,
        /// Virtual time.
        now_ns: u64,
    },
    /// A task panicked.
    #[error("task {label} panicked: {message}")]
    Panic {
        /// The task's label.
        label: &'static str,
        /// The panic's message.
        message: String,
    },
}

/// How long a run may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Polls.
    pub polls: u64,
    /// Virtual time.
    pub time: Duration,
}
