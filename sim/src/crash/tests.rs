//! The workload and the judge together, on files: what is in order passes, what is lost is seen.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of a driver, on real files"
)]

use std::fs;
use std::path::{Path, PathBuf};

use tidewater_types::Lsn;
use tidewater_wal::WalMode;

use super::book::{History, Promises, line};
use super::judge::{Held, Judge};
use super::marker::Marker;
use super::mounted::read;
use super::wal_config;
use super::workload::{Book, Done, Workload, run};
use crate::check::Violation;
use crate::rng::Rng;

struct Recorded {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    history: History,
    promises: Promises,
    done: Done,
}

fn recorded() -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let [wal, history, marks] = ["wal", "history", "marks"].map(|name| folder.path().join(name));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().build().unwrap();
    let load = Workload {
        wal,
        create: true,
        config: wal_config(WalMode::Portable),
        lives: 2,
        appenders: 2,
        appends: 20,
        seed: 1,
        mutant: 0,
        log: None,
    };
    let book = Book::new(&history, Marker::file(&marks).unwrap()).unwrap();
    let done = runtime.block_on(run(&load, book)).unwrap();
    let text = fs::read_to_string(&marks).unwrap();
    Recorded {
        history: History::parse(&fs::read_to_string(&history).unwrap()).unwrap(),
        promises: Promises::of_marks(text.lines()),
        folder,
        runtime,
        done,
    }
}

impl Recorded {
    fn wal(&self) -> PathBuf {
        self.folder.path().join("wal")
    }

    fn judge(&self, history: &History, promises: &Promises) -> Result<Held, Violation> {
        let _inside = self.runtime.enter();
        let judge = Judge {
            history,
            mode: WalMode::Portable,
        };
        let wal = self.wal();
        let image = || read(&wal).unwrap();
        judge.judge(&wal, image, 512, promises, &mut Rng::new(1, "test"))
    }
}

#[test]
fn a_run_in_order_passes_with_everything_it_promised() {
    let run = recorded();
    assert_eq!((run.done.appended, run.done.acked), (80, 80));
    assert_eq!(run.history.num_frames(), 80);
    let held = run.judge(&run.history, &run.promises).unwrap();
    assert!(
        held.promised > 0 && held.served >= held.promised,
        "{held:?}"
    );
}

#[test]
fn a_promise_that_is_not_kept_is_seen() {
    let run = recorded();
    let text: String = (1..=81).map(|value| line(value, Lsn(value))).collect();
    let more = History::parse(&text).unwrap();
    let lost = run
        .judge(&more, &Promises::of_marks(["o", "a51"]))
        .unwrap_err();
    assert_eq!(lost.checker, "frames");
}

#[test]
fn a_log_that_is_gone_is_seen_unless_it_was_never_opened() {
    let run = recorded();
    fs::remove_file(run.wal()).unwrap();
    let gone = run.judge(&run.history, &run.promises).unwrap_err();
    assert_eq!(gone.checker, "open");
    let never = Promises::default();
    assert_eq!(run.judge(&run.history, &never), Ok(Held::default()));
}

#[test]
fn a_wiped_log_is_seen() {
    let run = recorded();
    wipe(&run.wal());
    let refused = run.judge(&run.history, &run.promises).unwrap_err();
    assert_eq!(refused.checker, "open");
}

fn wipe(path: &Path) {
    let num_bytes = fs::metadata(path).unwrap().len();
    fs::write(path, vec![0; usize::try_from(num_bytes).unwrap()]).unwrap();
}
