//! A broker from its start to its stop, as a script drives it.
//!
//! *IO: driver* (child processes, loopback, signals)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that is killed if the test fails.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tidewater(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATER_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args);
    command
}

fn until<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a broker on a free port and returns it with what its ready file says.
fn start(folder: &Path, args: &[&str]) -> (Broker, serde_json::Value) {
    let mut command = tidewater(
        folder,
        &["--listen", "127.0.0.1:0", "--ready-file", "ready.json"],
    );
    let child = command.args(args).stderr(Stdio::null()).spawn().unwrap();
    let broker = Broker(child);
    let text = until("the ready file", || {
        std::fs::read(folder.join("ready.json")).ok()
    });
    (broker, serde_json::from_slice(&text).unwrap())
}

/// Sends a signal and returns the exit code.
fn stop(mut broker: Broker, signal: &str) -> i32 {
    let pid = broker.0.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(status) = broker.0.try_wait().unwrap() {
            return status.code().expect("it ends by itself");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the broker did not stop");
}

#[test]
fn a_broker_says_where_it_is_answers_and_stops_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let (broker, ready) = start(folder.path(), &["--node-id", "7"]);
        assert_eq!(ready["pid"], broker.0.id());
        assert_eq!(ready["node_id"], 7);
        assert_eq!(ready["bucket"], "file:./tidewater-data/bucket");
        assert_eq!(ready["cluster_id"].as_str().unwrap().len(), 22);
        assert!(ready["start_ms"].is_u64() && ready["wal"].is_string());

        // ApiVersions in a version from the future: answered with error 35.
        let address = ready["listen"].as_str().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client
            .write_all(&[0, 0, 0, 8, 0, 18, 0, 99, 0, 0, 0, 5])
            .unwrap();
        let mut answer = [0; 20];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(
            answer[..16],
            [0, 0, 0, 16, 0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18]
        );

        for target in [["--bootstrap", address], ["--data-dir", "tidewater-data"]] {
            let args = [&["stats", "--json"][..], &target].concat();
            let output = tidewater(folder.path(), &args).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(stats["wal_appends"].is_u64(), "{stats}");
            let wal = stats["wal"].as_str().unwrap();
            assert!(
                wal.contains("ring-sync") || wal.contains("portable"),
                "{wal}"
            );
        }

        // The open connection does not hold the stop up.
        assert_eq!(stop(broker, signal), 0);
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        assert!(!folder.path().join("ready.json").exists());
        assert!(!folder.path().join("tidewater-data/broker.json").exists());
    }
}

#[test]
fn a_data_directory_in_use_is_refused_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, _) = start(folder.path(), &[]);
    let output = tidewater(folder.path(), &["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("tidewater: ") && last.contains("tidewater-data"),
        "{text}"
    );
    assert_eq!(stop(broker, "-TERM"), 0);
}

#[test]
fn a_broker_in_memory_leaves_no_data_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, ready) = start(folder.path(), &["--bucket", "memory:", "--wal", "memory"]);
    assert_eq!(ready["bucket"], "memory:");
    assert_eq!(stop(broker, "-TERM"), 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
