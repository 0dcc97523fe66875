//! What a device can do, measured: which mode makes small writes durable soonest, at what depth.
//!
//! *Owns*: the probes, the choice, the scratch space.
//! *Does not own*: when it is done and where the answer is kept (`choice.rs`).
//!
//! Invariants
//! 1. Only a scratch file of its own is written, and removed at the end; on a block device its
//!    start, if nobody uses it.
//! 2. Every mode is judged in the same run, in turns, also while all processors are busy: a mode
//!    that waits for a kernel worker looks best on an idle machine and starves on a busy one.
//!
//! *IO: driver*

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use serde::{Deserialize, Serialize};

use super::device_guard::claim_device;
use super::file::DIRECT;
use crate::buffer::AlignedBuf;
use crate::config::WalMode;
use crate::error::WalError;

const SCRATCH_BYTES: u64 = 16 << 20;
const ALIGN: usize = 4096;
const SMALL_BYTES: usize = 4096;
const LARGE_BYTES: usize = 64 << 10;
const DEPTHS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: u32 = 3;
/// A mode takes the place of the one that is always right only if it is that much faster.
const GAIN_MIN: f64 = 1.1;

/// One way of writing, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The mode probed.
    pub mode: WalMode,
    /// Bytes of a write.
    pub write_bytes: usize,
    /// Writes under way together, made durable together.
    pub depth: usize,
    /// Whether every processor was kept busy meanwhile.
    pub contended: bool,
    /// Writes made durable a second.
    pub writes_per_s: f64,
    /// Median from the start of the writes to the end of the sync, in microseconds.
    pub p50_us: f64,
    /// The same for 99 of 100.
    pub p99_us: f64,
}

/// What was measured on one file system, and what follows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The mode to use.
    pub mode: WalMode,
    /// Writes under way beyond which nothing was gained.
    pub depth: usize,
    /// Why, in words.
    pub reason: String,
    /// Whether the device says that a power failure takes what was not flushed; unknown for file
    /// systems that are not on one block device.
    pub volatile_cache: Option<bool>,
    /// Whether the device makes a single write durable without a flush of everything.
    pub fua: Option<bool>,
    /// Number of the device the file system is on.
    pub device: u64,
    /// Kernel release.
    pub kernel: String,
    /// The measurements.
    pub samples: Vec<Sample>,
}

/// Measures the file system of `folder` for about `budget`.
///
/// # Errors
/// [`WalError::Io`] as the file system says; one that refuses `O_DIRECT` is not an error: the
/// answer is the portable mode then.
pub fn calibrate(folder: &Path, budget: Duration) -> Result<Calibration, WalError> {
    measure(&Scratch::make(folder)?, budget)
}

/// Measures the block device at `path` for about `budget`. What lies on its first 16 MiB is lost:
/// zeros take its place.
///
/// # Errors
/// As [`claim_device`](crate::claim_device) for a device that is somebody's; [`WalError::Io`] as
/// the device says.
pub fn calibrate_device(path: &Path, budget: Duration) -> Result<Calibration, WalError> {
    let _claim = claim_device(path, true)?;
    measure(&Scratch::on_device(path)?, budget)
}

fn measure(scratch: &Scratch, budget: Duration) -> Result<Calibration, WalError> {
    let name = scratch.path.display().to_string();
    let failed = |cause| WalError::io("calibration", &name, 0, cause);
    let metadata = scratch.file.metadata().map_err(failed)?;
    let device = if scratch.is_device {
        metadata.rdev()
    } else {
        metadata.dev()
    };
    let [volatile_cache, fua] = queue_facts(device);
    let mut probes = probes(scratch.direct);
    let slice = budget / u32::try_from(probes.len()).expect("a few") / ROUNDS;
    for round in 0..ROUNDS {
        for turn in 0..probes.len() {
            let place = (turn + round as usize) % probes.len();
            probes[place].run(&scratch.file, slice).map_err(failed)?;
        }
    }
    let samples: Vec<_> = probes.iter().map(Probe::sample).collect();
    let (mode, depth, reason) = choose(&samples);
    Ok(Calibration {
        mode,
        depth,
        reason,
        volatile_cache,
        fua,
        device,
        kernel: kernel_release(),
        samples,
    })
}

