//! Precedence, defaults and every refusal of the configuration.
//!
//! *IO: none*

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tidewater_stream_store::WalMode;
use tidewater_stream_store::bucket::BucketUrl;

use super::serve::BucketLimits;
use super::{
    ConfigError, FileValues, Given, Layers, LogFormat, SETTINGS, ServeConfig, Source, WalLocation,
};

fn flags(values: &[(&'static str, &str)]) -> Given {
    let value =
        |(name, text): &(&'static str, &str)| (*name, ((*text).to_owned(), Source::Flag(name)));
    values.iter().map(value).collect()
}

fn resolve(values: &[(&'static str, &str)]) -> Result<ServeConfig, ConfigError> {
    let layers = Layers {
        given: flags(values),
        file: FileValues::default(),
    };
    ServeConfig::resolve(&layers, |_| None)
}

fn file(text: &str) -> Result<FileValues, ConfigError> {
    FileValues::parse(Path::new("t.toml"), text, SETTINGS)
}

#[test]
fn nothing_given_is_a_broker_on_loopback_with_its_data_below_the_working_directory() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(config.advertise, None);
    assert_eq!(config.data_dir, PathBuf::from("./tidewater-data"));
    let path = PathBuf::from("./tidewater-data/bucket");
    assert_eq!(config.bucket, BucketUrl::File { path });
    assert_eq!(config.wal, WalLocation::Auto);
    assert_eq!(config.wal_mode, WalMode::Auto);
    assert_eq!((config.node_id, config.default_partitions), (1, 1));
    assert!(config.auto_create_topics && !config.accept_data_loss);
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!((config.ready_file, config.disk_cache), (None, None));
    assert_eq!(config.bucket_limits, BucketLimits::default());
    let no_limit = resolve(&[("bucket-requests-per-s", "0")]).unwrap();
    assert_eq!(no_limit.bucket_limits, BucketLimits::default());
}

#[test]
fn every_setting_reaches_its_field() {
    let config = resolve(&[
        ("listen", "0.0.0.0:0"),
        ("advertise", "kafka.example.org:0"),
        ("data-dir", "/d"),
        ("bucket", "s3://bucket/pre/fix"),
        ("wal", "/dev/nvme1n1"),
        ("wal-mode", "ring-dsync"),
        ("wal-bytes", "64GiB"),
        ("node-id", "7"),
        ("default-partitions", "12"),
        ("auto-create-topics", "false"),
        ("ready-file", "/r"),
        ("log-format", "json"),
        ("log-level", "info,tidewater_broker::net=debug"),
        ("accept-data-loss", "true"),
        ("upload-interval-ms", "250"),
        ("upload-bytes", "8 MiB"),
        ("delete-delay-ms", "5000"),
        ("bucket-requests-per-s", "100"),
        ("bucket-bytes-in-per-s", "64KiB"),
        ("bucket-bytes-out-per-s", "20MiB"),
        ("memory", "1073741824"),
        ("cache-dir", "/nvme/cache"),
        ("cache-dir-bytes", "100GiB"),
        ("max-connections", "5"),
        ("max-request-bytes", "1MiB"),
    ])
    .unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:0");
    assert_eq!(config.advertise.unwrap().to_string(), "kafka.example.org:0");
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    assert_eq!(config.bucket.to_string(), "s3://bucket/pre/fix");
    assert_eq!(config.wal, WalLocation::Path(PathBuf::from("/dev/nvme1n1")));
    assert_eq!(config.wal_mode, WalMode::RingDsync);
    assert_eq!(config.wal_bytes, 64 << 30);
    assert_eq!((config.node_id, config.default_partitions), (7, 12));
    assert!(!config.auto_create_topics && config.accept_data_loss);
    assert_eq!(config.ready_file, Some(PathBuf::from("/r")));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.log_level, "info,tidewater_broker::net=debug");
    assert_eq!(config.upload_interval, Duration::from_millis(250));
    assert_eq!(config.upload_bytes, 8 << 20);
    assert_eq!(config.delete_delay, Duration::from_secs(5));
    let limits = config.bucket_limits;
    assert_eq!(
        (limits.requests_per_s, limits.bytes_in_per_s),
        (100, 64 << 10)
    );
    assert_eq!(limits.bytes_out_per_s, 20 << 20);
    assert_eq!(
        config.memory,
        super::memory::Memory::of(1 << 30).with_disk_cache()
    );
    let disk_cache = (PathBuf::from("/nvme/cache"), 100 << 30);
    assert_eq!(config.disk_cache, Some(disk_cache));
    assert_eq!(
        (config.max_connections, config.max_request_bytes),
        (5, 1 << 20)
    );
}

#[test]
fn what_is_given_wins_over_the_file_and_the_file_over_the_default() {
    let mut given = flags(&[("node-id", "3")]);
    given.insert(
        "wal-bytes",
        ("32MiB".to_owned(), Source::Environment("wal-bytes")),
    );
    let file =
        file("node-id = 9\nwal-bytes = 1\ndefault-partitions = 6\nauto-create-topics = false\n");
    let layers = Layers {
        given,
        file: file.unwrap(),
    };
    let config = ServeConfig::resolve(&layers, |_| None).unwrap();
    assert_eq!(config.node_id, 3, "flag before file");
    assert_eq!(config.wal_bytes, 32 << 20, "environment before file");
    assert_eq!(config.default_partitions, 6, "file before default");
    assert!(!config.auto_create_topics);
    assert_eq!(config.listen.port, 9092, "default");
}

#[test]
fn each_bad_value_is_refused_with_its_source_its_range_and_itself() {
    for (name, bad, expected) in [
        ("listen", "9092", "HOST:PORT"),
        ("listen", "h:70000", "0 to 65535"),
        ("advertise", "h", "HOST:PORT"),
        ("advertise", "0.0.0.0:1", "not a wildcard"),
        ("data-dir", "", "a path"),
        ("bucket", "ftp://x", "s3://BUCKET/PREFIX"),
        ("bucket", "s3://A_B", "s3://BUCKET/PREFIX"),
        ("bucket", "file:", "file:PATH"),
        ("wal", "", "auto, object, memory or the path"),
        (
            "wal-mode",
            "fast",
            "one of auto, ring-sync, ring-dsync, portable",
        ),
        ("wal-bytes", "16777215", "from 16 MiB to 512 TiB"),
        ("wal-bytes", "513TiB", "from 16 MiB to 512 TiB"),
        ("wal-bytes", "99999999999TiB", "from 16 MiB"),
        ("wal-bytes", "64MB", "KiB, MiB, GiB, TiB"),
        ("node-id", "-1", "from 0 to 2147483647"),
        ("node-id", "2147483648", "from 0 to 2147483647"),
        ("default-partitions", "0", "from 1 to 10000"),
        ("default-partitions", "10001", "from 1 to 10000"),
        ("default-partitions", "+5", "from 1 to 10000"),
        ("auto-create-topics", "yes", "one of true, false"),
        ("log-format", "xml", "one of text, json"),
        (
            "log-level",
            "verbose",
            "one of off, error, warn, info, debug, trace",
        ),
        ("log-level", "info,a=verbose", "directives"),
        ("accept-data-loss", "1", "one of true, false"),
        ("upload-interval-ms", "0", "from 1 to 86400000"),
        ("upload-bytes", "1023", "from 1 KiB to 1 GiB"),
        ("delete-delay-ms", "2592000001", "from 0 to 2592000000"),
        ("bucket-requests-per-s", "9", "from 10 to 1000000; or 0"),
        ("bucket-bytes-in-per-s", "1KiB", "from 64 KiB to 1 TiB"),
        ("memory", "127MiB", "from 128 MiB to 16 TiB"),
        ("upload-bytes", "40MiB", "a quarter of what may wait"),
        ("cache-dir", "", "a path"),
        ("cache-dir-bytes", "1MiB", "from 16 MiB to 64 TiB"),
        ("cache-dir-bytes", "1GiB", "cache-dir beside it"),
        ("max-connections", "0", "from 1 to 1000000"),
        ("max-request-bytes", "2GiB", "from 1 KiB to 1 GiB"),
    ] {
        let error = resolve(&[(name, bad)]).unwrap_err();
        let ConfigError::Value {
            source_of,
            expected: range,
            found,
        } = &error
        else {
            panic!("{name}={bad}: {error:?}");
        };
        assert_eq!((source_of, found.as_str()), (&Source::Flag(name), bad));
        assert!(range.contains(expected), "{name}={bad}: {range}");
        let text = error.to_string();
        assert!(
            text.contains(&format!("flag --{name}")) && !text.contains('\n'),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_value_names_the_variable_or_the_key_it_came_from() {
    let bad = ("x".to_owned(), Source::Environment("node-id"));
    let layers = Layers {
        given: Given::from([("node-id", bad)]),
        file: FileValues::default(),
    };
    let text = ServeConfig::resolve(&layers, |_| None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("environment variable TIDEWATER_NODE_ID: expected an integer"),
        "{text}"
    );

    let layers = Layers {
        given: Given::new(),
        file: file("node-id = \"x\"").unwrap(),
    };
    let text = ServeConfig::resolve(&layers, |_| None)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("key node-id of t.toml: expected an integer"),
        "{text}"
    );
}

#[test]
fn a_wildcard_needs_an_address_for_clients() {
    for wildcard in ["0.0.0.0:9092", "[::]:9092"] {
        let listen = wildcard.to_owned();
        let refused = ConfigError::AdvertiseMissing { listen };
        assert_eq!(resolve(&[("listen", wildcard)]).unwrap_err(), refused);
        resolve(&[("listen", wildcard), ("advertise", "a:1")]).unwrap();
    }
}

#[test]
fn a_memory_bucket_comes_with_a_memory_wal_only() {
    resolve(&[("bucket", "memory:"), ("wal", "memory")]).unwrap();
    let error = resolve(&[("bucket", "memory:")]).unwrap_err();
    assert_eq!(
        error,
        ConfigError::MemoryBucket {
            wal: "auto".to_owned()
        }
    );
    assert!(error.to_string().contains("--wal memory"));
    let error = resolve(&[("bucket", "memory:"), ("wal", "/w")]).unwrap_err();
    assert_eq!(
        error,
        ConfigError::MemoryBucket {
            wal: "/w".to_owned()
        }
    );
}

#[test]
fn contradictions_are_refused() {
    let error = resolve(&[("wal", "memory"), ("wal-mode", "portable")]).unwrap_err();
    assert!(
        matches!(error, ConfigError::ModeWithoutDevice { .. }),
        "{error}"
    );
    let error = resolve(&[("wal", "object"), ("wal-mode", "portable")]).unwrap_err();
    assert!(
        matches!(error, ConfigError::ModeWithoutDevice { .. }),
        "{error}"
    );
    let error = resolve(&[("bucket", "memory:"), ("wal", "object")]).unwrap_err();
    assert!(matches!(error, ConfigError::MemoryBucket { .. }), "{error}");
    let object = resolve(&[("wal", "object")]).unwrap();
    assert_eq!(object.wal, WalLocation::Object);
    resolve(&[("wal", "memory"), ("wal-mode", "auto")]).unwrap();
    let error = resolve(&[("data-dir", "/d"), ("bucket", "file:/d")]).unwrap_err();
    assert_eq!(
        error,
        ConfigError::BucketIsDataDir {
            path: PathBuf::from("/d")
        }
    );
}

#[test]
fn an_unknown_key_is_named_with_what_was_probably_meant() {
    let error = file("data_dir = \"x\"").unwrap_err();
    let ConfigError::UnknownKey { key, expected, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((key.as_str(), expected.as_str()), ("data_dir", "data-dir"));
    let error = file("[server]\nlisten = \"x\"").unwrap_err();
    assert!(
        error.to_string().contains("key server of t.toml"),
        "{error}"
    );
    assert!(
        error.to_string().contains("one of listen, advertise"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_flat_table_of_values_is_refused() {
    let error = file("listen = [\"a:1\"]").unwrap_err();
    assert!(
        matches!(error, ConfigError::KeyType { found: "array", .. }),
        "{error}"
    );
    let error = file("# one\nnode-id = = 3\n").unwrap_err();
    assert!(
        matches!(error, ConfigError::Syntax { line: 2, .. }),
        "{error}"
    );
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn the_bucket_options_come_from_the_aws_variables() {
    let layers = Layers {
        given: Given::new(),
        file: FileValues::default(),
    };
    let region = |name: &str| (name == "AWS_REGION").then(|| "eu-north-1".to_owned());
    let config = ServeConfig::resolve(&layers, region).unwrap();
    assert_eq!(config.bucket_options.region.as_deref(), Some("eu-north-1"));
}

proptest! {
    #[test]
    fn no_text_makes_the_resolution_panic(name in prop::sample::select(SETTINGS), text in ".{0,40}") {
        let _ = resolve(&[(name, &text)]);
    }

    #[test]
    fn no_file_makes_the_parser_panic(text in "[-a-z=\\[\\]\"'# \n0-9._]{0,60}") {
        let _ = file(&text);
    }
}
