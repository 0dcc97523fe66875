//! The device WAL on a real file: one thread, one lock, one way of doing I/O.
//!
//! *Owns*: the thread, the choice between ring and portable I/O, new files.
//! *Does not own*: any decision about content.
//!
//! Invariants
//! 1. A WAL appears under its name only when it is whole, and its name is durable before
//!    anything in it is acknowledged.
//! 2. The lock is on the open file description that does the I/O, so it is free only when the
//!    last write of the holder has landed.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver is where threads and files belong"
)]

mod aside;
#[cfg(target_os = "linux")]
mod calibrate;
#[cfg(target_os = "linux")]
mod choice;
#[cfg(not(target_os = "linux"))]
#[path = "choice_none.rs"]
mod choice;
#[cfg(target_os = "linux")]
mod device_guard;
mod file;
mod look;
mod portable;
#[cfg(test)]
mod tests;
mod thread;
#[cfg(target_os = "linux")]
mod uring;

pub use aside::set_aside;
#[cfg(target_os = "linux")]
pub use calibrate::{Calibration, Sample, calibrate, calibrate_device};
#[cfg(target_os = "linux")]
pub use device_guard::claim_device;
pub use look::inspect;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use tidewater_types::{Env, Lsn};

use crate::config::{DeviceWalConfig, Identity, OpenMode, WalMode};
use crate::disk::Disk;
use crate::error::WalError;
use crate::format::superblock::{
    MAGIC, RING_POSITION, SLOT_BYTES, SLOT_POSITIONS, Superblock, choose,
};
use crate::opening::{Opened, prepare, validated};
use crate::recovery::RecoveryReport;
use crate::shared::Shared;
use file::WalFile;
use thread::Parker;

/// How long a dropped handle waits for the thread to give the file back.
const DROP_WAIT: Duration = Duration::from_secs(5);

type OnFrame = Box<dyn FnMut(Lsn, Bytes) + Send>;
/// Waits until a dropped WAL has given its file back.
type OnDrop = Box<dyn FnOnce() + Send + Sync>;
type Answer = Result<(Arc<Shared>, RecoveryReport, OnDrop), WalError>;
type ChosenDisk = (Box<dyn Disk>, Arc<dyn Parker>, String);

/// Opens the file at `path` on a thread of its own and waits for recovery.
pub(crate) fn open(
    path: &Path,
    env: Arc<dyn Env>,
    config: DeviceWalConfig,
    identity: Identity,
    mode: OpenMode,
    on_frame: OnFrame,
) -> Answer {
    validated(&config)?;
    let (send, answer) = mpsc::sync_channel(1);
    let job = Job {
        path: path.to_owned(),
        env,
        config,
        identity,
        mode,
    };
    std::thread::Builder::new()
        .name("wal".to_owned())
        .spawn(move || job.run(on_frame, &send))
        .map_err(|cause| {
            WalError::io("start of the thread", &path.display().to_string(), 0, cause)
        })?;
    answer.recv().unwrap_or(Err(WalError::Closed))
}

struct Job {
    path: PathBuf,
    env: Arc<dyn Env>,
    config: DeviceWalConfig,
    identity: Identity,
    mode: OpenMode,
}

