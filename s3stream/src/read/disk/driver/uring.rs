//! The disk of the cache in a file that is read through io_uring.
//!
//! *Owns*: the thread with the ring, the requests on their way to it.
//! *Does not own*: opening, locking, sizing and writing the file; [`CacheFile`] does. Writes stay on the
//! runtime's blocking threads: nobody waits for one, and a write into the page cache is copied by
//! whoever submits it, while reads would wait behind it.
//!
//! Invariants
//! 1. A buffer that the kernel may write to belongs to the thread with the ring until it is done; a
//!    caller that went away loses the answer, nothing else.
//! 2. The thread ends with the adapter, after the reads that are under way.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "the production driver")]

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tidewater_types::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_uring::Runtime;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;
use tracing::warn;

use super::file::CacheFile;
use crate::read::disk::port::CacheDisk;

/// Reads that the kernel has at a time; as many wait for their turn before callers do.
const DEPTH: usize = 64;
/// The kernel reads at most so many bytes at once.
const READ_BYTES_MAX: usize = 1 << 30;
/// What a kernel that neither refuses nor answers is given, at the start and at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// A [`CacheDisk`] like [`CacheFile`], read through io_uring by a thread of its own. Where the kernel
/// has none or forbids it, as in many containers, it reads as `CacheFile` does.
#[derive(Debug)]
pub struct UringCacheFile {
    // Goes before the file, so that the lock on it outlives no read.
    ring: Option<Ring>,
    file: CacheFile,
}

impl UringCacheFile {
    /// As [`CacheFile::open`].
    ///
    /// # Errors
    /// Those of [`CacheFile::open`].
    pub fn open(path: &Path, num_bytes: u64) -> io::Result<Self> {
        Self::open_on(path, num_bytes, new_runtime)
    }

    /// Whether reads go through the ring.
    #[must_use]
    pub fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    pub(super) fn open_on(path: &Path, num_bytes: u64, runtime: NewRuntime) -> io::Result<Self> {
        let file = CacheFile::open(path, num_bytes)?;
        let ring = match Ring::start(&file, runtime) {
            Ok(ring) => Some(ring),
            Err(error) => {
                let path = path.display();
                warn!("io_uring is not to be had ({error}); threads read the block cache {path}");
                None
            }
        };
        Ok(Self { ring, file })
    }
}

impl CacheDisk for UringCacheFile {
    fn num_bytes(&self) -> u64 {
        self.file.num_bytes()
    }

    fn read(&self, position: u64, num_bytes: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let Some(ring) = &self.ring else {
            return self.file.read(position, num_bytes);
        };
        Box::pin(async move {
            self.file.check(position, num_bytes)?;
            ring.read(position, num_bytes).await
        })
    }

    fn write(&self, position: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        self.file.write(position, parts)
    }
}

/// Makes what runs on the thread; it cannot leave it.
type NewRuntime = fn() -> io::Result<Runtime>;

fn new_runtime() -> io::Result<Runtime> {
    Runtime::new(tokio_uring::builder().entries(DEPTH as u32))
}

struct Request {
    position: u64,
    num_bytes: usize,
    answer: oneshot::Sender<io::Result<Bytes>>,
}

/// The way to the thread.
#[derive(Debug)]
struct Ring {
    // Closed first: that is what ends the thread.
    requests: mpsc::Sender<Request>,
    _thread: Thread,
}

impl Ring {
    fn start(file: &CacheFile, runtime: NewRuntime) -> io::Result<Self> {
        // The same open file, and so the same lock.
        let file = file.file.try_clone()?;
        let (requests, asked) = mpsc::channel(DEPTH);
        let (ready, started) = sync_channel(1);
        let (alive, ended) = sync_channel(0);
        std::thread::Builder::new()
            .name("block-cache".to_owned())
            .spawn(move || run(file, runtime, asked, &ready, alive))?;
        match started.recv_timeout(PATIENCE) {
            Ok(outcome) => outcome?,
            // It hangs in the kernel's hands, and holds the file until the process ends.
            Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
        }
        let thread = Thread(Mutex::new(ended));
        Ok(Self {
            requests,
            _thread: thread,
        })
    }

    async fn read(&self, position: u64, num_bytes: usize) -> io::Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        let request = Request {
            position,
            num_bytes,
            answer,
        };
        self.requests.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that reads the block cache has ended")
}

/// Waits at its end for the thread's.
#[derive(Debug)]
struct Thread(Mutex<Receiver<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        // Nothing is ever sent. A disk that hangs does not hold up who leaves it.
        let _ = self.0.get_mut().recv_timeout(PATIENCE);
    }
}

/// The thread: says whether it can read, and then answers until nobody can ask any more.
fn run(
    file: std::fs::File,
    runtime: NewRuntime,
    mut asked: mpsc::Receiver<Request>,
    ready: &SyncSender<io::Result<()>>,
    alive: SyncSender<()>,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let file = File::from_std(file);
        // Rings may be had where reads are not: Linux 5.1 to 5.5, a filter that forbids to enter.
        let (probed, _) = file.read_at(Vec::with_capacity(1), 0).await;
        let is_usable = probed.is_ok();
        let _ = ready.send(probed.map(|_| ()));
        if is_usable {
            stream::poll_fn(|context| asked.poll_recv(context))
                .for_each_concurrent(DEPTH, |request| answer(&file, request))
                .await;
        }
        let _ = file.close().await;
    });
    drop(alive);
}

async fn answer(file: &File, request: Request) {
    if request.answer.is_closed() {
        return;
    }
    let read = read_at(file, request.position, request.num_bytes).await;
    let _ = request.answer.send(read);
}

/// As `tidewater_bucket::read_at`, through the ring.
async fn read_at(file: &File, position: u64, num_bytes: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(num_bytes);
    while bytes.len() < num_bytes {
        let done = bytes.len();
        let part = bytes.slice(done..num_bytes.min(done + READ_BYTES_MAX));
        let (outcome, part) = file.read_at(part, position + done as u64).await;
        bytes = part.into_inner();
        match outcome {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from(bytes))
}
