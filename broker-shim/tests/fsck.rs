//! `tidewater fsck` as a script sees it: exit codes, the JSON, data that stay as they were.
//!
//! *IO: driver* (child processes, files)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, StoreConfig, StreamStore, TokioEnv, bucket,
};

fn tidewater(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATER_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args);
    command
}

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tidewater(folder, args).output().unwrap();
    let errors = String::from_utf8(stderr).unwrap();
    assert!(!errors.contains("panicked"), "{args:?}: {errors}");
    let out = String::from_utf8(stdout).unwrap();
    (status.code().expect("no signal ended it"), out, errors)
}

fn json(folder: &Path, args: &[&str]) -> (i32, Value) {
    let (code, out, errors) = run(folder, &[&["fsck", "--json"][..], args].concat());
    let value = serde_json::from_str(&out);
    (
        code,
        value.unwrap_or_else(|error| panic!("{error}: {out}{errors}")),
    )
}

/// Findings as `severity what`.
fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings
        .map(|it| format!("{} {}", text(&it["severity"]), text(&it["what"])))
        .collect()
}

/// A folder with the data of a broker that was killed: objects, and a tail in its WAL.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill(folder.path()));
    runtime.shutdown_timeout(Duration::from_secs(10));
    folder
}

async fn fill(folder: &Path) {
    let env = Arc::new(TokioEnv::current());
    let data = folder.join("tidewater-data");
    fs::create_dir_all(data.join("wal")).unwrap();
    let url = format!("file:{}", data.join("bucket").display());
    let opened = bucket::open(&url.parse().unwrap(), &bucket::BucketOptions::default());
    let wal = DeviceWalOpener {
        path: data.join("wal/device.wal"),
        config: DeviceWalConfig::default(),
        env: env.clone(),
    };
    let store = StreamStore::open(env, opened.unwrap(), Box::new(wal), StoreConfig::default());
    let store = store.await.unwrap();
    let stream = store
        .open_stream(store.create().await.unwrap())
        .await
        .unwrap();
    for n in 0..40 {
        let payload = Bytes::from(vec![b'a' + n; 500]);
        let request = AppendRequest {
            record_count: 3,
            timestamp_ms_max: 7,
            num_bytes: payload.len(),
        };
        let appended = stream.append(request, |_| payload).await.unwrap();
        stream.wait_durable(appended.end_offset).await.unwrap();
        if n == 20 {
            store.flush().await.unwrap();
        }
    }
    store.metadata().write_snapshot().await.unwrap();
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() == ".tmp" {
            continue;
        }
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

fn object(folder: &Path, below: &str) -> PathBuf {
    let below = folder.join("tidewater-data/bucket").join(below);
    files(&below).remove(0).0
}

#[test]
fn sound_data_are_clean_and_stay_as_they_were() {
    let folder = folder();
    let before = files(folder.path());
    for more in [&[][..], &["--checksums"], &["--checksums", "--repair"]] {
        let (code, report) = json(folder.path(), more);
        assert_eq!((code, found(&report).len()), (0, 0), "{report}");
        assert_eq!(
            (&report["streams"], &report["objects"]),
            (&1.into(), &1.into())
        );
        assert!(report["bytes_checked"].as_u64().unwrap() > 100);
    }
    let (code, text, errors) = run(folder.path(), &["fsck"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(text.contains("0 errors, 0 warnings, 0 notes"), "{text}");
    let (code, report) = json(folder.path(), &["--no-wal"]);
    assert_eq!((code, found(&report)), (0, vec!["info missing".to_owned()]));
    assert!(files(folder.path()) == before);
}

#[test]
fn damage_ends_with_5_a_warning_with_1_and_says_where() {
    let folder = folder();
    let snapshot = object(folder.path(), "meta/snap");
    let sound = fs::read(&snapshot).unwrap();
    fs::write(&snapshot, b"not a snapshot").unwrap();
    let (code, report) = json(folder.path(), &[]);
    assert_eq!(
        (code, found(&report)),
        (1, vec!["warning checksum".to_owned()])
    );
    fs::write(&snapshot, sound).unwrap();

    let data = object(folder.path(), "data");
    let mut bytes = fs::read(&data).unwrap();
    bytes[100] ^= 1;
    fs::write(&data, bytes).unwrap();
    assert_eq!(
        json(folder.path(), &[]).0,
        0,
        "not looked at without --checksums"
    );
    let (code, report) = json(folder.path(), &["--checksums"]);
    assert_eq!(
        (code, found(&report)),
        (5, vec!["error checksum".to_owned()])
    );
    let key = data
        .strip_prefix(folder.path().join("tidewater-data/bucket"))
        .unwrap();
    assert_eq!(report["findings"][0]["object"], key.to_str().unwrap());
    assert_eq!(report["findings"][0]["stream"], 1);
    assert!(report["findings"][0]["range"][1].as_u64() > Some(0));
    let (_, _, errors) = run(folder.path(), &["fsck", "--checksums"]);
    let last = errors.lines().last().unwrap();
    assert!(
        last.starts_with("tidewater: error") && last.contains(key.to_str().unwrap()),
        "{last}"
    );

    fs::remove_file(&data).unwrap();
    let (code, report) = json(folder.path(), &[]);
    assert_eq!((code, found(&report)[0].as_str()), (5, "error missing"));
}

#[test]
fn a_missing_log_is_damage_where_it_should_be_and_a_warning_elsewhere() {
    let folder = folder();
    let bucket = format!(
        "file:{}",
        folder.path().join("tidewater-data/bucket").display()
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, report) = json(elsewhere.path(), &["--bucket", &bucket]);
    assert_eq!(
        (code, found(&report)),
        (1, vec!["warning missing".to_owned()])
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(folder.path().join("tidewater-data/wal/device.wal")).unwrap();
    let (code, report) = json(folder.path(), &[]);
    assert_eq!(
        (code, found(&report)),
        (5, vec!["error missing".to_owned()])
    );

    let other = self::folder();
    let wal = other.path().join("tidewater-data/wal/device.wal");
    let args = ["fsck", "--bucket", &bucket, "--wal", wal.to_str().unwrap()];
    let (code, _, errors) = run(elsewhere.path(), &args);
    assert_eq!(code, 4, "{errors}");
}

#[test]
fn what_cannot_be_checked_is_refused_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32); 7] = [
        (&[], 3),
        (&["--bucket", "memory:", "--wal", "memory"], 3),
        (&["--bootstrap", "127.0.0.1:1"], 3),
        (&["--bootstrap", "127.0.0.1:1", "--repair"], 2),
        (&["--bootstrap", "127.0.0.1:1", "--data-dir", "d"], 2),
        (&["--repair", "--no-wal"], 2),
        (&["--node-id", "-1"], 2),
    ];
    for (args, expected) in cases {
        let (code, out, errors) = run(folder.path(), &[&["fsck"], args].concat());
        assert_eq!((code, out.as_str()), (expected, ""), "{args:?}: {errors}");
        assert!(
            errors.lines().last().unwrap().starts_with("tidewater: "),
            "{errors}"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A broker that is killed when the test ends.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> (Broker, String) {
    let args = ["--listen", "127.0.0.1:0", "--ready-file", "ready.json"];
    let child = tidewater(folder, &args).stderr(Stdio::null()).spawn();
    let broker = Broker(child.unwrap());
    let began = Instant::now();
    loop {
        if let Ok(text) = fs::read(folder.join("ready.json")) {
            let ready: Value = serde_json::from_slice(&text).unwrap();
            return (broker, ready["listen"].as_str().unwrap().to_owned());
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no ready file");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_running_broker_checks_itself() {
    let folder = folder();
    let (_broker, address) = start(folder.path());
    let (code, report) = json(folder.path(), &["--bootstrap", &address, "--checksums"]);
    assert_eq!((code, found(&report).len()), (0, 0), "{report}");
    // The data directory says who uses it.
    let (code, out, note) = run(folder.path(), &["fsck"]);
    assert_eq!(code, 0, "{out}{note}");
    assert!(
        note.contains(&address) && out.contains("0 errors"),
        "{note}{out}"
    );
    let (code, _, errors) = run(folder.path(), &["fsck", "--repair"]);
    assert_eq!(code, 3, "{errors}");
    // Its requests are counted apart.
    let (_, stats, _) = run(folder.path(), &["stats", "--bootstrap", &address]);
    assert!(stats.contains("purpose=fsck"), "{stats}");
    fs::remove_file(object(folder.path(), "data")).unwrap();
    let (code, report) = json(folder.path(), &["--bootstrap", &address]);
    assert_eq!((code, found(&report)[0].as_str()), (5, "error missing"));
}
