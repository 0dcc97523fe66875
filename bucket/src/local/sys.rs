//! The system calls that the standard library does not offer.
//!
//! *Owns*: `syncfs`, `access`, and the sync of a directory.
//! *Does not own*: what their failures mean.
//!
//! *IO: driver*

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes everything on the file system of `dir` durable.
#[cfg(target_os = "linux")]
pub(super) fn sync_file_system(dir: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `dir` is borrowed.
    match unsafe { libc::syncfs(dir.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes everything on all file systems durable: there is no narrower call here.
#[cfg(not(target_os = "linux"))]
pub(super) fn sync_file_system(dir: &File) -> io::Result<()> {
    // SAFETY: `sync` takes no argument and cannot fail.
    unsafe { libc::sync() };
    dir.sync_all()
}

/// Whether this process may create names in `dir`, without trying it.
pub(super) fn check_writable(dir: &Path) -> io::Result<()> {
    let path = CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: `path` is a NUL-terminated string that lives across the call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
