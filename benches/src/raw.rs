//! Raw I/O on a file: what the device gives to a program that does nothing else.
//!
//! *Owns*: a file of zeros written in a circle with `O_DIRECT`; sequential reads of any file.
//! *Does not own*: the sizes, which follow from what is measured.
//!
//! Invariants
//! 1. Every write is aligned, lands on blocks that were written before, and is followed by one
//!    `fdatasync` for its batch. Nothing is checksummed, copied or handed to another thread.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use tidewater_wal::AlignedBuf;

use crate::sample::{Cpu, Latencies};

const BLOCK_BYTES: usize = 4096;
const ZERO_BYTES: usize = 1 << 20;

/// Writes that one sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Writes under way together, 1 to 64.
    pub num_writes: usize,
    /// Bytes of each, a multiple of 4096.
    pub write_bytes: usize,
}

/// What a stretch of raw writing came to.
#[derive(Clone, Debug)]
pub struct RawRun {
    /// Batches made durable.
    pub num_batches: u64,
    /// Time they took.
    pub elapsed: Duration,
    /// CPU time they took.
    pub cpu: Duration,
    /// From the start of a batch to the end of its sync.
    pub latencies: Latencies,
}

/// A file of zeros, written again and again.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    num_bytes: usize,
    position: usize,
}

impl RawFile {
    /// Makes the file and fills it, so that no write has to allocate.
    ///
    /// # Errors
    /// As the file system says; one without `O_DIRECT` is refused.
    pub fn create(path: &Path, num_bytes: usize) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let zeros = filled(ZERO_BYTES, 0);
        let num_bytes = num_bytes.next_multiple_of(ZERO_BYTES);
        for position in (0..num_bytes).step_by(ZERO_BYTES) {
            file.write_all_at(zeros.as_slice(), position as u64)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            num_bytes,
            position: 0,
        })
    }

    /// Writes batch after batch for `wait`.
    ///
    /// # Errors
    /// As the device says.
    pub fn run(&mut self, batch: Batch, wait: Duration) -> io::Result<RawRun> {
        let data = filled(batch.write_bytes, 0x5a);
        let mut ring = IoUring::new(64)?;
        let mut latencies = Latencies::default();
        let (begun, cpu) = (Instant::now(), Cpu::now());
        let mut num_batches = 0;
        while begun.elapsed() < wait {
            let started = Instant::now();
            if batch.num_writes == 1 {
                let position = self.advance(batch.write_bytes);
                self.file.write_all_at(data.as_slice(), position)?;
            } else {
                self.write_together(&mut ring, batch, &data)?;
            }
            self.file.sync_data()?;
            latencies.push(started.elapsed());
            num_batches += 1;
        }
        Ok(RawRun {
            num_batches,
            elapsed: begun.elapsed(),
            cpu: cpu.spent(),
            latencies,
        })
    }

    fn write_together(
        &mut self,
        ring: &mut IoUring,
        batch: Batch,
        data: &AlignedBuf,
    ) -> io::Result<()> {
        let file = types::Fd(self.file.as_raw_fd());
        let length = u32::try_from(batch.write_bytes).map_err(io::Error::other)?;
        for _ in 0..batch.num_writes {
            let entry = opcode::Write::new(file, data.as_slice().as_ptr(), length)
                .offset(self.advance(batch.write_bytes))
                .build();
            // SAFETY: `data` outlives the wait below, and the kernel only reads it.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        ring.submit_and_wait(batch.num_writes)?;
        for entry in ring.completion() {
            if entry.result() < 0 {
                return Err(io::Error::from_raw_os_error(-entry.result()));
            }
            if entry.result().unsigned_abs() != length {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn advance(&mut self, write_bytes: usize) -> u64 {
        if self.position + write_bytes > self.num_bytes {
            self.position = 0;
        }
        let position = self.position;
        self.position += write_bytes;
        position as u64
    }
}

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
    let mut bufs: Vec<_> = (0..depth).map(|_| filled(read_bytes, 0)).collect();
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

fn filled(num_bytes: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::new(num_bytes, BLOCK_BYTES);
    buf.pad_to(num_bytes);
    buf.as_mut_slice().fill(byte);
    buf
}

#[cfg(test)]
mod tests {
    use super::{Batch, RawFile, read_sequentially};
    use std::time::Duration;

    #[test]
    fn batches_of_one_and_of_many_land_in_the_file() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("raw");
        let mut file = RawFile::create(&path, 1 << 20).unwrap();
        for num_writes in [1, 3] {
            let batch = Batch {
                num_writes,
                write_bytes: 8192,
            };
            let run = file.run(batch, Duration::from_millis(1)).unwrap();
            assert!(run.num_batches > 0);
            assert_eq!(run.latencies.len() as u64, run.num_batches);
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes[..4 * 8192].iter().all(|byte| *byte == 0x5a));
        for depth in [1, 4] {
            read_sequentially(&path, 1 << 20, 1 << 16, depth).unwrap();
            assert!(read_sequentially(&path, 2 << 20, 1 << 16, depth).is_err());
        }
    }
}
