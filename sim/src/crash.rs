//! Crash testing on a real kernel: the real log on a real block layer, whose every write is
//! recorded, and the crashes that this record allows.
//!
//! *Owns*: the workload, the reading of write logs, the crash states and their judgement.
//! *Does not own*: kernels, devices and faults (`cargo xtask crash-test` brings those); the
//! models of what was promised (`check`), which are the simulator's own.
//!
//! Invariants
//! 1. What a state must serve was acknowledged before the crash it stands for: a mark is
//!    written *after* its acknowledgement was given, and before it a trim is not begun.
//! 2. A state follows from the recorded log, the seed and its number alone.
//!
//! *IO: cli.rs, marker.rs, mounted.rs, recover.rs and workload.rs are drivers*

mod book;
mod cli;
mod env;
mod judge;
mod log;
mod marker;
mod marks;
mod mounted;
mod recover;
mod replay;
mod report;
#[cfg(test)]
mod tests;
mod workload;

use std::io;
use std::path::Path;

use tidewater_types::{ClusterId, NodeId};
use tidewater_wal::{DeviceWalConfig, Identity, WalError, WalMode};

use crate::check::Violation;

pub use cli::main;

/// Segments of the ring: few, so that it wraps many times.
const SEGMENTS: u64 = 8;

/// Why a part of the crash test did not come to its end.
#[derive(Debug, thiserror::Error)]
enum CrashError {
    /// The environment refused something.
    #[error("cannot {operation} {path}: {cause}")]
    Io {
        operation: &'static str,
        path: String,
        cause: io::Error,
    },
    /// The log answered with an error nobody planned.
    #[error("the write-ahead log: {0}")]
    Wal(#[from] WalError),
    /// A recorded file is not what it should be.
    #[error("{path} at byte {position}: expected {expected}, found {found}")]
    Format {
        path: String,
        position: u64,
        expected: &'static str,
        found: String,
    },
    /// Something was wrong while the workload still ran.
    #[error(transparent)]
    Violation(#[from] Violation),
}

impl CrashError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::Io {
            operation,
            path,
            cause,
        }
    }
}

/// Whose log all of this is. A log on a block device draws its own identifier.
fn identity() -> Identity {
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: None,
    }
}

/// The log's settings: as small as they get, with patience for a slow guest.
fn wal_config(mode: WalMode) -> DeviceWalConfig {
    let tiny = DeviceWalConfig::tiny();
    DeviceWalConfig {
        capacity_bytes: SEGMENTS * tiny.segment_bytes,
        reserve_ms_max: 60_000,
        mode,
        ..tiny
    }
}

/// Bytes of a log that has grown to its full size.
fn full_bytes() -> u64 {
    let config = wal_config(WalMode::Portable);
    // The superblocks take the space of one smallest segment (docs/formats/wal.md).
    64 * 1024 + config.capacity_bytes
}
