//! What is used of a store: requests, bytes, space.
//!
//! *Owns*: the sums, and reading them from counters.
//! *Does not own*: prices, the model of a workload.
//!
//! *IO: none*

use std::collections::BTreeMap;

use serde_json::Value;

pub(crate) const GIB: f64 = 1_073_741_824.0;
pub(crate) const MIB: f64 = 1_048_576.0;
/// A month as stores bill it: 730 hours.
pub(crate) const MONTH_S: f64 = 730.0 * 3_600.0;

/// Use of a store over some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// How long, in seconds.
    pub(crate) seconds: f64,
    /// Bytes that were appended.
    pub(crate) produced_bytes: f64,
    /// Bytes that lie in the store on average.
    pub(crate) stored_bytes: f64,
    /// By operation and purpose, as the counters name them.
    pub(super) requests: BTreeMap<(String, String), f64>,
    /// By direction and purpose.
    pub(super) bytes: BTreeMap<(String, String), f64>,
}

impl Usage {
    pub(crate) fn add_requests(&mut self, op: &str, purpose: &str, count: f64) {
        let key = (op.to_owned(), purpose.to_owned());
        *self.requests.entry(key).or_default() += count;
    }

    pub(crate) fn add_bytes(&mut self, direction: &str, purpose: &str, num_bytes: f64) {
        let key = (direction.to_owned(), purpose.to_owned());
        *self.bytes.entry(key).or_default() += num_bytes;
    }

    /// Operation, purpose and count.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        let all = self.requests.iter();
        all.map(|((op, purpose), count)| (op.as_str(), purpose.as_str(), *count))
    }

    /// Direction, purpose and bytes.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        let all = self.bytes.iter();
        all.map(|((direction, purpose), bytes)| (direction.as_str(), purpose.as_str(), *bytes))
    }

    /// Bytes sent to the store.
    pub(crate) fn bytes_out(&self) -> f64 {
        let out = self.bytes().filter(|(direction, ..)| *direction == "out");
        out.map(|(.., bytes)| bytes).sum()
    }

    /// All requests.
    pub(crate) fn num_requests(&self) -> f64 {
        self.requests().map(|(.., count)| count).sum()
    }

    /// Bytes read from the store.
    pub(crate) fn bytes_in(&self) -> f64 {
        let within = self.bytes().filter(|(direction, ..)| *direction == "in");
        within.map(|(.., bytes)| bytes).sum()
    }

    /// What of it is for one purpose; no space.
    pub(crate) fn of_purpose(&self, purpose: &str) -> Self {
        let mut of = self.clone();
        of.requests.retain(|(_, found), _| found == purpose);
        of.bytes.retain(|(_, found), _| found == purpose);
        of.stored_bytes = 0.0;
        of
    }

    /// The same use going on for a month.
    pub(crate) fn for_a_month(&self) -> Self {
        let factor = MONTH_S / self.seconds;
        let mut month = self.clone();
        month.seconds = MONTH_S;
        month.produced_bytes *= factor;
        let counted = month.requests.values_mut().chain(month.bytes.values_mut());
        counted.for_each(|count| *count *= factor);
        month
    }

    /// What the counters of a broker say (`tidewater stats --json`): all of its life, or if
    /// `earlier` is given what came since. `None` if a number is missing.
    pub(crate) fn of_counters(stats: &Value, earlier: Option<&Value>) -> Option<Self> {
        let number = |name: &str| {
            let before = match earlier {
                Some(earlier) => earlier[name].as_f64()?,
                None => 0.0,
            };
            Some(stats[name].as_f64()? - before)
        };
        let mut usage = Self {
            seconds: number("uptime_ms")? / 1000.0,
            produced_bytes: number("wal_bytes")?,
            ..Self::default()
        };
        for (sign, stats) in [(1.0, Some(stats)), (-1.0, earlier)] {
            let Some(stats) = stats else { continue };
            for row in stats["bucket_requests"].as_array()? {
                let (op, purpose) = (row["op"].as_str()?, row["purpose"].as_str()?);
                usage.add_requests(op, purpose, sign * row["value"].as_f64()?);
            }
            for row in stats["bucket_bytes"].as_array()? {
                let (direction, purpose) = (row["direction"].as_str()?, row["purpose"].as_str()?);
                usage.add_bytes(direction, purpose, sign * row["value"].as_f64()?);
            }
        }
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stats(uptime_ms: u64, puts: u64, bytes: u64) -> Value {
        json!({
            "uptime_ms": uptime_ms, "wal_bytes": 10 * bytes,
            "bucket_requests": [
                {"op": "create", "purpose": "upload", "value": puts},
                {"op": "list", "purpose": "meta", "value": 1},
            ],
            "bucket_bytes": [{"direction": "out", "purpose": "upload", "value": bytes}],
        })
    }

    #[test]
    fn counters_are_taken_whole_or_from_an_earlier_look_on() {
        let whole = Usage::of_counters(&stats(10_000, 5, 100), None).unwrap();
        assert_eq!((whole.seconds, whole.produced_bytes), (10.0, 1000.0));
        assert_eq!(whole.requests().map(|(.., n)| n).sum::<f64>(), 6.0);
        let since = Usage::of_counters(&stats(10_000, 5, 100), Some(&stats(4_000, 2, 30)));
        let since = since.unwrap();
        assert_eq!((since.seconds, since.produced_bytes), (6.0, 700.0));
        let puts: Vec<_> = since.requests().filter(|(.., n)| *n > 0.0).collect();
        assert_eq!(puts, [("create", "upload", 3.0)]);
        assert_eq!(since.bytes_out(), 70.0);
        let month = since.for_a_month();
        assert_eq!(month.bytes_out(), 70.0 * MONTH_S / 6.0);
        assert_eq!(Usage::of_counters(&json!({"uptime_ms": 1}), None), None);
    }
}
