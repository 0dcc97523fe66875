//! What a class of states came to.
//!
//! *Owns*: the sums, their JSON. *Does not own*: whether bad states are good news (a seeded bug
//! that is caught): whoever ran the class knows.
//!
//! *IO: none*

use serde::Serialize;

use super::judge::Held;
use super::replay::{Crash, Landing};
use crate::check::Violation;

/// Bad states told in words.
const FAILURES_MAX: usize = 10;

/// A class of states: one recorded run, many crashes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Class {
    pub(super) class: String,
    pub(super) seed: u64,
    pub(super) entries: usize,
    pub(super) flushes: usize,
    pub(super) frames: usize,
    pub(super) states: u64,
    pub(super) bad: u64,
    /// States in which nothing was promised yet.
    pub(super) vacuous: u64,
    pub(super) promised: u64,
    pub(super) served: u64,
    pub(super) seconds: f64,
    pub(super) failures: Vec<Failure>,
}

/// One bad state.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) state: u64,
    pub(super) entry: usize,
    pub(super) sector_bytes: usize,
    pub(super) landing: &'static str,
    pub(super) checker: &'static str,
    pub(super) detail: String,
}

impl Class {
    /// Counts a state.
    pub(super) fn add(&mut self, crash: &Crash, outcome: Result<Held, Violation>) {
        self.states += 1;
        match outcome {
            Ok(held) => {
                self.vacuous += u64::from(held.promised == 0);
                self.promised += held.promised;
                self.served += held.served;
            }
            Err(violation) => {
                self.bad += 1;
                if self.failures.len() < FAILURES_MAX {
                    self.failures.push(Failure {
                        state: crash.number,
                        entry: crash.until,
                        sector_bytes: crash.sector_bytes,
                        landing: name(crash.landing),
                        checker: violation.checker,
                        detail: violation.detail,
                    });
                }
            }
        }
    }
}

fn name(landing: Landing) -> &'static str {
    match landing {
        Landing::None => "none",
        Landing::Writes => "writes",
        Landing::Sectors => "sectors",
        Landing::All => "all",
    }
}
