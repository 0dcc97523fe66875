//! The seeded bugs the simulator must find.
//!
//! *Owns*: their numbers, names, groups, and the scenario that hunts each.
//! *Does not own*: the bugs; each stands behind `mutant!(ID)` in the crate it breaks.
//!
//! Invariants
//! 1. A number never changes its meaning.
//! 2. Only bugs that are wired into the code and within reach of a scenario are listed:
//!    any other would survive and say nothing (docs/simulation.md names them).
//!
//! *IO: none*

use crate::plan::Scenario;

/// One seeded bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// Its number, as `mutant!` asks for it.
    pub id: u16,
    /// What it does.
    pub name: &'static str,
    /// What it breaks.
    pub group: &'static str,
    /// The scenario that hunts it.
    pub scenario: Scenario,
}

const fn wal(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "wal",
        scenario: Scenario::Wal,
    }
}

const fn recovery(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "recovery",
        scenario: Scenario::Wal,
    }
}

const fn object(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "object wal",
        scenario: Scenario::ObjectWal,
    }
}

const fn store(id: u16, group: &'static str, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group,
        scenario: Scenario::Store,
    }
}

const fn metadata(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "metadata",
        scenario: Scenario::Metadata,
    }
}

const fn tier(id: u16, group: &'static str, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group,
        scenario: Scenario::Tier,
    }
}

const fn compaction(id: u16, name: &'static str) -> Mutant {
    tier(id, "compaction", name)
}

const fn keys(id: u16, name: &'static str) -> Mutant {
    tier(id, "key compaction", name)
}

const fn upload(id: u16, name: &'static str) -> Mutant {
    store(id, "upload", name)
}

const fn broker(id: u16, group: &'static str, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group,
        scenario: Scenario::Broker,
    }
}

const fn cluster(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "cluster",
        scenario: Scenario::Cluster,
    }
}

const fn brokers(id: u16, name: &'static str) -> Mutant {
    Mutant {
        id,
        name,
        group: "brokers",
        scenario: Scenario::Brokers,
    }
}

const fn producers(id: u16, name: &'static str) -> Mutant {
    broker(id, "producers", name)
}

const fn groups(id: u16, name: &'static str) -> Mutant {
    broker(id, "groups", name)
}

