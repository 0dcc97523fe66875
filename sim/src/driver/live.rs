//! Seeds that run now: how far they are, what they find, what they leave if they are interrupted.
//!
//! *Owns*: the sums so far, when files are written, the end of a command and its exit code.
//! *Does not own*: threads (campaign.rs), the look of pages (page.rs), of findings (finding.rs).
//!
//! Invariants
//! 1. A kind of failure is shown, and its files are written, before the next seed is counted.
//! 2. Page and JSON are never older than the newest kind of failure, nor than about a minute.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a driver: campaigns are timed by a real clock"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::campaign::{Campaign, SeedResult};
use super::gate::{self, MutantRow};
use super::kinds::Kinds;
use super::page::page;
use super::progress::{Progress, a_minute};
use super::report::{Origin, Sums};
use super::{git, num_threads, refused, write_json, write_whole};

/// How often page and JSON are written while seeds run.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// Where results go.
pub(super) struct Out<'a> {
    pub(super) json: Option<&'a str>,
    pub(super) folder: &'a Path,
}

impl Out<'_> {
    /// Standard output belongs to the JSON.
    pub(super) fn is_quiet(&self) -> bool {
        self.json == Some("-")
    }

    /// Writes the JSON of what is over.
    pub(super) fn finish(&self, sums: &Sums) -> ExitCode {
        if let Some(path) = self.json
            && let Err(why) = write_json(sums, path)
        {
            return refused("write", path, &why);
        }
        ExitCode::from(u8::from(!sums.is_good()))
    }
}

/// A command while its seeds run.
pub(super) struct Live<'a> {
    sums: Sums,
    kinds: Kinds,
    progress: Progress,
    out: &'a Out<'a>,
    /// Where the summary goes, if there is one.
    page: Option<PathBuf>,
    start: Instant,
    written: Instant,
    /// Time of earlier parts whose seeds are in the sums.
    counted: Duration,
    /// Whether the seeds of this part are in the sums.
    counts: bool,
}

impl<'a> Live<'a> {
    /// Nothing has run yet.
    ///
    /// # Errors
    /// The files could not be written in the end either.
    pub(super) fn new(out: &'a Out<'a>, page: Option<PathBuf>) -> Result<Self, ExitCode> {
        let now = Instant::now();
        let live = Self {
            sums: Sums::new(git()),
            kinds: Kinds::default(),
            progress: Progress::new(),
            out,
            page,
            start: now,
            written: now,
            counted: Duration::ZERO,
            counts: true,
        };
        live.write()?;
        Ok(live)
    }

    /// The next part begins; `counts` says whether all its seeds are added.
    pub(super) fn begin(&mut self, counts: bool) {
        self.counted = self.counted();
        self.counts = counts;
        self.progress = Progress::new();
    }

    fn counted(&self) -> Duration {
        let now = if self.counts {
            self.progress.elapsed()
        } else {
            Duration::ZERO
        };
        self.counted + now
    }

    /// Prints to the terminal beside what is drawn there.
    pub(super) fn print(&self, print: impl FnOnce()) {
        self.progress.around(print);
    }

    /// Adds a seed; the first failure of each kind is shown at once.
    pub(super) fn add(&mut self, result: &SeedResult, mutant: u16) {
        let Some(failure) = self.sums.add(result, mutant, Origin::Seed) else {
            return;
        };
        if !self.kinds.is_new(failure) {
            return;
        }
        let (kinds, folder) = (&mut self.kinds, self.out.folder);
        self.progress.around(|| kinds.meet(failure, folder));
        self.write_now();
    }

    /// Tells how far `campaign` is after its seeds so far, and writes what is due.
    pub(super) fn tick(&mut self, campaign: &Campaign, num_seeds: u64) {
        let took = self.progress.elapsed();
        let failed = self.sums.failures.len();
        self.tick_share(campaign.share(num_seeds, took), || {
            let rate = a_minute(num_seeds, took);
            format!("{num_seeds} seeds, {rate} a minute, {failed} failed")
        });
    }

    /// Tells that `share` of 1 of this part is done, and writes what is due.
    pub(super) fn tick_share(&mut self, share: f64, words: impl FnOnce() -> String) {
        self.progress.tick(share, words);
        if self.written.elapsed() >= WRITTEN_EVERY {
            self.write_now();
        }
    }

