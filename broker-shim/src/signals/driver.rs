//! The process's signal handlers.
//!
//! *Owns*: the task that waits for signals.
//!
//! Invariants
//! 1. From the return of `stop_on_signals` on, a signal stops cleanly, also while
//!    the broker still recovers.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "the signal driver")]

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// What a shell reports of a process that a signal ended: 128 and the signal's number.
const ENDED_BY: i32 = 128;

/// A flag that turns true with the first SIGTERM or SIGINT. A second one ends the process at
/// once, with nothing flushed.
///
/// # Errors
/// The operating system takes no handlers.
pub(crate) fn stop_on_signals() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopping) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let (name, _) = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal leaves at once");
        stop.send_replace(true);
        let (name, number) = next(&mut terminate, &mut interrupt).await;
        eprintln!(
            "tidewater: left at once: signal {name}: expected a clean stop, found a second signal"
        );
        std::process::exit(ENDED_BY + number);
    });
    Ok(stopping)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", libc::SIGTERM),
        _ = interrupt.recv() => ("SIGINT", libc::SIGINT),
    }
}
