//! A failure for people: swim lanes in the terminal, a timeline and a plan in files.
//!
//! *Owns*: the files of a finding. *Does not own*: what they look like (trace/).
//!
//! *IO: driver*

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::report::{Origin, key_of, replay_line};
use super::{quietly, refused, write_whole};
use crate::check::anomaly::anomaly;
use crate::plan::Plan;
use crate::plan::saved::{ENDS_WELL, Found, SavedPlan};
use crate::scenario::{RunReport, Watch, run_watched};
use crate::trace::timeline::Head;
use crate::trace::{Keep, lanes, story, timeline};

/// Runs the plan again with everything it does told.
pub(super) fn told(plan: &Plan, mutant: u16) -> RunReport {
    let watch = Watch {
        keep: Keep::Lines,
        impure_after_ns: None,
    };
    quietly(|| run_watched(plan, mutant, watch))
}

/// The finding of a run that was told.
pub(super) struct Finding<'a> {
    pub(super) plan: &'a Plan,
    pub(super) mutant: u16,
    /// What has the plan.
    pub(super) origin: Origin<'a>,
    pub(super) report: &'a RunReport,
}

impl Finding<'_> {
    /// The command that shows it again.
    pub(super) fn replay(&self) -> String {
        let Plan { seed, scenario, .. } = self.plan;
        replay_line(*seed, *scenario, self.mutant, self.origin)
    }

    /// The swim lanes around the failure.
    pub(super) fn lanes(&self) -> String {
        lanes::lanes(&story::read(&self.report.lines))
    }

    /// Writes the timeline.
    pub(super) fn write_timeline(&self, path: &Path) -> io::Result<()> {
        let failure = self.report.failure.as_ref().map(|violation| {
            let known = anomaly(violation).map_or(String::new(), |name| format!(" ({name})"));
            format!("{violation}{known}")
        });
        let name = self.plan.scenario.name();
        let head = Head {
            title: format!("seed {} of {name}, mutant {}", self.plan.seed, self.mutant),
            failure,
            replay: self.replay(),
        };
        write_whole(
            path,
            &timeline::page(&head, &story::read(&self.report.lines)),
        )
    }

    /// The plan with what it shows.
    pub(super) fn saved(&self) -> SavedPlan {
        let failure = self.report.failure.as_ref();
        SavedPlan {
            about: failure.map_or(ENDS_WELL.to_owned(), ToString::to_string),
            mutant: self.mutant,
            undone_by: 0,
            found: failure.map(|violation| Found {
                checker: violation.checker.to_owned(),
                key: key_of(violation),
            }),
            plan: self.plan.clone(),
        }
    }

    /// Leaves the timeline below `folder`, and the plan unless a file has it; tells where.
    pub(super) fn leave(&self, folder: &Path) {
        match self.write_files(folder) {
            Ok(page) => eprintln!("timeline: {}", page.display()),
            // The finding stands in the terminal; a full disk must not hide it.
            Err(why) => _ = refused("write", folder, &why),
        }
    }

    fn write_files(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let name = match self.origin {
            Origin::File(path) => path.file_stem().unwrap_or_default().to_owned(),
            Origin::Seed => file_stem(self.plan, self.mutant).into(),
        };
        let below = |extension: &str| {
            let mut name = name.clone();
            name.push(extension);
            folder.join(name)
        };
        if let Origin::Seed = self.origin {
            write_whole(&below(".json"), &self.saved().text())?;
        }
        let page = below(".html");
        self.write_timeline(&page)?;
        Ok(page)
    }
}

/// How files about a seed begin: alike for no two runs.
pub(super) fn file_stem(plan: &Plan, mutant: u16) -> String {
    let mutant = if mutant == 0 {
        String::new()
    } else {
        format!("-mutant-{mutant}")
    };
    format!("{}-{}{mutant}", plan.scenario.name(), plan.seed)
}
