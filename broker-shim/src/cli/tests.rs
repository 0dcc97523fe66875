//! From arguments to commands.
//!
//! *IO: none*

use std::ffi::OsString;
use std::path::Path;

use super::{Command, Surroundings, Target, args, parse, usage, with_command};
use crate::config::{SETTINGS, ServeConfig, Source};
use crate::exit::Code;

fn parsed_with(line: &[&str], file: &str) -> Result<Command, usage::Refused> {
    let args = std::iter::once("tidewater")
        .chain(line.iter().copied())
        .map(OsString::from)
        .collect();
    let read = |path: &Path| match path.to_str() {
        Some("there.toml") => Ok(file.to_owned()),
        _ => Err("no such file".to_owned()),
    };
    parse(
        args,
        &Surroundings {
            variable: &|_| None,
            read: &read,
        },
    )
}

fn parsed(line: &[&str]) -> Result<Command, usage::Refused> {
    parsed_with(line, "")
}

fn config(line: &[&str]) -> ServeConfig {
    match parsed_with(line, "node-id = 5\ndefault-partitions = 6") {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn refused(line: &[&str]) -> String {
    let refused = parsed(line).unwrap_err();
    assert_eq!(refused.exit.code, Code::Usage);
    refused.exit.to_string()
}

#[test]
fn the_grammar_is_sound() {
    args::command().debug_assert();
}

#[test]
fn each_setting_has_a_flag_and_the_variable_of_its_name() {
    let command = args::command();
    let serve = command.find_subcommand("serve").unwrap();
    let mut flags = Vec::new();
    for arg in serve.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let name = arg.get_long().unwrap();
        let variable = Source::variable(name);
        assert_eq!(arg.get_env().unwrap().to_str(), Some(variable.as_str()));
        assert_eq!(arg.get_id().as_str(), args::id(name));
        flags.push(name);
    }
    flags.retain(|name| *name != "config");
    flags.sort_unstable();
    let mut settings = SETTINGS.to_vec();
    settings.sort_unstable();
    assert_eq!(flags, settings);
}

#[test]
fn no_command_means_serve() {
    for line in [&[][..], &["--node-id", "1"], &["serve"]] {
        assert_eq!(config(line).node_id, 1, "{line:?}");
    }
    assert_eq!(
        with_command(vec![]),
        [OsString::from("serve")],
        "no program name either"
    );
    let Ok(Command::Print(help)) = parsed(&["--help"]) else {
        panic!()
    };
    assert!(
        help.contains("Examples:") && help.contains("stats"),
        "{help}"
    );
    let Ok(Command::Print(help)) = parsed(&["serve", "--help"]) else {
        panic!()
    };
    assert!(
        help.contains("--wal-mode") && help.contains("TIDEWATER_WAL_MODE"),
        "{help}"
    );
    for line in ["--version", "-V", "version"] {
        let Ok(Command::Print(version)) = parsed(&[line]) else {
            panic!()
        };
        assert_eq!(
            version,
            format!("tidewater {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn flags_win_over_the_file() {
    let config = config(&["--config", "there.toml", "--node-id", "7"]);
    assert_eq!((config.node_id, config.default_partitions), (7, 6));
    assert!(
        refused(&["--config", "absent.toml"]).contains("absent.toml: expected a readable file")
    );
}

#[test]
fn data_loss_is_accepted_by_the_bare_flag() {
    assert!(config(&["--accept-data-loss"]).accept_data_loss);
    assert!(config(&["--accept-data-loss=true", "--node-id=2"]).accept_data_loss);
    assert!(!config(&["--accept-data-loss=false"]).accept_data_loss);
    assert!(!config(&["--auto-create-topics", "false"]).auto_create_topics);
}

#[test]
fn bad_usage_is_one_line_that_says_what_where_expected_and_found() {
    for (line, expected) in [
        (
            &["--node-jd", "1"][..],
            "command line: expected --node-id, found --node-jd",
        ),
        (
            &["--qqqqq"],
            "expected a flag that --help names, found --qqqqq",
        ),
        (
            &["start"],
            "command: expected serve, stats, fsck, cost, wal or version, found start",
        ),
        (
            &["--listen"],
            "flag --listen <HOST:PORT>: expected a value, found none",
        ),
        (
            &["--wal", "a", "--wal", "b"],
            "flag --wal <WAL>: expected it once, found it again",
        ),
        (&["serve", "extra"], "found extra"),
        (
            &["--node-id", "x"],
            "flag --node-id: expected an integer from 0 to 2147483647, found \"x\"",
        ),
        (
            &["stats", "--bootstrap", "a:1", "--data-dir", "b"],
            "expected one of the two, found both",
        ),
    ] {
        let reason = refused(line);
        assert!(reason.contains(expected), "{line:?}: {reason}");
        assert!(
            reason.starts_with("tidewater: bad ") && !reason.contains('\n'),
            "{reason}"
        );
    }
}

#[test]
fn stats_asks_where_it_is_told() {
    let target = |line: &[&str]| match parsed(line) {
        Ok(Command::Stats { target, json }) => (target, json),
        other => panic!("{other:?}"),
    };
    let either = Target::Either("./tidewater-data".into(), "127.0.0.1:9092".to_owned());
    assert_eq!(target(&["stats"]), (either, false));
    let address = Target::Address("h:1".to_owned());
    assert_eq!(
        target(&["stats", "--bootstrap", "h:1", "--json"]),
        (address, true)
    );
    let dir = Target::DataDir("d".into());
    assert_eq!(target(&["stats", "--json", "--data-dir", "d"]), (dir, true));
}
