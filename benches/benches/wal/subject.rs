//! The logs that are measured.
//!
//! *Owns*: opening them, in a folder or one after the other on the whole of a file or device; what
//! each is compared with.
//! *Does not own*: other people's logs (`peers.rs`), raw writing.
//!
//! Invariants
//! 1. On a whole target at most one log is open, and each turn begins with a new one.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidewater_benches::{Sync, Target, Whole, block_on, noise};
use tidewater_types::{ClusterId, Env, Lsn, NodeId};
use tidewater_wal::{
    DeviceWal, DeviceWalConfig, Frame, Identity, MemoryWal, OpenMode, Wal, WalCounters, WalMode,
};

use crate::Failure;
use crate::peers::BlockingLog;

/// Room of the memory WAL.
const MEMORY_BYTES: usize = 1 << 30;
/// Written to a new file before anything is measured, so that its ring need not grow meanwhile.
const PRIME_BYTES: usize = 320 << 20;
const PRIME_FRAME_BYTES: usize = 1 << 20;

/// A folder of this run, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("wal-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what is left behind carries our name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Something that makes bytes durable.
#[derive(Clone)]
pub(crate) enum Log {
    Wal(Arc<dyn Wal>),
    /// Keeps the calling thread until the bytes are durable.
    Blocking(Arc<dyn BlockingLog>),
}

impl Log {
    pub(crate) fn durable(&self) -> Lsn {
        match self {
            Self::Wal(wal) => wal.watermarks().durable,
            Self::Blocking(_) => Lsn::default(),
        }
    }

    pub(crate) fn counters(&self) -> WalCounters {
        match self {
            Self::Wal(wal) => wal.counters(),
            Self::Blocking(_) => WalCounters::default(),
        }
    }

    pub(crate) fn trim(&self, up_to: Lsn) {
        match self {
            Self::Wal(wal) => wal.trim(up_to),
            Self::Blocking(log) => log.trim(),
        }
    }
}

/// What a log is compared with.
#[derive(Clone)]
pub(crate) enum Limit {
    None,
    /// Its own groups, written again without it.
    Groups(Arc<DeviceWal>, Sync),
}

/// A log that is open.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) log: Log,
    pub(crate) limit: Limit,
}

type Opener = Box<dyn Fn() -> Result<Open, Failure>>;

/// A log under measurement.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    open: Opener,
    /// Open from turn to turn, where logs do not share a place.
    kept: Option<Open>,
    keep: bool,
    /// Whether an append keeps its thread, so that tasks cannot do it.
    pub(crate) blocks: bool,
}

impl Subject {
    pub(crate) fn new(
        name: &'static str,
        keep: bool,
        open: impl Fn() -> Result<Open, Failure> + 'static,
    ) -> Self {
        Self {
            name,
            open: Box::new(open),
            kept: None,
            keep,
            blocks: false,
        }
    }

    /// A log whose appends keep their threads.
    pub(crate) fn blocking(
        name: &'static str,
        open: impl Fn() -> Result<Open, Failure> + 'static,
    ) -> Self {
        Self {
            blocks: true,
            ..Self::new(name, true, open)
        }
    }

    /// A device WAL in `place`.
    pub(crate) fn device(
        name: &'static str,
        place: &WalPlace,
        env: &Arc<dyn Env>,
        mode: WalMode,
    ) -> Self {
        let (place, env) = (place.clone(), env.clone());
        let keep = matches!(place.target, Target::Folder(_));
        Self::new(name, keep, move || {
            let config = DeviceWalConfig {
                mode,
                ..DeviceWalConfig::default()
            };
            let sync = match mode {
                WalMode::RingDsync => Sync::Write {
                    depth: config.depth,
                },
                _ => Sync::Batch,
            };
            let (wal, _) = place.create(name, &env, config)?;
            let wal = Arc::new(wal);
            if keep {
                prime(&*wal)?;
            }
            Ok(Open {
                log: Log::Wal(wal.clone()),
                limit: Limit::Groups(wal, sync),
            })
        })
    }

