//! The port on the disk of the cache.
//!
//! *Owns*: the trait. *Does not own*: what is stored there.
//!
//! *IO: none* (the adapters are in `driver/`)

use std::io;

use bytes::Bytes;
use tidewater_types::BoxFuture;

/// Bytes on a disk that nobody relies on: they may be damaged, old or gone at any time, and are
/// never flushed.
pub trait CacheDisk: Send + Sync + 'static {
    /// Bytes there is room for. Does not change.
    fn num_bytes(&self) -> u64;

    /// The `num_bytes` bytes at `position`; zeros where nothing was written. Fails if they are not
    /// within [`num_bytes`](Self::num_bytes). May be dropped at any time.
    fn read(&self, position: u64, num_bytes: usize) -> BoxFuture<'_, io::Result<Bytes>>;

    /// Writes the parts one behind the other from `position` on.
    fn write(&self, position: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
}
