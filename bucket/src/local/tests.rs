//! The local directory: conformance, sharing, what a crash leaves, what it refuses.
//!
//! *IO: driver*

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Barrier;

use super::*;
use crate::conformance;
use crate::key::KEY_BYTES_MAX;

const WAL: Purpose = Purpose::Wal;

fn opened() -> (tempfile::TempDir, LocalBucket) {
    let dir = tempfile::tempdir().unwrap();
    let bucket = LocalBucket::open(&dir.path().join("b")).unwrap();
    (dir, bucket)
}

fn body(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

/// The files below `.tmp`, of all open buckets.
fn temporaries(root: &Path) -> usize {
    let folders = fs::read_dir(root.join(staging::FOLDER)).unwrap();
    folders
        .map(|f| fs::read_dir(f.unwrap().path()).unwrap().count())
        .sum()
}

#[tokio::test]
async fn a_directory_conforms() {
    let (dir, bucket) = opened();
    conformance::run(&bucket, "t").await;
    assert_eq!(temporaries(&dir.path().join("b")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_conforms_in_small_pages_on_several_threads() {
    let (_dir, bucket) = opened();
    let bucket = bucket.with_list_page(2);
    conformance::run(&bucket, "t/deep").await;
    conformance::listings_sort_a_slash_as_a_byte(&bucket, "t").await;
}

#[tokio::test]
async fn a_key_is_never_also_a_directory() {
    let (_dir, bucket) = opened();
    conformance::key_is_never_also_a_directory(&bucket, "t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_on_one_directory_race_for_keys_and_one_wins() {
    let (dir, first) = opened();
    let second = LocalBucket::open(&dir.path().join("b")).unwrap();
    for number in 0..40 {
        let key = format!("race/{number}");
        let barrier = Barrier::new(2);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let (key, barrier) = (&key, &barrier);
            let race = |bucket: &LocalBucket| {
                let tree = Arc::clone(&bucket.tree);
                scope.spawn(move || {
                    barrier.wait();
                    tree.create(key, &body("x"))
                })
            };
            [race(&first), race(&second)]
                .map(|thread| thread.join().unwrap())
                .into()
        });
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let lost = outcomes
            .iter()
            .filter(|o| matches!(o, Err(BucketError::Exists { .. })))
            .count();
        assert_eq!((won, lost), (1, 1), "{outcomes:?}");
    }
}

#[tokio::test]
async fn an_object_is_the_plain_file_of_its_key() {
    let (dir, bucket) = opened();
    bucket.create(WAL, "wal/1/2", body("bytes")).await.unwrap();
    let file = dir.path().join("b/wal/1/2");
    assert_eq!(fs::read(&file).unwrap(), b"bytes");
    assert_eq!(
        fs::metadata(&file).unwrap().nlink(),
        1,
        "the temporary name is gone"
    );
}

#[tokio::test]
async fn temporaries_of_the_dead_go_and_those_of_the_living_stay() {
    let (dir, living) = opened();
    let root = dir.path().join("b");
    living.create(WAL, "before", body("x")).await.unwrap();
    let dead = root.join(".tmp/999999-0");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), "half a body").unwrap();
    fs::write(root.join(".tmp/stray"), "not a folder").unwrap();
    let living_before = living.tree.staging_folder().to_owned();
    let again = LocalBucket::open(&root).unwrap();
    assert!(!dead.exists());
    assert!(living_before.exists());
    living.create(WAL, "after", body("x")).await.unwrap();
    again.create(WAL, "again", body("x")).await.unwrap();
    drop((living, again));
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_that_another_process_has_not_synced_is_shown_only_after_a_sync() {
    let (dir, bucket) = opened();
    bucket.create(WAL, "d/one", body("x")).await.unwrap();
    // As between another process's link and its sync of the directory.
    fs::hard_link(dir.path().join("b/d/one"), dir.path().join("temporary")).unwrap();
    bucket.get(WAL, "d/one", None).await.unwrap();
    assert_eq!(bucket.tree.syncs_of_others(), 1);
    bucket.list(WAL, "d/", None).await.unwrap();
    assert_eq!(bucket.tree.syncs_of_others(), 2);
    bucket.create(WAL, "d/one", body("y")).await.unwrap_err();
    assert_eq!(bucket.tree.syncs_of_others(), 3);
    fs::remove_file(dir.path().join("temporary")).unwrap();
    bucket.get(WAL, "d/one", None).await.unwrap();
    assert_eq!(bucket.tree.syncs_of_others(), 3);
}

#[tokio::test]
async fn after_a_failed_sync_of_a_directory_the_handle_refuses_everything() {
    let (_dir, bucket) = opened();
    bucket.create(WAL, "d/one", body("x")).await.unwrap();
    bucket.tree.fail_next_sync();
    let unknown = bucket.create(WAL, "d/two", body("x")).await;
    assert!(
        matches!(unknown, Err(BucketError::Unknown { .. })),
        "{unknown:?}"
    );
    let refused = bucket.get(WAL, "d/one", None).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
    let refused = bucket.list(WAL, "", None).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn foreign_things_in_the_directory_are_no_objects() {
    let (dir, bucket) = opened();
    let root = dir.path().join("b");
    fs::write(root.join(".hidden"), "x").unwrap();
    fs::write(root.join("odd name"), "x").unwrap();
    fs::write(dir.path().join("outside"), "secret").unwrap();
    symlink(dir.path().join("outside"), root.join("link")).unwrap();
    symlink(dir.path(), root.join("up")).unwrap();
    bucket.create(WAL, "object", body("x")).await.unwrap();
    let page = bucket.list(WAL, "", None).await.unwrap();
    assert_eq!(
        page.entries
            .iter()
            .map(|e| e.key.as_str())
            .collect::<Vec<_>>(),
        ["object"]
    );
    assert!(bucket.get(WAL, "link", None).await.is_err());
    let refused = bucket.create(WAL, "link", body("x")).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_directory_removed_under_us_heals_at_the_second_attempt() {
    let (dir, bucket) = opened();
    bucket.create(WAL, "d/e/one", body("x")).await.unwrap();
    fs::remove_dir_all(dir.path().join("b/d")).unwrap();
    let lost = bucket.create(WAL, "d/e/two", body("x")).await;
    assert!(matches!(lost, Err(BucketError::Unknown { .. })), "{lost:?}");
    bucket.create(WAL, "d/e/two", body("x")).await.unwrap();
}

/// Tools that move buckets about remove directories that are empty.
#[test]
fn a_listing_beside_directories_that_come_and_go_neither_fails_nor_misses_what_stays() {
    let (dir, bucket) = opened();
    let root = dir.path().join("b");
    let tree = &bucket.tree;
    let stays: Vec<String> = (0..40).map(|n| format!("a/{n:02}/stays")).collect();
    for key in &stays {
        tree.create(key, &body("x")).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            for round in 0..200 {
                let folder = root.join(format!("a/{:02}-gone/b/c", round % 40));
                fs::create_dir_all(&folder).unwrap();
                for n in 0..3 {
                    fs::write(folder.join(format!("{n}")), "y").unwrap();
                    // With a second name, as if its creator had not synced it yet.
                    let _ = fs::hard_link(folder.join("0"), folder.join(format!("l{n}")));
                }
                fs::remove_dir_all(folder.parent().unwrap()).unwrap();
                fs::remove_dir(folder.parent().unwrap().parent().unwrap()).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut listings = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let mut found: Vec<String> = Vec::new();
            loop {
                let page = tree
                    .list("a/", found.last().map(String::as_str), 7)
                    .unwrap();
                found.extend(page.entries.into_iter().map(|entry| entry.key));
                if !page.more {
                    break;
                }
            }
            found.retain(|key| key.ends_with("stays"));
            assert_eq!(found, stays);
            listings += 1;
        }
        mover.join().unwrap();
        assert!(listings > 3, "{listings}");
    });
    tree.create("a/later", &body("z")).unwrap();
}

#[test]
fn a_directory_that_is_gone_before_its_names_are_synced_does_not_end_the_handle() {
    let (dir, bucket) = opened();
    let gone = dir.path().join("b/a/gone");
    bucket.tree.confirm_of_other("a/gone/key", &gone).unwrap();
    bucket.tree.create("a/key", &body("x")).unwrap();
}

#[tokio::test]
async fn the_longest_keys_fit() {
    let (_dir, bucket) = opened();
    let key = format!("{}/{}/k", "a".repeat(255), "b".repeat(KEY_BYTES_MAX - 258));
    bucket.create(WAL, &key, body("x")).await.unwrap();
    assert_eq!(bucket.size(WAL, &key).await.unwrap(), 1);
    assert_eq!(
        bucket.list(WAL, "", None).await.unwrap().entries[0].key,
        key
    );
}

#[test]
fn check_tells_the_states_apart_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("x/y");
    assert_eq!(LocalBucket::check(&root).unwrap(), DirectoryState::Missing);
    assert!(!dir.path().join("x").exists());
    drop(LocalBucket::open(&root).unwrap());
    assert_eq!(LocalBucket::check(&root).unwrap(), DirectoryState::Empty);
    fs::write(root.join("object"), "x").unwrap();
    assert_eq!(LocalBucket::check(&root).unwrap(), DirectoryState::Present);
}

#[test]
fn a_file_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for root in [file.clone(), file.join("b"), file.join("b/c")] {
        let refused = LocalBucket::open(&root).expect_err("must be refused");
        assert!(
            matches!(&refused, OpenError::NotADirectory { path } if *path == file),
            "{root:?}: {refused}"
        );
    }
    let dangling = dir.path().join("dangling");
    symlink(dir.path().join("nowhere"), &dangling).unwrap();
    assert!(LocalBucket::open(&dangling).is_err());
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_parent_that_cannot_be_written_is_named_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write anywhere; /proc refuses even that.
    let refusing = if sys::check_writable(&locked).is_ok() {
        Path::new("/proc")
    } else {
        &*locked
    };
    let refused = LocalBucket::open(&refusing.join("b/c")).expect_err("must be refused");
    match refused {
        OpenError::NotWritable { path, .. } => assert_eq!(path, refusing),
        // /proc passes the check and refuses the creation itself.
        OpenError::Io { path, .. } => assert_eq!(path, refusing.join("b")),
        other => panic!("{other}"),
    }
    assert!(!refusing.join("b").exists());
}

#[test]
fn a_relative_path_opens_below_the_working_directory() {
    assert_eq!(
        nearest_existing(Path::new("no-such-folder/b")).unwrap(),
        Path::new(".")
    );
    assert_eq!(
        nearest_existing(Path::new("src/no-such")).unwrap(),
        Path::new("src")
    );
}