    pub(crate) fn memory(env: &Arc<dyn Env>) -> Self {
        let env = env.clone();
        Self::new("memory", true, move || {
            let wal = MemoryWal::new(env.clone(), MEMORY_BYTES, 5_000);
            Ok(Open {
                log: Log::Wal(Arc::new(wal)),
                limit: Limit::None,
            })
        })
    }

    /// The log, open; a new one where it cannot be kept.
    pub(crate) fn begin(&mut self) -> Result<Open, Failure> {
        if let Some(open) = &self.kept {
            return Ok(open.clone());
        }
        let open = (self.open)()?;
        if self.keep {
            if let Log::Wal(wal) = &open.log {
                println!("{}: {}", self.name, wal.describe());
            }
            self.kept = Some(open.clone());
        }
        Ok(open)
    }

    /// Closes the log unless it is kept.
    pub(crate) fn end(&self, open: Open) -> Result<(), Failure> {
        match open.log {
            Log::Wal(wal) if !self.keep => Ok(block_on(wal.close())?),
            _ => Ok(()),
        }
    }
}

/// Where device WALs are made.
#[derive(Clone)]
pub(crate) struct WalPlace {
    pub(crate) target: Target,
    /// A folder of this run: in the target, if that is a folder.
    pub(crate) scratch: PathBuf,
}

impl WalPlace {
    /// A new WAL, and the file or device that it is in.
    pub(crate) fn create(
        &self,
        name: &str,
        env: &Arc<dyn Env>,
        mut config: DeviceWalConfig,
    ) -> Result<(DeviceWal, PathBuf), Failure> {
        let path = self.scratch.join(name);
        let open = |path: &Path, config: &DeviceWalConfig, mode| {
            let (config, env) = (config.clone(), env.clone());
            DeviceWal::open(path, env, config, identity(), mode, |_, _| {})
        };
        let Target::Whole(whole) = &self.target else {
            let (wal, _) = open(&path, &config, OpenMode::Create)?;
            return Ok((wal, path));
        };
        config.capacity_bytes = whole.wal_bytes / config.segment_bytes * config.segment_bytes;
        config.capacity_bytes -= config.segment_bytes;
        if std::fs::metadata(&whole.path)?
            .file_type()
            .is_block_device()
        {
            // As a user makes it, with the blocks of the device.
            config.destroy = true;
            let (wal, _) = open(&whole.path, &config, OpenMode::Create)?;
            return Ok((wal, whole.path.clone()));
        }
        let mode = std::mem::replace(&mut config.mode, WalMode::Auto);
        let (template, _) = open(&path, &config, OpenMode::Create)?;
        block_on(template.close())?;
        drop(template);
        install(&path, whole)?;
        std::fs::remove_file(&path)?;
        config.mode = mode;
        let (wal, _) = open(&whole.path, &config, OpenMode::Existing)?;
        Ok((wal, whole.path.clone()))
    }
}

/// Copies a new WAL from a file to the start of a file that is there and keeps its size, as the ends
/// of an export do: no WAL is made in a file that exists.
fn install(template: &Path, whole: &Whole) -> io::Result<()> {
    let mut from = File::open(template)?;
    let mut to = OpenOptions::new().write(true).open(&whole.path)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Lets the ring of a new WAL grow to what a bench needs.
fn prime(wal: &dyn Wal) -> Result<(), Failure> {
    let body = noise(PRIME_FRAME_BYTES);
    for _ in 0..PRIME_BYTES / PRIME_FRAME_BYTES {
        let permit = block_on(wal.reserve(body.len()))?;
        block_on(wal.append(permit, Frame::from(body.clone()))?)?;
    }
    wal.trim(wal.watermarks().durable);
    Ok(())
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: None,
    }
}
