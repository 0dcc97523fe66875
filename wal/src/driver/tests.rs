//! Tests on real files, with the ring and without.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_types::{BoxFuture, ClusterId, Env, Instant, Lsn, NodeId, WalId};

mod conformance;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
pub(super) mod loop_device;
mod patience;

use patience::patiently;

use super::thread::{ThreadParker, block_on};
use crate::format::superblock::SLOT_POSITIONS;
use crate::port::{Frame, Wal};
use crate::testing::frame_bytes;
use crate::{
    DeviceWal, DeviceWalConfig, Identity, OpenMode, RecoveryReport, WalError, WalMode,
    peek_identity,
};

/// The real world, without a runtime.
struct RealEnv(std::time::Instant);

/// A sleep on a thread of its own.
#[derive(Default)]
struct Sleep(Arc<Mutex<(bool, Option<std::task::Waker>)>>);

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        state.1 = Some(cx.waker().clone());
        if state.0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Env for RealEnv {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }

    fn wall_ms(&self) -> i64 {
        0
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let sleep = Sleep::default();
        let state = sleep.0.clone();
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            let mut state = state.lock();
            state.0 = true;
            if let Some(waker) = state.1.take() {
                waker.wake();
            }
        });
        Box::pin(sleep)
    }

    fn spawn(&self, _label: &'static str, task: BoxFuture<'static, ()>) {
        std::thread::spawn(move || block_on(task, &ThreadParker::new()));
    }

    fn random(&self, _label: &'static str) -> u64 {
        static DRAWS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        DRAWS.fetch_add(0x9e37_79b9, std::sync::atomic::Ordering::Relaxed)
    }
}

fn env() -> Arc<dyn Env> {
    Arc::new(RealEnv(std::time::Instant::now()))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    block_on(future, &ThreadParker::new())
}

fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        node: NodeId(7),
        wal: None,
    }
}

fn config(mode: WalMode) -> DeviceWalConfig {
    DeviceWalConfig {
        mode,
        mark_idle_ms: 60_000,
        ..DeviceWalConfig::tiny()
    }
}

/// A directory on a file system that is likely to take `O_DIRECT`.
pub(super) fn directory() -> tempfile::TempDir {
    let target = env!("CARGO_MANIFEST_DIR").to_owned() + "/../target";
    std::fs::create_dir_all(&target).unwrap();
    tempfile::tempdir_in(target).unwrap()
}

type Frames = Vec<(Lsn, Bytes)>;

pub(super) struct Opened {
    wal: DeviceWal,
    pub(super) report: RecoveryReport,
    frames: Frames,
}

fn open(
    path: &Path,
    config: DeviceWalConfig,
    identity: Identity,
    mode: OpenMode,
) -> Result<Opened, WalError> {
    let frames = Arc::new(Mutex::new(Frames::new()));
    let sink = frames.clone();
    let (wal, report) = DeviceWal::open(path, env(), config, identity, mode, move |lsn, frame| {
        sink.lock().push((lsn, frame));
    })?;
    let frames = std::mem::take(&mut *frames.lock());
    Ok(Opened {
        wal,
        report,
        frames,
    })
}

pub(super) fn create(path: &Path, mode: WalMode) -> DeviceWal {
    open(path, config(mode), identity(), OpenMode::Create)
        .unwrap()
        .wal
}

pub(super) fn reopen(path: &Path) -> Result<Opened, WalError> {
    patiently(|| try_reopen(path))
}

fn try_reopen(path: &Path) -> Result<Opened, WalError> {
    let config = config(WalMode::Portable);
    open(path, config, identity(), OpenMode::Existing)
}

pub(super) fn append(wal: &DeviceWal, body: Bytes) -> Lsn {
    let permit = wait(wal.reserve(body.len())).unwrap();
    wait(wal.append(permit, Frame::from(body)).unwrap()).unwrap()
}

/// Ten acknowledged frames of 3,000 bytes in a WAL whose handle is gone.
fn filled(
    directory: &tempfile::TempDir,
    mode: WalMode,
    close: bool,
) -> (PathBuf, Frames, Vec<std::ops::Range<u64>>) {
    let path = directory.path().join("wal");
    let wal = create(&path, mode);
    let frames: Frames = (0..10)
        .map(|n| (append(&wal, frame_bytes(n, 3000)), frame_bytes(n, 3000)))
        .collect();
    let places = frames
        .iter()
        .map(|(lsn, _)| wal.locate(*lsn).unwrap())
        .collect();
    if close {
        wait(wal.close()).unwrap();
    }
    (path, frames, places)
}

fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], position).unwrap();
    file.sync_all().unwrap();
}

/// The modes this machine can do; says aloud what it cannot.
fn modes() -> Vec<WalMode> {
    let directory = directory();
    let mut modes = vec![WalMode::Portable];
    for mode in [WalMode::RingSync, WalMode::RingDsync] {
        let opened = open(
            &directory.path().join(mode.name()),
            config(mode),
            identity(),
            OpenMode::Create,
        );
        match opened {
            Ok(_) => modes.push(mode),
            Err(refusal) => {
                println!("{mode} is not possible here: {refusal}");
                let auto = create(
                    &directory.path().join(format!("auto-{mode}")),
                    WalMode::Auto,
                );
                assert!(auto.describe().contains("portable"), "{}", auto.describe());
                assert!(auto.describe().contains("refused"), "{}", auto.describe());
            }
        }
    }
    modes
}

#[test]
fn a_closed_wal_gives_its_frames_back() {
    for mode in modes() {
        let directory = directory();
        let (path, frames, _) = filled(&directory, mode, true);
        let again = reopen(&path).unwrap();
        assert_eq!(again.frames, frames, "{mode}");
        assert!(again.report.sealed);
        assert_eq!(again.report.num_bytes_rewritten, 0);
        assert_eq!(again.report.num_frames, 10);
    }
}

#[test]
fn a_dropped_wal_gives_acknowledged_frames_back_and_can_be_used_again() {
    for mode in modes() {
        let directory = directory();
        let (path, mut frames, _) = filled(&directory, mode, false);
        for life in 0..8 {
            let again = reopen(&path).unwrap();
            assert_eq!(again.frames, frames, "{mode} life {life}");
            assert!(!again.report.sealed);
            let body = frame_bytes(100 + life, 500);
            frames.push((append(&again.wal, body.clone()), body));
        }
    }
}

#[test]
fn a_group_torn_at_the_end_is_cut_off() {
    let directory = directory();
    let (path, mut frames, places) = filled(&directory, WalMode::Portable, false);
    flip(&path, places[9].start + 1000);
    let again = reopen(&path).unwrap();
    frames.pop();
    assert_eq!(again.frames, frames);
    assert_eq!(again.report.stop_position, places[9].start);
}

#[test]
fn a_flipped_byte_in_the_middle_is_refused_and_nothing_is_changed() {
    let directory = directory();
    let (path, _, places) = filled(&directory, WalMode::Portable, false);
    flip(&path, places[4].start + 1000);
    let before = std::fs::read(&path).unwrap();
    let error = reopen(&path).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, WalError::Corrupt { position, .. } if position == places[4].start),
        "{error}"
    );
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_clean_end_that_is_torn_is_damage() {
    let directory = directory();
    let (path, _, places) = filled(&directory, WalMode::Portable, true);
    flip(&path, places[9].start + 1000);
    assert!(matches!(
        reopen(&path).map(|_| ()),
        Err(WalError::Corrupt { .. })
    ));
}

#[test]
fn one_damaged_slot_is_reported_and_two_are_refused() {
    let directory = directory();
    let (path, frames, _) = filled(&directory, WalMode::Portable, true);
    flip(&path, SLOT_POSITIONS[1] + 40);
    let again = reopen(&path).unwrap();
    assert_eq!((again.report.damaged_slot, again.frames), (Some(1), frames));
    drop(again.wal);
    SLOT_POSITIONS
        .iter()
        .for_each(|position| flip(&path, position + 40));
    assert!(matches!(
        reopen(&path).map(|_| ()),
        Err(WalError::SuperblocksDamaged { .. })
    ));
    assert!(matches!(
        peek_identity(&path),
        Err(WalError::SuperblocksDamaged { .. })
    ));
}

#[test]
fn a_newer_version_is_refused() {
    let directory = directory();
    let (path, _, _) = filled(&directory, WalMode::Portable, true);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..10].copy_from_slice(&2u16.to_le_bytes());
    let checksum = tidewater_types::crc32c(&[&bytes[..4092]]);
    bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let expected = |error| {
        matches!(
            error,
            WalError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        )
    };
    assert!(expected(reopen(&path).map(|_| ()).unwrap_err()));
    assert!(expected(peek_identity(&path).unwrap_err()));
}

