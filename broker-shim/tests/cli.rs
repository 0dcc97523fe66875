//! The `tidewater` command as a script sees it: exit codes, streams, variables, files.
//!
//! *IO: driver* (child processes, loopback)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn tidewater(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATER_")) {
        command.env_remove(name);
    }
    command
        .current_dir(folder)
        .args(args)
        .envs(variables.iter().copied());
    command.output().unwrap()
}

/// The run's exit code and the last line on standard error.
fn end(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code().expect("no signal ended it"), last)
}

#[test]
fn the_allocator_is_set_to_give_memory_back() {
    let folder = tempfile::tempdir().unwrap();
    let confirm = [("_RJEM_MALLOC_CONF", "confirm_conf:true")];
    let output = tidewater(folder.path(), &["version"], &confirm);
    let text = String::from_utf8(output.stderr).unwrap();
    for setting in ["narenas:4", "dirty_decay_ms:1000", "background_thread:true"] {
        assert!(text.contains(setting), "{setting}: {text}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["--help"][..], "Exit codes: 0 done"),
        (&["serve", "--help"], "[env: TIDEWATER_DATA_DIR]"),
        (&["stats", "--help"], "--bootstrap <HOST:PORT>"),
        (&["version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = tidewater(folder.path(), args, &[]);
        assert_eq!(end(&output), (0, String::new()), "{args:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(part), "{text}");
    }
    let output = tidewater(
        folder.path(),
        &["serve", "--help"],
        &[("TIDEWATER_BUCKET", "s3://secret")],
    );
    assert!(
        !String::from_utf8(output.stdout).unwrap().contains("secret"),
        "help shows no values"
    );
}

type BadRun = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// Arguments, variables, and what the reason must name.
const BAD_RUNS: &[BadRun] = &[
    (
        &["serve", "--node-id", "x"],
        &[],
        "flag --node-id: expected an integer from 0 to 2147483647, found \"x\"",
    ),
    (
        &["--default-partitions", "0"],
        &[],
        "flag --default-partitions: expected an integer from 1 to 10000, found \"0\"",
    ),
    (
        &[],
        &[("TIDEWATER_WAL_BYTES", "1")],
        "environment variable TIDEWATER_WAL_BYTES: expected a size from 16 MiB to 512 TiB",
    ),
    (
        &[],
        &[("TIDEWATER_LISTEN", "")],
        "environment variable TIDEWATER_LISTEN: expected HOST:PORT",
    ),
    (
        &[],
        &[("TIDEWATER_CONFIG", "t.toml")],
        "key node-id of t.toml: expected an integer",
    ),
    (
        &["serve", "--config", "unknown.toml"],
        &[],
        "key nodeid of unknown.toml: expected node-id, found \"nodeid\"",
    ),
    (
        &["serve", "--config", "absent.toml"],
        &[],
        "absent.toml: expected a readable file",
    ),
    (&["--bucket", "memory:"], &[], "expected --wal memory"),
    (
        &["--listen", "0.0.0.0:0"],
        &[],
        "expected --advertise HOST:PORT",
    ),
    (&["--accept-data-loss", "maybe"], &[], "found maybe"),
    (
        &["serve", "--nod-id", "1"],
        &[],
        "expected --node-id, found --nod-id",
    ),
    (
        &["launch"],
        &[],
        "expected serve, stats, fsck, cost, wal or version, found launch",
    ),
];

#[test]
fn bad_settings_leave_with_2_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), "node-id = -4\n").unwrap();
    std::fs::write(folder.path().join("unknown.toml"), "nodeid = 4\n").unwrap();
    for (args, variables, expected) in BAD_RUNS {
        let output = tidewater(folder.path(), args, variables);
        let (code, reason) = end(&output);
        assert_eq!(code, 2, "{args:?}: {reason}");
        assert!(
            reason.starts_with("tidewater: ") && reason.contains(expected),
            "{args:?}: {reason}"
        );
        assert!(output.stdout.is_empty());
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing was created"
    );
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), "node-id = \"of the file\"\n").unwrap();
    let config = ("TIDEWATER_CONFIG", "t.toml");
    let variable = ("TIDEWATER_NODE_ID", "of the variable");
    let flag = ["--node-id", "of the flag"];
    for (args, variables, found) in [
        (&flag[..], &[config, variable][..], "of the flag"),
        (&[], &[config, variable], "of the variable"),
        (&[], &[config], "of the file"),
    ] {
        let (code, reason) = end(&tidewater(folder.path(), args, variables));
        assert_eq!(code, 2);
        assert!(reason.ends_with(&format!("found {found:?}")), "{reason}");
    }
}

#[test]
fn a_port_in_use_leaves_with_3_and_no_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, reason) = end(&tidewater(folder.path(), &["--listen", &address], &[]));
    assert_eq!(code, 3, "{reason}");
    assert!(
        reason.contains(&address) && reason.contains("in use"),
        "{reason}"
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was created"
    );
}

#[test]
fn stats_of_no_broker_leave_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let (code, reason) = end(&tidewater(
        folder.path(),
        &["stats", "--bootstrap", &free],
        &[],
    ));
    assert_eq!(code, 3, "{reason}");
    assert!(
        reason.contains(&free) && reason.contains("connection refused"),
        "{reason}"
    );
    let (code, reason) = end(&tidewater(
        folder.path(),
        &["stats", "--data-dir", "d", "--json"],
        &[],
    ));
    assert_eq!(code, 3, "{reason}");
    assert!(reason.contains("d/broker.json"), "{reason}");
}
