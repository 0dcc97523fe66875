//! The WALs that are measured.
//!
//! *Owns*: opening them, the folder they live in.
//!
//! *IO: driver*

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidewater_types::{ClusterId, Env, NodeId};
use tidewater_wal::{
    DeviceWal, DeviceWalConfig, Identity, MemoryWal, OpenMode, Wal, WalError, WalMode,
};

/// Room of the memory WAL.
const MEMORY_BYTES: usize = 1 << 30;

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

/// A WAL under measurement.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) wal: Arc<dyn Wal>,
    /// The same WAL, if it is on a device.
    pub(crate) device: Option<Arc<DeviceWal>>,
}

impl Subject {
    pub(crate) fn device(
        name: &'static str,
        path: &Path,
        env: Arc<dyn Env>,
        mode: WalMode,
    ) -> Result<Self, WalError> {
        let config = DeviceWalConfig {
            mode,
            ..DeviceWalConfig::default()
        };
        let (wal, _) = DeviceWal::open(path, env, config, identity(), OpenMode::Create, |_, _| {})?;
        let wal = Arc::new(wal);
        Ok(Self {
            name,
            wal: wal.clone(),
            device: Some(wal),
        })
    }

    pub(crate) fn memory(env: Arc<dyn Env>) -> Self {
        Self {
            name: "memory",
            wal: Arc::new(MemoryWal::new(env, MEMORY_BYTES, 5_000)),
            device: None,
        }
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId([7; 16]),
        node: NodeId(1),
        wal: None,
    }
}
