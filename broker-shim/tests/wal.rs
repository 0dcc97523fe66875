//! `tidewater wal` as a script sees it: exit codes, streams, and files that stay as they were.
//!
//! *IO: driver* (child processes, files)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, MetaOp, StoreConfig, StreamStore, TokioEnv,
    bucket,
};

const FRAMES: u64 = 120;
const PAYLOAD_BYTES: usize = 500;
const HEAD_BYTES: usize = 40;

fn tidewater(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATER_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args).output().unwrap()
}

/// Exit code, standard output, last line of standard error.
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = tidewater(folder, args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!errors.contains("panicked"), "{args:?}: {errors}");
    let last = errors.lines().last().unwrap_or_default().to_owned();
    let code = output.status.code().expect("no signal ended it");
    (
        code,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        last,
    )
}

fn json(folder: &Path, args: &[&str]) -> (i32, Value) {
    let (code, out, _) = run(folder, args);
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}")),
    )
}

/// A folder with a WAL, `wal`, of a store that was dropped with frames in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill(folder.path()));
    runtime.shutdown_timeout(Duration::from_secs(10));
    folder
}

async fn fill(folder: &Path) {
    let env = Arc::new(TokioEnv::current());
    let url = format!("file:{}", folder.join("bucket").display());
    let opened = bucket::open(&url.parse().unwrap(), &bucket::BucketOptions::default());
    let wal = DeviceWalOpener {
        path: folder.join("wal"),
        config: DeviceWalConfig::default(),
        env: env.clone(),
    };
    let store = StreamStore::open(env, opened.unwrap(), Box::new(wal), StoreConfig::default());
    let store = store.await.unwrap();
    let stream = store.metadata().read(|state| state.next_stream_id());
    let create = MetaOp::CreateStream { stream };
    store.metadata().propose(vec![create]).await.unwrap();
    let stream = store.open_stream(stream).await.unwrap();
    for n in 0..FRAMES {
        let payload = Bytes::from(vec![b'a' + (n % 26) as u8; PAYLOAD_BYTES]);
        let request = AppendRequest {
            record_count: 3,
            timestamp_ms_max: 7,
            num_bytes: payload.len(),
        };
        let appended = stream.append(request, |_| payload).await.unwrap();
        stream.wait_durable(appended.end_offset).await.unwrap();
    }
}

/// Positions of the groups that hold frames.
fn data_groups(folder: &Path) -> Vec<u64> {
    let (_, all) = json(folder, &["wal", "inspect", "wal", "--json", "--groups"]);
    let groups = all["groups"].as_array().unwrap().iter();
    let data = groups.filter(|group| group["kind"] == "data");
    data.map(|group| group["position"].as_u64().unwrap())
        .collect()
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
}

