//! Where the WALs of a bench go: a folder, or the whole of a file or block device.
//!
//! *Owns*: `TIDEWATER_BENCH_WAL` and `TIDEWATER_BENCH_DESTROY`; the refusal to overwrite anything
//! that nobody gave up; which bytes of a whole target are whose.
//! *Does not own*: what is written there.
//!
//! Invariants
//! 1. A file or block device that exists is opened for writing only after its very path was given
//!    a second time, and never while something else holds the device (a mount, swap, a RAID).
//!
//! *IO: driver*

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::place::Place;

const TARGET: &str = "TIDEWATER_BENCH_WAL";
const CONSENT: &str = "TIDEWATER_BENCH_DESTROY";
const MIB: u64 = 1 << 20;
/// The end of a whole target, for raw writes.
const RAW_BYTES: u64 = 256 * MIB;
const WAL_BYTES_MIN: u64 = 768 * MIB;
const WAL_BYTES_MAX: u64 = 1024 * MIB;

/// Where WALs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Files in this folder, each WAL its own.
    Folder(PathBuf),
    /// All of this file or block device, one WAL at a time.
    Whole(Whole),
}

/// A file or block device that may be overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its path.
    pub path: PathBuf,
    /// Bytes from its start that a WAL may take.
    pub wal_bytes: u64,
    /// Where raw writes may go, behind the WAL.
    pub raw: std::ops::Range<u64>,
}

impl Target {
    /// What the environment names, else a folder in the output folder.
    ///
    /// # Errors
    /// The target exists and is no folder, and `TIDEWATER_BENCH_DESTROY` is not its path; or it is
    /// in use, smaller than 1 GiB, or neither folder, file nor block device.
    pub fn find(place: &Place) -> io::Result<Self> {
        let consent = std::env::var_os(CONSENT).map(PathBuf::from);
        let path = match std::env::var_os(TARGET).map(PathBuf::from) {
            Some(path) if !path.is_dir() && path.try_exists()? => path,
            _ => return place.folder(TARGET, "wal").map(Self::Folder),
        };
        whole(&path, consent.as_deref()).map(Self::Whole)
    }

    /// The path itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Whole(Whole { path, .. }) => path,
        }
    }
}

fn whole(path: &Path, consent: Option<&Path>) -> io::Result<Whole> {
    let refusal = |kind, what: &str| {
        let path = path.display();
        io::Error::new(kind, format!("{TARGET} = {path}: {what}"))
    };
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let what = "expected a folder, a file or a block device";
        return Err(refusal(io::ErrorKind::InvalidInput, what));
    }
    if consent != Some(path) {
        let what = format!(
            "everything on it would be lost; to agree, set {CONSENT} to the same path, letter for \
             letter"
        );
        return Err(refusal(io::ErrorKind::PermissionDenied, &what));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if kind.is_block_device() {
        // On a device, and without O_CREAT, the flag means: unless somebody holds it.
        options.custom_flags(libc::O_EXCL);
    }
    let mut file = options.open(path).map_err(|cause| {
        let what = match cause.raw_os_error() {
            Some(libc::EBUSY) => "the device is in use".to_owned(),
            _ => cause.to_string(),
        };
        refusal(cause.kind(), &what)
    })?;
    let num_bytes = file.seek(SeekFrom::End(0))? / MIB * MIB;
    if num_bytes < WAL_BYTES_MIN + RAW_BYTES {
        let what = format!("{num_bytes} bytes, expected at least 1 GiB");
        return Err(refusal(io::ErrorKind::InvalidInput, &what));
    }
    Ok(Whole {
        path: path.to_owned(),
        wal_bytes: (num_bytes - RAW_BYTES).min(WAL_BYTES_MAX),
        raw: num_bytes - RAW_BYTES..num_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::{RAW_BYTES, whole};
    use std::io::ErrorKind;
    use std::path::Path;

    #[test]
    fn a_file_is_taken_only_when_its_path_is_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(2 << 30).unwrap();
        for consent in [None, Some(Path::new("1")), Some(folder.path())] {
            let refused = whole(&path, consent).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{consent:?}");
            assert!(refused.to_string().contains("TIDEWATER_BENCH_DESTROY"));
        }
        let taken = whole(&path, Some(&path)).unwrap();
        assert_eq!(taken.wal_bytes, 1 << 30);
        assert_eq!(taken.raw, (2 << 30) - RAW_BYTES..2 << 30);
        file.set_len((1 << 30) - 1).unwrap();
        assert_eq!(
            whole(&path, Some(&path)).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }

    #[test]
    fn what_is_neither_file_nor_device_is_refused() {
        let null = Path::new("/dev/null");
        let refused = whole(null, Some(null)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}
