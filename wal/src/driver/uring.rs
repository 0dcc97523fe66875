//! The disk by `io_uring`.
//!
//! *Owns*: the ring, the buffers of operations under way, waking the thread.
//! *Does not own*: the file's name and lock; what is submitted and when.
//!
//! Invariants
//! 1. A buffer stays here from its submission to its completion; dropping the disk waits for
//!    every operation.
//! 2. Submissions enter the kernel with the wait for completions: one system call for both.
//! 3. Only the thread that made the ring touches it (`SINGLE_ISSUER`). No `IO_DRAIN`, no links.
//!
//! *IO: driver*

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use io_uring::{IoUring, opcode, squeue, types};
use parking_lot::Mutex;

use super::file::WalFile;
use super::thread::Parker;
use crate::buffer::AlignedBuf;
use crate::disk::{Completion, Disk, DiskOp};

/// Completion of the poll on the wake-up descriptor.
const WAKE_ID: u64 = u64::MAX;
/// Reads and superblock writes beside the groups.
const EXTRA_DEPTH: usize = 40;

/// What an operation is, to account for it and to start it again.
#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write { durable: bool },
}

struct Op {
    kind: Kind,
    position: u64,
    buf: Option<AlignedBuf>,
}

struct Ring {
    ring: IoUring,
    /// Closed, and so unlocked, when the disk is dropped: the parker outlives it.
    file: Option<WalFile>,
    ops: BTreeMap<u64, Op>,
    backlog: VecDeque<squeue::Entry>,
    ready: VecDeque<Completion>,
    /// A flush that is done when the thread is about to wait.
    flush: Option<u64>,
    wake_armed: bool,
}

/// A file behind a ring.
pub(super) struct UringDisk {
    ring: Arc<Mutex<Ring>>,
}

/// Waits in the ring.
struct RingParker {
    ring: Arc<Mutex<Ring>>,
    wake: Arc<WakeUp>,
}

/// Ends a wait in the ring from any thread.
struct WakeUp {
    event: File,
    notified: AtomicBool,
    parked: AtomicBool,
}

impl UringDisk {
    /// A ring for `depth` groups at a time, made on the thread that will use it. Gives the file
    /// back if the kernel refuses.
    pub(super) fn new(
        file: WalFile,
        depth: usize,
    ) -> Result<(Self, Arc<dyn Parker>), (WalFile, io::Error)> {
        let made = event().and_then(|event| build(depth).map(|ring| (event, ring)));
        let (event, ring) = match made {
            Ok(made) => made,
            Err(cause) => return Err((file, cause)),
        };
        let ring = Ring {
            ring,
            file: Some(file),
            ops: BTreeMap::new(),
            backlog: VecDeque::new(),
            ready: VecDeque::new(),
            flush: None,
            wake_armed: false,
        };
        let ring = Arc::new(Mutex::new(ring));
        let wake = WakeUp {
            event,
            notified: AtomicBool::new(false),
            parked: AtomicBool::new(false),
        };
        let parker = RingParker {
            ring: ring.clone(),
            wake: Arc::new(wake),
        };
        Ok((Self { ring }, Arc::new(parker)))
    }
}

fn build(depth: usize) -> io::Result<IoUring> {
    let entries = u32::try_from((depth + EXTRA_DEPTH).next_power_of_two()).expect("a small depth");
    let tuned = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries);
    // Kernels before 6.1 know neither flag.
    tuned.or_else(|_| IoUring::new(entries))
}

