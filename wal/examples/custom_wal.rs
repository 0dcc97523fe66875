//! A write-ahead log of one's own: a plain file that only grows, one `fdatasync` a batch.
//!
//! `Room` is the budget and the queue for it, `Acks` the futures and their order. What is left to
//! write is the part that differs: where bytes go, and how they are found again. The conformance
//! suite says whether it is a log; it runs in `main` and under `cargo test`.
//!
//! ```console
//! $ cargo run -p tidewater-wal --example custom_wal --features conformance
//! ```
//!
//! Deliberately left out, and in `DeviceWal`:
//! * a ring: the file only grows, a trim frees memory and no disk;
//! * fencing: no lock, no identity, no epoch. Two processes on one file destroy it;
//! * damage detection: the file ends at the first record that is not whole, also if that one was
//!   durable and rotted. A log to rely on tells the two apart, and refuses;
//! * the durability of the file's name: nothing syncs the folder;
//! * a failed write that might be tried again (a full disk): every failure poisons;
//! * reads that do not block the executor, and one copy an append in place of two.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a driver"
)]

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tidewater_types::{BoxFuture, Env, Instant, Lsn, crc32c};
use tidewater_wal::conformance::{Kind, Reopened, run};
use tidewater_wal::{
    Acks, Append, Frame, Permit, Reserve, Room, Wal, WalCounters, WalError, Watermarks,
};
use tokio::sync::watch;

const FRAME_BYTES_MAX: usize = 64 << 10;
const ROOM_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_millis(200);
/// In front of a frame: its length and the CRC-32C of its bytes, both little-endian. An LSN counts
/// both, so that an LSN is never met twice.
const PREFIX_BYTES: u64 = 8;
/// In the place of a length: the frame is a trim point, and no LSN counts it.
const TRIM: u32 = u32::MAX;

/// Where a frame lies.
struct Place {
    lsn: Lsn,
    end: Lsn,
    position: u64,
}

struct State {
    /// Accepted and not handed to the writer.
    batch: Vec<u8>,
    /// Room that the frames of `batch` take.
    room: usize,
    places: VecDeque<Place>,
    /// Length of the file once everything accepted is written.
    position: u64,
    trimmed: Lsn,
    submitted: Lsn,
    accepted: Lsn,
    syncs: u64,
    closing: bool,
    abandoned: bool,
}

struct Shared {
    file: File,
    path: PathBuf,
    room: Arc<Room>,
    acks: Arc<Acks>,
    begin: Lsn,
    state: Mutex<State>,
    work: Condvar,
    /// How far the log is durable, and how it ended: what readers and closers wait for.
    progress: watch::Sender<(Lsn, Option<Result<(), WalError>>)>,
}

/// A log in a file that only grows.
pub struct FileWal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl FileWal {
    /// Opens the log at `path`, or begins one; what was in it comes along.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, env: Arc<dyn Env>) -> io::Result<(Self, Vec<(Lsn, Bytes)>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let (state, frames) = recover(&std::fs::read(path)?);
        // What is not whole was never acknowledged, and must not stand behind what comes next.
        file.set_len(state.position)?;
        // What was read may sit in a cache only; from now on it counts as durable.
        file.sync_all()?;
        let begin = state.accepted;
        let room = Room::new(env, ROOM_BYTES, FRAME_BYTES_MAX, PATIENCE);
        let shared = Arc::new(Shared {
            file,
            path: path.to_owned(),
            room: Arc::new(room),
            acks: Arc::new(Acks::new(begin)),
            begin,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: watch::Sender::new((begin, None)),
        });
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.write())
        };
        let writer = Some(writer);
        Ok((Self { shared, writer }, frames))
    }
}

