//! The disk of the cache in a file.
//!
//! *Owns*: the file and the lock on it.
//! *Does not own*: what is in it. Nothing is flushed: what a crash takes is read from the bucket.
//!
//! Invariants
//! 1. One process at a time has the file.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "the production driver")]

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::BoxFuture;

use crate::read::disk::port::CacheDisk;

/// A [`CacheDisk`] in a file of fixed size, read and written on the runtime's blocking threads.
#[derive(Debug)]
pub struct CacheFile {
    pub(super) file: Arc<File>,
    num_bytes: u64,
}

impl CacheFile {
    /// Opens or makes the file at `path`; it takes at most `num_bytes` of the disk, and as much as
    /// was written to it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if another process has it; what the file system says.
    pub fn open(path: &Path, num_bytes: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process uses it as its block cache",
            ),
        })?;
        file.set_len(num_bytes)?;
        Ok(Self {
            file: Arc::new(file),
            num_bytes,
        })
    }

    /// Nobody asks a file for what is not in it, wherever numbers came from.
    pub(super) fn check(&self, position: u64, num_bytes: usize) -> io::Result<()> {
        match position.checked_add(num_bytes as u64) {
            Some(end) if end <= self.num_bytes => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || work(&file)).await;
        done.unwrap_or_else(|_| Err(io::Error::other("the runtime is shutting down")))
    }
}

impl CacheDisk for CacheFile {
    fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    fn read(&self, position: u64, num_bytes: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            self.check(position, num_bytes)?;
            self.blocking(move |file| tidewater_bucket::read_at(file, position, num_bytes))
                .await
        })
    }

    fn write(&self, position: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.blocking(move |file| {
            let mut position = position;
            for part in parts {
                file.write_all_at(&part, position)?;
                position += part.len() as u64;
            }
            Ok(())
        }))
    }
}