/// Every bug that is wired.
pub(crate) const MUTANTS: &[Mutant] = &[
    wal(1, "ack on write completion before flush"),
    wal(2, "flush issued concurrently with writes it must cover"),
    wal(3, "fsync EIO retried as success"),
    wal(4, "short write accepted"),
    wal(5, "cancelled operation counted as done"),
    wal(6, "checksum skips payload"),
    wal(7, "append after a torn tail without fencing it"),
    wal(8, "stale lap of the ring accepted"),
    wal(9, "no address in the header: misdirected write accepted"),
    wal(10, "rot in mid-log treated as tail and truncated"),
    wal(11, "ring wrap overwrites one untrimmed block"),
    wal(12, "superblock updated in place"),
    wal(13, "no directory sync after the creation"),
    wal(14, "late joiner acked by the previous group's flush"),
    wal(15, "ENOSPC drops the batch but advances the position"),
    wal(16, "buffer reused before the write completed"),
    wal(100, "a bad sector hides what was read together with it"),
    wal(101, "write EIO taken for success"),
    wal(102, "a full pool takes frames all the same"),
    wal(103, "the answer of a slow device is not waited for"),
    object(
        17,
        "timed-out PUT assumed failed, content goes to the next number",
    ),
    object(18, "412 taken for own success without comparing content"),
    object(19, "409 taken for exists"),
    object(
        20,
        "GC deletes the fence object and a zombie's create succeeds",
    ),
    object(21, "retry path drops If-None-Match"),
    object(22, "n+1 acked before n is durable"),
    object(23, "tail read before the epoch was raised"),
    recovery(52, "recovery serves bytes it did not make durable"),
    recovery(53, "missing or foreign WAL starts empty"),
    recovery(54, "older superblock slot wins after a trim"),
    recovery(55, "a block with an acknowledged byte is rewritten"),
    object(56, "barrier left out: taker and pipelining zombie"),
    object(
        76,
        "barrier of an earlier taker taken for the end, nothing fenced below it",
    ),
    object(77, "epoch that looks empty not fenced"),
    store(59, "recovery", "undurable data served to a reader"),
    store(
        70,
        "recovery",
        "metadata not read again after the WAL was fenced",
    ),
    upload(24, "metadata commit before the upload is confirmed"),
    upload(25, "offset delta overflows"),
    upload(27, "compare-and-swap retry applies a change twice"),
    upload(28, "WAL trimmed before the commit"),
    upload(
        119,
        "room that a batch took beside its entries is never given back",
    ),
    upload(80, "uploads in flight are committed out of order"),
    metadata(26, "stale commit moves the end offset back"),
    metadata(40, "recovery replayed twice"),
    metadata(71, "log entries deleted without a durable boundary"),
    metadata(72, "readers do not ignore creates below the boundary"),
    metadata(
        73,
        "a writer that was held up does not look at the boundary",
    ),
    metadata(74, "log entries deleted as soon as the boundary is drawn"),
    metadata(75, "a stopped monotonic clock is believed"),
    metadata(
        107,
        "its own entry, read beside the create, taken for another's",
    ),
    metadata(98, "a process with another deletion delay is let in"),
    tier(58, "upload", "one stale stream blocks the commit"),
    tier(
        81,
        "upload",
        "a completion of parts that is unclear is believed",
    ),
    tier(
        95,
        "reads",
        "a hedged read is answered with another one's bytes",
    ),
    tier(96, "reads", "reading ahead goes beyond its share of memory"),
    tier(97, "reads", "a request that was given up counts for ever"),
    tier(
        113,
        "reads",
        "those who wait for a load that is given up are not told",
    ),
    tier(29, "sweep", "sweep deletes a just-committed object"),
    compaction(30, "sources deleted before the commit"),
    compaction(31, "two compactors and no check"),
    compaction(32, "records dropped at a merge boundary"),
    compaction(33, "no delayed delete: a reader gets 404"),
    compaction(109, "copies of a wrong place are believed"),
    compaction(110, "objects are committed in the order in which they end"),
    compaction(
        118,
        "sets are deleted when the first of their streams are split off",
    ),
    keys(92, "a full map drops the newest value of a key"),
    keys(93, "deletion dropped before its time"),
    keys(94, "a reader stops at a hole"),
    keys(
        86,
        "a pass that lost an object to another one moves the mark",
    ),
    tier(88, "trim", "a read goes on behind what a trim took away"),
    tier(36, "trim", "trims more than asked"),
    tier(57, "sweep", "orphan sweep without condemning"),
    producers(41, "out-of-window sequence accepted"),
    producers(42, "a duplicate is acked before the original is durable"),
    producers(43, "de-duplication state not rebuilt after a restart"),
    broker(
        82,
        "metadata",
        "a replaced node's changes of metadata are granted",
    ),
    cluster(
        87,
        "frames from before a move count as the tail of a stream",
    ),
    cluster(
        83,
        "a stream is taken from an owner that did not give it up",
    ),
    cluster(84, "a stream is given up before all of it is uploaded"),
    cluster(
        85,
        "a life that was held up registers although its WAL was taken over",
    ),
    cluster(115, "appends are taken while a stream is given up"),
    brokers(114, "a broker serves beside the one that has the topics"),
    brokers(116, "topics made while another broker gives up are missed"),
    groups(48, "stale-generation commit accepted"),
    groups(49, "commit acked before it is durable"),
    groups(50, "offsets partly loaded"),
    store(34, "cache", "cache keyed without epoch"),
    store(
        35,
        "cache",
        "off by one at the seam of WAL cache and object",
    ),
    store(
        90,
        "cache",
        "damage on the cache's disk is told to the reader",
    ),
    store(91, "cache", "the disk cache goes beyond its bytes"),
];

/// The bug with this number.
#[must_use]
pub(crate) fn mutant(id: u16) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.id == id)
}

#[cfg(test)]
mod tests {
    use super::MUTANTS;

    #[test]
    fn numbers_are_unique_and_never_zero() {
        let mut ids: Vec<u16> = MUTANTS.iter().map(|mutant| mutant.id).collect();
        assert!(!ids.contains(&0));
        let listed = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), listed);
    }
}