/// Every whole record of a file, from its start.
fn recover(bytes: &[u8]) -> (State, Vec<(Lsn, Bytes)>) {
    let (mut lsn, mut trimmed, mut at) = (Lsn(0), Lsn(0), 0);
    let mut places = VecDeque::new();
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes[at..].split_first_chunk::<8>() {
        let [length, checksum] = [&head[..4], &head[4..]]
            .map(|part| u32::from_le_bytes(part.try_into().expect("four bytes")));
        let num_bytes = if length == TRIM { 8 } else { length as usize };
        let Some(body) = rest.get(..num_bytes) else {
            break;
        };
        if crc32c(&[&head[..4], body]) != checksum {
            break;
        }
        if length == TRIM {
            trimmed = Lsn(u64::from_le_bytes(body.try_into().expect("eight bytes")));
        } else {
            let end = Lsn(lsn.0 + PREFIX_BYTES + num_bytes as u64);
            let position = at as u64;
            places.push_back(Place { lsn, end, position });
            frames.push((lsn, Bytes::copy_from_slice(body)));
            lsn = end;
        }
        at += 8 + num_bytes;
    }
    places.retain(|place| place.lsn >= trimmed);
    frames.retain(|(lsn, _)| *lsn >= trimmed);
    let state = State {
        batch: Vec::new(),
        room: 0,
        places,
        position: at as u64,
        trimmed,
        submitted: lsn,
        accepted: lsn,
        syncs: 0,
        closing: false,
        abandoned: false,
    };
    (state, frames)
}

fn record(length: u32, parts: [&[u8]; 2], into: &mut Vec<u8>) {
    let length = length.to_le_bytes();
    let checksum = crc32c(&[&length, parts[0], parts[1]]);
    into.extend_from_slice(&length);
    into.extend_from_slice(&checksum.to_le_bytes());
    parts.iter().for_each(|part| into.extend_from_slice(part));
}

impl Shared {
    /// The writer's thread: whatever came while the last sync ran is the next batch.
    fn write(&self) {
        let outcome = loop {
            let mut state = self.state.lock();
            while state.batch.is_empty() && !state.closing && !state.abandoned {
                self.work.wait(&mut state);
            }
            if state.abandoned {
                break Err(WalError::Closed);
            }
            let ends = state.batch.is_empty();
            if ends {
                let trimmed = state.trimmed.0.to_le_bytes();
                record(TRIM, [&trimmed, &[]], &mut state.batch);
                state.position += state.batch.len() as u64;
            }
            let batch = std::mem::take(&mut state.batch);
            let room = std::mem::take(&mut state.room);
            let position = state.position - batch.len() as u64;
            let end = state.accepted;
            state.submitted = end;
            drop(state);
            let written = self.file.write_all_at(&batch, position);
            if let Err(cause) = written.and_then(|()| self.file.sync_data()) {
                // After a failed sync nobody knows what the disk holds: no retry is right.
                break Err(self.poisoned(position, cause));
            }
            self.state.lock().syncs += 1;
            self.acks.advance(end);
            self.room.give_back(room);
            self.progress.send_modify(|progress| progress.0 = end);
            if ends {
                break Ok(());
            }
        };
        let failure = outcome.clone().err().unwrap_or(WalError::Closed);
        self.state.lock().closing = true;
        self.room.close(failure.clone());
        self.acks.fail(failure);
        self.progress
            .send_modify(|progress| progress.1 = Some(outcome));
    }

    fn poisoned(&self, position: u64, cause: io::Error) -> WalError {
        let cause = Arc::new(WalError::Io {
            operation: "write",
            path: self.path.display().to_string(),
            position,
            cause: Arc::new(cause),
        });
        WalError::Poisoned { cause }
    }

    fn ended(&self) -> Option<WalError> {
        let ended = self.progress.borrow().1.clone()?;
        Some(ended.err().unwrap_or(WalError::Closed))
    }

    /// Waits for the frame to be durable: what a crash could take back is never shown.
    async fn read(&self, lsn: Lsn) -> Result<Bytes, WalError> {
        let (position, end) = {
            let state = self.state.lock();
            if lsn < state.trimmed {
                return Err(WalError::Trimmed { lsn });
            }
            let found = state.places.binary_search_by_key(&lsn, |place| place.lsn);
            let place = found.map_err(|_| WalError::NoFrame { lsn })?;
            (state.places[place].position, state.places[place].end)
        };
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.0 >= end || now.1.is_some());
        if !reached.await.is_ok_and(|now| now.0 >= end) {
            return Err(self.ended().unwrap_or(WalError::Closed));
        }
        let num_bytes = usize::try_from(end.0 - lsn.0 - PREFIX_BYTES).expect("bounded by room");
        let mut bytes = vec![0; num_bytes];
        let read = self.file.read_exact_at(&mut bytes, position + PREFIX_BYTES);
        read.map_err(|cause| self.poisoned(position, cause))?;
        Ok(bytes.into())
    }
}

