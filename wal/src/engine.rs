//! The task that joins core, disk and callers.
//!
//! *Owns*: the loop; reads of single frames.
//! *Does not own*: any decision about writes: the core has them all.
//!
//! Invariants
//! 1. The task ends only when the disk holds none of its operations.
//! 2. A poll registers its waker before it looks for work, so no wake-up is lost.
//! 3. However it ends, nobody waits for it any more.
//!
//! *IO: through the disk port*

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewater_types::{BoxFuture, Env, Instant, Lsn};
use tokio::sync::oneshot;

use crate::buffer::AlignedBuf;
use crate::core::{Core, Effect};
use crate::disk::{Completion, Disk, DiskOp};
use crate::error::{Resource, WalError};
use crate::format::{Flaw, group};
use crate::index::GroupEntry;
use crate::inlet::Batch;
use crate::shared::{Progress, ReadRequest, Shared};

/// Operations of reads have this bit, those of the core do not.
const READ_BIT: u64 = 1 << 63;
const READS_MAX: usize = 32;
/// Times a read that came back short is made again before the file counts as cut.
const READ_ATTEMPTS_MAX: u32 = 16;

struct Read {
    id: u64,
    lsn: Lsn,
    entry: GroupEntry,
    attempts: u32,
    done: oneshot::Sender<Result<Bytes, WalError>>,
}

/// The engine of one life of a device WAL.
pub(crate) struct Engine {
    core: Core,
    disk: Box<dyn Disk>,
    env: Arc<dyn Env>,
    shared: Arc<Shared>,
    path: String,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    groups: Vec<GroupEntry>,
    batches: VecDeque<Batch>,
    trim_applied: Lsn,
    reads_waiting: VecDeque<ReadRequest>,
    reads: Vec<Read>,
    reads_begun: u64,
    closing: bool,
    abandoned: bool,
    blocked: Option<Resource>,
    /// The last one to be dropped: the disk was given back then.
    ending: Ending,
}

/// Nobody waits for an engine that is gone: it panicked, its task was dropped, or never ran.
struct Ending(Option<Arc<Shared>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.end(Err(WalError::Closed), VecDeque::new());
        }
    }
}

impl Engine {
    pub(crate) fn new(
        core: Core,
        disk: Box<dyn Disk>,
        shared: Arc<Shared>,
        path: String,
        trimmed: Lsn,
    ) -> Self {
        Self {
            core,
            disk,
            env: shared.env.clone(),
            ending: Ending(Some(shared.clone())),
            shared,
            path,
            timer: None,
            groups: Vec::new(),
            batches: VecDeque::new(),
            trim_applied: trimmed,
            reads_waiting: VecDeque::new(),
            reads: Vec::new(),
            reads_begun: 0,
            closing: false,
            abandoned: false,
            blocked: None,
        }
    }