#[test]
fn a_sound_wal_is_shown_and_stays_as_it_was() {
    let folder = folder();
    let wal = folder.path().join("wal");
    let (bytes, before) = (fs::read(&wal).unwrap(), fs::metadata(&wal).unwrap());
    let (code, text, reason) = run(folder.path(), &["wal", "inspect", "wal", "--segments"]);
    assert_eq!((code, reason.as_str()), (0, ""), "{text}");
    for part in [
        "slot 0",
        "slot 1",
        "verdict   fine",
        "chain",
        "120, 63.3 KiB",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, facts) = json(folder.path(), &["wal", "verify", "wal", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(facts["walk"]["frames"], FRAMES);
    assert_eq!(facts["in_use"], false);
    assert_eq!(facts["watermarks"]["trimmed"], 0);
    let (code, line, _) = run(folder.path(), &["wal", "verify", "wal"]);
    assert_eq!((code, line.lines().count()), (0, 1));
    assert!(line.starts_with("wal: fine"), "{line}");
    let (code, table, _) = run(folder.path(), &["wal", "inspect", "wal", "--groups"]);
    assert_eq!(code, 0);
    assert!(table.lines().count() as u64 > FRAMES, "{table}");

    let after = fs::metadata(&wal).unwrap();
    assert_eq!(before.mtime_nsec(), after.mtime_nsec());
    assert_eq!(before.mtime(), after.mtime());
    assert!(fs::read(&wal).unwrap() == bytes);
}

#[test]
fn frames_are_dumped_in_every_form() {
    let folder = folder();
    let dump = |more: &[&str]| run(folder.path(), &[&["wal", "dump", "wal"], more].concat());
    let (code, out, note) = dump(&[]);
    assert_eq!((code, out.lines().count()), (0, 100));
    assert!(note.contains("stopped after 100 frames"), "{note}");
    let (_, out, note) = dump(&["--limit", "0", "--decode"]);
    assert_eq!((out.lines().count() as u64, note.as_str()), (FRAMES, ""));
    assert!(
        out.lines().nth(1).unwrap().ends_with("offsets 3 to 6"),
        "{out}"
    );

    let frame_bytes = HEAD_BYTES + PAYLOAD_BYTES;
    let second = (4 + frame_bytes).to_string();
    let (_, out, _) = dump(&[
        "--from", "1", "--json", "--bytes", "0", "--limit", "1", "--decode",
    ]);
    let frame: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(frame["lsn"].to_string(), second);
    assert_eq!(frame["num_bytes"], frame_bytes);
    assert_eq!(frame["truncated"], false);
    assert_eq!(frame["head"]["base_offset"], 3);
    let hex = frame["hex"].as_str().unwrap();
    assert!(hex.len() == 2 * frame_bytes && hex.ends_with(&"62".repeat(PAYLOAD_BYTES)));

    let (_, raw, note) = dump(&["--raw", "--from", "1", "--to", &(second + "0")]);
    assert_eq!((raw.len(), note.as_str()), (9 * frame_bytes, ""));
    let (_, out, _) = dump(&["--hex", "--limit", "1"]);
    assert_eq!(out.lines().count(), 1 + 2 + 1, "{out}");
    assert!(out.contains("more bytes"), "{out}");
}

/// Gives slot 0 a version from the future, under a right checksum.
fn make_newer(path: &Path) {
    let mut slot = fs::read(path).unwrap()[..4096].to_vec();
    slot[8] = 9;
    let checksum = tidewater_types::crc32c(&[&slot[..4092]]).to_le_bytes();
    slot[4092..].copy_from_slice(&checksum);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&slot, 0).unwrap();
}

#[test]
fn damage_has_a_code_and_a_reason_that_names_the_place() {
    let folder = folder();
    let (wal, copy) = (folder.path().join("wal"), folder.path().join("copy"));
    let groups = data_groups(folder.path());
    let (middle, last) = (groups[groups.len() / 2], groups[groups.len() - 1]);
    let end = File::open(&wal).unwrap().metadata().unwrap().len();
    type Harm<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Harm<'_>, i32, String); 7] = [
        (
            "torn tail",
            &|path| flip(path, last + 300),
            0,
            "torn tail".to_owned(),
        ),
        (
            "damage",
            &|path| flip(path, middle + 300),
            5,
            format!("position {middle}"),
        ),
        (
            "a slot",
            &|path| flip(path, 40),
            1,
            "slot 0 at position 0".to_owned(),
        ),
        (
            "both slots",
            &|path| [40, 32_808].into_iter().for_each(|at| flip(path, at)),
            5,
            "both superblocks".to_owned(),
        ),
        ("newer", &make_newer, 4, "version 9".to_owned()),
        (
            "cut",
            &|path| {
                OpenOptions::new()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(middle)
                    .unwrap()
            },
            0,
            "fine".to_owned(),
        ),
        (
            "zeros",
            &|path| fs::write(path, vec![0; usize::try_from(end).unwrap()]).unwrap(),
            5,
            "holds no write-ahead log".to_owned(),
        ),
    ];
    for (what, harm, expected, words) in cases {
        fs::copy(&wal, &copy).unwrap();
        harm(&copy);
        let before = fs::read(&copy).unwrap();
        for tool in ["verify", "inspect"] {
            let (code, out, reason) = run(folder.path(), &["wal", tool, "copy"]);
            assert_eq!(code, expected, "{what}: {reason}");
            let text = if code == 0 { &out } else { &reason };
            assert!(text.contains(&words), "{what}: {text}");
        }
        let (code, _, _) = run(folder.path(), &["wal", "dump", "copy", "--limit", "0"]);
        assert_eq!(code, expected, "{what}");
        assert!(fs::read(&copy).unwrap() == before, "{what}");
    }
}

