//! The conformance suite on real files and block devices, in every mode.
//!
//! *IO: driver*

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidewater_types::BoxFuture;

use super::patience::patiently;
use super::{config, directory, env, identity, modes, open, wait};
use crate::conformance::{Kind, Reopened, run};
use crate::{DeviceWalConfig, OpenMode, Wal, WalMode};

/// Device WALs in one mode, each at the path that `paths` gives its place.
struct Device<P> {
    paths: P,
    config: DeviceWalConfig,
    described: Mutex<String>,
}

impl<P: Fn(usize) -> PathBuf + Send + Sync> Device<P> {
    /// Runs the suite; answers what the logs said of themselves.
    fn conforms(mode: WalMode, paths: P) -> String {
        let kind = Self {
            paths,
            config: config(mode),
            described: Mutex::default(),
        };
        wait(run(&kind, env()));
        kind.described.into_inner()
    }

    fn open(&self, place: usize, mode: OpenMode) -> Reopened {
        let path = (self.paths)(place);
        let attempt = || open(&path, self.config.clone(), identity(), mode);
        let opened =
            patiently(attempt).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        *self.described.lock() = opened.wal.describe();
        Reopened {
            wal: Arc::new(opened.wal),
            frames: opened.frames,
        }
    }
}

impl<P: Fn(usize) -> PathBuf + Send + Sync> Kind for Device<P> {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place, OpenMode::Create).wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move { Some(self.open(place, OpenMode::Existing)) })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        Some(self.config.capacity_bytes)
    }
}

#[test]
fn every_mode_passes_the_conformance_suite() {
    for mode in modes() {
        let directory = directory();
        let described = Device::conforms(mode, |place| directory.path().join(place.to_string()));
        assert!(described.contains(mode.name()), "{mode}: {described}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;
    use std::process::Command;

    use super::super::loop_device::Loop;
    use super::{Device, Mutex, WalMode, directory, modes};

    #[test]
    fn every_mode_passes_the_conformance_suite_on_a_block_device() {
        if Loop::new(4096).is_none() {
            return;
        }
        let mut runs: Vec<_> = modes().into_iter().map(|mode| (mode, 4096)).collect();
        runs.push((runs[0].0, 512));
        for (mode, sector_bytes) in runs {
            let loops = Mutex::new(Vec::new());
            Device::conforms(mode, |place| {
                let mut loops = loops.lock();
                while loops.len() <= place {
                    loops.push(Loop::new(sector_bytes).expect("there was one before"));
                }
                loops[place].device.clone()
            });
        }
    }

    /// A file system in the page cache alone, unmounted when this is dropped.
    struct Ramfs(tempfile::TempDir);

    impl Ramfs {
        fn mount() -> Option<Self> {
            let folder = directory();
            let mut mount = Command::new("mount");
            mount.args(["-t", "ramfs", "none"]).arg(folder.path());
            let mounted = mount.output().is_ok_and(|output| output.status.success());
            assert!(
                mounted || std::env::var_os("CI").is_none(),
                "nothing can be mounted"
            );
            mounted.then_some(Self(folder))
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for Ramfs {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.path()).status();
        }
    }

    #[test]
    fn it_passes_the_conformance_suite_where_direct_io_is_refused() {
        let Some(ramfs) = Ramfs::mount() else {
            eprintln!("mounts are not permitted here: nothing was tested");
            return;
        };
        let path = |place: usize| ramfs.path().join(place.to_string());
        let described = Device::conforms(WalMode::Auto, path);
        assert!(described.contains("portable, buffered"), "{described}");
    }
}