/// Space of zeros; a file goes when this is dropped.
struct Scratch {
    path: PathBuf,
    file: File,
    direct: bool,
    is_device: bool,
}

impl Scratch {
    fn make(folder: &Path) -> Result<Self, WalError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".wal-calibration-{}-{number}", std::process::id()));
        let failed = |cause| WalError::io("calibration", &path.display().to_string(), 0, cause);
        let open = |flags: i32| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .custom_flags(flags)
                .open(&path)
        };
        let (file, direct) = match open(DIRECT) {
            Ok(file) => (file, true),
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => {
                (open(0).map_err(failed)?, false)
            }
            Err(cause) => return Err(failed(cause)),
        };
        let scratch = Self {
            path: path.clone(),
            file,
            direct,
            is_device: false,
        };
        scratch.fill().map_err(failed)?;
        Ok(scratch)
    }

    fn on_device(path: &Path) -> Result<Self, WalError> {
        let failed = |cause| WalError::io("calibration", &path.display().to_string(), 0, cause);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(DIRECT);
        let scratch = Self {
            path: path.to_owned(),
            file: options.open(path).map_err(failed)?,
            direct: true,
            is_device: true,
        };
        scratch.fill().map_err(failed)?;
        Ok(scratch)
    }

    fn fill(&self) -> io::Result<()> {
        let zeros = filled(1 << 20);
        for position in (0..SCRATCH_BYTES).step_by(1 << 20) {
            self.file.write_all_at(zeros.as_slice(), position)?;
        }
        self.file.sync_all()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_device {
            return;
        }
        // What stays behind carries a name that says what it is.
        _ = std::fs::remove_file(&self.path);
    }
}

fn filled(num_bytes: usize) -> AlignedBuf {
    let mut buf = AlignedBuf::new(num_bytes, ALIGN);
    buf.pad_to(num_bytes);
    buf
}

struct Probe {
    mode: WalMode,
    write_bytes: usize,
    depth: usize,
    contended: bool,
    latencies_us: Vec<f64>,
    elapsed: Duration,
    position: u64,
}

fn probes(direct: bool) -> Vec<Probe> {
    let probe = |mode, write_bytes, depth, contended| Probe {
        mode,
        write_bytes,
        depth,
        contended,
        latencies_us: Vec::new(),
        elapsed: Duration::ZERO,
        position: 0,
    };
    let mut probes = vec![
        probe(WalMode::Portable, SMALL_BYTES, 1, false),
        probe(WalMode::Portable, SMALL_BYTES, 1, true),
        probe(WalMode::Portable, LARGE_BYTES, 1, false),
    ];
    // A ring on files in the page cache hands every write to a worker.
    if direct && IoUring::new(8).is_ok() {
        for mode in [WalMode::RingSync, WalMode::RingDsync] {
            probes.push(probe(mode, SMALL_BYTES, 1, false));
            probes.push(probe(mode, SMALL_BYTES, 1, true));
        }
        probes.push(probe(WalMode::RingDsync, LARGE_BYTES, 1, false));
        let deep = DEPTHS.map(|depth| probe(WalMode::RingSync, LARGE_BYTES, depth, false));
        probes.extend(deep);
    }
    probes
}

impl Probe {
    fn run(&mut self, file: &File, slice: Duration) -> io::Result<()> {
        let _busy = self.contended.then(BusyProcessors::begin);
        let buf = filled(self.write_bytes);
        let mut ring = match self.mode {
            WalMode::Portable => None,
            _ => Some(IoUring::new(16)?),
        };
        let begun = Instant::now();
        while begun.elapsed() < slice {
            let started = Instant::now();
            match &mut ring {
                None => file.write_all_at(buf.as_slice(), self.next_position())?,
                Some(ring) => self.write_together(ring, file, &buf)?,
            }
            if self.mode != WalMode::RingDsync {
                file.sync_data()?;
            }
            self.latencies_us
                .push(started.elapsed().as_secs_f64() * 1e6);
        }
        self.elapsed += begun.elapsed();
        Ok(())
    }