#[test]
fn a_second_opener_is_told_it_is_busy() {
    for mode in modes() {
        let directory = directory();
        let path = directory.path().join("wal");
        let wal = create(&path, mode);
        assert!(
            matches!(try_reopen(&path).map(|_| ()), Err(WalError::Busy { .. })),
            "{mode}"
        );
        assert_eq!(peek_identity(&path).unwrap().wal, Some(wal.wal_id()));
        wait(wal.close()).unwrap();
        assert!(reopen(&path).is_ok(), "{mode}");
    }
}

#[test]
fn missing_and_foreign_wals_are_refused() {
    let directory = directory();
    let path = directory.path().join("wal");
    assert!(matches!(
        reopen(&path).map(|_| ()),
        Err(WalError::Missing { .. })
    ));
    assert!(matches!(
        peek_identity(&path),
        Err(WalError::Missing { .. })
    ));
    drop(create(&path, WalMode::Portable));
    let attempt = |identity: Identity| {
        patiently(|| {
            open(
                &path,
                config(WalMode::Portable),
                identity,
                OpenMode::Existing,
            )
            .map(|_| ())
        })
    };
    let other = Identity {
        cluster: ClusterId([2; 16]),
        ..identity()
    };
    assert!(matches!(
        attempt(other),
        Err(WalError::ForeignCluster { .. })
    ));
    let other = Identity {
        node: NodeId(8),
        ..identity()
    };
    assert!(matches!(attempt(other), Err(WalError::ForeignNode { .. })));
    let other = Identity {
        wal: Some(WalId([9; 16])),
        ..identity()
    };
    assert!(matches!(attempt(other), Err(WalError::ForeignWal { .. })));
    assert!(attempt(identity()).is_ok());
    let again = open(
        &path,
        config(WalMode::Portable),
        identity(),
        OpenMode::Create,
    );
    assert!(matches!(again.map(|_| ()), Err(WalError::Exists { .. })));
}

#[test]
fn what_a_creation_left_half_way_is_no_wal_and_no_obstacle() {
    let directory = directory();
    let path = directory.path().join("wal");
    std::fs::write(super::file::name_while_creating(&path), vec![7; 10_000]).unwrap();
    assert!(matches!(
        reopen(&path).map(|_| ()),
        Err(WalError::Missing { .. })
    ));
    let wal = create(&path, WalMode::Auto);
    append(&wal, frame_bytes(1, 10));
    assert!(!super::file::name_while_creating(&path).exists());
}

#[test]
fn a_setting_out_of_range_is_refused_before_anything_is_touched() {
    let directory = directory();
    let path = directory.path().join("wal");
    let config = DeviceWalConfig {
        depth: 0,
        ..config(WalMode::Auto)
    };
    let error = open(&path, config, identity(), OpenMode::Create)
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(error, WalError::Config { field: "depth", .. }),
        "{error}"
    );
    assert!(!path.exists());
}

#[test]
fn many_laps_on_a_file_in_every_mode() {
    for mode in modes() {
        let directory = directory();
        let path = directory.path().join("wal");
        let wal = create(&path, mode);
        let mut last = Frames::new();
        for n in 0..400u64 {
            let body = frame_bytes(n, 2500);
            last.push((append(&wal, body.clone()), body));
            if n % 11 == 0 {
                last.drain(..last.len() / 2);
                wal.trim(last[0].0);
            }
        }
        drop(wal);
        // Trims are lazy, so more than was wanted may come back.
        assert!(reopen(&path).unwrap().frames.ends_with(&last), "{mode}");
    }
}

#[test]
fn appenders_on_many_threads_get_their_own_frames_back() {
    let directory = directory();
    let path = directory.path().join("wal");
    let config = DeviceWalConfig {
        mark_idle_ms: 1,
        ..DeviceWalConfig::default()
    };
    let wal = Arc::new(
        open(&path, config, identity(), OpenMode::Create)
            .unwrap()
            .wal,
    );
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let wal = wal.clone();
            std::thread::spawn(move || {
                (0..50)
                    .map(|n| append(&wal, frame_bytes(thread * 1000 + n, 700)))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    for (thread, handle) in threads.into_iter().enumerate() {
        for (n, lsn) in handle.join().unwrap().into_iter().enumerate() {
            assert_eq!(
                wait(wal.read(lsn)).unwrap(),
                frame_bytes(thread as u64 * 1000 + n as u64, 700)
            );
        }
    }
    let counters = wal.counters();
    assert_eq!(counters.appends, 400);
    assert!(
        counters.syncs < 400,
        "{} syncs for 400 appends of 8 threads",
        counters.syncs
    );
}
