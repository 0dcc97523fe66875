//! Files that are looked at: at rest, in use, changing, and no files at all.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use super::*;
use crate::driver::tests::{append, create, directory, reopen};
use crate::testing::env::Rng;
use crate::testing::frame_bytes;
use crate::{Wal, WalMode};

/// A WAL of some frames that was closed or, with its broker, dropped.
fn wal_at(path: &Path, frames: u64) {
    let wal = create(path, WalMode::Auto);
    for n in 0..frames {
        append(&wal, frame_bytes(n, 2000));
    }
}

fn silent(path: &Path) -> Result<Inspection, WalError> {
    inspect(path, &mut |_| ControlFlow::Continue(()))
}

fn json(inspection: &Inspection) -> serde_json::Value {
    serde_json::to_value(inspection).unwrap()
}

#[test]
fn looking_changes_neither_bytes_nor_times() {
    let folder = directory();
    let path = folder.path().join("wal");
    wal_at(&path, 20);
    let times = |meta: &fs::Metadata| {
        let modified = (meta.mtime(), meta.mtime_nsec());
        let accessed = (meta.atime(), meta.atime_nsec());
        (modified, (meta.ctime(), meta.ctime_nsec()), accessed)
    };
    let before = fs::metadata(&path).unwrap();
    let inspection = silent(&path).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(json(&inspection)["walk"]["frames"], 20);
    assert_eq!(times(&before), times(&after));
    assert_eq!(before.len(), after.len());
}

#[test]
fn a_wal_in_use_is_looked_at_and_said_to_be() {
    let folder = directory();
    let path = folder.path().join("wal");
    let wal = create(&path, WalMode::Auto);
    append(&wal, frame_bytes(1, 100));
    let inspection = silent(&path).unwrap();
    assert_eq!(json(&inspection)["in_use"], true);
    assert!(inspection.to_string().contains("in use"));
    append(&wal, frame_bytes(2, 100));
    drop(wal);
    let inspection = silent(&path).unwrap();
    assert_eq!(json(&inspection)["in_use"], false);
    assert_eq!(json(&inspection)["walk"]["frames"], 2);
}

#[test]
fn a_wal_that_is_written_meanwhile_is_never_called_damaged() {
    let folder = directory();
    let path = folder.path().join("wal");
    let wal = create(&path, WalMode::Auto);
    let (done, ready) = (AtomicBool::new(false), Barrier::new(2));
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            ready.wait();
            for n in 0..600 {
                let lsn = append(&wal, frame_bytes(n, 5000));
                if n % 3 == 0 {
                    wal.trim(lsn);
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        ready.wait();
        let mut looks = 0;
        while !done.load(Ordering::SeqCst) {
            let inspection = silent(&path).unwrap();
            let fine = inspection.refusal().is_none() || inspection.is_unsettled();
            assert!(fine, "{inspection}");
            looks += 1;
        }
        looks
    });
    assert!(looks > 0);
}

#[test]
fn what_is_no_file_is_refused_for_what_it_is() {
    let folder = directory();
    assert!(matches!(
        silent(folder.path()),
        Err(WalError::WrongKind {
            found: "a directory",
            ..
        })
    ));
    assert!(matches!(
        silent(Path::new("/dev/null")),
        Err(WalError::WrongKind { .. })
    ));
    assert!(matches!(
        silent(&folder.path().join("absent")),
        Err(WalError::Missing { .. })
    ));
    let empty = folder.path().join("empty");
    fs::write(&empty, b"").unwrap();
    let inspection = silent(&empty).unwrap();
    assert!(matches!(
        inspection.refusal(),
        Some(WalError::Missing { .. })
    ));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error_with_a_position() {
    let folder = directory();
    let path = folder.path().join("wal");
    wal_at(&path, 60);
    let file = ReadFile::open(&path).unwrap();
    let mut cut = false;
    let inspection = file
        .look(&mut |_| {
            if !std::mem::replace(&mut cut, true) {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(70_000).unwrap();
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    match inspection.refusal() {
        Some(WalError::Io {
            operation: "read",
            position,
            ..
        }) => assert!(*position >= 65_536, "{position}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_only_disk_refuses_to_write() {
    let folder = directory();
    let path = folder.path().join("wal");
    wal_at(&path, 1);
    let file = ReadFile::open(&path).unwrap();
    let mut disk = ReadOnlyDisk {
        file: Arc::clone(&file.file),
        path: file.path,
        num_bytes: 1 << 20,
        completions: VecDeque::new(),
    };
    let buf = AlignedBuf::new(BLOCK_BYTES, BLOCK_BYTES);
    let write = DiskOp::Write {
        position: 0,
        buf,
        durable: false,
    };
    disk.submit(1, write);
    disk.submit(2, DiskOp::Flush);
    assert!(disk.poll().unwrap().result.is_err());
    assert!(disk.poll().unwrap().result.is_err());
}

#[test]
fn harmed_files_are_judged_as_opening_judges_them() {
    let folder = directory();
    let path = folder.path().join("wal");
    wal_at(&path, 40);
    let whole = fs::read(&path).unwrap();
    let copy = folder.path().join("copy");
    let mut rng = Rng(5);
    let mut refused = 0;
    for _ in 0..80 {
        let mut image = whole.clone();
        for _ in 0..=rng.below(2) {
            let block = 65_536 + 4096 * rng.below(41);
            let at = [
                rng.below(160),
                32_768 + rng.below(160),
                block + rng.below(90),
            ];
            let at = at[usize::try_from(rng.below(3)).unwrap()];
            image[usize::try_from(at).unwrap()] ^= 1 << rng.below(8);
        }
        if rng.one_in(4) {
            image.truncate(usize::try_from(rng.below(300_000)).unwrap());
        }
        fs::write(&copy, image).unwrap();
        let inspection = silent(&copy).unwrap();
        match (reopen(&copy), inspection.refusal()) {
            (Ok(opened), None) => {
                let walk = &json(&inspection)["walk"];
                assert_eq!(walk["frames"], opened.report.num_frames);
                assert_eq!(walk["stop_position"], opened.report.stop_position);
                assert_eq!(inspection.damaged_slot(), opened.report.damaged_slot);
            }
            (Err(opening), Some(inspected)) => {
                assert_eq!(opening.to_string(), inspected.to_string());
                refused += 1;
            }
            (opened, inspected) => panic!("{:?}; {inspected:?}", opened.err()),
        }
    }
    assert!((10..70).contains(&refused), "{refused} of 80 were refused");
}
