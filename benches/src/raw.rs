//! Raw writes: what the device gives to a program that does nothing else.
//!
//! *Owns*: a range of a file, written in a circle with `O_DIRECT`, in batches that somebody recorded.
//! *Does not own*: the recording.
//!
//! Invariants
//! 1. Every write is aligned and lands on blocks that were written before. Nothing is checksummed,
//!    copied or handed to another thread.
//! 2. An operation counts once every write of its batch is durable.
//! 3. Memory that the kernel reads from outlives the writes, also when one of them fails.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use io_uring::{IoUring, opcode, types};
use tidewater_wal::AlignedBuf;

use crate::sample::{Cpu, Latencies};

pub(crate) const BLOCK_BYTES: usize = 4096;
const FILL_BYTES: usize = 1 << 20;
/// Writes under way at most.
const DEPTH_MAX: usize = 64;

/// Writes that become durable together, and what they carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Bytes of each write, multiples of 4096; 1 to 64 writes.
    pub writes: Vec<usize>,
    /// Operations that the writes hold.
    pub num_ops: u64,
}

/// How writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// All writes of a batch together, then one `fdatasync`.
    Batch,
    /// Each write by itself (`RWF_DSYNC`), with as many under way as `depth` says (1 to 64).
    Write {
        /// Writes under way.
        depth: usize,
    },
}

/// What a stretch of raw writing came to.
#[derive(Clone, Debug, Default)]
pub struct RawRun {
    /// Operations made durable.
    pub num_ops: u64,
    /// Time they took.
    pub elapsed: Duration,
    /// CPU time they took.
    pub cpu: Duration,
    /// From the start of a batch (or write) until it was durable.
    pub latencies: Latencies,
}

/// A range of a file, written again and again.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    range: Range<u64>,
    position: u64,
}

impl RawFile {
    /// Opens the file at `path`, makes it if need be, and fills `range` (bounds are multiples of
    /// 1 MiB), so that no write has to allocate.
    ///
    /// # Errors
    /// As the file system says; one without `O_DIRECT` is refused.
    pub fn open(path: &Path, range: Range<u64>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(!path.try_exists()?)
            .truncate(false)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let filling = noise_buf(FILL_BYTES);
        for position in range.clone().step_by(FILL_BYTES) {
            file.write_all_at(filling.as_slice(), position)?;
        }
        file.sync_all()?;
        let position = range.start;
        Ok(Self {
            file,
            range,
            position,
        })
    }

    /// Writes the batches, again and again from the first, for `wait`.
    ///
    /// # Errors
    /// As the device says.
    ///
    /// # Panics
    /// If there is no batch, or one without writes or with more than 64.
    pub fn replay(&mut self, batches: &[Batch], sync: Sync, wait: Duration) -> io::Result<RawRun> {
        let sizes = batches.iter().map(|batch| batch.writes.len());
        assert!(!batches.is_empty() && sizes.clone().all(|n| (1..=DEPTH_MAX).contains(&n)));
        let largest = batches.iter().flat_map(|batch| &batch.writes).max();
        let data = noise_buf(*largest.expect("a write"));
        let mut ring = ring()?;
        let (begun, cpu) = (Instant::now(), Cpu::now());
        let mut run = RawRun::default();
        match sync {
            Sync::Batch => self.synced(batches, &mut ring, &data, wait, &mut run)?,
            Sync::Write { depth } => {
                let depth = depth.clamp(1, DEPTH_MAX);
                self.durable(batches, depth, (&mut ring, &data), wait, &mut run)?;
            }
        }
        (run.elapsed, run.cpu) = (begun.elapsed(), cpu.spent());
        Ok(run)
    }

    fn synced(
        &mut self,
        batches: &[Batch],
        ring: &mut IoUring,
        data: &AlignedBuf,
        wait: Duration,
        run: &mut RawRun,
    ) -> io::Result<()> {
        let begun = Instant::now();
        for batch in batches.iter().cycle() {
            let started = Instant::now();
            if started.duration_since(begun) >= wait {
                break;
            }
            if let [num_bytes] = batch.writes[..] {
                let position = self.advance(num_bytes);
                self.file
                    .write_all_at(&data.as_slice()[..num_bytes], position)?;
            } else {
                for num_bytes in &batch.writes {
                    self.push(ring, data, *num_bytes, 0, 0)?;
                }
                ring.submit_and_wait(batch.writes.len())?;
                let mut failure = Ok(());
                for entry in ring.completion() {
                    failure = failure.and(check(entry.result()));
                }
                failure?;
            }
            self.file.sync_data()?;
            run.latencies.push(started.elapsed());
            run.num_ops += batch.num_ops;
        }
        Ok(())
    }