    fn write_together(
        &mut self,
        ring: &mut IoUring,
        file: &File,
        buf: &AlignedBuf,
    ) -> io::Result<()> {
        let len = u32::try_from(buf.len()).map_err(io::Error::other)?;
        let durable = self.mode == WalMode::RingDsync;
        for _ in 0..self.depth {
            let entry =
                opcode::Write::new(types::Fd(file.as_raw_fd()), buf.as_slice().as_ptr(), len)
                    .offset(self.next_position())
                    .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
                    .build();
            // SAFETY: `buf` outlives the wait below, and the kernel only reads it.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        ring.submit_and_wait(self.depth)?;
        for entry in ring.completion() {
            if entry.result() < 0 {
                return Err(io::Error::from_raw_os_error(-entry.result()));
            }
            if entry.result().unsigned_abs() != len {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn next_position(&mut self) -> u64 {
        let position = self.position;
        self.position = (position + self.write_bytes as u64) % SCRATCH_BYTES;
        position
    }

    fn sample(&self) -> Sample {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |per_cent: usize| {
            let place = (sorted.len() * per_cent).div_ceil(100).max(1) - 1;
            sorted.get(place).copied().unwrap_or(f64::INFINITY)
        };
        let writes = (self.latencies_us.len() * self.depth) as f64;
        Sample {
            mode: self.mode,
            write_bytes: self.write_bytes,
            depth: self.depth,
            contended: self.contended,
            writes_per_s: writes / self.elapsed.as_secs_f64().max(1e-9),
            p50_us: at(50),
            p99_us: at(99),
        }
    }
}

/// Threads that do nothing but run, one a processor, until this is dropped.
struct BusyProcessors {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl BusyProcessors {
    fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let num_processors = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..num_processors).map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for BusyProcessors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that only spins does not panic.
            _ = thread.join();
        }
    }
}

/// The mode, the depth and the reason that follow from `samples`.
fn choose(samples: &[Sample]) -> (WalMode, usize, String) {
    let find = |mode, write_bytes, depth, contended| {
        samples.iter().find(|it| {
            (it.mode, it.write_bytes, it.depth, it.contended)
                == (mode, write_bytes, depth, contended)
        })
    };
    let lone = |mode, contended| find(mode, SMALL_BYTES, 1, contended);
    let Some(sync) = lone(WalMode::RingSync, false) else {
        let reason = "io_uring or O_DIRECT is refused here".to_owned();
        return (WalMode::Portable, 1, reason);
    };
    let deep = DEPTHS.map(|depth| find(WalMode::RingSync, LARGE_BYTES, depth, false));
    let rates = deep.map(|it| it.map_or(0.0, |it| it.writes_per_s));
    let best = rates.into_iter().fold(0.0, f64::max);
    let enough = rates.iter().position(|rate| *rate * 1.05 >= best);
    let depth = DEPTHS[enough.unwrap_or(0)].max(2);
    if let (Some(dsync), Some(busy), Some(busy_sync)) = (
        lone(WalMode::RingDsync, false),
        lone(WalMode::RingDsync, true),
        lone(WalMode::RingSync, true),
    ) && dsync.p50_us * GAIN_MIN <= sync.p50_us
        && busy.writes_per_s >= busy_sync.writes_per_s
    {
        let reason = format!(
            "a durable write takes {:.0} µs, a write and a flush {:.0} µs, and that holds while all \
             processors are busy",
            dsync.p50_us, sync.p50_us
        );
        return (WalMode::RingDsync, depth, reason);
    }
    let portable_large = find(WalMode::Portable, LARGE_BYTES, 1, false);
    if let (Some(portable), Some(large)) = (lone(WalMode::Portable, false), portable_large)
        && portable.p50_us * GAIN_MIN <= sync.p50_us
        && best <= large.writes_per_s * GAIN_MIN
    {
        let reason = format!(
            "plain calls take {:.0} µs for a write and a flush, the ring {:.0} µs, and depth gains \
             nothing",
            portable.p50_us, sync.p50_us
        );
        return (WalMode::Portable, 1, reason);
    }
    let reason = format!(
        "a write and a flush take {:.0} µs; {depth} writes a flush carry {:.0} MB/s",
        sync.p50_us,
        best * LARGE_BYTES as f64 / 1e6
    );
    (WalMode::RingSync, depth, reason)
}

/// Whether the device has a volatile cache, and whether it takes durable writes.
fn queue_facts(device: u64) -> [Option<bool>; 2] {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let base = format!("/sys/dev/block/{major}:{minor}");
    let read = |name: &str| {
        // A partition has no queue of its own.
        let own = std::fs::read_to_string(format!("{base}/queue/{name}"));
        own.or_else(|_| std::fs::read_to_string(format!("{base}/../queue/{name}")))
            .ok()
    };
    let cache = read("write_cache").map(|text| text.trim() == "write back");
    let fua = read("fua").map(|text| text.trim() == "1");
    [cache, fua]
}

pub(super) fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{LARGE_BYTES, SMALL_BYTES, Sample, calibrate, choose};
    use crate::config::WalMode;
    use std::time::Duration;

    fn sample(mode: WalMode, write_bytes: usize, depth: usize, contended: bool, us: f64) -> Sample {
        Sample {
            mode,
            write_bytes,
            depth,
            contended,
            writes_per_s: depth as f64 * 1e6 / us,
            p50_us: us,
            p99_us: us,
        }
    }

    /// Small writes of (portable, sync, dsync), dsync on busy processors, large writes at depth 8.
    fn samples(small: [f64; 3], busy_dsync: f64, deep: f64) -> Vec<Sample> {
        let [portable, sync, dsync] = small;
        vec![
            sample(WalMode::Portable, SMALL_BYTES, 1, false, portable),
            sample(WalMode::Portable, LARGE_BYTES, 1, false, 200.0),
            sample(WalMode::RingSync, SMALL_BYTES, 1, false, sync),
            sample(WalMode::RingSync, SMALL_BYTES, 1, true, sync),
            sample(WalMode::RingDsync, SMALL_BYTES, 1, false, dsync),
            sample(WalMode::RingDsync, SMALL_BYTES, 1, true, busy_dsync),
            sample(WalMode::RingSync, LARGE_BYTES, 1, false, 200.0),
            sample(WalMode::RingSync, LARGE_BYTES, 8, false, deep),
        ]
    }

    #[test]
    fn a_durable_write_is_chosen_only_if_it_holds_on_busy_processors() {
        let (mode, _, _) = choose(&samples([100.0, 100.0, 50.0], 60.0, 400.0));
        assert_eq!(mode, WalMode::RingDsync);
        let (mode, depth, _) = choose(&samples([100.0, 100.0, 50.0], 4000.0, 400.0));
        assert_eq!((mode, depth), (WalMode::RingSync, 8));
    }

    #[test]
    fn plain_calls_are_chosen_where_the_ring_is_slower_and_depth_gains_nothing() {
        let (mode, _, _) = choose(&samples([80.0, 100.0, 100.0], 4000.0, 1600.0));
        assert_eq!(mode, WalMode::Portable);
        let (mode, _, _) = choose(&samples([80.0, 100.0, 100.0], 4000.0, 400.0));
        assert_eq!(mode, WalMode::RingSync);
        assert_eq!(choose(&[]).0, WalMode::Portable);
    }

    #[test]
    fn a_file_system_is_measured_and_nothing_stays_behind() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let found = calibrate(folder.path(), Duration::from_millis(60)).unwrap();
        assert!(found.samples.iter().all(|it| it.p50_us > 0.0));
        assert!(found.depth >= 1 && !found.reason.is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
