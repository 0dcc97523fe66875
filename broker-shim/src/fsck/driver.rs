//! What a check needs of the process: the directory's lock, a runtime, a progress bar.
//!
//! *Owns*: opening the bucket and running the check; asking a broker to run it.
//! *Does not own*: what is checked.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the process's driver"
)]

use std::fs::{File, TryLockError};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tidewater_stream_store::bucket::{self, BucketUrl, DirectoryState, LocalBucket};
use tidewater_stream_store::{Fsck, TokioEnv};
use tidewater_types::{Env, NodeId};

use crate::config::{ServeConfig, WalLocation};
use crate::exit::{Code, Exit};
use crate::net::FSCK_API_KEY;
use crate::ready;
use crate::report;
use crate::serve::{LOCK_FILE, exit_of_store};
use crate::stats;

/// A check of a petabyte takes its time; a broker that is gone closes the connection.
const ANSWER: Duration = Duration::from_secs(7 * 86_400);
const DRAWN_EVERY: Duration = Duration::from_millis(200);
const ASKED_EVERY: Duration = Duration::from_millis(500);
const PROGRESS_WITHIN: Duration = Duration::from_secs(3);
/// The question how far a check is. A broker that does not know it takes it for a second check: it refuses
/// while one runs, and makes one without checksums before and after.
const ASK_PROGRESS: u8 = 2;

/// How data are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct How {
    /// Read everything and check every checksum.
    pub(crate) checksums: bool,
    /// Leave out what is not in the bucket's objects.
    pub(crate) no_wal: bool,
    /// Delete what provably nobody can want.
    pub(crate) repair: bool,
}

/// Whether somebody uses a data directory.
pub(super) enum Held {
    /// Nobody: the lock, if there is a directory, keeps brokers from starting meanwhile.
    Free(#[allow(dead_code, reason = "held for its lock")] Option<File>),
    /// The broker that answers at this address.
    Used(String),
}

/// Takes the lock of the data directory, without creating anything.
pub(super) fn hold(data_dir: &Path) -> Result<Held, Exit> {
    let refuse = |expected: &str, found: &dyn std::fmt::Display| {
        Exit::new(
            Code::Environment,
            "cannot look at the data directory",
            data_dir.display(),
            expected,
            found,
        )
    };
    let lock = match File::open(data_dir.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Held::Free(None)),
        Err(cause) => return Err(refuse("a directory that can be read", &cause)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Held::Free(Some(lock))),
        Err(TryLockError::WouldBlock) => match ready::read(&data_dir.join(ready::BROKER_FILE)) {
            Ok(facts) => Ok(Held::Used(facts.listen)),
            Err(cause) => Err(refuse("a broker that answers in it, or none", &cause)),
        },
        Err(TryLockError::Error(cause)) => Err(refuse("a file system with locks", &cause)),
    }
}

/// The report of the broker at `address` on its own data.
pub(super) fn ask(address: &str, how: How) -> Result<Value, Exit> {
    let body = [u8::from(how.checksums)];
    let answer = {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let bar = draw_remote(address.to_owned(), is_over);
        let answer = stats::ask(address, FSCK_API_KEY, &body, ANSWER);
        drop(over);
        // What it drew is cleared before anything is printed.
        let _ = bar.map(std::thread::JoinHandle::join);
        answer
    };
    let text = answer.map_err(|error| Exit::because(Code::Environment, error))?;
    let value: Value = serde_json::from_str(&text).map_err(|cause| {
        let place = format!("report of {address}");
        Exit::new(Code::Environment, "no report", place, "JSON", cause)
    })?;
    match value["refused"].as_str() {
        None => Ok(value),
        Some(reason) => {
            let code = match value["code"].as_u64() {
                Some(4) => Code::Foreign,
                Some(5) => Code::Damage,
                _ => Code::Environment,
            };
            Err(Exit::because(code, format!("{address}: {reason}")))
        }
    }
}

