//! Operations on a disk, awaited: what recovery needs.
//!
//! *Owns*: waiting for a completion, reads begun ahead, short reads and writes.
//! *Does not own*: what is read and written.
//!
//! *IO: through the disk port*

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tidewater_types::mutant;

use crate::buffer::AlignedBuf;
use crate::disk::{Completion, Disk, DiskOp};
use crate::error::WalError;

/// Numbers below belong to the engine.
const FIRST_ID: u64 = 1 << 62;
const ATTEMPTS_MAX: u32 = 16;

/// A read that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadUnderWay {
    id: u64,
    position: u64,
    num_bytes: usize,
}

/// A disk whose operations are awaited.
pub(crate) struct DiskIo {
    disk: Box<dyn Disk>,
    next_id: u64,
    path: String,
    /// Operations whose completion did not come yet.
    under_way: usize,
    /// Completions that nobody asked for yet.
    done: Vec<Completion>,
    /// Reads whose completion nobody wants.
    forgotten: Vec<u64>,
}

impl DiskIo {
    pub(crate) fn new(disk: Box<dyn Disk>) -> Self {
        let path = disk.describe();
        Self {
            disk,
            next_id: FIRST_ID,
            path,
            under_way: 0,
            done: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn num_bytes(&self) -> u64 {
        self.disk.num_bytes()
    }

    pub(crate) fn block_size(&self) -> usize {
        self.disk.block_size()
    }

    pub(crate) fn into_disk(self) -> Box<dyn Disk> {
        self.disk
    }

    /// Reads `num_bytes` at `position`; what lies behind the end reads as zeros.
    pub(crate) async fn read(
        &mut self,
        position: u64,
        num_bytes: usize,
    ) -> Result<AlignedBuf, WalError> {
        let block = self.disk.block_size();
        let mut whole = AlignedBuf::new(num_bytes.next_multiple_of(block), block);
        let (mut done, mut attempts) = (0, 0);
        loop {
            let at = position + done as u64;
            if done >= whole.capacity() || at >= self.num_bytes() {
                break;
            }
            let part = if done == 0 {
                std::mem::replace(&mut whole, AlignedBuf::new(block, block))
            } else {
                AlignedBuf::new(whole.capacity() - done, block)
            };
            let completion = self
                .run(DiskOp::Read {
                    position: at,
                    buf: part,
                })
                .await;
            let num_read = completion
                .result
                .map_err(|cause| WalError::io("read", &self.path, at, cause))?;
            let part = completion.buf.ok_or_else(|| self.lost_buffer("read", at))?;
            if done == 0 {
                whole = part;
            } else {
                let part = part.as_slice();
                whole.as_mut_slice()[done..done + part.len()].copy_from_slice(part);
            }
            done = (done + num_read) / block * block;
            attempts += 1;
            if attempts == ATTEMPTS_MAX {
                return Err(WalError::io(
                    "read",
                    &self.path,
                    at,
                    io::ErrorKind::UnexpectedEof.into(),
                ));
            }
            if at + num_read as u64 >= self.num_bytes() {
                done = (at - position) as usize + num_read;
                break;
            }
        }
        let capacity = whole.capacity();
        whole.as_mut_slice()[done.min(capacity)..].fill(0);
        whole.set_len(capacity);
        Ok(whole)
    }

    /// Writes all of `buf` at `position`.
    pub(crate) async fn write(
        &mut self,
        position: u64,
        mut buf: AlignedBuf,
    ) -> Result<(), WalError> {
        let block = self.disk.block_size();
        let mut at = position;
        for _ in 0..ATTEMPTS_MAX {
            let num_bytes = buf.len();
            let completion = self
                .run(DiskOp::Write {
                    position: at,
                    buf,
                    durable: false,
                })
                .await;
            let written = completion
                .result
                .map_err(|cause| WalError::io("write", &self.path, at, cause))?;
            if written == num_bytes {
                return Ok(());
            }
            let old = completion
                .buf
                .ok_or_else(|| self.lost_buffer("write", at))?;
            let done = written / block * block;
            buf = AlignedBuf::new(num_bytes - done, block);
            buf.extend_from_slice(&old.as_slice()[done..]);
            at += done as u64;
        }
        Err(WalError::io(
            "write",
            &self.path,
            at,
            io::ErrorKind::WriteZero.into(),
        ))
    }

    /// Makes what was written durable.
    pub(crate) async fn flush(&mut self) -> Result<(), WalError> {
        let completion = self.run(DiskOp::Flush).await;
        completion
            .result
            .map(|_| ())
            .map_err(|cause| WalError::io("flush", &self.path, 0, cause))
    }

    /// Begins to read `num_bytes` at `position`, into `spare` if it has that size.
    pub(crate) fn begin_read(
        &mut self,
        position: u64,
        num_bytes: usize,
        spare: Option<AlignedBuf>,
    ) -> ReadUnderWay {
        let block = self.disk.block_size();
        let capacity = num_bytes.next_multiple_of(block);
        let mut buf = spare
            .filter(|buf| buf.capacity() == capacity)
            .unwrap_or_else(|| AlignedBuf::new(capacity, block));
        buf.clear();
        let id = self.submit(DiskOp::Read { position, buf });
        ReadUnderWay {
            id,
            position,
            num_bytes,
        }
    }

    /// The bytes of a read that was begun; what lies behind the end reads as zeros.
    pub(crate) async fn finish_read(&mut self, read: ReadUnderWay) -> Result<AlignedBuf, WalError> {
        let completion = self.completion(read.id).await;
        match (completion.result, completion.buf) {
            (Ok(num_read), Some(buf)) if num_read == buf.capacity() => Ok(buf),
            (Err(cause), _) => Err(WalError::io("read", &self.path, read.position, cause)),
            // Short: the patient way.
            (Ok(_), _) => self.read(read.position, read.num_bytes).await,
        }
    }

    /// Nobody wants what was read.
    pub(crate) fn forget(&mut self, read: ReadUnderWay) {
        match self.done.iter().position(|it| it.id == read.id) {
            Some(place) => drop(self.done.swap_remove(place)),
            None => self.forgotten.push(read.id),
        }
    }

    /// Waits until the disk holds no operation any more.
    pub(crate) async fn settle(&mut self) {
        while self.under_way > 0 {
            self.next_completion().await;
        }
        self.done.clear();
        self.forgotten.clear();
    }

    /// Lets a new log be found.
    pub(crate) fn publish(&mut self) -> Result<(), WalError> {
        let published = self.disk.publish();
        published.map_err(|cause| WalError::io("rename", &self.path, 0, cause))
    }

    /// Lets the log be found after a crash too.
    pub(crate) fn sync_name(&mut self) -> Result<(), WalError> {
        if mutant!(13) {
            return Ok(());
        }
        let synced = self.disk.sync_name();
        synced.map_err(|cause| WalError::io("sync of the directory", &self.path, 0, cause))
    }

    async fn run(&mut self, op: DiskOp) -> Completion {
        let id = self.submit(op);
        self.completion(id).await
    }

    fn submit(&mut self, op: DiskOp) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.under_way += 1;
        self.disk.submit(id, op);
        self.disk.start();
        id
    }

    async fn completion(&mut self, id: u64) -> Completion {
        loop {
            if let Some(place) = self.done.iter().position(|it| it.id == id) {
                return self.done.swap_remove(place);
            }
            self.next_completion().await;
        }
    }

    async fn next_completion(&mut self) {
        let disk = &mut self.disk;
        let completion = poll_fn(move |cx| {
            disk.set_waker(cx.waker());
            disk.poll().map_or(Poll::Pending, Poll::Ready)
        });
        let completion = completion.await;
        self.under_way -= 1;
        match self.forgotten.iter().position(|id| *id == completion.id) {
            Some(place) => drop(self.forgotten.swap_remove(place)),
            None => self.done.push(completion),
        }
    }

    fn lost_buffer(&self, operation: &'static str, position: u64) -> WalError {
        WalError::io(
            operation,
            &self.path,
            position,
            io::Error::other("the disk kept the buffer"),
        )
    }
}
