//! A broker on ports of its caller's: what `serve` runs on sockets and files, and the simulator on
//! a network, a disk and a bucket that fail.
//!
//! *Owns*: the one way a broker is opened, served and closed.
//! *Does not own*: which ports those are; claiming them, exit codes (serve).
//!
//! *IO: none* (through ports)

use std::sync::Arc;

use tidewater_stream_store::{StoreError, StreamStore};

use crate::api::Api;
use crate::broker::{Broker, OpenError, Parts};
use crate::net::{self, Limits, Listener};

/// A broker that is open. Clones name the same one.
#[derive(Clone)]
pub struct EmbeddedBroker {
    broker: Arc<Broker>,
    api: Arc<Api>,
}

impl EmbeddedBroker {
    /// Opens the store and every topic on it.
    ///
    /// # Errors
    /// The store refuses, or a topic's record cannot be read.
    pub async fn open(parts: Parts) -> Result<Self, OpenError> {
        let broker = Broker::open(parts).await?;
        let api = Arc::new(Api::new(Arc::clone(&broker)));
        Ok(Self { broker, api })
    }

    /// Serves the connections of `listener` until `stop` completes; then finishes what is in flight, for `limits.stop_grace` at most.
    pub fn serve<L: Listener, S: Future<Output = ()> + Send + 'static>(
        &self,
        listener: L,
        limits: Limits,
        stop: S,
    ) -> impl Future<Output = ()> + Send + use<L, S> {
        let (api, env) = (Arc::clone(&self.api), Arc::clone(&self.broker.env));
        net::serve(listener, api, limits, env, stop)
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &StreamStore {
        &self.broker.store
    }

    /// Completes with the reason once the storage has failed; the broker must be opened anew.
    pub async fn failed(&self) -> StoreError {
        self.broker.store.failed().await
    }

    /// Makes everything accepted durable, stops uploading and closes the write-ahead log. What is not
    /// uploaded stays in the log for the next opening; a log in memory loses it. No connection may be
    /// served any more.
    ///
    /// # Errors
    /// The log could not be made durable; what was acknowledged is safe where it is.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.broker.store.close().await
    }
}
