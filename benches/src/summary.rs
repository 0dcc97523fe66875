//! `summary.json`: one row a measurement.
//!
//! *Owns*: the names in a row, replacing the rows of the benches that ran.
//! *Does not own*: what was measured.
//!
//! Invariants
//! 1. Rows of other benches stay as they are; a reader sees a whole file.
//!
//! *IO: driver*

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::place::Place;
use crate::sample::{Latencies, Rounds};

/// One measurement.
#[derive(Clone, Debug)]
pub struct Row {
    pub(crate) bench: &'static str,
    pub(crate) params: Value,
    pub(crate) metric: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) rounds: Rounds,
    pub(crate) limit: Option<(String, Rounds)>,
    pub(crate) percentiles_us: Option<[f64; 3]>,
    pub(crate) cpu_ns_per_op: Option<f64>,
}

impl Row {
    /// A row of `bench` whose value is the median of `rounds`.
    #[must_use]
    pub fn new(
        bench: &'static str,
        params: Value,
        metric: &'static str,
        unit: &'static str,
        rounds: Rounds,
    ) -> Self {
        Self {
            bench,
            params,
            metric,
            unit,
            rounds,
            limit: None,
            percentiles_us: None,
            cpu_ns_per_op: None,
        }
    }

    /// What the same rounds could do at best, and what that was.
    #[must_use]
    pub fn with_limit(mut self, what: String, limit: &Rounds) -> Self {
        self.limit = Some((what, limit.clone()));
        self
    }

    /// Latencies of single operations.
    #[must_use]
    pub fn with_latencies(mut self, latencies: &Latencies) -> Self {
        self.percentiles_us = latencies.percentiles_us();
        self
    }

    /// Percentiles (50, 99, 99.9) in microseconds that another tool measured.
    #[must_use]
    pub fn with_percentiles_us(mut self, percentiles: [f64; 3]) -> Self {
        self.percentiles_us = Some(percentiles);
        self
    }

    /// CPU time of an operation in nanoseconds.
    #[must_use]
    pub fn with_cpu(mut self, ns_per_op: &Rounds) -> Self {
        self.cpu_ns_per_op = Some(ns_per_op.median());
        self
    }

    /// Value as a part of the limit: the median over the rounds, each with its own limit.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (_, limit) = self.limit.as_ref()?;
        let parts = self.rounds.parts_of(limit);
        (!parts.is_empty()).then(|| parts.median())
    }

    pub(crate) fn limit(&self) -> Option<f64> {
        self.limit.as_ref().map(|(_, limit)| limit.median())
    }

    fn to_json(&self, place: &Place) -> Value {
        let part = |index: usize| self.percentiles_us.map(|all| rounded(all[index]));
        json!({
            "bench": self.bench,
            "params": self.params,
            "metric": self.metric,
            "value": rounded(self.rounds.median()),
            "unit": self.unit,
            "limit": self.limit().map(rounded),
            "limit_what": self.limit.as_ref().map(|(what, _)| what),
            "ratio": self.ratio().map(rounded),
            "p50_us": part(0),
            "p99_us": part(1),
            "p999_us": part(2),
            "cpu_ns_per_op": self.cpu_ns_per_op.map(rounded),
            "rounds": self.rounds.len(),
            "spread": rounded(self.rounds.spread()),
            "git": place.git,
            "machine": place.machine,
        })
    }

    /// Writes `rows` into the summary in the output folder, in place of all rows of their benches.
    ///
    /// # Errors
    /// The file cannot be read or written, or is not an array.
    pub fn publish(rows: &[Self], place: &Place) -> io::Result<PathBuf> {
        let path = place.output.join("summary.json");
        let fresh: BTreeSet<&str> = rows.iter().map(|row| row.bench).collect();
        let mut all: Vec<Value> = existing(&path)?
            .into_iter()
            .filter(|row| {
                row["bench"]
                    .as_str()
                    .is_none_or(|name| !fresh.contains(name))
            })
            .collect();
        all.extend(rows.iter().map(|row| row.to_json(place)));
        let lines: Vec<String> = all.iter().map(Value::to_string).collect();
        let temporary = path.with_extension("json.tmp");
        std::fs::write(&temporary, format!("[\n{}\n]\n", lines.join(",\n")))?;
        std::fs::rename(&temporary, &path)?;
        Ok(path)
    }
}

fn existing(path: &Path) -> io::Result<Vec<Value>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Six digits are more than any of this is good for.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::{Row, rounded};
    use crate::place::Place;
    use crate::sample::Rounds;
    use serde_json::{Value, json};

    fn place(output: &std::path::Path) -> Place {
        Place {
            output: output.to_owned(),
            root: output.to_owned(),
            git: "abc".to_owned(),
            machine: "m".to_owned(),
        }
    }

    fn row(bench: &'static str, value: f64) -> Row {
        let mut rounds = Rounds::default();
        rounds.push(value);
        Row::new(bench, json!({"size": 1}), "throughput", "ops/s", rounds)
    }

    fn read(place: &Place) -> Vec<Value> {
        let text = std::fs::read_to_string(place.output.join("summary.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_run_replaces_its_own_rows_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        Row::publish(&[row("wal/append", 1.0), row("wal/append", 2.0)], &place).unwrap();
        Row::publish(&[row("wal/recovery", 3.0)], &place).unwrap();
        Row::publish(&[row("wal/append", 4.0)], &place).unwrap();
        let found: Vec<_> = read(&place)
            .iter()
            .map(|row| {
                (
                    row["bench"].as_str().unwrap().to_owned(),
                    row["value"].as_f64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("wal/recovery".to_owned(), 3.0),
                ("wal/append".to_owned(), 4.0)
            ]
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_row_has_every_name_scripts_rely_on() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let mut limit = Rounds::default();
        limit.push(8.0);
        let row = row("wal/append", 2.0)
            .with_limit("raw".to_owned(), &limit)
            .with_percentiles_us([1.0, 2.0, 3.5])
            .with_cpu(&limit);
        Row::publish(&[row], &place).unwrap();
        let expected = json!({
            "bench": "wal/append", "params": {"size": 1}, "metric": "throughput", "value": 2.0,
            "unit": "ops/s", "limit": 8.0, "limit_what": "raw", "ratio": 0.25, "p50_us": 1.0,
            "p99_us": 2.0, "p999_us": 3.5, "cpu_ns_per_op": 8.0, "rounds": 1, "spread": 0.0,
            "git": "abc", "machine": "m",
        });
        assert_eq!(read(&place), [expected]);
    }

    #[test]
    fn a_summary_that_is_no_array_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        std::fs::write(folder.path().join("summary.json"), "{}").unwrap();
        assert!(Row::publish(&[row("wal/append", 1.0)], &place).is_err());
        let text = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
        assert_eq!(text, "{}");
    }

    #[test]
    fn values_keep_six_digits() {
        assert_eq!(rounded(123_456.789), 123_457.0);
        assert_eq!(rounded(0.000_123_456_78), 0.000_123_457);
    }
}
