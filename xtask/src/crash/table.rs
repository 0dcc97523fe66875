//! The classes of crash states.
//!
//! *Owns*: what each lies on, how it becomes durable, its seeded bug, what it must show.
//! *Does not own*: running them (`passes.rs`).
//!
//! Invariants
//! 1. A class whose log has a seeded bug is good when bad states are found, and only then.
//!
//! *IO: none*

/// What a class of states must show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// No bad state.
    Good,
    /// A seeded bug: at least so many of 100 states are bad, and at least one.
    Caught { percent: u64 },
}

/// What the log lies on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// The block device itself.
    Raw,
    /// A file in ext4.
    Ext4,
}

/// One recorded run and its states.
pub(crate) struct Pass {
    pub(crate) name: &'static str,
    pub(crate) ground: Ground,
    pub(crate) mode: &'static str,
    pub(crate) mutant: u16,
    /// Times the log is opened in the recorded run.
    pub(crate) lives: u32,
    /// States by default, and in the short form (0: not part of it).
    pub(crate) states: [u64; 2],
    pub(crate) expect: Expect,
}

const fn good(name: &'static str, ground: Ground, mode: &'static str, states: [u64; 2]) -> Pass {
    let (mutant, expect) = (0, Expect::Good);
    Pass {
        name,
        ground,
        mode,
        mutant,
        lives: 3,
        states,
        expect,
    }
}

const fn caught(
    name: &'static str,
    ground: Ground,
    mutant: u16,
    states: [u64; 2],
    percent: u64,
) -> Pass {
    let (mode, expect) = ("ring-sync", Expect::Caught { percent });
    Pass {
        name,
        ground,
        mode,
        mutant,
        lives: 3,
        states,
        expect,
    }
}

/// Bug 1 acknowledges before the flush, 2 flushes beside the writes it must cover, 13 leaves the
/// directory without a sync (docs/simulation.md).
pub(crate) const PASSES: &[Pass] = &[
    good("raw-ring-sync", Ground::Raw, "ring-sync", [120, 40]),
    good("raw-ring-dsync", Ground::Raw, "ring-dsync", [80, 0]),
    good("raw-portable", Ground::Raw, "portable", [80, 0]),
    good("ext4-ring-sync", Ground::Ext4, "ring-sync", [80, 20]),
    good("ext4-ring-dsync", Ground::Ext4, "ring-dsync", [40, 0]),
    good("ext4-portable", Ground::Ext4, "portable", [40, 0]),
    caught("raw-bug-1", Ground::Raw, 1, [60, 20], 30),
    caught("ext4-bug-1", Ground::Ext4, 1, [40, 0], 30),
    caught("raw-bug-2", Ground::Raw, 2, [100, 0], 1),
    // Only the creation shows it, so there is no second life to look at.
    Pass {
        lives: 1,
        ..caught("ext4-bug-13", Ground::Ext4, 13, [100, 0], 1)
    },
];
