//! The same writes through a ring that knows the file and the memory beforehand, and one that does
//! not.
//!
//! *Owns*: one write and one `fdatasync` at a time, as a log that is not overlapped makes them.
//! *Does not own*: the file (`raw.rs`).
//!
//! Invariants
//! 1. Both ways go through the ring and differ in nothing but the registration.
//! 2. Memory that the kernel reads from outlives the writes: each is waited for.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use crate::raw::{RawFile, RawRun, check, noise_buf, ring};
use crate::sample::Cpu;

impl RawFile {
    /// Writes `num_bytes` (a multiple of 4096) and makes them durable, again and again for `wait`;
    /// with `registered`, the kernel was told of file and memory before.
    ///
    /// # Errors
    /// As the device says; the kernel refuses to pin more than `RLIMIT_MEMLOCK` allows.
    pub fn through_ring(
        &mut self,
        num_bytes: usize,
        registered: bool,
        wait: Duration,
    ) -> io::Result<RawRun> {
        let mut data = noise_buf(num_bytes);
        let mut ring = ring()?;
        let memory = data.as_mut_slice().as_mut_ptr();
        if registered {
            let pinned = libc::iovec {
                iov_base: memory.cast(),
                iov_len: num_bytes,
            };
            // SAFETY: the memory is ours, and outlives the ring that pins it: `data` was made first.
            unsafe { ring.submitter().register_buffers(&[pinned]) }?;
            ring.submitter()
                .register_files(&[self.file().as_raw_fd()])?;
        }
        let (begun, cpu) = (Instant::now(), Cpu::now());
        let mut run = RawRun::default();
        while begun.elapsed() < wait {
            let started = Instant::now();
            self.one(&mut ring, memory, num_bytes, registered)?;
            self.file().sync_data()?;
            run.latencies.push(started.elapsed());
            run.num_ops += 1;
        }
        (run.elapsed, run.cpu) = (begun.elapsed(), cpu.spent());
        Ok(run)
    }

    fn one(
        &mut self,
        ring: &mut IoUring,
        memory: *const u8,
        num_bytes: usize,
        registered: bool,
    ) -> io::Result<()> {
        let length = u32::try_from(num_bytes).map_err(io::Error::other)?;
        let position = self.advance(num_bytes);
        let entry = if registered {
            opcode::WriteFixed::new(types::Fixed(0), memory, length, 0)
                .offset(position)
                .build()
        } else {
            opcode::Write::new(types::Fd(self.file().as_raw_fd()), memory, length)
                .offset(position)
                .build()
        };
        // SAFETY: the kernel only reads the memory, and the write is waited for right away.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().map(|entry| entry.result());
        check(done.ok_or(io::ErrorKind::UnexpectedEof)?)
    }
}

#[cfg(test)]
mod tests {
    use super::RawFile;
    use crate::raw::noise;
    use std::time::Duration;

    #[test]
    fn both_ways_write_the_same_bytes() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for registered in [false, true] {
            let path = folder.path().join(format!("raw-{registered}"));
            let mut file = RawFile::open(&path, 0..1 << 20).unwrap();
            let run = file.through_ring(8192, registered, Duration::from_millis(20));
            assert!(run.unwrap().num_ops > 0);
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!((bytes.len(), &bytes[..8192]), (1 << 20, &noise(8192)[..]));
        }
    }
}
