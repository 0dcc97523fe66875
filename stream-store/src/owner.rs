//! What the owner of a stream and the store tell each other besides records.
//!
//! *Owns*: the owner's state that rides on uploads, who reads entries for key compaction.
//! *Does not own*: either; the tier keeps them.
//!
//! *IO: none* (through ports)

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tidewater_s3stream::StateSnapshot;
use tidewater_s3stream::keyed::KeyOwner;

use crate::error::StoreError;
use crate::shared::StateSource;
use crate::stream::Stream;

impl Stream {
    /// Compacts the stream by key from now on, or no more. `owner` says when, and reads its entries.
    pub fn set_key_owner(&self, owner: Option<Arc<dyn KeyOwner>>) {
        self.shared.tier.set_key_owner(self.inner.id, owner);
    }

    /// Names who is asked for the owner's state at each upload.
    pub fn set_state_source(&self, source: Arc<dyn StateSource>) {
        *self.inner.state_source.lock() = Some(source);
    }

    /// The owner's state kept with the last upload, if any.
    ///
    /// # Errors
    /// Tier errors.
    pub fn snapshot(
        &self,
    ) -> impl Future<Output = Result<Option<StateSnapshot>, StoreError>> + Send + '_ {
        self.shared
            .tier
            .snapshot(self.inner.id)
            .map(|found| found.map_err(StoreError::from))
    }
}
