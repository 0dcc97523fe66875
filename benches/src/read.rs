//! Reading a file from its start, with nothing done to what was read.
//!
//! *Owns*: the limit of a recovery.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::raw::{BLOCK_BYTES, noise_buf};

/// Reads the first `num_bytes` of the file at `path` with `O_DIRECT`, `read_bytes` at a time and
/// `depth` (1 to 64) reads under way, and says how long it took.
///
/// # Errors
/// As the file system says; `UnexpectedEof` if the file is shorter.
pub fn read_sequentially(
    path: &Path,
    num_bytes: u64,
    read_bytes: usize,
    depth: usize,
) -> io::Result<Duration> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let read_bytes = read_bytes.next_multiple_of(BLOCK_BYTES);
    let mut bufs: Vec<_> = (0..depth).map(|_| noise_buf(read_bytes)).collect();
    let length = u32::try_from(read_bytes).map_err(io::Error::other)?;
    let mut ring = IoUring::new(64)?;
    let begun = Instant::now();
    let (mut asked, mut done, mut free) = (0, 0, (0..depth).collect::<Vec<_>>());
    while done < num_bytes {
        while let Some(index) = free.pop_if(|_| asked < num_bytes) {
            let memory = bufs[index].as_mut_slice().as_mut_ptr();
            let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), memory, length)
                .offset(asked)
                .build()
                .user_data(index as u64);
            // SAFETY: the buffer lives as long as the ring, and is not touched or used for
            // another read before this one completed.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
            asked += read_bytes as u64;
        }
        ring.submit_and_wait(1)?;
        for entry in ring.completion() {
            let read = u64::try_from(entry.result())
                .map_err(|_| io::Error::from_raw_os_error(-entry.result()))?;
            // The last read may end with the file.
            if read < read_bytes as u64 && (asked < num_bytes || read == 0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += read_bytes as u64;
            free.push(usize::try_from(entry.user_data()).map_err(io::Error::other)?);
        }
    }
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::read_sequentially;

    #[test]
    fn the_whole_file_is_read_and_a_shorter_one_is_an_error() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        for depth in [1, 4] {
            read_sequentially(&path, 1 << 20, 1 << 16, depth).unwrap();
            assert!(read_sequentially(&path, 2 << 20, 1 << 16, depth).is_err());
        }
    }
}
