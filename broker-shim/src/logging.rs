//! Where log lines go: standard error, as text or JSON.
//!
//! *Owns*: the subscriber of the process.
//! *Does not own*: what is logged.
//!
//! *IO: driver*

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends log lines that `level` lets through to standard error. The first call of a process
/// counts; `level` comes from a valid configuration.
pub(crate) fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::builder()
        .parse(level)
        .expect("the configuration was checked");
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter);
    let started = match format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .compact()
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second broker in one process shares the first one's lines.
    drop(started);
}
