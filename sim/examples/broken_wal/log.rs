//! A write-ahead log of one's own on the disk port, with a bug that can be switched on.
//!
//! *Owns*: records on a [`Disk`], their writer, their recovery. `Room` is the budget, `Acks` the
//! futures of the appends, as in `wal/examples/custom_wal.rs`.
//! *Does not own*: a ring, fencing, the tale of damage from a torn end; a real log has all three.
//!
//! The disk only grows. A record begins at a block and holds one frame: its length, the CRC-32C of
//! the record before it, the CRC-32C of these eight bytes and the frame. The chain keeps records of
//! an earlier life, behind the end that its successor found, out of the log.
//!
//! *IO: none*

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, Env, Lsn, crc32c};
use tidewater_wal::{
    Acks, AlignedBuf, Append, Disk, DiskOp, Frame, Permit, Reserve, Room, Wal, WalCounters,
    WalError, Watermarks,
};
use tokio::sync::{Notify, watch};

const ROOM_BYTES: usize = 256 << 10;
const FRAME_BYTES_MAX: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_millis(200);
/// Length, CRC-32C of the record before, CRC-32C of this one. An LSN counts them too.
const HEAD_BYTES: usize = 12;

/// An accepted frame that is not durable.
struct Queued {
    bytes: Bytes,
    end: Lsn,
    room: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    frames: BTreeMap<Lsn, Bytes>,
    trimmed: Lsn,
    submitted: Lsn,
    accepted: Lsn,
    counters: WalCounters,
    closing: bool,
    abandoned: bool,
}

struct Shared {
    room: Arc<Room>,
    acks: Arc<Acks>,
    state: Mutex<State>,
    work: Notify,
    /// How far the log is durable, and how it ended.
    progress: watch::Sender<(Lsn, Option<Result<(), WalError>>)>,
}

/// A log on a disk that only grows.
pub(crate) struct BlockWal(Arc<Shared>);

/// Where the next record goes, and what the last one was.
struct End {
    lsn: Lsn,
    position: u64,
    chain: u32,
}

/// Carries one operation out; there is never another one under way.
async fn call(disk: &mut dyn Disk, op: DiskOp) -> io::Result<(usize, Option<AlignedBuf>)> {
    disk.submit(0, op);
    let completed = poll_fn(|context| {
        disk.set_waker(context.waker());
        disk.poll().map_or(Poll::Pending, Poll::Ready)
    });
    let completion = completed.await;
    Ok((completion.result?, completion.buf))
}

impl BlockWal {
    /// Opens the log on `disk`; every frame found goes to `on_frame`, in order, and is durable.
    /// A `hasty` log has the bug.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) async fn open(
        mut disk: Box<dyn Disk>,
        env: Arc<dyn Env>,
        hasty: bool,
        mut on_frame: impl FnMut(Lsn, Bytes),
    ) -> io::Result<Self> {
        let bytes = read_all(disk.as_mut()).await?;
        let (end, frames) = recover(&bytes, disk.block_size());
        write_again(disk.as_mut(), &bytes, end.position).await?;
        for (lsn, frame) in &frames {
            on_frame(*lsn, frame.clone());
        }
        let state = State {
            frames,
            submitted: end.lsn,
            accepted: end.lsn,
            ..State::default()
        };
        let room = Room::new(Arc::clone(&env), ROOM_BYTES, FRAME_BYTES_MAX, PATIENCE);
        let shared = Arc::new(Shared {
            room: Arc::new(room),
            acks: Arc::new(Acks::new(end.lsn)),
            state: Mutex::new(state),
            work: Notify::new(),
            progress: watch::Sender::new((end.lsn, None)),
        });
        let writer = Arc::clone(&shared);
        let write = async move { writer.write(disk, end, hasty).await };
        env.spawn("writer", Box::pin(write));
        Ok(Self(shared))
    }
}

async fn read_all(disk: &mut dyn Disk) -> io::Result<Vec<u8>> {
    let block = disk.block_size();
    let num_bytes = usize::try_from(disk.num_bytes()).map_err(io::Error::other)?;
    if num_bytes == 0 {
        return Ok(Vec::new());
    }
    let buf = AlignedBuf::new(num_bytes.next_multiple_of(block), block);
    let (num_read, buf) = call(disk, DiskOp::Read { position: 0, buf }).await?;
    let mut buf = buf.expect("a read gives its buffer back");
    // Nothing beyond what was read is ours.
    Ok(buf.as_mut_slice()[..num_read].to_vec())
}

