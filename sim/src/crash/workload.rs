//! The program under test: appenders and trims on a real log, through several lives.
//!
//! *Owns*: the workload, the order of marks and promises, what it expects of a poisoned log.
//! *Does not own*: devices and their faults; the judgement of crashes.
//!
//! Invariants
//! 1. An acknowledgement is marked after its future completed, at once, with all others that are
//!    ready: so the marks in front of a crash are a subset of the acknowledgements given.
//! 2. A trim is marked before it is asked for: so nothing is missing that no mark excuses.
//! 3. A life ends only when each of its appends is acknowledged: so the next must find them all.
//!
//! *IO: driver*

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tidewater_types::{Env, Lsn};
use tidewater_wal::{Append, DeviceWal, DeviceWalConfig, Frame, OpenMode, Permit, Wal, WalError};

use super::book::line;
use super::log::num_entries;
use super::marker::Marker;
use super::{CrashError, env::MutantEnv, identity, marks};
use crate::check::frames::FrameModel;
use crate::check::{Violation, payload};
use crate::rng::Rng;

/// Appends of one appender under way at a time.
const DEPTH: usize = 3;
/// Acknowledged frames that are kept before trims begin: far less than the ring holds.
const KEEP: usize = 50;

/// What to do.
pub(super) struct Workload {
    pub(super) wal: PathBuf,
    pub(super) create: bool,
    pub(super) config: DeviceWalConfig,
    pub(super) lives: u32,
    pub(super) appenders: u32,
    /// An appender and life.
    pub(super) appends: u32,
    pub(super) seed: u64,
    pub(super) mutant: u16,
    /// The write log below the device, if it can be looked at while we run.
    pub(super) log: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Done {
    pub(super) describe: String,
    pub(super) appended: u64,
    pub(super) acked: u64,
    pub(super) trims: u64,
    /// The log was poisoned: by what.
    pub(super) poisoned: Option<String>,
    /// Entries the write log had then: no flush that succeeded before covers what follows.
    pub(super) log_entries: Option<u64>,
}

/// Where everything is written down.
pub(super) struct Book {
    history: BufWriter<File>,
    marker: Marker,
    model: FrameModel,
    /// Acknowledged and not trimmed.
    kept: BTreeSet<Lsn>,
    next_value: u64,
    done: Done,
    acked_last: Lsn,
    failed_first: Option<Lsn>,
}

impl Book {
    pub(super) fn new(history: &Path, marker: Marker) -> Result<Self, CrashError> {
        let file = File::create(history).map_err(CrashError::io("create", history))?;
        Ok(Self {
            history: BufWriter::new(file),
            marker,
            model: FrameModel::default(),
            kept: BTreeSet::new(),
            next_value: 0,
            done: Done::default(),
            acked_last: Lsn(0),
            failed_first: None,
        })
    }

    fn mark(&self, text: &str) -> Result<(), CrashError> {
        self.marker
            .mark(text)
            .map_err(CrashError::io("write a mark to", Path::new("the log")))
    }

    fn appended(&mut self, value: u64, lsn: Lsn) -> Result<(), CrashError> {
        self.model.appended(value, lsn);
        self.done.appended += 1;
        self.history
            .write_all(line(value, lsn).as_bytes())
            .map_err(CrashError::io("write", Path::new("the history")))
    }

    fn acked(&mut self, frames: &[(u64, Lsn)]) -> Result<(), CrashError> {
        let values: Vec<u64> = frames.iter().map(|(value, _)| *value).collect();
        for text in marks::acked(&values) {
            self.mark(&text)?;
        }
        for (value, lsn) in frames {
            self.model.acked(*value);
            self.kept.insert(*lsn);
            self.acked_last = self.acked_last.max(*lsn);
            self.done.acked += 1;
        }
        Ok(())
    }

    /// Where a trim should go to, if it is time for one.
    fn trim(&mut self, rng: &mut Rng) -> Result<Option<Lsn>, CrashError> {
        if self.kept.len() < KEEP || !rng.chance(200) {
            return Ok(None);
        }
        let place = self.kept.len() / 2 + rng.index(self.kept.len() / 2);
        let up_to = *self.kept.iter().nth(place).expect("inside the set");
        self.mark(&marks::trim(up_to))?;
        self.model.trimmed(up_to);
        self.kept = self.kept.split_off(&up_to);
        self.done.trims += 1;
        Ok(Some(up_to))
    }
}

/// What the appenders of one life share.
struct Life<'a> {
    wal: DeviceWal,
    env: Arc<dyn Env>,
    book: &'a RefCell<Book>,
}

/// Runs the workload to its end, or to the first error.
pub(super) async fn run(load: &Workload, book: Book) -> Result<Done, CrashError> {
    let book = RefCell::new(book);
    for number in 0..load.lives {
        let life = open(load, load.create && number == 0, &book)?;
        let seed = load.seed ^ (u64::from(number) << 32);
        let appenders = (0..load.appenders).map(|name| {
            appender(
                &life,
                Rng::new(seed, &format!("appender {name}")),
                load.appends,
            )
        });
        let ends = join_all(appenders).await;
        for end in ends {
            match end {
                Ok(()) => {}
                Err(CrashError::Wal(WalError::Poisoned { cause })) => {
                    book.borrow_mut().done.poisoned = Some(cause.to_string());
                }
                Err(other) => return Err(other),
            }
        }
        if book.borrow().done.poisoned.is_some() {
            // Before the device is closed: that alone may flush it once more.
            book.borrow_mut().done.log_entries = load.log.as_deref().map(entries).transpose()?;
            must_stay_poisoned(&life).await?;
            break;
        }
        // One life in two ends without a word, as a kill would.
        if Rng::new(seed, "end").chance(500) || number + 1 == load.lives {
            life.wal.close().await?;
        }
    }
    let mut book = book.into_inner();
    let flushed = book.history.flush();
    flushed.map_err(CrashError::io("write", Path::new("the history")))?;
    Ok(book.done)
}

