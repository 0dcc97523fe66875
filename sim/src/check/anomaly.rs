//! What a finding is called elsewhere: the anomalies of the Jepsen workload for Kafka.
//!
//! *Owns*: the names. *Does not own*: the findings; each checker's bad histories say here, too,
//! what they are called.
//!
//! Names as in `jepsen.redpanda.workload.queue`: a *poll* is a read, a *send* an append, `int-`
//! means inside one call. Findings without a counterpart there (a hang, a refusal, a block that
//! is written twice) have none.
//!
//! Invariants
//! 1. A finding keeps its name when its numbers change.
//!
//! *IO: none*

use super::Violation;

/// Checker, words that its detail begins with or holds, name.
const NAMES: &[(&str, &str, &str)] = &[
    ("log", "lost:", "lost-write"),
    ("log", "duplicate:", "duplicate"),
    ("log", "order:", "nonmonotonic-send"),
    ("log", "which nobody sent", "aborted-read"),
    ("log", "gap:", "int-poll-skip"),
    ("log", "shown, the high watermark", "precommitted-read"),
    ("log", "the final read ends at", "unseen"),
    ("log", "nothing at", "unseen"),
    ("log", "is gone", "lost-write"),
    ("log", "gap or overlap", "int-poll-skip"),
    ("log", "was acknowledged, not appended", "aborted-read"),
    ("log", "altered:", "aborted-read"),
    ("log", "given None and shows", "aborted-read"),
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
    ("frames", "lost:", "lost-write"),
    ("frames", "gap:", "int-poll-skip"),
    ("frames", "resurrected:", "aborted-read"),
    ("frames", "altered:", "aborted-read"),
    ("frames", "was never appended", "aborted-read"),
    ("frames", "came back at", "inconsistent-offsets"),
    ("frames", "follows", "int-nonmonotonic-poll"),
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
        ["log", "frames", "watermarks"]
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
    }
}
