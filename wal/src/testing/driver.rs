//! The real world, under tokio.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidewater_types::{BoxFuture, Env, Instant};

struct TokioEnv(tokio::runtime::Handle, std::time::Instant);

impl Env for TokioEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.1.elapsed().as_nanos()).unwrap())
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _guard = self.0.enter();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        super::env::Rng(u64::try_from(nanos).unwrap()).next()
    }
}

/// The world of the runtime that calls.
pub(crate) fn env() -> Arc<dyn Env> {
    let handle = tokio::runtime::Handle::current();
    Arc::new(TokioEnv(handle, std::time::Instant::now()))
}