fn entries(log: &Path) -> Result<u64, CrashError> {
    let file = File::open(log).map_err(CrashError::io("open", log))?;
    num_entries(file).map_err(|wrong| wrong.in_file(log))
}

fn open<'a>(
    load: &Workload,
    create: bool,
    book: &'a RefCell<Book>,
) -> Result<Life<'a>, CrashError> {
    let env: Arc<dyn Env> = Arc::new(MutantEnv::current(load.mutant));
    let served = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&served);
    let mode = if create {
        OpenMode::Create
    } else {
        OpenMode::Existing
    };
    let (wal, _) = DeviceWal::open(
        &load.wal,
        Arc::clone(&env),
        load.config.clone(),
        identity(),
        mode,
        move |lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec())),
    )?;
    {
        let mut book = book.borrow_mut();
        book.model.recovered(&served.lock())?;
        book.mark(&marks::opened())?;
        book.done.describe = wal.describe();
    }
    Ok(Life { wal, env, book })
}

async fn appender(life: &Life<'_>, mut rng: Rng, appends: u32) -> Result<(), CrashError> {
    let mut under_way = VecDeque::new();
    for _ in 0..appends {
        if under_way.len() >= DEPTH {
            settle(life, &mut under_way, &mut rng).await?;
        }
        let most = if rng.chance(50) { 6_000 } else { 1_500 };
        let len = usize::try_from(rng.between(16, most)).expect("small");
        let permit = life.wal.reserve(len).await?;
        under_way.push_back(append(life, permit, len)?);
        if rng.chance(100) {
            let pause = Duration::from_millis(rng.between(1, 4));
            life.env.sleep(pause).await;
        }
    }
    while !under_way.is_empty() {
        settle(life, &mut under_way, &mut rng).await?;
    }
    Ok(())
}

/// Appends the next value; it is written down where it went.
fn append(life: &Life<'_>, permit: Permit, len: usize) -> Result<(u64, Append), CrashError> {
    let mut book = life.book.borrow_mut();
    book.next_value += 1;
    let value = book.next_value;
    let frame = Frame::from(Bytes::from(payload(value, len)));
    let append = life.wal.append(permit, frame)?;
    book.appended(value, append.lsn())?;
    Ok((value, append))
}

/// Waits for the oldest append, takes the others that are ready, and marks them all at once.
async fn settle(
    life: &Life<'_>,
    under_way: &mut VecDeque<(u64, Append)>,
    rng: &mut Rng,
) -> Result<(), CrashError> {
    let mut acked = Vec::new();
    let mut failure = None;
    while let Some((value, append)) = under_way.front_mut() {
        let (value, lsn) = (*value, append.lsn());
        let answer = if acked.is_empty() {
            append.await
        } else {
            match append.now_or_never() {
                Some(answer) => answer,
                None => break,
            }
        };
        under_way.pop_front();
        match answer {
            Ok(_) => acked.push((value, lsn)),
            Err(error) => {
                failure = Some((lsn, error));
                break;
            }
        }
    }
    let mut book = life.book.borrow_mut();
    book.acked(&acked)?;
    if let Some((lsn, error)) = failure {
        let first = book.failed_first.map_or(lsn, |first| first.min(lsn));
        book.failed_first = Some(first);
        return Err(error.into());
    }
    if let Some(up_to) = book.trim(rng)? {
        life.wal.trim(up_to);
    }
    Ok(())
}

/// Of a poisoned log nothing more is acknowledged, and it says so.
async fn must_stay_poisoned(life: &Life<'_>) -> Result<(), CrashError> {
    let wrong = |detail: String| CrashError::Violation(Violation::new("poisoned", detail));
    let (last, first) = {
        let book = life.book.borrow();
        (book.acked_last, book.failed_first)
    };
    if let Some(first) = first.filter(|first| last >= *first) {
        return Err(wrong(format!(
            "lsn {last} was acknowledged, {first} in front of it was not"
        )));
    }
    let durable = life.wal.watermarks().durable;
    for _ in 0..3 {
        life.env.sleep(Duration::from_millis(20)).await;
        let appended = match life.wal.reserve(16).await {
            Ok(permit) => match life
                .wal
                .append(permit, Frame::from(Bytes::from(payload(0, 16))))
            {
                Ok(append) => append.await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if !matches!(appended, Err(WalError::Poisoned { .. })) {
            return Err(wrong(format!("an append afterwards ended as {appended:?}")));
        }
    }
    let closed = life.wal.close().await;
    if !matches!(closed, Err(WalError::Poisoned { .. })) {
        return Err(wrong(format!("the close afterwards ended as {closed:?}")));
    }
    let now = life.wal.watermarks().durable;
    if now != durable {
        return Err(wrong(format!(
            "the durable mark went from {durable} to {now}"
        )));
    }
    Ok(())
}
