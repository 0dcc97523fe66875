//! What stores ask for.
//!
//! *Owns*: the price file's fields, the built-in list.
//! *Does not own*: how much is used.
//!
//! *Format: docs/operations.md (price file)* · *IO: none*

use serde::Deserialize;

use super::usage::{GIB, Usage};

const BUILT_IN: &str = include_str!("prices.toml");

/// The prices of one store.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) region: String,
    /// When they were read, and where.
    pub(crate) date: String,
    pub(crate) source: String,
    pub(crate) currency: String,
    /// A GiB for a month.
    storage: f64,
    /// 1000 requests.
    write: f64,
    list: f64,
    read: f64,
    delete: f64,
    /// A GiB.
    upload: f64,
    retrieval: f64,
}

/// What something costs, in the currency of the prices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bill {
    pub(crate) requests: f64,
    pub(crate) transfer: f64,
    pub(crate) storage: f64,
}

impl Bill {
    pub(crate) fn total(&self) -> f64 {
        self.requests + self.transfer + self.storage
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    store: Vec<Prices>,
}

impl Prices {
    /// The stores of a price file.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        for store in &file.store {
            let all = [
                store.storage,
                store.write,
                store.list,
                store.read,
                store.delete,
                store.upload,
                store.retrieval,
            ];
            if !all.iter().all(|price| price.is_finite() && *price >= 0.0) {
                return Err(format!(
                    "store {}: prices are numbers from 0 up",
                    store.name
                ));
            }
        }
        Ok(file.store)
    }

    /// The stores whose list prices come with this release.
    pub(crate) fn built_in() -> Vec<Self> {
        Self::parse(BUILT_IN).expect("tested")
    }

    /// What `usage` costs.
    pub(crate) fn bill(&self, usage: &Usage) -> Bill {
        let of_op = |op: &str| match op {
            "get" | "size" => self.read,
            "list" => self.list,
            "delete" | "abort" => self.delete,
            _ => self.write,
        };
        let requests = usage.requests();
        Bill {
            requests: requests
                .map(|(op, _, count)| of_op(op) * count / 1000.0)
                .sum(),
            transfer: usage.bytes_out() / GIB * self.upload
                + usage.bytes_in() / GIB * self.retrieval,
            storage: usage.stored_bytes / GIB * self.storage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_is_sound_and_says_where_it_is_from() {
        let stores = Prices::built_in();
        let names: Vec<&str> = stores.iter().map(|store| store.name.as_str()).collect();
        assert_eq!(names, ["s3-standard", "s3-express", "gcs-standard", "r2"]);
        for store in &stores {
            assert!(store.source.starts_with("https://"), "{}", store.name);
            assert_eq!(store.date.len(), 10, "{}", store.name);
        }
    }

    #[test]
    fn a_bill_is_what_the_list_says() {
        let mut usage = Usage::default();
        usage.add_requests("create", "upload", 1_000_000.0);
        usage.add_requests("part", "upload", 1_000.0);
        usage.add_requests("get", "read", 9_000_000.0);
        usage.add_requests("delete", "gc", 1e9);
        usage.add_bytes("out", "upload", 10.0 * GIB);
        usage.add_bytes("in", "read", 20.0 * GIB);
        usage.stored_bytes = 100.0 * GIB;
        let bill = Prices::built_in()[1].bill(&usage);
        let near = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
        assert!(near(bill.requests, 1.13 + 0.00113 + 0.27), "{bill:?}");
        assert!(near(bill.transfer, 0.032 + 0.012), "{bill:?}");
        assert!(near(bill.storage, 11.0), "{bill:?}");
        assert!(near(
            bill.total(),
            bill.requests + bill.transfer + bill.storage
        ));
    }

    #[test]
    fn a_price_file_that_is_wrong_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "store"),
            ("[[store]]\nname = 'x'", "title"),
            ("[[stores]]", "stores"),
            (&BUILT_IN.replace("0.023", "-1.0"), "from 0 up"),
            (&BUILT_IN.replace("0.023", "nan"), "from 0 up"),
        ] {
            let refused = Prices::parse(text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