    /// Time since this part began.
    pub(super) fn elapsed(&self) -> Duration {
        self.progress.elapsed()
    }

    /// Adds what became of a seeded bug.
    pub(super) fn add_mutant(&mut self, row: MutantRow) {
        self.sums.mutants.push(row);
    }

    /// What became of the seeded bugs so far.
    pub(super) fn mutants(&self) -> &[MutantRow] {
        &self.sums.mutants
    }

    /// Writes in the middle; what cannot be written is told, and tried again in the end.
    fn write_now(&mut self) {
        self.written = Instant::now();
        self.sums.finish(num_threads(), self.counted());
        // Errors are told where they are met.
        _ = self.progress.around(|| self.write());
    }

    fn write(&self) -> Result<(), ExitCode> {
        let page = self.write_page();
        match self.out.json {
            // Standard output takes it once.
            None | Some("-") => Ok(()),
            Some(path) => write_json(&self.sums, path).map_err(|why| refused("write", path, &why)),
        }
        // Without the one file there is the other.
        .and(page)
    }

    fn write_page(&self) -> Result<(), ExitCode> {
        let page = self.page.as_ref();
        page.map_or(Ok(()), |path| write_page(&self.sums, path))
    }

    /// Tells and writes all; `strict` also takes what never happened for a failure.
    pub(super) fn end(mut self, strict: bool) -> ExitCode {
        self.begin(false);
        self.sums.complete = true;
        self.sums.finish(num_threads(), self.counted);
        let Self { sums, out, .. } = &self;
        self.kinds.tell_all(sums, out.folder);
        summary(sums, self.start.elapsed());
        let page = self.write_page();
        if let (Ok(()), Some(path)) = (&page, &self.page) {
            eprintln!("summary: {}", path.display());
        }
        let code = out.finish(sums);
        if let Err(code) = page {
            return code;
        }
        let never = [Sums::never(&sums.faults), Sums::never(&sums.sometimes)].concat();
        if !strict || never.is_empty() {
            return code;
        }
        eprintln!("never in this campaign: {}", never.join(", "));
        if code == ExitCode::SUCCESS {
            ExitCode::from(1)
        } else {
            code
        }
    }
}

/// Writes the summary page.
///
/// # Errors
/// The exit code of a file that cannot be written; why is told.
pub(super) fn write_page(sums: &Sums, path: &Path) -> Result<(), ExitCode> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| write_whole(path, &page(sums)))
        .map_err(|why| refused("write", path, &why))
}

fn summary(sums: &Sums, took: Duration) {
    for (name, row) in &sums.scenarios {
        eprintln!(
            "{name:<12} {:>8} seeds {:>8} a minute {:>8.2} virtual hours",
            row.seeds, row.seeds_per_minute, row.virtual_hours
        );
    }
    for reason in gate::broken(&sums.mutants) {
        eprintln!("{reason}");
    }
    eprintln!(
        "{} seeds, {} a minute, {} failed in {} ways, {} run twice, {} differed, {:.1} s",
        sums.num_seeds(),
        sums.seeds_per_minute,
        sums.failures.len(),
        sums.distinct().len(),
        sums.determinism.rerun,
        sums.determinism.mismatches,
        took.as_secs_f64()
    );
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::ExitCode;

    use super::{Live, Out};

    #[test]
    fn a_page_that_cannot_be_written_does_not_cost_the_json() {
        let folder = tempfile::tempdir().unwrap();
        let (pages, json) = (folder.path().join("pages"), folder.path().join("told.json"));
        let out = Out {
            json: json.to_str(),
            folder: folder.path(),
        };
        let live = Live::new(&out, Some(pages.join("summary.html"))).unwrap();
        let is_complete = || {
            let told = fs::read_to_string(&json).unwrap();
            told.contains("\"complete\": true")
        };
        assert!(!is_complete());
        fs::remove_dir_all(&pages).unwrap();
        fs::write(&pages, "in the way").unwrap();
        assert_eq!(live.end(false), ExitCode::from(3));
        assert!(is_complete());
    }
}