/// Makes what recovery found durable: it may lie in a cache alone, and whoever hears of it must hear
/// of it again. A flush is not enough: after one that failed, the system takes pages for clean that
/// never reached the device. So the bytes are written once more.
async fn write_again(disk: &mut dyn Disk, bytes: &[u8], end: u64) -> io::Result<()> {
    let whole = usize::try_from(end).map_err(io::Error::other)?;
    if whole == 0 {
        return Ok(());
    }
    let mut buf = AlignedBuf::new(whole, disk.block_size());
    buf.extend_from_slice(&bytes[..whole]);
    let (position, durable) = (0, true);
    let write = DiskOp::Write {
        position,
        buf,
        durable,
    };
    let (num_written, _) = call(disk, write).await?;
    let is_whole = num_written == whole;
    is_whole
        .then_some(())
        .ok_or_else(|| io::ErrorKind::WriteZero.into())
}

/// Every whole record from the start on, each linked to the one before it.
fn recover(bytes: &[u8], block: usize) -> (End, BTreeMap<Lsn, Bytes>) {
    let mut frames = BTreeMap::new();
    let (mut lsn, mut at, mut chain) = (Lsn(0), 0, 0);
    while let Some((head, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<12>) {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let (num_bytes, before, checksum) = (word(0) as usize, word(4), word(8));
        let Some(body) = rest.get(..num_bytes) else {
            break;
        };
        if before != chain || crc32c(&[&head[..8], body]) != checksum {
            break;
        }
        frames.insert(lsn, Bytes::copy_from_slice(body));
        lsn = Lsn(lsn.0 + (HEAD_BYTES + num_bytes) as u64);
        at += (HEAD_BYTES + num_bytes).next_multiple_of(block);
        chain = checksum;
    }
    let position = at as u64;
    (
        End {
            lsn,
            position,
            chain,
        },
        frames,
    )
}

/// One record, filled up to a whole block.
fn record(frame: &[u8], chain: &mut u32, block: usize) -> AlignedBuf {
    let num_bytes = u32::try_from(frame.len()).expect("bounded by room");
    let [length, before] = [num_bytes, *chain].map(u32::to_le_bytes);
    *chain = crc32c(&[&length, &before, frame]);
    let whole = (HEAD_BYTES + frame.len()).next_multiple_of(block);
    let mut buf = AlignedBuf::new(whole, block);
    for part in [&length[..], &before, &chain.to_le_bytes(), frame] {
        buf.extend_from_slice(part);
    }
    buf.set_len(whole);
    buf
}

impl Shared {
    /// The writer: a record, a flush, an acknowledgement; and so on until the log is closed.
    async fn write(&self, mut disk: Box<dyn Disk>, mut end: End, hasty: bool) {
        let outcome = loop {
            let next = {
                let mut state = self.state.lock();
                match state.queue.pop_front() {
                    _ if state.abandoned => break Err(WalError::Closed),
                    None if state.closing => break Ok(()),
                    Some(next) => {
                        state.submitted = next.end;
                        Some(next)
                    }
                    None => None,
                }
            };
            let Some(next) = next else {
                self.work.notified().await;
                continue;
            };
            if let Err(cause) = self.write_one(disk.as_mut(), &mut end, &next, hasty).await {
                // After a failed write or flush nobody knows what the disk holds.
                let cause = Arc::new(WalError::Io {
                    operation: "write",
                    path: disk.describe(),
                    position: end.position,
                    cause: Arc::new(cause),
                });
                break Err(WalError::Poisoned { cause });
            }
            self.room.give_back(next.room);
        };
        drop(disk);
        let failure = outcome.clone().err().unwrap_or(WalError::Closed);
        self.state.lock().closing = true;
        self.room.close(failure.clone());
        self.acks.fail(failure);
        self.progress.send_modify(|now| now.1 = Some(outcome));
    }

    async fn write_one(
        &self,
        disk: &mut dyn Disk,
        end: &mut End,
        next: &Queued,
        hasty: bool,
    ) -> io::Result<()> {
        let buf = record(&next.bytes, &mut end.chain, disk.block_size());
        let (position, whole) = (end.position, buf.len());
        let write = DiskOp::Write {
            position,
            buf,
            durable: false,
        };
        let (num_written, _) = call(disk, write).await?;
        if num_written != whole {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if hasty {
            // The bug: the write has completed, and lies in the cache of the device.
            self.durable(next.end);
        }
        call(disk, DiskOp::Flush).await?;
        self.durable(next.end);
        end.position += whole as u64;
        let mut state = self.state.lock();
        state.counters.syncs += 1;
        state.counters.appends += 1;
        state.counters.bytes += next.bytes.len() as u64;
        Ok(())
    }

    fn durable(&self, end: Lsn) {
        self.acks.advance(end);
        self.progress.send_modify(|now| now.0 = end);
    }

    fn ended(&self) -> WalError {
        let ended = self.progress.borrow().1.clone();
        ended.and_then(Result::err).unwrap_or(WalError::Closed)
    }

    /// What a crash could take back is never shown.
    async fn read(&self, lsn: Lsn) -> Result<Bytes, WalError> {
        let frame = {
            let state = self.state.lock();
            if lsn < state.trimmed {
                return Err(WalError::Trimmed { lsn });
            }
            let frame = state.frames.get(&lsn).cloned();
            frame.ok_or(WalError::NoFrame { lsn })?
        };
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|now| now.0 > lsn || now.1.is_some());
        if reached.await.is_ok_and(|now| now.0 > lsn) {
            Ok(frame)
        } else {
            Err(self.ended())
        }
    }
}

impl Wal for BlockWal {
    fn reserve(&self, num_bytes: usize) -> Reserve {
        self.0.room.take(num_bytes)
    }

    fn try_reserve(&self, num_bytes: usize) -> Result<Permit, WalError> {
        self.0.room.try_take(num_bytes)
    }

    fn append(&self, permit: Permit, frame: Frame) -> Result<Append, WalError> {
        let num_bytes = frame.num_bytes();
        assert!(
            num_bytes <= permit.num_bytes(),
            "a frame larger than its permit"
        );
        let mut state = self.0.state.lock();
        if state.closing {
            return Err(self.0.ended());
        }
        let lsn = state.accepted;
        let end = Lsn(lsn.0 + (HEAD_BYTES + num_bytes) as u64);
        let (bytes, room) = (frame.join(), permit.consume());
        state.accepted = end;
        state.frames.insert(lsn, bytes.clone());
        state.queue.push_back(Queued { bytes, end, room });
        // Under the lock: those who wait stand in the order of the log.
        let append = self.0.acks.issue(lsn, end);
        self.0.work.notify_one();
        Ok(append)
    }

    fn trim(&self, up_to: Lsn) {
        let mut state = self.0.state.lock();
        let trimmed = up_to.min(self.0.acks.durable()).max(state.trimmed);
        state.trimmed = trimmed;
        state.frames = state.frames.split_off(&trimmed);
    }

    fn read(&self, lsn: Lsn) -> BoxFuture<'static, Result<Bytes, WalError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.read(lsn).await })
    }

    fn watermarks(&self) -> Watermarks {
        let state = self.0.state.lock();
        Watermarks {
            trimmed: state.trimmed,
            durable: self.0.acks.durable(),
            submitted: state.submitted,
            accepted: state.accepted,
        }
    }

    fn counters(&self) -> WalCounters {
        WalCounters {
            full_pool: self.0.room.num_full(),
            ..self.0.state.lock().counters
        }
    }

    fn describe(&self) -> String {
        "records on a disk that only grows, a flush each".to_owned()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), WalError>> {
        self.0.state.lock().closing = true;
        self.0.room.close(WalError::Closed);
        self.0.work.notify_one();
        let mut progress = self.0.progress.subscribe();
        Box::pin(async move {
            let ended = progress.wait_for(|now| now.1.is_some()).await;
            let outcome = ended.ok().and_then(|now| now.1.clone());
            outcome.unwrap_or(Err(WalError::Closed))
        })
    }
}

impl Drop for BlockWal {
    fn drop(&mut self) {
        self.0.state.lock().abandoned = true;
        self.0.work.notify_one();
    }
}
