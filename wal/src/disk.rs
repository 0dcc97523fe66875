//! The disk port: submissions and completions on one file or block device.
//!
//! *Owns*: the trait the WAL engine talks to, its operations and completions.
//! *Does not own*: the real adapters (io_uring, pwrite) and the simulated one.
//!
//! Invariants
//! 1. Completions may come in any order.
//! 2. A buffer given to `submit` belongs to the disk until its completion returns it.
//! 3. A `Flush` covers the writes that had *completed before it was submitted*, no other.
//! 4. A write with `durable` set covers itself alone when it completes.
//! 5. A file gets its name only when the log in it is whole, and the name is durable before
//!    anything is acknowledged.
//! 6. A short count is a completion like any other: the caller decides.
//!
//! *IO: none* (adapters are drivers)

use std::io;
use std::task::Waker;

use crate::buffer::AlignedBuf;

/// One operation on the disk.
#[derive(Debug)]
pub enum DiskOp {
    /// Reads `buf.capacity()` bytes at `position` into `buf`.
    Read {
        /// Byte position, a multiple of the block size.
        position: u64,
        /// Where the bytes go.
        buf: AlignedBuf,
    },
    /// Writes the filled part of `buf` at `position`.
    Write {
        /// Byte position, a multiple of the block size.
        position: u64,
        /// The bytes; their number is a multiple of the block size.
        buf: AlignedBuf,
        /// Whether the write itself must be durable when it completes (`RWF_DSYNC`).
        durable: bool,
    },
    /// Makes every write that completed before this call durable (`fdatasync`).
    Flush,
}

/// The end of one operation.
#[derive(Debug)]
pub struct Completion {
    /// The number given to `submit`.
    pub id: u64,
    /// Bytes moved (0 for a flush).
    pub result: Result<usize, io::Error>,
    /// The buffer of the read or write, given back.
    pub buf: Option<AlignedBuf>,
}

/// A file or block device that takes many operations at a time.
pub trait Disk: Send + 'static {
    /// Alignment of positions, lengths and memory, in bytes; a power of two.
    fn block_size(&self) -> usize;

    /// Bytes that exist now. A file may grow by writes at its end.
    fn num_bytes(&self) -> u64;

    /// Starts `op` under the number `id`, unique among the operations under way.
    fn submit(&mut self, id: u64, op: DiskOp);

    /// Gets what was submitted under way, where that takes a call of its own. Never blocks.
    fn start(&mut self) {}

    /// Gives a file that was made for a new log the name it will be found under; nothing else has
    /// one to give. Called once, when the log is whole and nothing is under way; may block.
    ///
    /// # Errors
    /// What the operating system says; the log then does not open.
    fn publish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes the name of the file durable. Called whenever a log is opened, after
    /// [`Disk::publish`] if it is new, and before anything is served or acknowledged; may block.
    ///
    /// # Errors
    /// As [`Disk::publish`].
    fn sync_name(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The next completion, if one is there. Never blocks.
    fn poll(&mut self) -> Option<Completion>;

    /// Remembers whom to wake when a completion may have arrived.
    fn set_waker(&mut self, waker: &Waker);

    /// What it is, in a few words for the operator.
    fn describe(&self) -> String;
}

/// Whether nobody carried the operation out, or somebody did: as uncertain as any other failure.
pub(crate) fn is_cancelled(cause: &io::Error) -> bool {
    cause.raw_os_error() == Some(libc::ECANCELED)
}