    fn durable(
        &mut self,
        batches: &[Batch],
        depth: usize,
        (ring, data): (&mut IoUring, &AlignedBuf),
        wait: Duration,
        run: &mut RawRun,
    ) -> io::Result<()> {
        let begun = Instant::now();
        // A write each: operations are counted with the last write of their batch.
        let mut writes = batches.iter().cycle().flat_map(|batch| {
            let last = batch.writes.len() - 1;
            let sizes = batch.writes.iter().enumerate();
            sizes.map(move |(at, size)| (*size, if at == last { batch.num_ops } else { 0 }))
        });
        let mut free: Vec<usize> = (0..depth).collect();
        let mut slots = vec![(begun, 0); depth];
        let mut failure = Ok(());
        loop {
            while failure.is_ok() && begun.elapsed() < wait {
                let Some(slot) = free.pop() else { break };
                let (num_bytes, num_ops) = writes.next().expect("endless");
                slots[slot] = (Instant::now(), num_ops);
                self.push(ring, data, num_bytes, slot as u64, libc::RWF_DSYNC)?;
            }
            if free.len() == depth {
                return failure;
            }
            ring.submit_and_wait(1)?;
            for entry in ring.completion() {
                let slot = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
                let (started, num_ops) = slots[slot];
                failure = failure.and(check(entry.result()));
                run.latencies.push(started.elapsed());
                run.num_ops += num_ops;
                free.push(slot);
            }
        }
    }

    fn push(
        &mut self,
        ring: &mut IoUring,
        data: &AlignedBuf,
        num_bytes: usize,
        id: u64,
        flags: i32,
    ) -> io::Result<()> {
        let length = u32::try_from(num_bytes).map_err(io::Error::other)?;
        let memory = data.as_slice()[..num_bytes].as_ptr();
        let entry = opcode::Write::new(types::Fd(self.file.as_raw_fd()), memory, length)
            .offset(self.advance(num_bytes))
            .rw_flags(flags)
            .build()
            .user_data(id);
        // SAFETY: the kernel only reads the memory, and both callers wait for every write before
        // they give it back.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn advance(&mut self, num_bytes: usize) -> u64 {
        if self.position + num_bytes as u64 > self.range.end {
            self.position = self.range.start;
        }
        let position = self.position;
        self.position += num_bytes as u64;
        position
    }
}

/// A ring that does its work when it is waited for, as the WAL's; older kernels have the plain one.
pub(crate) fn ring() -> io::Result<IoUring> {
    let entries = u32::try_from(DEPTH_MAX).expect("small");
    let tuned = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries);
    tuned.or_else(|_| IoUring::new(entries))
}

/// A write's result: all of our writes are whole blocks of a file that is there, so a short one is
/// a failure of the device.
pub(crate) fn check(result: i32) -> io::Result<()> {
    match u32::try_from(result) {
        Ok(num_bytes) if num_bytes > 0 && (num_bytes as usize).is_multiple_of(BLOCK_BYTES) => {
            Ok(())
        }
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::from_raw_os_error(-result)),
    }
}

/// Aligned [`noise`].
pub(crate) fn noise_buf(num_bytes: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::new(num_bytes.next_multiple_of(BLOCK_BYTES), BLOCK_BYTES);
    buf.extend_from_slice(&noise(num_bytes));
    buf.pad_to(num_bytes.next_multiple_of(BLOCK_BYTES));
    buf
}

/// Bytes that nobody can compress, always the same.
#[must_use]
pub fn noise(num_bytes: usize) -> Bytes {
    // xorshift64
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; num_bytes];
    for chunk in bytes.chunks_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::{Batch, RawFile, Sync, check, noise};
    use std::time::Duration;

    const BATCHES: [(&[usize], u64); 2] = [(&[8192], 5), (&[4096, 16384, 4096], 2)];

    #[test]
    fn every_batch_lands_in_the_range_and_nowhere_else() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("raw");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let mut file = RawFile::open(&path, 1 << 20..2 << 20).unwrap();
        let batches = BATCHES.map(|(writes, num_ops)| Batch {
            writes: writes.to_vec(),
            num_ops,
        });
        let run = file
            .replay(&batches, Sync::Batch, Duration::from_millis(20))
            .unwrap();
        let num_batches = run.latencies.len() as u64;
        assert!(num_batches > 0);
        assert_eq!(
            run.num_ops,
            num_batches.div_ceil(2) * 5 + num_batches / 2 * 2
        );
        let run = file
            .replay(
                &batches,
                Sync::Write { depth: 3 },
                Duration::from_millis(20),
            )
            .unwrap();
        assert!(run.num_ops > 0 && run.latencies.len() >= 3);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 << 20);
        let is_untouched = |part: &[u8]| part.iter().all(|byte| *byte == 7);
        assert!(is_untouched(&bytes[..1 << 20]) && is_untouched(&bytes[2 << 20..]));
        assert_eq!(bytes[1 << 20..][..4096], noise(4096)[..]);
    }

    #[test]
    fn a_failed_or_torn_write_is_an_error() {
        assert!(check(4096).is_ok());
        assert_eq!(
            check(512).unwrap_err().kind(),
            std::io::ErrorKind::WriteZero
        );
        assert_eq!(check(-libc::EIO).unwrap_err().raw_os_error(), Some(5));
    }
}
