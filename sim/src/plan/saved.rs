//! A plan in a file: what it shows, and how to run it.
//!
//! *Owns*: the JSON of `sim/plans/*.json` and of `--save-plan`.
//! *Does not own*: the plan itself.
//!
//! Invariants
//! 1. A bare plan, without anything about it, is read too.
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

use super::Plan;

/// What is told about a plan that shows nothing.
pub(crate) const ENDS_WELL: &str = "ends well";

/// A plan and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedPlan {
    /// What it shows, in a sentence.
    pub(crate) about: String,
    /// The seeded bug it is run with; 0 is none.
    #[serde(default)]
    pub(crate) mutant: u16,
    /// The seeded bug that undoes the fix of what the plan found; 0 if there is none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(crate) undone_by: u16,
    /// The checker and the key of the failure it showed when it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<Found>,
    /// What to run.
    pub(crate) plan: Plan,
}

fn is_none(mutant: &u16) -> bool {
    *mutant == 0
}

/// Which failure a plan showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) checker: String,
    pub(crate) key: String,
}

impl SavedPlan {
    /// The plan in `text`.
    ///
    /// # Errors
    /// It is no JSON, or no plan.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        if value.get("plan").is_some() {
            return serde_json::from_value(value);
        }
        Ok(Self {
            about: String::new(),
            mutant: 0,
            undone_by: 0,
            found: None,
            plan: serde_json::from_value(value)?,
        })
    }

    /// With the words and the seeded bug of the plan that it was made of, where somebody gave them.
    pub(crate) fn made_of(mut self, earlier: &Self) -> Self {
        self.undone_by = earlier.undone_by;
        let is_told_by_us = earlier.about.is_empty()
            || earlier.about == ENDS_WELL
            || (earlier.found.iter())
                .any(|found| earlier.about.starts_with(&format!("{}: ", found.checker)));
        if !is_told_by_us {
            self.about.clone_from(&earlier.about);
        }
        self
    }

    /// The text of its file.
    pub(crate) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a plan is plain data") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::{ENDS_WELL, Found, SavedPlan};
    use crate::plan::{Plan, Scenario};

    #[test]
    fn the_words_and_the_seeded_bug_of_a_plan_stay_with_it() {
        let found = |key: &str| Found {
            checker: "log".to_owned(),
            key: key.to_owned(),
        };
        let plan = |about: &str, undone_by, found: Option<Found>| SavedPlan {
            about: about.to_owned(),
            mutant: 0,
            undone_by,
            found,
            plan: Plan::new(3, Scenario::Store),
        };
        let new = || plan("log: gap", 0, Some(found("log: gap")));
        let kept = new().made_of(&plan("A fence is missed.", 8, None));
        assert_eq!((&*kept.about, kept.undone_by), ("A fence is missed.", 8));
        assert_eq!(kept.found, new().found, "that is of the new run");
        // What was told by ourselves is told anew.
        let lost = plan("log: lost", 0, Some(found("log: lost")));
        for told in [lost, plan(ENDS_WELL, 0, None), plan("", 0, None)] {
            assert_eq!(new().made_of(&told), new());
        }
    }

    #[test]
    fn a_saved_plan_and_a_bare_one_are_read_back() {
        let saved = SavedPlan {
            about: "shows something".to_owned(),
            mutant: 7,
            undone_by: 8,
            found: Some(Found {
                checker: "log".to_owned(),
                key: "log: lost".to_owned(),
            }),
            plan: Plan::new(3, Scenario::Store),
        };
        assert_eq!(SavedPlan::parse(&saved.text()).unwrap(), saved);
        let bare = serde_json::to_string(&saved.plan).unwrap();
        let read = SavedPlan::parse(&bare).unwrap();
        assert_eq!((read.plan, read.mutant), (saved.plan, 0));
        assert!(SavedPlan::parse("{\"plan\":{}}").is_err());
        assert!(SavedPlan::parse("[]").is_err());
    }
}
