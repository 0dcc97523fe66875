//! The disk by plain system calls: `pread`, `pwrite`, `fdatasync`.
//!
//! *Owns*: doing one operation after the other, on the WAL's own thread.
//! *Does not own*: the file's name and lock.
//!
//! Invariants
//! 1. An operation is done when its completion is asked for, in the order of submission: so a
//!    flush covers every write before it, and callers are answered before the next one blocks.
//!
//! *IO: driver*

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::task::Waker;

use super::file::WalFile;
use crate::disk::{Completion, Disk, DiskOp};

/// A file, one operation at a time.
pub(super) struct PortableDisk {
    file: WalFile,
    waiting: VecDeque<(u64, DiskOp)>,
}

impl PortableDisk {
    pub(super) fn new(file: WalFile) -> Self {
        Self {
            file,
            waiting: VecDeque::new(),
        }
    }
}

impl PortableDisk {
    fn execute(&mut self, id: u64, op: DiskOp) -> Completion {
        match op {
            DiskOp::Read { position, mut buf } => {
                let result =
                    uninterrupted(|| self.file.file().read_at(buf.as_mut_slice(), position));
                buf.set_len(*result.as_ref().unwrap_or(&0));
                Completion {
                    id,
                    result,
                    buf: Some(buf),
                }
            }
            DiskOp::Write {
                position,
                buf,
                durable,
            } => {
                let mut result =
                    uninterrupted(|| self.file.file().write_at(buf.as_slice(), position));
                if let Ok(num_bytes) = result {
                    self.file.extended_to(position + num_bytes as u64);
                    if durable && let Err(cause) = self.file.file().sync_data() {
                        result = Err(cause);
                    }
                }
                Completion {
                    id,
                    result,
                    buf: Some(buf),
                }
            }
            DiskOp::Flush => Completion {
                id,
                result: self.file.file().sync_data().map(|()| 0),
                buf: None,
            },
        }
    }
}

impl Disk for PortableDisk {
    fn block_size(&self) -> usize {
        self.file.block_bytes()
    }

    fn num_bytes(&self) -> u64 {
        self.file.num_bytes()
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        self.waiting.push_back((id, op));
    }

    fn publish(&mut self) -> io::Result<()> {
        self.file.publish()
    }

    fn sync_name(&mut self) -> io::Result<()> {
        self.file.sync_name()
    }

    fn poll(&mut self) -> Option<Completion> {
        let (id, op) = self.waiting.pop_front()?;
        Some(self.execute(id, op))
    }

    fn set_waker(&mut self, _waker: &Waker) {
        // Nothing completes but in `poll`.
    }

    fn describe(&self) -> String {
        self.file.path().to_owned()
    }
}

/// Repeats a call that a signal interrupted.
pub(super) fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
