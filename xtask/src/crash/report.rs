//! What is printed and what is written as JSON.
//!
//! *Owns*: a line a class, a line a failed flush, the sums, whether all is well.
//! *Does not own*: the numbers.
//!
//! *IO: none*

use serde_json::{Value, json};

use super::table::Expect;

/// A class of states and what it came to.
pub(crate) struct Class {
    name: &'static str,
    expect: Expect,
    sums: Value,
    /// One state alone: what a whole class must show does not count.
    alone: bool,
}

/// A fault and what the log made of it.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// `None`: as it should be.
    pub(crate) wrong: Option<String>,
    pub(crate) detail: String,
}

impl Class {
    pub(crate) fn new(name: &'static str, expect: Expect, sums: Value, alone: bool) -> Self {
        Self {
            name,
            expect,
            sums,
            alone,
        }
    }

    fn count(&self, what: &str) -> u64 {
        self.sums[what].as_u64().unwrap_or(0)
    }

    pub(crate) fn is_ok(&self) -> bool {
        let (states, bad) = (self.count("states"), self.count("bad"));
        match self.expect {
            Expect::Good => {
                // States that promise nothing show nothing.
                let shown = self.alone || 2 * self.count("vacuous") < states;
                bad == 0 && states > 0 && shown
            }
            Expect::Caught { percent } => self.alone || (bad > 0 && 100 * bad >= percent * states),
        }
    }

    /// The line of the class.
    pub(crate) fn line(&self) -> String {
        let states = self.count("states");
        let verdict = match (self.expect, self.is_ok()) {
            (Expect::Good, true) => "ok",
            (Expect::Caught { .. }, true) if self.alone => "as it is",
            (Expect::Caught { .. }, true) => "ok (caught)",
            (Expect::Good, false) => "FAILED",
            (Expect::Caught { .. }, false) => "FAILED (not caught)",
        };
        format!(
            "{:<18} {states:>4} states {:>4} bad  {:>3} promised nothing  {:>5.1} frames promised \
a state  {:>4} flushes  {:>5.1} s  {verdict}",
            self.name,
            self.count("bad"),
            self.count("vacuous"),
            self.count("promised") as f64 / states.saturating_sub(self.count("bad")).max(1) as f64,
            self.count("flushes"),
            self.sums["seconds"].as_f64().unwrap_or(0.0),
        )
    }

    /// What was wrong, and how to see it again.
    pub(crate) fn failures(&self) -> Vec<String> {
        if self.is_ok() && !self.alone {
            return Vec::new();
        }
        let told = self.sums["failures"].as_array().into_iter().flatten();
        told.map(|failure| {
            format!(
                "  {} seed={} state={} entry={} sectors={} landing={} checker={} {}\n    \
again: cargo xtask crash-test --class {} --seed {} --state {}",
                self.name,
                self.sums["seed"],
                failure["state"],
                failure["entry"],
                failure["sector_bytes"],
                failure["landing"].as_str().unwrap_or(""),
                failure["checker"].as_str().unwrap_or(""),
                failure["detail"].as_str().unwrap_or(""),
                self.name,
                self.sums["seed"],
                failure["state"],
            )
        })
        .collect()
    }
}

impl Fault {
    pub(crate) fn is_ok(&self) -> bool {
        self.wrong.is_none()
    }

    pub(crate) fn line(&self) -> String {
        let verdict = match &self.wrong {
            None => "ok".to_owned(),
            Some(wrong) => format!("FAILED: {wrong}"),
        };
        format!("{:<18} {}  {verdict}", self.name, self.detail)
    }
}

/// Everything a run came to.
pub(crate) struct Summary {
    pub(crate) seed: u64,
    pub(crate) classes: Vec<Class>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) seconds: f64,
}

impl Summary {
    pub(crate) fn is_ok(&self) -> bool {
        self.classes.iter().all(Class::is_ok) && self.faults.iter().all(Fault::is_ok)
    }

    fn sum(&self, what: &str) -> u64 {
        let good = self.classes.iter().filter(|c| c.expect == Expect::Good);
        good.map(|class| class.count(what)).sum()
    }

    fn bugs(&self) -> (usize, usize) {
        let bugs = self.classes.iter().filter(|c| c.expect != Expect::Good);
        let caught = bugs.clone().filter(|class| class.is_ok());
        (caught.count(), bugs.count())
    }

    /// The last line.
    pub(crate) fn line(&self) -> String {
        let (caught, bugs) = self.bugs();
        let stopped = self.faults.iter().filter(|fault| fault.is_ok()).count();
        format!(
            "crash test: {} states, {} bad; {caught} of {bugs} seeded bugs caught in states; \
{stopped} of {} flush faults as they should be; seed {}; {:.0} s",
            self.sum("states"),
            self.sum("bad"),
            self.faults.len(),
            self.seed,
            self.seconds
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (caught, bugs) = self.bugs();
        let classes: Vec<Value> = self
            .classes
            .iter()
            .map(|class| {
                let mut sums = class.sums.clone();
                sums["ok"] = class.is_ok().into();
                sums["seeded_bug"] = (class.expect != Expect::Good).into();
                sums
            })
            .collect();
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|f| json!({"name": f.name, "ok": f.is_ok(), "detail": f.detail, "wrong": f.wrong}))
            .collect();
        json!({
            "ok": self.is_ok(),
            "seed": self.seed,
            "states": self.sum("states"),
            "bad": self.sum("bad"),
            "bugs": bugs,
            "bugs_caught": caught,
            "seconds": self.seconds,
            "classes": classes,
            "faults": faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(expect: Expect, states: u64, bad: u64, vacuous: u64) -> Class {
        let sums = json!({"states": states, "bad": bad, "vacuous": vacuous, "seed": 1});
        Class::new("class", expect, sums, false)
    }

    #[test]
    fn a_good_class_has_states_and_promises_and_nothing_bad() {
        assert!(class(Expect::Good, 10, 0, 1).is_ok());
        assert!(!class(Expect::Good, 10, 1, 1).is_ok());
        assert!(!class(Expect::Good, 10, 0, 5).is_ok());
        assert!(!class(Expect::Good, 0, 0, 0).is_ok());
    }

    #[test]
    fn a_seeded_bug_must_show_often_enough() {
        let caught = Expect::Caught { percent: 30 };
        assert!(class(caught, 10, 3, 0).is_ok());
        assert!(!class(caught, 10, 2, 0).is_ok());
        assert!(!class(Expect::Caught { percent: 0 }, 10, 0, 0).is_ok());
    }

    #[test]
    fn a_summary_counts_good_states_alone() {
        let classes = vec![
            class(Expect::Good, 10, 0, 1),
            class(Expect::Caught { percent: 30 }, 5, 5, 0),
        ];
        let mut summary = Summary {
            seed: 7,
            classes,
            faults: Vec::new(),
            seconds: 1.0,
        };
        assert!(summary.is_ok());
        let json = summary.json();
        assert_eq!(
            (&json["states"], &json["bugs_caught"]),
            (&json!(10), &json!(1))
        );
        summary.faults.push(Fault {
            name: "fault".to_owned(),
            wrong: Some("why".to_owned()),
            detail: String::new(),
        });
        assert!(!summary.is_ok());
    }
}
