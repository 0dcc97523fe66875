//! The environment of a real process, with a seeded bug in it.
//!
//! *Owns*: switching a mutant on for every thread that asks the environment for anything: the
//! log's own thread asks for the time before it does anything else.
//! *Does not own*: clock, timers, tasks (the production environment's).
//!
//! *IO: driver*

use std::time::Duration;

use tidewater_stream_store::TokioEnv;
use tidewater_types::{BoxFuture, Env, Instant, set_mutant};

/// `TokioEnv` with a mutant.
pub(super) struct MutantEnv {
    inner: TokioEnv,
    mutant: u16,
}

impl MutantEnv {
    /// The environment on the runtime this is called from; mutant 0 is none.
    pub(super) fn current(mutant: u16) -> Self {
        let inner = TokioEnv::current();
        Self { inner, mutant }
    }
}

impl Env for MutantEnv {
    fn now(&self) -> Instant {
        set_mutant(self.mutant);
        self.inner.now()
    }

    fn wall_ms(&self) -> i64 {
        self.inner.wall_ms()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(wait)
    }

    fn spawn(&self, label: &'static str, task: BoxFuture<'static, ()>) {
        self.inner.spawn(label, task);
    }

    fn random(&self, label: &'static str) -> u64 {
        self.inner.random(label)
    }
}