    /// Runs until the WAL is closed, dropped or poisoned.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        let outcome = match self.core.failure() {
            Some(failure) => Err(failure.clone()),
            None if self.core.is_closed() => Ok(()),
            None => Err(self
                .core
                .blocked()
                .map_or(WalError::Closed, |what| WalError::Full { what })),
        };
        let Self {
            disk,
            shared,
            reads_waiting,
            mut ending,
            ..
        } = self;
        drop(disk);
        ending.0 = None;
        shared.end(outcome, reads_waiting);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.disk.set_waker(cx.waker());
            let now = self.env.now();
            let mut progress = self.take(cx);
            let durable = self.core.durable();
            // Whoever is durable hears of it before the next operation, which may block.
            while self.core.durable() == durable
                && let Some(completion) = self.disk.poll()
            {
                progress = true;
                // A disk that works when it is polled has taken its time just now.
                self.complete(self.env.now(), completion);
            }
            progress |= self.poll_timer(cx, now);
            if !self.abandoned {
                while let Some(effect) = self.core.poll_effect(now) {
                    progress = true;
                    match effect {
                        Effect::Submit { id, op } => self.disk.submit(id, op),
                        Effect::Group(entry) => self.groups.push(entry),
                    }
                }
            }
            self.start_reads();
            // The device first: it works while callers are woken.
            self.disk.start();
            // Only the decisions find out that the ring is full, and who closes must hear of it.
            let blocked = self.core.blocked();
            if progress || std::mem::replace(&mut self.blocked, blocked) != blocked {
                self.publish();
            }
            if self.is_done() {
                return Poll::Ready(());
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    fn is_done(&self) -> bool {
        let stopping = self.core.is_closed() || self.abandoned || self.core.failure().is_some();
        stopping && self.core.num_flights() == 0 && self.reads.is_empty()
    }

    /// Takes what callers left and registers the waker; answers whether there was anything.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let open = self.closing || self.core.wants_batch();
        let wishes = self.shared.take(cx.waker(), open, &mut self.batches);
        let changed = wishes.abandoned != self.abandoned || wishes.closing != self.closing;
        let progress = changed || !self.batches.is_empty() || !wishes.reads.is_empty();
        for batch in self.batches.drain(..) {
            self.core.handle_batch(batch);
        }
        self.reads_waiting.extend(wishes.reads);
        // Nothing is left with the callers once a look with `open` followed the closing.
        if wishes.closing && open && self.closing {
            self.core.handle_close();
        }
        if wishes.abandoned && !self.abandoned {
            self.core.handle_abandon();
        }
        (self.closing, self.abandoned) = (wishes.closing, wishes.abandoned);
        progress || wishes.trim.min(self.core.durable()) > self.trim_applied
    }

    fn complete(&mut self, now: Instant, completion: Completion) {
        let Completion { id, result, buf } = completion;
        if id & READ_BIT == 0 {
            return self.core.handle_completion(now, id, result, buf);
        }
        let place = self
            .reads
            .iter()
            .position(|read| read.id == id)
            .expect("a read under way");
        let read = &mut self.reads[place];
        read.attempts += 1;
        let position = read.entry.position;
        let short = matches!(result, Ok(num_bytes) if (num_bytes as u64) < read.entry.num_bytes);
        if short
            && read.attempts < READ_ATTEMPTS_MAX
            && let Some(buf) = buf
        {
            // A short count says nothing about the bytes behind it.
            return self.disk.submit(id, DiskOp::Read { position, buf });
        }
        let read = self.reads.swap_remove(place);
        let answer = self.frame(&read, result, buf);
        read.done.send(answer).ok();
    }

    /// The frame asked for, out of the group that was read.
    fn frame(
        &self,
        read: &Read,
        result: Result<usize, io::Error>,
        buf: Option<AlignedBuf>,
    ) -> Result<Bytes, WalError> {
        let position = read.entry.position;
        result.map_err(|cause| WalError::io("read", &self.path, position, cause))?;
        let Some(buf) = buf else {
            return Err(WalError::io(
                "read",
                &self.path,
                position,
                io::ErrorKind::UnexpectedEof.into(),
            ));
        };
        let header = group::decode(buf.as_slice());
        let expected = |header: &group::GroupHeader| {
            header.lsn == read.entry.lsn
                && header.position == position
                && header.epoch == read.entry.epoch
        };
        let header = match header {
            Ok(header) if expected(&header) => header,
            _ if self.shared.watermarks().trimmed > read.lsn => {
                return Err(WalError::Trimmed { lsn: read.lsn });
            }
            other => {
                return Err(WalError::Corrupt {
                    path: self.path.clone(),
                    position,
                    lsn: read.entry.lsn,
                    expected: "the group written there".to_owned(),
                    found: other
                        .err()
                        .map_or("another group", Flaw::describe)
                        .to_owned(),
                });
            }
        };
        let payload = &buf.as_slice()[group::HEADER_BYTES..header.num_bytes()];
        let place = group::frames(&header, payload)
            .find(|(lsn, _)| *lsn == read.lsn)
            .map(|(_, place)| place);
        place
            .map(|place| Bytes::copy_from_slice(&payload[place]))
            .ok_or(WalError::NoFrame { lsn: read.lsn })
    }

    fn start_reads(&mut self) {
        let align = self.disk.block_size();
        let durable = self.core.durable();
        while self.reads.len() < READS_MAX && !self.abandoned {
            // What a crash could take back is not shown to anybody.
            let ready = self
                .reads_waiting
                .iter()
                .position(|(lsn, _)| *lsn < durable);
            let Some((lsn, done)) = ready.and_then(|place| self.reads_waiting.remove(place)) else {
                break;
            };
            let Some(entry) = self.shared.find(lsn) else {
                let trimmed = self.shared.watermarks().trimmed > lsn;
                let error = if trimmed {
                    WalError::Trimmed { lsn }
                } else {
                    WalError::NoFrame { lsn }
                };
                done.send(Err(error)).ok();
                continue;
            };
            self.reads_begun += 1;
            let id = READ_BIT | self.reads_begun;
            let buf = AlignedBuf::new(usize::try_from(entry.num_bytes).expect("a group"), align);
            self.reads.push(Read {
                id,
                lsn,
                entry,
                attempts: 0,
                done,
            });
            self.disk.submit(
                id,
                DiskOp::Read {
                    position: entry.position,
                    buf,
                },
            );
        }
    }

    /// Keeps one sleep for the core's next timer; answers whether it fired.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(at) = self.core.timer(now) else {
            self.timer = None;
            return false;
        };
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed > at) {
            self.timer = Some((at, self.env.sleep(at.since(now))));
        }
        let (_, sleep) = self.timer.as_mut().expect("just set");
        if sleep.as_mut().poll(cx).is_ready() {
            self.timer = None;
            return true;
        }
        false
    }

    fn publish(&mut self) {
        let (core, groups, applied) = (&mut self.core, &mut self.groups, &mut self.trim_applied);
        let progress = Progress {
            durable: core.durable(),
            submitted: core.submitted(),
            counters: core.counters(),
            out_of_space: core.is_out_of_space(),
            blocked: core.blocked(),
            failure: core.failure().cloned(),
            written: core.take_written(),
        };
        self.shared.publish(progress, |state| {
            state.under_way.clear();
            state.under_way.extend(core.begun());
            groups.drain(..).for_each(|entry| state.index.push(entry));
            let trim = state.trim_requested.min(core.durable());
            if trim > *applied {
                *applied = trim;
                let first = state.index.trim(trim);
                core.handle_trim(core.trim_point(trim, first));
            }
        });
    }
}
