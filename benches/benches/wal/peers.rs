//! Other logs in the turns of ours: what one would write oneself, and what one would take from a shelf.
//!
//! *Owns*: a file under a lock; with the feature `peers`, the `raft-engine` crate.
//! *Does not own*: the threads that append.
//!
//! Invariants
//! 1. An append returns when its bytes survive a power failure, as ours do.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tidewater_benches::noise;

use crate::Failure;
use crate::subject::{Limit, Log, Open, Subject};

/// One durable append, on the thread that calls.
pub(crate) type Append = Box<dyn FnMut() -> Result<(), Failure>>;

/// A log whose appends keep the calling thread.
pub(crate) trait BlockingLog: Send + Sync {
    /// What the appender of that number does, again and again, with the body.
    fn appender(self: Arc<Self>, number: usize, body: &Bytes) -> Result<Append, Failure>;

    /// Gives room back. Called now and then by an appender, between two appends.
    fn trim(&self);
}

const FILL_BYTES: usize = 1 << 20;

/// A file of a fixed size, written in a circle: lock, write, `sync_data`, unlock.
struct FileLock {
    range: Range<u64>,
    /// The next position, and the file.
    file: Mutex<(u64, File)>,
}

impl FileLock {
    /// Fills `range` first, so that no append has to allocate: the friendliest way to do it.
    fn open(path: &Path, range: Range<u64>) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create(!path.try_exists()?)
            .truncate(false)
            .open(path)?;
        let filling = noise(FILL_BYTES);
        for position in range.clone().step_by(FILL_BYTES) {
            file.write_all_at(&filling, position)?;
        }
        file.sync_all()?;
        let start = range.start;
        Ok(Self {
            range,
            file: Mutex::new((start, file)),
        })
    }

    fn append(&self, body: &[u8]) -> Result<(), Failure> {
        let mut state = self.file.lock().map_err(|_| "an appender panicked")?;
        if state.0 + body.len() as u64 > self.range.end {
            state.0 = self.range.start;
        }
        let (position, file) = (state.0, &state.1);
        file.write_all_at(body, position)?;
        file.sync_data()?;
        state.0 += body.len() as u64;
        Ok(())
    }
}

impl BlockingLog for FileLock {
    fn appender(self: Arc<Self>, _number: usize, body: &Bytes) -> Result<Append, Failure> {
        let body = body.clone();
        Ok(Box::new(move || self.append(&body)))
    }

    fn trim(&self) {}
}

/// The file under a lock, in `range` of the file or device at `path`.
pub(crate) fn file_lock(path: &Path, range: Range<u64>) -> Subject {
    let path = path.to_owned();
    Subject::blocking("file-lock", move || {
        let log = Arc::new(FileLock::open(&path, range.clone())?);
        Ok(Open {
            log: Log::Blocking(log),
            limit: Limit::None,
        })
    })
}

#[cfg(feature = "peers")]
pub(crate) mod raft {
    //! `raft-engine` as its documentation and TiKV use it: one region an appender, an entry a
    //! write, every write synced, entries compacted behind, files recycled.

    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use protobuf::well_known_types::BytesValue;
    use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};

    use super::{Append, BlockingLog};
    use crate::Failure;
    use crate::subject::{Limit, Log, Open, Subject};

    /// Bytes of entries that a region keeps, and entries if those are large.
    const KEPT_BYTES: u64 = 2 << 20;
    const KEPT_MIN: u64 = 2;
    /// The log is purged when it is larger: at least 128 MiB, the size of its files.
    const PURGE_MIB: u64 = 512;

    /// An entry whose first eight bytes are its index.
    struct Entry;

    impl MessageExt for Entry {
        type Entry = BytesValue;

        fn index(entry: &BytesValue) -> u64 {
            let bytes = entry.value.first_chunk().expect("set by the appender");
            u64::from_le_bytes(*bytes)
        }
    }

    struct RaftEngine(Engine);

    impl BlockingLog for RaftEngine {
        fn appender(self: Arc<Self>, number: usize, body: &Bytes) -> Result<Append, Failure> {
            let region = number as u64 + 1;
            let mut index = self.0.last_index(region).unwrap_or(0);
            let mut batch = LogBatch::default();
            let kept = (KEPT_BYTES / body.len() as u64).max(KEPT_MIN);
            let mut entries = [BytesValue::new()];
            entries[0].value = body.to_vec();
            Ok(Box::new(move || {
                index += 1;
                entries[0].value[..8].copy_from_slice(&index.to_le_bytes());
                batch.add_entries::<Entry>(region, &entries)?;
                if index.is_multiple_of(kept) {
                    batch.add_command(region, Command::Compact { index });
                }
                self.0.write(&mut batch, true)?;
                Ok(())
            }))
        }

        fn trim(&self) {
            // Another appender may be at it; it says which regions hold files back.
            for region in self.0.purge_expired_files().into_iter().flatten() {
                let last = self.0.last_index(region).unwrap_or(0);
                self.0.compact_to(region, last);
            }
        }
    }

    /// `raft-engine` in the folder at `path`.
    pub(crate) fn engine(path: &Path) -> Subject {
        let path = path.to_owned();
        Subject::blocking("raft-engine", move || {
            let config = Config {
                dir: path.display().to_string(),
                purge_threshold: ReadableSize::mb(PURGE_MIB),
                // Ours compresses nothing either, and the body is noise.
                batch_compression_threshold: ReadableSize::kb(0),
                enable_log_recycle: true,
                prefill_for_recycle: true,
                ..Config::default()
            };
            Ok(Open {
                log: Log::Blocking(Arc::new(RaftEngine(Engine::open(config)?))),
                limit: Limit::None,
            })
        })
    }
}