fn event() -> io::Result<File> {
    // SAFETY: a plain system call; the answer is checked.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

impl Ring {
    fn file(&self) -> &WalFile {
        self.file.as_ref().expect("open while the disk lives")
    }

    fn extended_to(&mut self, end: u64) {
        self.file
            .as_mut()
            .expect("open while the disk lives")
            .extended_to(end);
    }

    /// The submission for `op`. The pointers stay valid while `op` is in `ops`.
    fn entry(&mut self, id: u64, op: &mut Op) -> squeue::Entry {
        let file = types::Fd(self.file().file().as_raw_fd());
        let entry = match (&mut op.buf, op.kind) {
            (Some(buf), Kind::Read) => {
                let memory = buf.as_mut_slice();
                let len = u32::try_from(memory.len()).expect("a bounded read");
                opcode::Read::new(file, memory.as_mut_ptr(), len)
                    .offset(op.position)
                    .build()
            }
            (Some(buf), Kind::Write { durable }) => {
                let memory = buf.as_slice();
                let len = u32::try_from(memory.len()).expect("a bounded write");
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(file, memory.as_ptr(), len)
                    .offset(op.position)
                    .rw_flags(flags)
                    .build()
            }
            (None, _) => unreachable!("a read or a write has a buffer"),
        };
        entry.user_data(id)
    }

    fn start(&mut self, id: u64, mut op: Op) {
        let entry = self.entry(id, &mut op);
        self.ops.insert(id, op);
        self.backlog.push_back(entry);
    }

    /// Does the flush that was asked for. Through the ring a sync costs a hand-over to a kernel
    /// worker; the thread has nothing else to do until it is over, and what is under way goes on.
    fn flush(&mut self) {
        let Some(id) = self.flush.take() else {
            return;
        };
        let result = self.file().file().sync_data().map(|()| 0);
        self.ready.push_back(Completion {
            id,
            result,
            buf: None,
        });
    }

    /// Moves what waits into the submission queue, as far as there is room.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: the buffers the entry points to are in `ops` until its completion.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Enters the kernel, waiting for `wanted` completions.
    fn enter(&mut self, wanted: usize) {
        self.fill();
        match self.ring.submit_and_wait(wanted) {
            Ok(_) => {}
            Err(cause)
                if matches!(
                    cause.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(cause) => panic!("io_uring_enter on a ring that worked: {cause}"),
        }
        self.reap();
    }

    fn reap(&mut self) {
        let done: Vec<_> = self
            .ring
            .completion()
            .map(|entry| (entry.user_data(), entry.result()))
            .collect();
        for (id, result) in done {
            if id == WAKE_ID {
                self.wake_armed = false;
                continue;
            }
            let op = self.ops.remove(&id).expect("an operation under way");
            if result == -libc::EINTR || result == -libc::EAGAIN {
                self.start(id, op);
                continue;
            }
            self.finish(id, op, result);
        }
    }

    fn finish(&mut self, id: u64, mut op: Op, result: i32) {
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        let num_bytes = *result.as_ref().unwrap_or(&0);
        match op.kind {
            Kind::Read => op.buf.iter_mut().for_each(|buf| buf.set_len(num_bytes)),
            Kind::Write { .. } => self.extended_to(op.position + num_bytes as u64),
        }
        self.ready.push_back(Completion {
            id,
            result,
            buf: op.buf,
        });
    }
}

impl Disk for UringDisk {
    fn block_size(&self) -> usize {
        self.ring.lock().file().block_bytes()
    }

    fn num_bytes(&self) -> u64 {
        self.ring.lock().file().num_bytes()
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        let mut ring = self.ring.lock();
        match op {
            DiskOp::Read { position, buf } => ring.start(
                id,
                Op {
                    kind: Kind::Read,
                    position,
                    buf: Some(buf),
                },
            ),
            DiskOp::Write {
                position,
                buf,
                durable,
            } => {
                ring.start(
                    id,
                    Op {
                        kind: Kind::Write { durable },
                        position,
                        buf: Some(buf),
                    },
                );
            }
            DiskOp::Flush => ring.flush = Some(id),
        }
    }

    fn start(&mut self) {
        let mut ring = self.ring.lock();
        if !ring.backlog.is_empty() {
            ring.enter(0);
        }
    }

    fn publish(&mut self) -> io::Result<()> {
        self.ring.lock().file().publish()
    }

    fn sync_name(&mut self) -> io::Result<()> {
        self.ring.lock().file().sync_name()
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut ring = self.ring.lock();
        if ring.ready.is_empty() {
            ring.reap();
        }
        ring.ready.pop_front()
    }

    fn set_waker(&mut self, _waker: &Waker) {
        // The thread waits in the ring itself: completions end its wait.
    }

    fn describe(&self) -> String {
        self.ring.lock().file().path().to_owned()
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        let mut ring = self.ring.lock();
        ring.flush = None;
        while !ring.ops.is_empty() {
            ring.enter(1);
        }
        ring.file = None;
    }
}

impl Parker for RingParker {
    fn waker(&self) -> Waker {
        Waker::from(self.wake.clone())
    }

    fn park(&self) {
        let mut ring = self.ring.lock();
        self.wake.parked.store(true, Ordering::SeqCst);
        let notified = self.wake.notified.swap(false, Ordering::SeqCst);
        if !notified && !ring.wake_armed {
            let event = types::Fd(self.wake.event.as_raw_fd());
            let mask = u32::try_from(libc::POLLIN).expect("a small mask");
            let entry = opcode::PollAdd::new(event, mask).build().user_data(WAKE_ID);
            ring.backlog.push_back(entry);
            ring.wake_armed = true;
        }
        ring.flush();
        let idle = notified || !ring.ready.is_empty();
        ring.enter(usize::from(!idle));
        if !ring.wake_armed {
            // The counter only says "more than zero"; reading resets it.
            (&self.wake.event).read_exact(&mut [0; 8]).ok();
        }
        self.wake.parked.store(false, Ordering::SeqCst);
        self.wake.notified.store(false, Ordering::SeqCst);
    }
}

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let already = self.notified.swap(true, Ordering::SeqCst);
        if !already && self.parked.load(Ordering::SeqCst) {
            // A full counter would block; then it is readable anyway.
            (&self.event).write_all(&1u64.to_ne_bytes()).ok();
        }
    }
}
