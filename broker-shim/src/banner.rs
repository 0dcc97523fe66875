//! What a broker says once it answers.
//!
//! *Owns*: the words: where it listens, where the data is, how it is made durable,
//! what to try next.
//!
//! *IO: none*

use std::fmt::Write;

/// What the words are about.
#[derive(Clone, Debug)]
pub(crate) struct BannerFacts<'a> {
    /// The address that accepts connections.
    pub(crate) listen: &'a str,
    /// The address clients are told.
    pub(crate) advertised: &'a str,
    pub(crate) node_id: u32,
    pub(crate) cluster_id: &'a str,
    /// The bucket's URL.
    pub(crate) bucket: &'a str,
    /// Which WAL, and where.
    pub(crate) wal: &'a str,
    /// Why it is this one; empty if there is nothing to say.
    pub(crate) wal_reason: &'a str,
    /// Whether acknowledged records survive the process.
    pub(crate) durable: bool,
    /// How long the start took.
    pub(crate) start_ms: u64,
}

/// The text, one fact a line, with a line break at the end.
pub(crate) fn text(facts: &BannerFacts<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let BannerFacts {
        listen,
        advertised,
        bucket,
        wal,
        ..
    } = facts;
    let (node, cluster, start) = (facts.node_id, facts.cluster_id, facts.start_ms);
    let mut text = format!(
        "Tidewater {version} is ready after {start} ms: node {node} of cluster {cluster}\n"
    );
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("listening", listen);
    if advertised != listen {
        line("clients", &format!("are told {advertised}"));
    }
    line("data", bucket);
    match facts.wal_reason {
        "" => line("wal", wal),
        reason => line("wal", &format!("{wal}; {reason}")),
    }
    if !facts.durable {
        line(
            "warning",
            "records that are acknowledged are lost when this process ends",
        );
    }
    line("try", &format!("kcat -b {advertised} -L"));
    line("", &format!("echo hello | kcat -b {advertised} -P -t demo"));
    line("", &format!("kcat -b {advertised} -C -t demo -e"));
    line("counters", &format!("tidewater stats --bootstrap {listen}"));
    let stop = if facts.durable {
        "Ctrl-C; what is acknowledged is kept"
    } else {
        "Ctrl-C"
    };
    line("stop", stop);
    text
}

#[cfg(test)]
mod tests {
    use super::{BannerFacts, text};

    const FACTS: BannerFacts<'_> = BannerFacts {
        listen: "127.0.0.1:9092",
        advertised: "127.0.0.1:9092",
        node_id: 1,
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA",
        bucket: "file:./tidewater-data/bucket",
        wal: "./tidewater-data/wal, portable",
        wal_reason: "io_uring is not allowed here",
        durable: true,
        start_ms: 12,
    };

    #[test]
    fn a_first_time_user_learns_address_data_wal_and_what_to_try() {
        let text = text(&FACTS);
        for part in [
            "after 12 ms",
            "node 1 of cluster AAAAAAAAAAAAAAAAAAAAAA",
            "127.0.0.1:9092",
            "file:./tidewater-data/bucket",
            "./tidewater-data/wal, portable; io_uring is not allowed here",
            "kcat -b 127.0.0.1:9092 -L",
            "tidewater stats --bootstrap 127.0.0.1:9092",
            "is kept",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("are told") && !text.contains("warning"));
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let text = text(&BannerFacts {
            advertised: "kafka.example.org:9092",
            durable: false,
            wal_reason: "",
            ..FACTS
        });
        assert!(text.contains("lost when this process ends") && !text.contains("is kept"));
        assert!(text.contains("are told kafka.example.org:9092"));
        assert!(text.contains("-b kafka.example.org:9092") && text.ends_with("Ctrl-C\n"));
    }
}
