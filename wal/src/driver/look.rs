//! Looking at a WAL that may belong to a running process: reads, and nothing else.
//!
//! *Owns*: opening for reading, whether somebody holds the lock, how often it is looked at.
//! *Does not own*: what is found.
//!
//! Invariants
//! 1. No byte and no time stamp of the file changes: it is open for reading alone, and where the
//!    system permits not even the time of access does.
//! 2. No lock is held while reading: a broker is never kept from running.
//! 3. A complaint is believed when a second look has the same one: while a broker writes, a
//!    single look may see the end of the log before and after a write.
//! 4. A file that shrinks, or a sector that cannot be read, is an error and no signal: bytes come
//!    by `pread`, not through a mapping.
//!
//! *IO: driver*

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use super::file::{BLOCK_BYTES, DIRECT};
use super::portable::uninterrupted;
use super::thread::{ThreadParker, block_on};
use crate::buffer::AlignedBuf;
use crate::disk::{Completion, Disk, DiskOp};
use crate::error::WalError;
use crate::inspect::pass::{OnFound, Place, look};
use crate::inspect::{Found, Inspection};
use crate::io::DiskIo;

/// Looks at a WAL that never complains alike.
const LOOKS_MAX: u32 = 5;

#[cfg(target_os = "linux")]
const NO_ATIME: i32 = libc::O_NOATIME;
#[cfg(not(target_os = "linux"))]
const NO_ATIME: i32 = 0;

/// Inspects the WAL in the file or block device at `path`, reading only. `on_found` gets every
/// group and frame of the first look, in LSN order, and ends the look with `Break`; the
/// inspection then says nothing about what follows. A WAL in use may be inspected: it is then a
/// picture of something that moves.
///
/// What is wrong with the WAL is in the [`Inspection`].
///
/// # Errors
/// What keeps it from being looked at: [`WalError::Missing`], [`WalError::WrongKind`] or
/// [`WalError::Io`].
pub fn inspect(path: &Path, on_found: OnFound<'_>) -> Result<Inspection, WalError> {
    let file = ReadFile::open(path)?;
    let mut inspection = file.look(on_found)?;
    for _ in 1..LOOKS_MAX {
        let Some(complaint) = inspection.complaint() else {
            return Ok(inspection);
        };
        let again = file.look(&mut |_: Found| ControlFlow::Continue(()))?;
        let same = again.complaint().is_some_and(|other| other == complaint);
        inspection = again;
        if same {
            return Ok(inspection);
        }
    }
    if inspection.complaint().is_some() {
        inspection.unsettle();
    }
    Ok(inspection)
}

/// A file or block device open for reading.
struct ReadFile {
    file: Arc<File>,
    path: String,
    block_device: bool,
}

impl ReadFile {
    fn open(path: &Path) -> Result<Self, WalError> {
        let name = path.display().to_string();
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => WalError::Missing { path: name.clone() },
            _ => WalError::io("open", &name, 0, cause),
        };
        // Asked first, because opening some of the others has effects.
        check_kind(&name, std::fs::metadata(path).map_err(failed)?.file_type())?;
        let mut file = open_read_only(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        check_kind(&name, kind)?;
        if !reads(&file) {
            let buffered = OpenOptions::new().read(true).open(path);
            file = buffered.map_err(failed)?;
        }
        Ok(Self {
            file: Arc::new(file),
            path: name,
            block_device: kind.is_block_device(),
        })
    }

    fn look(&self, on_found: OnFound<'_>) -> Result<Inspection, WalError> {
        let io_error = |operation, cause| WalError::io(operation, &self.path, 0, cause);
        let in_use = is_locked(&self.file).map_err(|cause| io_error("lock", cause))?;
        let end = (&*self.file).seek(SeekFrom::End(0));
        let disk = ReadOnlyDisk {
            file: self.file.clone(),
            path: self.path.clone(),
            num_bytes: end.map_err(|cause| io_error("seek", cause))?,
            completions: VecDeque::new(),
        };
        let place = Place {
            block_device: self.block_device,
            in_use,
        };
        let mut io = DiskIo::new(Box::new(disk));
        Ok(block_on(
            look(&mut io, place, on_found),
            &ThreadParker::new(),
        ))
    }
}

fn check_kind(name: &str, kind: FileType) -> Result<(), WalError> {
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    Err(WalError::WrongKind {
        path: name.to_owned(),
        found: super::device_guard::kind_in_words(kind),
        expected: "a file or a block device",
    })
}

/// Without the cache if possible, as the writer reads and writes: what counts is on the device.
fn open_read_only(path: &Path) -> io::Result<File> {
    let mut answer = Err(io::ErrorKind::InvalidInput.into());
    for flags in [DIRECT | NO_ATIME, DIRECT, NO_ATIME, 0] {
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(flags | libc::O_NONBLOCK)
            .open(path);
        let refused = matches!(&open, Err(cause) if matches!(cause.raw_os_error(), Some(libc::EINVAL | libc::EPERM)));
        answer = open;
        if !refused {
            break;
        }
    }
    answer
}

/// Some file systems take `O_DIRECT` at open and refuse the I/O.
fn reads(file: &File) -> bool {
    let mut buf = AlignedBuf::new(BLOCK_BYTES, BLOCK_BYTES);
    let answer = file.read_at(buf.as_mut_slice(), 0);
    !answer.is_err_and(|cause| cause.raw_os_error() == Some(libc::EINVAL))
}

/// Whether somebody holds the writer's lock: tried with a shared one that is given back at once.
/// A broker that starts in this very moment tries again.
fn is_locked(file: &File) -> io::Result<bool> {
    // SAFETY: a plain system call on a descriptor we own.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } != 0 {
        let cause = io::Error::last_os_error();
        return match cause.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            _ => Err(cause),
        };
    }
    // SAFETY: as above.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) } {
        0 => Ok(false),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A disk that refuses to change anything.
struct ReadOnlyDisk {
    file: Arc<File>,
    path: String,
    num_bytes: u64,
    completions: VecDeque<Completion>,
}

impl Disk for ReadOnlyDisk {
    fn block_size(&self) -> usize {
        BLOCK_BYTES
    }

    fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    fn submit(&mut self, id: u64, op: DiskOp) {
        let (result, buf) = match op {
            DiskOp::Read { position, mut buf } => {
                let result = uninterrupted(|| self.file.read_at(buf.as_mut_slice(), position));
                buf.set_len(*result.as_ref().unwrap_or(&0));
                (result, Some(buf))
            }
            DiskOp::Write { buf, .. } => (Err(io::ErrorKind::ReadOnlyFilesystem.into()), Some(buf)),
            DiskOp::Flush => (Err(io::ErrorKind::ReadOnlyFilesystem.into()), None),
        };
        self.completions.push_back(Completion { id, result, buf });
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn set_waker(&mut self, _waker: &Waker) {
        // Nothing completes later than in `submit`.
    }

    fn describe(&self) -> String {
        self.path.clone()
    }
}
