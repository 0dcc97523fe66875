//! Where a state is judged: as a file of its own, or inside the file system that it is.
//!
//! *Owns*: writing the image down, mounting and unmounting.
//! *Does not own*: the judgement.
//!
//! Invariants
//! 1. Every state is written whole, so that nothing of the state before it is left.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::CrashError;
use crate::check::Violation;
use crate::disk::image::Image;

/// Bytes written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a state's bytes go.
pub(super) enum Place {
    /// The image is the log: a file stands for the device.
    File(PathBuf),
    /// The image is a file system: it goes to this device, and is mounted there.
    Mounted {
        device: PathBuf,
        folder: PathBuf,
        wal: PathBuf,
    },
}

impl Place {
    /// The path of the log in the state.
    pub(super) fn wal(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Mounted { wal, .. } => wal,
        }
    }

    /// Puts the state there and asks `judge` about it.
    pub(super) fn with<T>(
        &self,
        state: &Image,
        judge: impl FnOnce() -> Result<T, Violation>,
    ) -> Result<Result<T, Violation>, CrashError> {
        match self {
            Self::File(path) => {
                write(path, state)?;
                Ok(judge())
            }
            Self::Mounted { device, folder, .. } => {
                write(device, state)?;
                let mount = run(Command::new("mount")
                    .args(["-t", "ext4", "-o", "errors=remount-ro"])
                    .arg(device)
                    .arg(folder));
                if let Err(why) = mount {
                    return Ok(Err(Violation::new("mount", why)));
                }
                let judged = judge();
                match run(Command::new("umount").arg(folder)) {
                    Ok(()) => Ok(judged),
                    Err(why) => Ok(Err(Violation::new("umount", why))),
                }
            }
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|why| why.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn write(path: &Path, image: &Image) -> Result<(), CrashError> {
    let failed = |operation| CrashError::io(operation, path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(failed("open"))?;
    let mut position = 0;
    while position < image.num_bytes() {
        let bytes = image.bytes(position, CHUNK_BYTES);
        file.write_all(&bytes).map_err(failed("write"))?;
        position += bytes.len() as u64;
    }
    Ok(())
}

/// The image in a file.
pub(super) fn read(path: &Path) -> Result<Image, CrashError> {
    let failed = |operation| CrashError::io(operation, path);
    let mut file = File::open(path).map_err(failed("open"))?;
    let mut image = Image::default();
    let mut position = 0;
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut bytes).map_err(failed("read"))?;
        if read == 0 {
            return Ok(image);
        }
        image.write(position, &bytes[..read]);
        position += read as u64;
    }
}
