//! Before a block device is written for the first time: is it anybody's?
//!
//! *Owns*: who uses the device, what lies on it, holding it against others.
//! *Does not own*: what is written then.
//!
//! Invariants
//! 1. A device that is mounted, swapped to, part of another device, or held by a process that
//!    locks or claims it is refused, whatever the caller says.
//! 2. A device whose first or last MiB holds anything is refused, unless the caller may destroy it.
//! 3. Only reads.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::WalError;
use crate::format::superblock::{MAGIC, SLOT_POSITIONS};

/// Bytes looked at from either end of the device.
const LOOKED_AT_BYTES: u64 = 1 << 20;

/// Claims the block device at `path` for this process, so that nothing mounts it or builds on it
/// while the answer is held. With `destroy` what lies on it may be lost; who uses it is asked all
/// the same. The lock that a WAL takes stays free for the one that is to be made.
///
/// # Errors
/// [`WalError::WrongKind`] if it is no block device, [`WalError::Busy`] if a process has a WAL open
/// on it, [`WalError::DeviceInUse`], [`WalError::Exists`] if it holds a WAL,
/// [`WalError::DeviceNotEmpty`] if it holds something else, [`WalError::Io`].
pub fn claim_device(path: &Path, destroy: bool) -> Result<File, WalError> {
    let name = path.display().to_string();
    let failed = |operation, cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => WalError::Missing { path: name.clone() },
        _ => WalError::io(operation, &name, 0, cause),
    };
    let metadata = std::fs::metadata(path).map_err(|cause| failed("look-up", cause))?;
    if !metadata.file_type().is_block_device() {
        let found = kind_in_words(metadata.file_type());
        let expected = "a block device";
        let path = name;
        return Err(WalError::WrongKind {
            path,
            found,
            expected,
        });
    }
    let in_use = |what, by| WalError::DeviceInUse {
        path: name.clone(),
        what,
        by,
    };
    if let Some((what, by)) = system::user_of(metadata.rdev()) {
        return Err(in_use(what, by));
    }
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL | libc::O_NONBLOCK)
        .open(path);
    let device = open.map_err(|cause| match cause.raw_os_error() {
        Some(libc::EBUSY) => in_use("claimed", "the kernel".to_owned()),
        _ => failed("open", cause),
    })?;
    if !is_unlocked(&device).map_err(|cause| failed("lock", cause))? {
        return Err(WalError::Busy { path: name });
    }
    if !destroy {
        check_empty(&device, &name)?;
    }
    Ok(device)
}

/// What something is that has a path.
pub(super) fn kind_in_words(kind: std::fs::FileType) -> &'static str {
    if kind.is_file() {
        "a file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "a pipe or a socket"
    }
}

