//! The list of scenarios: one line each.
//!
//! *Owns*: their names. *Does not own*: how they run; scenario.rs has one line for each, which
//! the compiler asks for.
//!
//! *IO: none*

use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! scenarios {
    ($($(#[$about:meta])* $variant:ident = $name:literal,)+) => {
        /// What runs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scenario {
            $($(#[$about])* #[serde(rename = $name)] $variant,)+
        }

        impl Scenario {
            /// All of them; a seed that is not told what to run takes the one at its remainder.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name on the command line, in plans and in reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

scenarios! {
    /// Writers, a trimmer and crashes on a device WAL.
    Wal = "wal",
    /// Writers, readers, uploads and crashes on a stream store.
    Store = "store",
    /// Owners, some of them zombies, that take a WAL in a bucket from each other.
    ObjectWal = "object-wal",
    /// Processes, some of them held up, that write one metadata log and shorten it.
    Metadata = "metadata",
    /// Nodes that upload, compact, trim and sweep the same streams.
    Tier = "tier",
    /// Clients on a network, and a broker that restarts.
    Broker = "broker",
    /// Nodes with WALs of their own on one bucket, that hand streams to each other.
    Cluster = "cluster",
    /// Brokers of several nodes on one bucket, of which one serves until it gives all up.
    Brokers = "brokers",
}

impl Scenario {
    /// What `seed` runs when nobody says.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let place = seed % Self::ALL.len() as u64;
        Self::ALL[usize::try_from(place).expect("inside the list")]
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|scenario| scenario.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|scenario| scenario.name()).collect();
            format!("the scenarios are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    #[test]
    fn names_lead_back_to_their_scenarios() {
        for (number, scenario) in Scenario::ALL.iter().enumerate() {
            assert_eq!(scenario.name().parse(), Ok(*scenario));
            assert_eq!(Scenario::of_seed(number as u64), *scenario);
        }
        assert!("nonsense".parse::<Scenario>().unwrap_err().contains("wal"));
    }
}