#[test]
fn what_is_no_wal_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join("notes"), "# notes\n".repeat(20_000)).unwrap();
    fs::write(folder.path().join("short"), "TWwalsb\0").unwrap();
    let long_lengths = [&b"TWwalsb\0\x01\0\0\0"[..], &[0xff; 70_000]].concat();
    fs::write(folder.path().join("lengths"), long_lengths).unwrap();
    for (target, expected, words) in [
        ("absent", 3, "no write-ahead log at absent"),
        (
            ".",
            3,
            "is a directory, expected a file or a block device (--data-dir",
        ),
        ("/dev/zero", 3, "is a character device"),
        ("empty", 5, "a file of no bytes"),
        ("notes", 5, "holds no write-ahead log"),
        ("short", 5, "both superblocks"),
        ("lengths", 5, "first: cut short"),
        (
            "memory",
            2,
            "expected a file or a block device, found memory",
        ),
        ("", 2, "expected a file or a block device, found nothing"),
    ] {
        for tool in ["inspect", "verify", "dump"] {
            let (code, _, reason) = run(folder.path(), &["wal", tool, target]);
            assert_eq!(code, expected, "{tool} {target}: {reason}");
            assert!(reason.contains(words), "{tool} {target}: {reason}");
        }
    }
    for (args, words) in [
        (
            &["wal"][..],
            "expected inspect, verify, dump or calibrate, found none",
        ),
        (
            &["wal", "look"],
            "expected inspect, verify, dump or calibrate, found look",
        ),
        (
            &["wal", "verify", "a", "--data-dir", "b"],
            "one of the two, found both",
        ),
        (
            &["wal", "dump", "--raw", "--json"],
            "expected it without --json, found both",
        ),
        (&["wal", "dump", "--from", "x"], "found invalid value 'x'"),
    ] {
        let (code, _, reason) = run(folder.path(), args);
        assert_eq!(code, 2, "{reason}");
        assert!(reason.contains(words), "{args:?}: {reason}");
    }
}

#[test]
fn a_device_is_measured_by_its_folder_and_nothing_stays_behind() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes"), "notes").unwrap();
    let (code, facts) = json(folder.path(), &["wal", "calibrate", ".", "--json"]);
    assert_eq!((code, &facts["path"]), (0, &Value::from(".")), "{facts}");
    let modes = ["portable", "ring-sync", "ring-dsync"];
    assert!(modes.contains(&facts["mode"].as_str().unwrap()), "{facts}");
    assert!(facts["samples"][0]["writes_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(facts["block_device"], false);
    let (code, text, reason) = run(folder.path(), &["wal", "calibrate", "notes"]);
    assert_eq!((code, reason.as_str()), (0, ""), "{text}");
    assert!(text.contains("\nchosen    "), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let (code, _, reason) = run(folder.path(), &["wal", "calibrate", "absent/wal"]);
    assert!(code == 3 && reason.contains("absent"), "{reason}");
}

#[test]
fn a_block_device_is_measured_only_if_it_may_be_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, vec![7; 16 << 20]).unwrap();
    let mut losetup = Command::new("losetup");
    let made = losetup.args(["--find", "--show"]).arg(&image).output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        assert!(std::env::var_os("CI").is_none(), "no loop device");
        return eprintln!("loop devices are not permitted here: nothing was tested");
    };
    let device = String::from_utf8(made.stdout).unwrap();
    let args = ["wal", "calibrate", device.trim(), "--json", "--destroy"];
    let (code, _, reason) = run(folder.path(), &args[..4]);
    let untouched = fs::read(&image).unwrap() == vec![7; 16 << 20];
    let (destroyed, out, _) = run(folder.path(), &args);
    let detach = Command::new("losetup").args(["-d", device.trim()]).status();
    assert!(code == 2 && reason.contains("--destroy"), "{reason}");
    assert!(untouched && detach.unwrap().success());
    assert!(
        destroyed == 0 && out.contains("\"block_device\":true"),
        "{out}"
    );
}

