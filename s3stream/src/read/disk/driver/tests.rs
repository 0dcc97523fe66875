//! What every way to read the file of the cache does alike: one suite, run over each of them.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{CacheDisk, CacheFile};

const FILE_BYTES: u64 = 4 << 20;

type Disk = Arc<dyn CacheDisk>;

/// An adapter, by how it opens a file.
type Open = fn(&Path, u64) -> io::Result<Disk>;

fn threads(path: &Path, num_bytes: u64) -> io::Result<Disk> {
    Ok(Arc::new(CacheFile::open(path, num_bytes)?))
}

/// Runs the suite's functions over one adapter.
macro_rules! suite {
    ($adapter:ident: $($test:ident)*) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    super::$test(super::$adapter);
                }
            )*
        }
    };
}

macro_rules! suites {
    ($($adapter:ident)*) => {
        $(
            suite! { $adapter:
                what_was_written_is_read_back_and_the_rest_is_zeros
                one_at_a_time_has_the_file_and_what_is_in_it_stays
                many_reads_at_a_time_are_each_answered_right
                reads_whose_callers_went_away_hurt_no_other
                an_adapter_dropped_with_reads_under_way_lets_go_of_the_file
                what_is_not_in_the_file_is_an_error
            }
        )*
    };
}

suites! { threads }
#[cfg(all(feature = "uring", target_os = "linux"))]
suites! { ring ring_refused }

struct Rig {
    folder: TempDir,
    runtime: Runtime,
    open: Open,
}

impl Rig {
    fn new(open: Open) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: Runtime::new().unwrap(),
            open,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("blocks")
    }

    fn open(&self) -> io::Result<Disk> {
        (self.open)(&self.path(), FILE_BYTES)
    }

    /// A file without a gap, in which no two places look alike for long.
    fn filled(&self) -> (Disk, Arc<Vec<u8>>) {
        let disk = self.open().unwrap();
        let words = (0..FILE_BYTES as u32 / 4).map(|word| word.wrapping_mul(0x9e37_79b1));
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let write = disk.write(0, vec![bytes.clone().into()]);
        self.runtime.block_on(write).unwrap();
        (disk, Arc::new(bytes))
    }

    fn read(&self, disk: &Disk, position: u64, num_bytes: usize) -> io::Result<Bytes> {
        self.runtime.block_on(disk.read(position, num_bytes))
    }
}

/// Places all over the file, and how many bytes there: up to 600 KB, down to none.
fn places() -> impl Iterator<Item = (u64, usize)> {
    (0_u64..).map(|n| {
        let num_bytes = n * 7_919 % 600_000;
        let position = n * 104_729 % (FILE_BYTES - num_bytes);
        (position, num_bytes as usize)
    })
}

async fn is_right(disk: &Disk, sound: &[u8], (position, num_bytes): (u64, usize)) -> bool {
    let start = position as usize;
    let read = disk.read(position, num_bytes).await;
    read.is_ok_and(|read| read[..] == sound[start..start + num_bytes])
}

fn what_was_written_is_read_back_and_the_rest_is_zeros(open: Open) {
    let rig = Rig::new(open);
    let disk = rig.open().unwrap();
    assert_eq!(disk.num_bytes(), FILE_BYTES);
    let parts = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
    rig.runtime.block_on(disk.write(4096, parts)).unwrap();
    assert_eq!(rig.read(&disk, 4095, 5).unwrap()[..], *b"\0abc\0");
    assert_eq!(rig.read(&disk, 4097, 2).unwrap()[..], *b"bc");
    let rest = rig.read(&disk, 4099, FILE_BYTES as usize - 4099).unwrap();
    assert!(rest.iter().all(|byte| *byte == 0));
    assert_eq!(rest.len() as u64, FILE_BYTES - 4099);
}

fn one_at_a_time_has_the_file_and_what_is_in_it_stays(open: Open) {
    let rig = Rig::new(open);
    let (disk, sound) = rig.filled();
    assert_eq!(rig.open().err().unwrap().kind(), ErrorKind::ResourceBusy);
    let plain = CacheFile::open(&rig.path(), FILE_BYTES).err().unwrap();
    assert_eq!(plain.kind(), ErrorKind::ResourceBusy);
    let all = rig.read(&disk, 0, sound.len()).unwrap();
    assert_eq!(all, sound[..], "who was refused has changed nothing");
    drop(disk);
    let disk = rig.open().unwrap();
    assert_eq!(rig.read(&disk, 0, sound.len()).unwrap(), sound[..]);
    let found = std::fs::metadata(rig.path()).unwrap().len();
    assert_eq!(found, FILE_BYTES);
}