/// Checks the data of a broker that does not run.
pub(super) fn check(config: &ServeConfig, how: How) -> Result<Value, Exit> {
    let bucket = open_bucket(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|cause| {
        let expected = "threads and a poller";
        Exit::new(
            Code::Environment,
            "cannot start",
            "threads",
            expected,
            cause,
        )
    })?;
    let checked = runtime.block_on(async {
        let env: Arc<dyn Env> = Arc::new(TokioEnv::current());
        let mut fsck = Fsck::new(env, bucket).with_checksums(how.checksums);
        if how.no_wal {
            fsck = fsck.without_wals();
        } else if let Some(path) = device(config) {
            fsck = fsck.with_device_wal(NodeId(config.node_id), path, false);
        }
        let bar = tokio::spawn(draw(fsck.progress()));
        let checked = fsck.run().await;
        bar.abort();
        // What it drew is cleared when it is dropped, before anything is printed.
        let _ = bar.await;
        let checked = checked.map_err(|error| exit_of_store(&error))?;
        let repaired = match how.repair {
            true => Some(
                fsck.repair(&checked)
                    .await
                    .map_err(|error| exit_of_store(&error))?,
            ),
            false => None,
        };
        Ok(report::as_json(&checked, repaired.as_deref()))
    });
    runtime.shutdown_background();
    checked
}

/// The device WAL that a broker with these settings would use, if it can have one.
fn device(config: &ServeConfig) -> Option<std::path::PathBuf> {
    let may_be_there = match config.wal {
        WalLocation::Auto => config.data_dir.is_dir(),
        _ => true,
    };
    config.wal.path(&config.data_dir).filter(|_| may_be_there)
}

fn open_bucket(config: &ServeConfig) -> Result<Arc<dyn bucket::Bucket>, Exit> {
    let refuse = |found: &str| {
        let place = &config.bucket;
        let expected = "a bucket with data";
        Err(Exit::new(
            Code::Environment,
            "nothing to check",
            place,
            expected,
            found,
        ))
    };
    match &config.bucket {
        BucketUrl::Memory => return refuse("one that lives in a process"),
        BucketUrl::File { path } => {
            let state = LocalBucket::check(path);
            match state.map_err(|error| Exit::because(Code::Environment, error))? {
                DirectoryState::Missing => return refuse("no directory"),
                DirectoryState::Empty => return refuse("an empty directory"),
                DirectoryState::Present => {}
            }
        }
        _ => {}
    }
    bucket::open(&config.bucket, &config.bucket_options)
        .map_err(|error| Exit::because(Code::Environment, error))
}

/// Draws a bar on standard error for as long as it is a terminal and the check runs.
async fn draw(progress: impl Fn() -> (u64, u64) + Send) {
    let Some(bar) = Bar::new() else { return };
    loop {
        tokio::time::sleep(DRAWN_EVERY).await;
        bar.show(progress());
    }
}

/// The same while a broker checks: it is asked how far it is, on connections beside the one that waits
/// for the report. The bar goes when the other end of `is_over` does.
fn draw_remote(address: String, is_over: Receiver<()>) -> Option<std::thread::JoinHandle<()>> {
    let bar = Bar::new()?;
    Some(std::thread::spawn(move || {
        while is_over.recv_timeout(ASKED_EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Some(progress) = progress(&address) {
                bar.show(progress);
            }
        }
    }))
}

/// How far the broker's check is; `None` if it does not say.
fn progress(address: &str) -> Option<(u64, u64)> {
    let text = stats::ask(address, FSCK_API_KEY, &[ASK_PROGRESS], PROGRESS_WITHIN).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    Some((value["done"].as_u64()?, value["total"].as_u64()?))
}

/// A bar on a terminal, cleared when it is dropped.
struct Bar(Cleared);

impl Bar {
    /// `None` where standard error is no terminal.
    fn new() -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let style = "{elapsed_precise} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        let style = ProgressStyle::with_template(style).expect("a valid template");
        Some(Self(Cleared(ProgressBar::new(0).with_style(style))))
    }

    fn show(&self, (done, total): (u64, u64)) {
        let Cleared(bar) = &self.0;
        bar.set_length(total);
        bar.set_position(done);
    }
}

struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
