//! What a finding is called elsewhere: the anomalies of the Jepsen workload for Kafka.
//!
//! *Owns*: the names. *Does not own*: the findings; each checker's bad histories say here, too,
//! what they are called.
//!
//! Names as in `jepsen.redpanda.workload.queue`: a *poll* is a read, a *send* an append, `int-`
//! means inside one call, `G1a` is the read of what was refused, taken back or never sent. Findings
//! without a counterpart there (a hang, a refusal, a block that is written twice) have none.
//!
//! Invariants
//! 1. A finding keeps its name when its numbers change.
//!
//! *IO: none*

use super::Violation;

/// Checker, words that its detail holds, name.
const NAMES: &[(&str, &str, &str)] = &[
    ("log", "lost:", "lost-write"),
    ("log", "duplicate:", "duplicate"),
    ("log", "order:", "nonmonotonic-send"),
    ("log", "which nobody sent", "G1a"),
    ("log", "skip:", "poll-skip"),
    ("log", "gap:", "int-poll-skip"),
    ("log", "back:", "int-nonmonotonic-poll"),
    ("log", "shown, the high watermark", "precommitted-read"),
    ("log", "the final read ends at", "unseen"),
    ("log", "nothing at", "unseen"),
    ("log", "is gone", "lost-write"),
    ("log", "altered:", "G1a"),
    ("log", "given None and shows", "G1a"),
    ("log", "shows twice", "duplicate"),
    ("log", "shows at", "inconsistent-offsets"),
    ("log", "now shows", "inconsistent-offsets"),
    ("log", "above the high watermark", "precommitted-read"),
    (
        "watermarks",
        "high watermark went back",
        "nonmonotonic-poll",
    ),
    ("watermarks", "start went back", "nonmonotonic-poll"),
    ("watermarks", "went back", "nonmonotonic-send"),
    ("watermarks", "no trim beyond", "lost-write"),
    ("watermarks", "nobody deleted anything", "lost-write"),
    ("watermarks", "acknowledged, the durable mark", "lost-write"),
    ("watermarks", "closed with", "lost-write"),
    ("frames", "lost:", "lost-write"),
    ("frames", "gap:", "int-poll-skip"),
    ("frames", "resurrected:", "G1a"),
    ("frames", "altered:", "G1a"),
    ("frames", "was never appended", "G1a"),
    ("frames", "came back at", "inconsistent-offsets"),
    ("frames", "follows", "int-nonmonotonic-poll"),
    ("keys", "lost:", "lost-write"),
    ("keys", "altered:", "G1a"),
    ("keys", "was never written", "G1a"),
    ("keys", "came back:", "G1a"),
    ("keys", "comes after", "int-nonmonotonic-poll"),
    ("keys", "written was", "inconsistent-offsets"),
    ("keys", "the final read ends at", "unseen"),
    ("group", "lost:", "lost-write"),
    ("group", "shows a refused commit", "G1a"),
    ("group", "overwritten by", "nonmonotonic-poll"),
    ("group", "of commit", "G1a"),
    ("group", "is processed up to", "poll-skip"),
    ("lost", "", "lost-write"),
    ("twice", "", "duplicate"),
    ("refused", "stands in its lists", "G1a"),
    ("register", "", "G1a"),
    ("order", "", "nonmonotonic-send"),
    ("stale", "", "nonmonotonic-poll"),
    ("diverged", "", "inconsistent-offsets"),
    ("state", "differ after", "inconsistent-offsets"),
    ("state", "is acknowledged", "lost-write"),
    ("durable", "", "lost-write"),
    ("fork", "duplicate", "duplicate"),
    ("fork", "", "lost-write"),
    ("fence", "", "lost-write"),
    ("removed", "", "lost-write"),
    ("read", "", "lost-write"),
];

/// The name of what was found, if it has one there.
pub(crate) fn anomaly(violation: &Violation) -> Option<&'static str> {
    // A fork tells what the other checkers found in it.
    let inner = violation.detail.split_once(": ").and_then(|(_, rest)| {
        let (checker, detail) = rest.split_once(": ")?;
        ["log", "frames", "watermarks", "keys"]
            .contains(&checker)
            .then(|| name(checker, detail))?
    });
    let own = || name(violation.checker, &violation.detail);
    if violation.checker == "fork" {
        inner.or_else(own)
    } else {
        own()
    }
}

fn name(checker: &str, detail: &str) -> Option<&'static str> {
    let fits =
        |(known, words, _): &&(&str, &str, &str)| *known == checker && detail.contains(words);
    NAMES.iter().find(fits).map(|(_, _, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::anomaly;
    use crate::check::Violation;

    #[test]
    fn a_fork_is_called_what_was_found_in_it() {
        let name = |checker, detail: &str| anomaly(&Violation::new(checker, detail));
        let gap = "after Sectors: frames: gap: frame 3 at 30 is missing";
        assert_eq!(name("fork", gap), Some("int-poll-skip"));
        assert_eq!(name("fork", "recovery refused: closed"), Some("lost-write"));
        assert_eq!(name("durable", "value 3 …"), Some("lost-write"));
        assert_eq!(name("liveness", "no end"), None);
        assert_eq!(
            name("refused", "append in Planned: the store is closed"),
            None
        );
    }
}
