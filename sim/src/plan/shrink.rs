//! Delta debugging of a plan: the smallest one that still fails in the same way.
//!
//! *Owns*: which smaller plans are tried, and in what order.
//! *Does not own*: whether one fails; the caller runs it.
//!
//! Works on the plan's JSON, so that a field that is added to the plan is shrunk without a line
//! here: lists lose elements, faults and numbers become 0, 1 or smaller, switches go off.
//!
//! Invariants
//! 1. Every accepted step makes the plan smaller, so that the search ends.
//! 2. Seed and scenario stay as they are: they are what the failure follows from.
//!
//! *IO: none*

use serde_json::Value;

use super::Plan;

/// Fields that say what a plan is, not how large.
const KEPT: &[&str] = &["seed", "scenario"];

/// What a search made of a plan.
#[derive(Debug)]
pub(crate) struct Shrunk {
    pub(crate) plan: Plan,
    /// Plans that were run.
    pub(crate) tried: u64,
    /// Those among them that failed in the same way and were smaller.
    pub(crate) accepted: u64,
}

/// Shrinks `plan` as long as `fails` says yes; runs at most `tries_max` plans.
pub(crate) fn shrink(plan: &Plan, tries_max: u64, fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let value = serde_json::to_value(plan).expect("a plan is plain data");
    let mut search = Search {
        value,
        fails,
        tried: 0,
        tries_max,
        accepted: 0,
    };
    loop {
        let before = search.accepted;
        let mut paths = Vec::new();
        places(&search.value, &mut String::new(), &mut paths);
        for path in paths {
            search.shrink_at(&path);
        }
        if search.accepted == before || search.tried >= tries_max {
            break;
        }
    }
    Shrunk {
        plan: serde_json::from_value(search.value).expect("it was run as a plan"),
        tried: search.tried,
        accepted: search.accepted,
    }
}

/// The JSON pointers of everything that can be made smaller, outer ones first.
fn places(value: &Value, path: &mut String, found: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value, found: &mut Vec<String>| {
        let len = path.len();
        path.push('/');
        path.push_str(name);
        found.push(path.clone());
        places(value, path, found);
        path.truncate(len);
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !KEPT.contains(&name.as_str()))
            .for_each(|(name, value)| below(name, value, found)),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .for_each(|(number, value)| below(&number.to_string(), value, found)),
        _ => {}
    }
}

struct Search<F> {
    value: Value,
    fails: F,
    tried: u64,
    tries_max: u64,
    accepted: u64,
}

impl<F: FnMut(&Plan) -> bool> Search<F> {
    fn shrink_at(&mut self, path: &str) {
        match self.value.pointer(path).cloned() {
            Some(Value::Array(elements)) => self.shrink_list(path, elements),
            Some(Value::Number(number)) => {
                if let Some(number) = number.as_i64() {
                    self.shrink_number(path, number);
                }
            }
            Some(Value::Bool(true)) => _ = self.try_with(path, Value::Bool(false)),
            // A choice may be an option; where it is not, null is no plan.
            Some(Value::String(_) | Value::Object(_)) => _ = self.try_with(path, Value::Null),
            _ => {}
        }
    }

    /// Removes halves, then quarters, down to single elements.
    fn shrink_list(&mut self, path: &str, mut elements: Vec<Value>) {
        let mut chunk = elements.len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            while start < elements.len() {
                let mut fewer = elements.clone();
                fewer.drain(start..(start + chunk).min(elements.len()));
                if self.try_with(path, Value::Array(fewer.clone())) {
                    elements = fewer;
                } else {
                    start += chunk;
                }
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    /// Tries 0 and 1, then halves as long as that works, then steps of one.
    fn shrink_number(&mut self, path: &str, number: i64) {
        for small in [0, 1] {
            if number.abs() > small && self.try_with(path, small.into()) {
                return;
            }
        }
        let mut now = number;
        while now.abs() > 2 && self.try_with(path, (now / 2).into()) {
            now /= 2;
        }
        let step = now - now.signum();
        if now.abs() > 2 {
            self.try_with(path, step.into());
        }
    }

    fn try_with(&mut self, path: &str, smaller: Value) -> bool {
        if self.tried >= self.tries_max {
            return false;
        }
        let mut value = self.value.clone();
        let Some(place) = value.pointer_mut(path) else {
            return false;
        };
        *place = smaller;
        let Ok(plan) = serde_json::from_value::<Plan>(value.clone()) else {
            return false;
        };
        self.tried += 1;
        let fails = (self.fails)(&plan);
        if fails {
            self.value = value;
            self.accepted += 1;
        }
        fails
    }
}

#[cfg(test)]
mod tests {
    use super::shrink;
    use crate::plan::{Damage, End, Plan, Scenario};

    fn large() -> Plan {
        (0..1000)
            .map(|seed| Plan::new(seed, Scenario::Wal))
            .find(|plan| plan.long && plan.lives.len() > 5 && plan.disk_faults.flush_eio > 5)
            .expect("one of them is large")
    }

    #[test]
    fn what_the_failure_does_not_need_goes_away() {
        let mut plan = large();
        plan.damage = Some(Damage::BitRot);
        plan.lives[4].end = End::Close;
        plan.lives[4].after_ops = 999;
        let fails = |plan: &Plan| {
            plan.disk_faults.flush_eio >= 3 && plan.lives.iter().any(|life| life.after_ops == 999)
        };
        let shrunk = shrink(&plan, 100_000, fails);
        assert!(fails(&shrunk.plan), "it still fails");
        assert!(shrunk.accepted > 0 && shrunk.tried >= shrunk.accepted);
        let small = shrunk.plan;
        assert_eq!((small.seed, small.scenario), (plan.seed, plan.scenario));
        assert_eq!(small.lives.len(), 1);
        assert_eq!(small.disk_faults.flush_eio, 3);
        assert_eq!(small.disk_faults.write_eio, 0);
        assert_eq!((small.damage, small.trim, small.writers), (None, false, 0));
    }

    #[test]
    fn a_plan_that_never_fails_stays_as_it_is_and_the_search_has_an_end() {
        let plan = large();
        assert_eq!(shrink(&plan, 1000, |_| false).plan, plan);
        let mut runs = 0;
        let shrunk = shrink(&plan, 10, |_| {
            runs += 1;
            true
        });
        assert_eq!((shrunk.tried, runs), (10, 10));
    }
}