impl Job {
    fn run(self, on_frame: OnFrame, answer: &mpsc::SyncSender<Answer>) {
        let (path, later) = (self.path.clone(), choice::due(&self.path, &self.config));
        let (parker, opened) = match self.open(on_frame) {
            Ok(opened) => opened,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let Opened {
            engine,
            shared,
            report,
        } = opened;
        let _measurement = later.map(|delay| choice::Later::begin(&path, delay));
        let (ended, wait) = mpsc::sync_channel::<()>(1);
        let wait = parking_lot::Mutex::new(wait);
        let on_drop = Box::new(move || wait.lock().recv_timeout(DROP_WAIT).unwrap_or(()));
        if answer.send(Ok((shared, report, on_drop))).is_ok() {
            thread::block_on(engine.run(), &*parker);
        }
        drop(ended);
    }

    fn open(mut self, on_frame: OnFrame) -> Result<(Arc<dyn Parker>, Opened), WalError> {
        let create = self.mode == OpenMode::Create;
        let file = if file::is_device(&self.path) {
            if create && self.identity.wal.is_some() {
                return Err(WalError::Config {
                    field: "identity.wal",
                    value: 0,
                    expected: "none on a block device, where groups of an old log of that name may lie",
                });
            }
            let destroy = self.config.destroy;
            let file = WalFile::open_device(&self.path, create, destroy)?;
            self.limit_to(&file);
            file
        } else if create {
            if file::exists(&self.path)? {
                return Err(WalError::Exists {
                    path: self.path.display().to_string(),
                });
            }
            WalFile::create(&self.path)?
        } else {
            WalFile::open(&self.path)?
        };
        let measured = choice::resolve(&self.path, &mut self.config);
        let (disk, parker, note) = choose_disk(file, &mut self.config, measured)?;
        let opening = prepare(
            disk,
            self.env,
            self.config,
            self.identity,
            self.mode,
            note,
            on_frame,
        );
        let opened = thread::block_on(opening, &*parker)?;
        Ok((parker, opened))
    }

    /// A device does not grow: the ring takes what there is, up to the capacity asked for.
    fn limit_to(&mut self, device: &WalFile) {
        let ring_bytes = device.num_bytes().saturating_sub(RING_POSITION);
        self.config.capacity_bytes = self.config.capacity_bytes.min(ring_bytes);
    }
}

/// The disk for the mode asked for; `auto` is resolved, and the note says why. `measured` is the
/// reason for a mode that stands in for `auto`.
fn choose_disk(
    file: WalFile,
    config: &mut DeviceWalConfig,
    measured: Option<String>,
) -> Result<ChosenDisk, WalError> {
    let is_free = config.mode == WalMode::Auto || measured.is_some();
    let why = measured.map_or_else(String::new, |reason| format!(", measured: {reason}"));
    let refused = match config.mode {
        WalMode::Portable if is_free => format!("measured{}", why.trim_start_matches(", measured")),
        WalMode::Portable => "as asked for".to_owned(),
        #[cfg(target_os = "linux")]
        _ if file.is_direct() => match uring::UringDisk::new(file, config.depth) {
            Ok((disk, parker)) => {
                if config.mode == WalMode::Auto {
                    config.mode = WalMode::RingSync;
                }
                let note = format!("{}, O_DIRECT{why}", config.mode);
                return Ok((Box::new(disk), parker, note));
            }
            Err((file, cause)) if is_free => {
                let why = format!("io_uring is refused: {cause}");
                return Ok(portable(file, config, &why));
            }
            Err((file, cause)) => {
                return Err(WalError::io("set-up of io_uring", file.path(), 0, cause));
            }
        },
        _ if is_free => "O_DIRECT is refused".to_owned(),
        _ => {
            let cause = std::io::Error::new(std::io::ErrorKind::Unsupported, "O_DIRECT is refused");
            return Err(WalError::io("set-up of io_uring", file.path(), 0, cause));
        }
    };
    Ok(portable(file, config, &refused))
}

fn portable(file: WalFile, config: &mut DeviceWalConfig, why: &str) -> ChosenDisk {
    config.mode = WalMode::Portable;
    let cache = if file.is_direct() {
        "O_DIRECT"
    } else {
        "buffered"
    };
    let note = format!("portable, {cache}, {why}");
    (
        Box::new(portable::PortableDisk::new(file)),
        Arc::new(thread::ThreadParker::new()),
        note,
    )
}

/// Whose WAL the file at `path` is, without opening it for use. `Identity::wal` is always set.
///
/// # Errors
/// [`WalError::Missing`], [`WalError::SuperblocksDamaged`], [`WalError::NewerFormat`] or
/// [`WalError::Io`].
pub fn peek_identity(path: &Path) -> Result<Identity, WalError> {
    let name = path.display().to_string();
    let bytes = file::read_start(path, 2 * SLOT_BYTES)?;
    let slots = SLOT_POSITIONS.map(|position| {
        let start = usize::try_from(position).expect("small").min(bytes.len());
        let end = (start + SLOT_BYTES).min(bytes.len());
        Superblock::decode(&bytes[start..end], position)
    });
    for slot in &slots {
        if let Err(crate::format::Flaw::Newer(found)) = *slot {
            return Err(WalError::NewerFormat {
                path: name,
                found,
                supported: crate::format::VERSION,
            });
        }
    }
    let Some(chosen) = choose(&slots) else {
        // A device is always there; what was never a WAL has no WAL on it.
        let is_slot = |position: u64| {
            let start = usize::try_from(position).expect("small").min(bytes.len());
            bytes[start..].starts_with(&MAGIC)
        };
        if file::is_device(path) && !SLOT_POSITIONS.into_iter().any(is_slot) {
            return Err(WalError::Missing { path: name });
        }
        let [first, second] =
            slots.map(|slot| slot.err().map_or("valid", crate::format::Flaw::describe));
        return Err(WalError::SuperblocksDamaged {
            path: name,
            first,
            second,
        });
    };
    let found = slots[chosen].as_ref().expect("the chosen slot is valid");
    Ok(Identity {
        cluster: found.cluster,
        node: found.node,
        wal: Some(found.wal),
    })
}