/// A broker that is killed if the test fails.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_wal_of_a_running_broker_is_found_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    let child = command
        .current_dir(folder.path())
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            "d",
            "--ready-file",
            "ready",
        ])
        .stderr(Stdio::null())
        .spawn();
    let mut broker = Broker(child.unwrap());
    let began = Instant::now();
    while !folder.path().join("ready").exists() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the broker starts"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..20 {
        let (code, facts) = json(
            folder.path(),
            &["wal", "inspect", "--data-dir", "d", "--json"],
        );
        assert_eq!(code, 0, "{facts}");
        assert_eq!(facts["in_use"], true);
        assert_eq!(facts["path"], "d/wal/device.wal");
    }
    let (code, text, _) = run(folder.path(), &["wal", "inspect", "--data-dir", "d"]);
    assert!(
        code == 0 && text.contains("in use    by a running process"),
        "{text}"
    );
    broker.0.kill().unwrap();
    broker.0.wait().unwrap();
    let (code, facts) = json(
        folder.path(),
        &["wal", "verify", "d/wal/device.wal", "--json"],
    );
    assert_eq!(
        (code, &facts["in_use"]),
        (0, &Value::Bool(false)),
        "{facts}"
    );
}

/// Whatever harm is done, the tools end by themselves, in little memory, and agree.
#[test]
fn harmed_files_are_judged_in_bounded_memory_and_without_a_panic() {
    let folder = folder();
    let wal = fs::read(folder.path().join("wal")).unwrap();
    let copy = folder.path().join("copy");
    let mut draws = 0x1234_5678_9abc_def1_u64;
    let mut draw = |bound: usize| {
        draws = draws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (draws >> 33) as usize % bound
    };
    let ring = 65_536 + 120 * 4096 + 70_000;
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let mut image = wal.clone();
        for _ in 0..1 + draw(4) {
            let at = [
                draw(160),
                32_768 + draw(160),
                65_536 + draw(120) * 4096 + draw(90),
            ][draw(3)];
            image[at] ^= 1 << draw(8);
        }
        if draw(4) == 0 {
            image.truncate(draw(ring));
        }
        fs::write(&copy, &image).unwrap();
        let ended = ["inspect --json", "verify", "dump --limit=0"].map(|tool| limited(&copy, tool));
        assert!(ended.iter().all(|code| *code == ended[0]), "{ended:?}");
        assert!([0, 1, 4, 5].contains(&ended[0]), "{ended:?}");
        codes.insert(ended[0]);
    }
    assert!(
        codes.contains(&0) && codes.contains(&1) && codes.contains(&5),
        "{codes:?}"
    );
}

/// Runs a tool that may use 200 MiB of address space for its data.
fn limited(path: &PathBuf, tool: &str) -> i32 {
    let binary = env!("CARGO_BIN_EXE_tidewater");
    let script = format!("ulimit -d 204800; exec {binary} wal {tool} \"$0\"");
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(path)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{tool}: {errors}");
    output.status.code().expect("no signal ended it")
}