/// Whether no WAL is open on it.
fn is_unlocked(device: &File) -> io::Result<bool> {
    // SAFETY: a plain system call on a descriptor we own.
    if unsafe { libc::flock(device.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let cause = io::Error::last_os_error();
        return match cause.kind() {
            io::ErrorKind::WouldBlock => Ok(false),
            _ => Err(cause),
        };
    }
    // SAFETY: as above.
    match unsafe { libc::flock(device.as_raw_fd(), libc::LOCK_UN) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Refuses a device, or a file in its place, on which something lies.
fn check_empty(device: &File, name: &str) -> Result<(), WalError> {
    let num_bytes = io::Seek::seek(&mut &*device, io::SeekFrom::End(0))
        .map_err(|cause| WalError::io("seek", name, 0, cause))?;
    let first = read(device, name, 0, num_bytes.min(LOOKED_AT_BYTES))?;
    let start = num_bytes.saturating_sub(LOOKED_AT_BYTES);
    let last = read(device, name, start, num_bytes - start)?;
    let at_slot = |at: &u64| starts_with(&first, *at, &MAGIC);
    if SLOT_POSITIONS.iter().any(at_slot) {
        let path = name.to_owned();
        return Err(WalError::Exists { path });
    }
    match content(&first, &last, start) {
        None => Ok(()),
        Some((found, position)) => Err(WalError::DeviceNotEmpty {
            path: name.to_owned(),
            position,
            found,
        }),
    }
}

fn read(device: &File, name: &str, position: u64, num_bytes: u64) -> Result<Vec<u8>, WalError> {
    let mut bytes = vec![0; usize::try_from(num_bytes).expect("a MiB at most")];
    let read = device.read_exact_at(&mut bytes, position);
    read.map_err(|cause| WalError::io("read", name, position, cause))?;
    Ok(bytes)
}

/// What others leave at fixed places near the start of a device. The boot sector stands last:
/// some of the others have one too.
const SIGNATURES: &[(&str, u64, &[u8])] = &[
    ("an XFS file system", 0, b"XFSB"),
    ("an ext2, ext3 or ext4 file system", 0x438, &[0x53, 0xef]),
    ("a btrfs file system", 0x1_0040, b"_BHRfS_M"),
    ("an F2FS file system", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("an NTFS file system", 3, b"NTFS    "),
    ("a FAT file system", 0x36, b"FAT1"),
    ("a FAT file system", 0x52, b"FAT32"),
    ("a squashfs file system", 0, b"hsqs"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an LVM physical volume", 0x200, b"LABELONE"),
    ("an LVM physical volume", 0x400, b"LABELONE"),
    ("an LVM physical volume", 0x600, b"LABELONE"),
    ("a member of a RAID", 0, &RAID),
    ("a member of a RAID", 0x1000, &RAID),
    ("swap space", 0xff6, b"SWAPSPACE2"),
    ("swap space", 0x3ff6, b"SWAPSPACE2"),
    ("swap space", 0xfff6, b"SWAPSPACE2"),
    ("a GPT partition table", 0x200, b"EFI PART"),
    ("a GPT partition table", 0x1000, b"EFI PART"),
    (
        "an MBR partition table or a boot sector",
        0x1fe,
        &[0x55, 0xaa],
    ),
];

const RAID: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

/// What lies in the first bytes, or in the last ones, which begin at `last_at`.
fn content(first: &[u8], last: &[u8], last_at: u64) -> Option<(&'static str, u64)> {
    let known = SIGNATURES
        .iter()
        .find(|(_, at, magic)| starts_with(first, *at, magic));
    if let Some((what, at, _)) = known {
        return Some((what, *at));
    }
    // A backup of a partition table lies in the last block, a RAID's superblock in the last 128 KiB.
    for at in (0..last.len() as u64).step_by(512) {
        let found = if starts_with(last, at, b"EFI PART") {
            "a GPT partition table"
        } else if at.is_multiple_of(4096) && starts_with(last, at, &RAID) {
            "a member of a RAID"
        } else {
            continue;
        };
        return Some((found, last_at + at));
    }
    let used = |bytes: &[u8]| bytes.iter().position(|&byte| byte != 0);
    let place = used(first).map(|at| at as u64);
    let place = place.or_else(|| used(last).map(|at| last_at + at as u64));
    place.map(|at| ("bytes of something unknown", at))
}

fn starts_with(bytes: &[u8], at: u64, magic: &[u8]) -> bool {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

/// What the system says about who uses a device (proc(5), sysfs).
mod system {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// How the device is used, and where or by whom.
    pub(super) fn user_of(device: u64) -> Option<(&'static str, String)> {
        let numbers = numbers(device);
        let folder = PathBuf::from(format!("/sys/dev/block/{numbers}"));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let partitions = partitions(&folder);
        let itself = (numbers, folder);
        for (numbers, folder) in std::iter::once(itself).chain(partitions) {
            if let Some(place) = mounted_at(&mounts, &numbers) {
                return Some(("mounted at", place));
            }
            if let Some(holder) = holder(&folder) {
                return Some(("held by", holder));
            }
            if let Some(area) = swap_on(&swaps, &numbers) {
                return Some(("used for swap as", area));
            }
        }
        None
    }

    /// `major:minor`.
    fn numbers(device: u64) -> String {
        format!("{}:{}", libc::major(device), libc::minor(device))
    }

    /// Numbers and folders of the device's partitions.
    fn partitions(folder: &Path) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.map(|entry| entry.path());
        folders
            .filter(|folder| folder.join("partition").exists())
            .filter_map(|folder| {
                let numbers = fs::read_to_string(folder.join("dev")).ok()?;
                Some((numbers.trim().to_owned(), folder))
            })
            .collect()
    }

    fn holder(folder: &Path) -> Option<String> {
        let mut holders = fs::read_dir(folder.join("holders")).ok()?.flatten();
        holders
            .next()
            .map(|holder| holder.file_name().to_string_lossy().into_owned())
    }

    /// The mount point of the device in the text of `/proc/self/mountinfo` (proc(5)).
    pub(super) fn mounted_at(mounts: &str, numbers: &str) -> Option<String> {
        let mut lines = mounts.lines().map(str::split_whitespace);
        lines.find_map(|mut fields| {
            (fields.nth(2)? == numbers).then(|| fields.nth(1).unwrap_or("?").to_owned())
        })
    }

    fn swap_on(swaps: &str, numbers: &str) -> Option<String> {
        let areas = swaps
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next());
        let is_it = |area: &&str| {
            fs::metadata(area).is_ok_and(|metadata| {
                self::numbers(std::os::unix::fs::MetadataExt::rdev(&metadata)) == numbers
            })
        };
        areas.into_iter().find(is_it).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests;
