//! The WAL's file: opening, locking, naming.
//!
//! *Owns*: `O_DIRECT` and its refusal, `flock`, the name while it is being made.
//! *Does not own*: the I/O on it.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use super::device_guard::claim_device;
use crate::error::WalError;
use crate::format::superblock::RING_POSITION;
#[cfg(target_os = "linux")]
use crate::recovery::judge::check_block;

/// Alignment where the kernel does not say what it asks for: enough for any device that is not
/// exotic.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Smallest sector there is.
const SECTOR_BYTES: usize = 512;

/// An open, locked file.
#[derive(Debug)]
pub(super) struct WalFile {
    file: File,
    path: String,
    direct: bool,
    num_bytes: u64,
    block_bytes: usize,
    /// Keeps others off a block device.
    claim: Option<File>,
    /// Where a file is to be found; a device is found anyway.
    name: Option<PathBuf>,
    /// What a file that was made is called until then.
    creating: Option<PathBuf>,
}

impl WalFile {
    /// Opens and locks the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, WalError> {
        let mut opened = Self::open_claimed(path, path, false, None)?;
        opened.name = Some(path.to_owned());
        Ok(opened)
    }

    /// Makes and locks a file that [`WalFile::publish`] will put at `path`.
    pub(super) fn create(path: &Path) -> Result<Self, WalError> {
        let creating = name_while_creating(path);
        let mut made = Self::open_claimed(&creating, path, true, None)?;
        made.name = Some(path.to_owned());
        made.creating = Some(creating);
        Ok(made)
    }

    /// Puts a file that was made where it is to be found.
    pub(super) fn publish(&self) -> io::Result<()> {
        match (&self.creating, &self.name) {
            (Some(from), Some(to)) => std::fs::rename(from, to),
            _ => Ok(()),
        }
    }

    /// Makes the name durable.
    pub(super) fn sync_name(&self) -> io::Result<()> {
        self.name.as_deref().map_or(Ok(()), sync_parent)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn open_device(path: &Path, _: bool, _: bool) -> Result<Self, WalError> {
        Err(WalError::WrongKind {
            path: path.display().to_string(),
            found: "a block device",
            expected: "a file: devices are supported on Linux",
        })
    }

    /// Opens and locks the block device at `path`; with `create` and `destroy` what lies on it may
    /// be lost, with `create` alone it must be blank.
    #[cfg(target_os = "linux")]
    pub(super) fn open_device(path: &Path, create: bool, destroy: bool) -> Result<Self, WalError> {
        let claim = claim_device(path, destroy || !create)?;
        let device = Self::open_claimed(path, path, false, Some(claim))?;
        check_block(device.block_bytes as u64)?;
        if create && destroy {
            let mut zeros = crate::buffer::AlignedBuf::new(
                usize::try_from(RING_POSITION).expect("small"),
                device.block_bytes.max(BLOCK_BYTES),
            );
            zeros.pad_to(zeros.capacity());
            let written = device.file.write_all_at(zeros.as_slice(), 0);
            let written = written.and_then(|()| device.file.sync_data());
            written.map_err(|cause| WalError::io("write", &device.path, 0, cause))?;
        }
        Ok(device)
    }

    fn open_claimed(
        path: &Path,
        final_path: &Path,
        create: bool,
        claim: Option<File>,
    ) -> Result<Self, WalError> {
        let name = final_path.display().to_string();
        let open = |flags: i32| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(create)
                .truncate(false)
                .custom_flags(flags)
                .open(path)
        };
        let (file, direct) = match open(DIRECT) {
            Ok(file) => (file, DIRECT != 0),
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => match open(0) {
                Ok(file) => (file, false),
                Err(cause) => return Err(WalError::io("open", &name, 0, cause)),
            },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && !create => {
                return Err(WalError::Missing { path: name });
            }
            Err(cause) => return Err(WalError::io("open", &name, 0, cause)),
        };
        // SAFETY: a plain system call on a descriptor we own.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let cause = io::Error::last_os_error();
            return Err(match cause.kind() {
                io::ErrorKind::WouldBlock => WalError::Busy { path: name },
                _ => WalError::io("lock", &name, 0, cause),
            });
        }
        if create {
            // Another creator may have come to its end while we waited for the lock, and what we
            // opened may be its WAL.
            if exists(final_path)? {
                return Err(WalError::Exists { path: name });
            }
            // What a creation that did not come to its end left under this name.
            file.set_len(0)
                .map_err(|cause| WalError::io("truncate", &name, 0, cause))?;
        }
        let mut opened = Self {
            file,
            path: name,
            direct,
            num_bytes: 0,
            block_bytes: BLOCK_BYTES,
            claim,
            name: None,
            creating: None,
        };
        opened.block_bytes = opened.alignment();
        // Seeking tells the size of a block device too.
        let end = opened.file.seek(SeekFrom::End(0));
        opened.num_bytes = end.map_err(|cause| WalError::io("seek", &opened.path, 0, cause))?;
        if opened.direct && !create && !opened.reads_directly() {
            return Self::open_buffered(opened, path);
        }
        Ok(opened)
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn is_device(&self) -> bool {
        self.claim.is_some()
    }

    /// Alignment of positions, lengths and memory.
    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    #[cfg(not(target_os = "linux"))]
    fn alignment(&self) -> usize {
        BLOCK_BYTES
    }

    /// What direct I/O must be aligned to, from the kernel where it says so.
    #[cfg(target_os = "linux")]
    fn alignment(&self) -> usize {
        // SAFETY: all zeros are a valid `statx`, which is plain data.
        let mut found: libc::statx = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is ours, the path is an empty C string, and `found` is alive.
        let answer = unsafe {
            libc::statx(
                self.file.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                libc::STATX_DIOALIGN,
                &raw mut found,
            )
        };
        if answer == 0
            && found.stx_mask & libc::STATX_DIOALIGN != 0
            && found.stx_dio_offset_align > 0
        {
            let align = found.stx_dio_offset_align.max(found.stx_dio_mem_align);
            return (align as usize).next_power_of_two().max(SECTOR_BYTES);
        }
        if !self.is_device() {
            return BLOCK_BYTES;
        }
        let mut sector: libc::c_int = 0;
        // SAFETY: a request that stores one int in `sector`.
        let answer =
            unsafe { libc::ioctl(self.file.as_raw_fd(), libc::BLKSSZGET, &raw mut sector) };
        match usize::try_from(sector) {
            Ok(sector) if answer == 0 && sector.is_power_of_two() => sector.max(SECTOR_BYTES),
            _ => BLOCK_BYTES,
        }
    }

    pub(super) fn num_bytes(&self) -> u64 {
        self.num_bytes
    }

    /// A write to `end` completed.
    pub(super) fn extended_to(&mut self, end: u64) {
        self.num_bytes = self.num_bytes.max(end);
    }

    /// Some file systems take the flag at open and refuse the I/O.
    fn reads_directly(&self) -> bool {
        let block = self.block_bytes.max(BLOCK_BYTES);
        let mut buf = crate::buffer::AlignedBuf::new(block, block);
        let answer = self.file.read_at(buf.as_mut_slice(), 0);
        !answer.is_err_and(|cause| cause.raw_os_error() == Some(libc::EINVAL))
    }

    fn open_buffered(direct: Self, path: &Path) -> Result<Self, WalError> {
        let name = direct.path;
        // The lock goes with the description, so the new one takes it again.
        drop(direct.file);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|cause| WalError::io("open", &name, 0, cause))?;
        // SAFETY: a plain system call on a descriptor we own.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(WalError::Busy { path: name });
        }
        Ok(Self {
            file,
            path: name,
            direct: false,
            num_bytes: direct.num_bytes,
            block_bytes: direct.block_bytes,
            claim: direct.claim,
            name: direct.name,
            creating: direct.creating,
        })
    }
}

#[cfg(target_os = "linux")]
pub(super) const DIRECT: i32 = libc::O_DIRECT;
#[cfg(not(target_os = "linux"))]
pub(super) const DIRECT: i32 = 0;

/// The name a WAL has until it is whole.
pub(super) fn name_while_creating(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".creating");
    path.with_file_name(name)
}

/// Whether a block device is at `path`.
pub(super) fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

pub(super) fn exists(path: &Path) -> Result<bool, WalError> {
    path.try_exists()
        .map_err(|cause| WalError::io("look-up", &path.display().to_string(), 0, cause))
}

/// Makes the name of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Up to `num_bytes` from the start of the file, without a lock.
pub(super) fn read_start(path: &Path, num_bytes: usize) -> Result<Vec<u8>, WalError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => WalError::Missing { path: name.clone() },
        _ => WalError::io("open", &name, 0, cause),
    })?;
    let mut bytes = Vec::new();
    let read = file.take(num_bytes as u64).read_to_end(&mut bytes);
    read.map_err(|cause| WalError::io("read", &name, 0, cause))?;
    Ok(bytes)
}
