//! Files that the operating system does not have in memory.
//!
//! *Owns*: making it forget them.
//! *Does not own*: caches of the device, or of the host of a virtual machine.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Takes what the files in and below `folder` hold out of the page cache; what was not synced stays.
///
/// # Errors
/// A file cannot be opened or the advice is refused.
pub fn forget_pages(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_pages(&entry.path())?;
        } else {
            fadvise(File::open(entry.path())?, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