impl Wal for FileWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.shared.room.take(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.shared.room.try_take(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        let num_bytes = frame.num_bytes();
        assert!(
            num_bytes <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        let mut state = self.shared.state.lock();
        if state.closing || state.abandoned {
            return Err(self.shared.ended().unwrap_or(WalError::Closed));
        }
        let lsn = state.accepted;
        let end = Lsn(lsn.0 + PREFIX_BYTES + num_bytes as u64);
        let position = state.position;
        state.places.push_back(Place { lsn, end, position });
        let length = u32::try_from(num_bytes).expect("bounded by room");
        record(length, frame.parts(), &mut state.batch);
        state.position += end.0 - lsn.0;
        state.room += permit.consume();
        state.accepted = end;
        // Under the lock: the queue of those who wait has the order of the log.
        let append = self.shared.acks.issue(lsn, end);
        self.shared.work.notify_one();
        Ok(append)
    }

    fn trim(&self, up_to: Lsn) {
        let mut state = self.shared.state.lock();
        state.trimmed = up_to.min(self.shared.acks.durable()).max(state.trimmed);
        let gone = state.trimmed;
        while state.places.front().is_some_and(|place| place.lsn < gone) {
            state.places.pop_front();
        }
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.read(lsn).await })
    }

    fn watermarks(&self) -> Watermarks {
        let state = self.shared.state.lock();
        Watermarks {
            trimmed: state.trimmed,
            durable: self.shared.acks.durable(),
            submitted: state.submitted,
            accepted: state.accepted,
        }
    }

    fn counters(&self) -> WalCounters {
        let appends = self.shared.acks.num_durable();
        let lsns = self.shared.acks.durable().0 - self.shared.begin.0;
        WalCounters {
            appends,
            bytes: lsns.saturating_sub(appends * PREFIX_BYTES),
            syncs: self.shared.state.lock().syncs,
            ..WalCounters::default()
        }
    }

    fn describe(&self) -> String {
        "a file that only grows, fdatasync a batch".to_owned()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.shared.state.lock().closing = true;
        self.shared.room.close(WalError::Closed);
        self.shared.work.notify_one();
        let mut progress = self.shared.progress.subscribe();
        Box::pin(async move {
            let ended = progress.wait_for(|now| now.1.is_some()).await;
            let outcome = ended.ok().and_then(|now| now.1.clone());
            outcome.unwrap_or(Err(WalError::Closed))
        })
    }
}

impl Drop for FileWal {
    fn drop(&mut self) {
        self.shared.state.lock().abandoned = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            // Whoever opens the file next must not meet a write of ours.
            let _ = writer.join();
        }
    }
}

/// What the suite needs to know: where logs are, and how they come back.
struct Files {
    folder: tempfile::TempDir,
    env: Arc<dyn Env>,
}

impl Files {
    fn open(&self, place: usize) -> Reopened {
        let path = self.folder.path().join(place.to_string());
        let (wal, frames) = FileWal::open(&path, Arc::clone(&self.env)).expect("a file");
        let wal = Arc::new(wal);
        Reopened { wal, frames }
    }
}

impl Kind for Files {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place).wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move { Some(self.open(place)) })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        None
    }
}

/// Time and tasks of tokio.
struct Tokio(tokio::runtime::Handle, tokio::time::Instant);

impl Env for Tokio {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.1.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let _in_runtime = self.0.enter();
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn random(&self, _label: &'static str) -> u64 {
        std::process::id().into()
    }
}

#[tokio::main]
async fn main() {
    let (now, runtime) = (
        tokio::time::Instant::now(),
        tokio::runtime::Handle::current(),
    );
    let env: Arc<dyn Env> = Arc::new(Tokio(runtime, now));
    let folder = tempfile::tempdir().expect("a folder");
    let files = Files {
        folder,
        env: Arc::clone(&env),
    };
    run(&files, env).await;
    println!("it conforms");
}

#[test]
fn it_conforms() {
    main();
}
