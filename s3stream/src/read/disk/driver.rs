//! The disk of the cache in a file: how it is read in this build.
//!
//! *Owns*: the choice. *Does not own*: the file (`file.rs`), the ring (`uring.rs`).
//!
//! *IO: driver*

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::port::CacheDisk;

pub(crate) mod file;
#[cfg(test)]
mod tests;
#[cfg(all(feature = "uring", target_os = "linux"))]
pub(crate) mod uring;

impl dyn CacheDisk {
    /// The disk of the cache in the file at `path`, as [`CacheFile::open`](crate::CacheFile::open) has
    /// it. With the feature `uring` it is read through io_uring, where the kernel lets it.
    ///
    /// # Errors
    /// Those of `CacheFile::open`.
    pub fn open(path: &Path, num_bytes: u64) -> io::Result<Arc<Self>> {
        #[cfg(all(feature = "uring", target_os = "linux"))]
        let disk = uring::UringCacheFile::open(path, num_bytes)?;
        #[cfg(not(all(feature = "uring", target_os = "linux")))]
        let disk = file::CacheFile::open(path, num_bytes)?;
        Ok(Arc::new(disk))
    }
}