fn many_reads_at_a_time_are_each_answered_right(open: Open) {
    let rig = Rig::new(open);
    let (disk, sound) = rig.filled();
    let tasks = (0..8).map(|task| {
        let (disk, sound) = (disk.clone(), sound.clone());
        rig.runtime.spawn(async move {
            let mine = places().skip(task * 100).take(100);
            let reads = mine.map(|place| is_right(&disk, &sound, place));
            join_all(reads).await
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for right in rig.runtime.block_on(join_all(tasks)) {
        let right = right.unwrap();
        assert_eq!(right, [true; 100]);
    }
}

fn reads_whose_callers_went_away_hurt_no_other(open: Open) {
    let rig = Rig::new(open);
    let (disk, sound) = rig.filled();
    let mut num_dropped = 0;
    rig.runtime.block_on(async {
        for round in 0..50 {
            for (position, num_bytes) in places().skip(round).take(20) {
                let read = disk.read(position, num_bytes).now_or_never();
                num_dropped += u32::from(read.is_none());
            }
            let reads = places().skip(round).take(20);
            let right = join_all(reads.map(|place| is_right(&disk, &sound, place))).await;
            assert_eq!(right, [true; 20]);
        }
    });
    assert!(num_dropped > 0, "none was under way");
}

fn an_adapter_dropped_with_reads_under_way_lets_go_of_the_file(open: Open) {
    let rig = Rig::new(open);
    let (mut disk, sound) = rig.filled();
    for round in 0..20 {
        rig.runtime.block_on(async {
            for (position, num_bytes) in places().skip(round).take(100) {
                let _ = disk.read(position, num_bytes).now_or_never();
            }
        });
        drop(disk);
        let begun = Instant::now();
        disk = loop {
            match rig.open() {
                Ok(disk) => break disk,
                Err(error) => assert_eq!(error.kind(), ErrorKind::ResourceBusy),
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "still locked");
            std::thread::sleep(Duration::from_millis(1));
        };
        let place = places().nth(round).unwrap();
        let read = is_right(&disk, &sound, place);
        assert!(rig.runtime.block_on(read));
    }
}

fn what_is_not_in_the_file_is_an_error(open: Open) {
    let rig = Rig::new(open);
    let (disk, sound) = rig.filled();
    let kind = |position, num_bytes| {
        let read = rig.read(&disk, position, num_bytes);
        read.err().map(|error| error.kind())
    };
    let ended = Some(ErrorKind::UnexpectedEof);
    assert_eq!(kind(FILE_BYTES, 0), None);
    assert_eq!(kind(FILE_BYTES - 1, 1), None);
    assert_eq!(kind(FILE_BYTES - 1, 2), ended);
    for position in [FILE_BYTES, 1 << 40, 1 << 63, u64::MAX - 1, u64::MAX] {
        assert_eq!(kind(position, 1), ended, "at {position}");
    }
    assert_eq!(kind(0, usize::MAX), ended);
    assert_eq!(kind(u64::MAX, usize::MAX), ended);
    // Somebody cut the file.
    let file = std::fs::File::options().write(true).open(rig.path());
    file.unwrap().set_len(1000).unwrap();
    assert_eq!(kind(2000, 10), ended);
    assert_eq!(kind(990, 20), ended, "the first ten are there");
    assert_eq!(rig.read(&disk, 990, 10).unwrap(), sound[990..1000]);
}

#[cfg(all(feature = "uring", target_os = "linux"))]
use rings::{ring, ring_refused};

#[cfg(all(feature = "uring", target_os = "linux"))]
mod rings {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use super::Disk;
    use crate::UringCacheFile;

    /// Where a test must not be content with less (`CI` is set), the kernel must have a ring.
    pub(super) fn ring(path: &Path, num_bytes: u64) -> io::Result<Disk> {
        let disk = UringCacheFile::open(path, num_bytes)?;
        let is_let_off = std::env::var_os("CI").is_none();
        assert!(disk.has_ring() || is_let_off, "no io_uring");
        Ok(Arc::new(disk))
    }

    /// A kernel that says no, as in many containers.
    pub(super) fn ring_refused(path: &Path, num_bytes: u64) -> io::Result<Disk> {
        let refusal = || Err(io::ErrorKind::PermissionDenied.into());
        let disk = UringCacheFile::open_on(path, num_bytes, refusal)?;
        assert!(!disk.has_ring());
        Ok(Arc::new(disk))
    }
}
