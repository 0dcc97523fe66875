//! The mode that `auto` stands for: the measured one, once there is a measurement.
//!
//! *Owns*: the file beside the WAL that keeps it, when it is measured.
//! *Does not own*: the measurement (`calibrate.rs`).
//!
//! Invariants
//! 1. Opening never waits for a measurement: without one the mode is the one that is always right.
//! 2. A measurement of another device or kernel, or one that cannot be read, counts as none.
//! 3. The mode of a WAL does not change while it is open.
//!
//! *IO: driver*

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::calibrate::{Calibration, calibrate, kernel_release};
use super::file::is_device;
use crate::config::{DeviceWalConfig, WalMode};
use crate::error::WalError;

const BUDGET: Duration = Duration::from_millis(400);
/// Longest file that is read: a measurement takes about 3 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

fn file_of(wal: &Path) -> PathBuf {
    let mut name = wal.file_name().unwrap_or_default().to_owned();
    name.push(".calibration");
    wal.with_file_name(name)
}

fn folder_of(wal: &Path) -> PathBuf {
    match wal.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Puts the measured mode in the place of `auto`, with the measured depth as far as the pool
/// allows; answers the reason, if there is a measurement. The settings are valid.
pub(super) fn resolve(wal: &Path, config: &mut DeviceWalConfig) -> Option<String> {
    if config.mode != WalMode::Auto {
        return None;
    }
    let found = kept(wal)?;
    let groups = (config.pool_bytes - 3 * config.window_bytes) / config.group_bytes_max;
    let depth_max = usize::try_from(groups).unwrap_or(usize::MAX) - 2;
    (config.mode, config.depth) = (found.mode, found.depth.min(depth_max));
    Some(found.reason)
}

/// How long to wait before the device is measured for the next start, if that is wanted.
pub(super) fn due(wal: &Path, config: &DeviceWalConfig) -> Option<Duration> {
    let wanted = config.mode == WalMode::Auto && config.calibrate_after_ms > 0;
    // Beside a device there is no place for a scratch file that would tell about it.
    let measurable = wanted && !is_device(wal) && kept(wal).is_none();
    measurable.then(|| Duration::from_millis(config.calibrate_after_ms))
}

/// What was measured for the WAL at `wal`, if it still holds.
pub(super) fn kept(wal: &Path) -> Option<Calibration> {
    let path = file_of(wal);
    let metadata = std::fs::metadata(&path).ok()?;
    if metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let found: Calibration = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let holds = found.device == metadata.dev()
        && found.kernel == kernel_release()
        && (1..=64).contains(&found.depth);
    holds.then_some(found)
}

fn keep(wal: &Path, found: &Calibration) -> Result<(), WalError> {
    let path = file_of(wal);
    let failed = |cause| WalError::io("calibration", &path.display().to_string(), 0, cause);
    let mut bytes = serde_json::to_vec_pretty(found).map_err(|cause| failed(cause.into()))?;
    bytes.push(b'\n');
    let mut file = tempfile_beside(&path).map_err(failed)?;
    file.1.write_all(&bytes).map_err(failed)?;
    // Torn by a power failure it is no JSON, and counts as none: it needs no sync.
    std::fs::rename(&file.0, &path).map_err(failed)
}

fn tempfile_beside(path: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let path = path.with_file_name(name);
    let file = std::fs::File::create(&path)?;
    Ok((path, file))
}

/// A measurement to come, given up when this is dropped.
pub(super) struct Later {
    stop: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Later {
    /// Measures for the WAL at `wal` once `delay` has passed.
    pub(super) fn begin(wal: &Path, delay: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (wal, stopped) = (wal.to_owned(), Arc::clone(&stop));
        let spawned = std::thread::Builder::new()
            .name("wal-calibrate".to_owned())
            .spawn(move || {
                let due = Instant::now() + delay;
                while !stopped.load(Ordering::Acquire) {
                    match due.checked_duration_since(Instant::now()) {
                        Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                        _ => return measure(&wal),
                    }
                }
            });
        // Without a thread there is no measurement, and nothing else is missing.
        let thread = spawned.ok().map(|handle| handle.thread().clone());
        Self { stop, thread }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

fn measure(wal: &Path) {
    let done = calibrate(&folder_of(wal), BUDGET).and_then(|found| {
        keep(wal, &found)?;
        Ok(found)
    });
    match done {
        Ok(found) => tracing::info!(
            mode = %found.mode,
            depth = found.depth,
            reason = found.reason,
            "measured the device of the write-ahead log, for the next start"
        ),
        Err(error) => tracing::warn!(%error, "the device of the write-ahead log was not measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::{file_of, kept, measure};
    use std::path::Path;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    #[test]
    fn a_measurement_is_kept_beside_the_wal() {
        let folder = folder();
        let wal = folder.path().join("wal");
        assert_eq!(kept(&wal), None);
        measure(&wal);
        let found = kept(&wal).unwrap();
        assert!(!found.samples.is_empty());
        assert_eq!(
            file_of(Path::new("/data/wal")),
            Path::new("/data/wal.calibration")
        );
    }

    #[test]
    fn a_measurement_of_another_device_or_one_that_is_no_json_counts_as_none() {
        let folder = folder();
        let wal = folder.path().join("wal");
        measure(&wal);
        let mut other = kept(&wal).unwrap();
        other.device += 1;
        std::fs::write(file_of(&wal), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(kept(&wal), None);
        std::fs::write(file_of(&wal), b"{\"mode\":").unwrap();
        assert_eq!(kept(&wal), None);
    }
}
