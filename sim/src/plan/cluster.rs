//! The part of a plan that the scenario `cluster` alone has.
//!
//! *Owns*: nodes, their lives, moves and partitions of that scenario, drawn from a stream of their
//! own.
//! *Does not own*: disk and bucket (plan.rs).
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

use super::ends::End;

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterLife {
    /// How it ends.
    pub(crate) end: End,
    /// It ends after so much virtual time, in microseconds.
    pub(crate) after_us: u64,
    /// In place of its end it is stopped, and wakes up in a later life (object WAL alone).
    pub(crate) zombie: bool,
    /// How long the node is down behind it, in microseconds.
    pub(crate) down_us: u64,
    /// How far the wall clock is off, in milliseconds.
    pub(crate) wall_shift_ms: i64,
}

/// Nodes and what happens between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClusterPlan {
    /// Whether the WALs lie in the bucket; otherwise each node has a device.
    pub(crate) object_wal: bool,
    /// Streams that the nodes share out.
    pub(crate) streams: u32,
    /// Writers of a life.
    pub(crate) writers: u32,
    /// Readers of a life.
    pub(crate) readers: u32,
    /// Mean time between moves of streams at each node, in microseconds.
    pub(crate) move_us: u64,
    /// Mean time between partitions and pauses in microseconds; 0 is none.
    pub(crate) trouble_us: u64,
    /// Behind so many of 1,000 lives another node takes a stream of the dead one and accepts the loss
    /// of what was not uploaded; later the stream is free again.
    pub(crate) thefts: u32,
    /// The lives of each node before all is healed.
    pub(crate) nodes: Vec<Vec<ClusterLife>>,
}

impl ClusterPlan {
    pub(super) fn new(seed: u64, long: bool) -> Self {
        let mut rng = Rng::new(seed, "plan: cluster");
        let object_wal = rng.chance(600);
        let num_nodes = rng.between(2, 3);
        let node = |rng: &mut Rng| {
            let num_lives = if long {
                rng.between(2, 5)
            } else {
                rng.between(1, 3)
            };
            (0..num_lives).map(|_| life(rng, object_wal)).collect()
        };
        Self {
            object_wal,
            nodes: (0..num_nodes).map(|_| node(&mut rng)).collect(),
            streams: small(&mut rng, 1, 4),
            writers: small(&mut rng, 1, 2),
            readers: small(&mut rng, 0, 1),
            move_us: [1_000, 10_000, 60_000][rng.index(3)],
            trouble_us: if rng.chance(500) {
                [5_000, 50_000, 500_000][rng.index(3)]
            } else {
                0
            },
            thefts: thefts(&mut Rng::new(seed, "plan: thefts")),
        }
    }
}

fn thefts(rng: &mut Rng) -> u32 {
    if rng.chance(300) {
        [300, 800][rng.index(2)]
    } else {
        0
    }
}

fn small(rng: &mut Rng, low: u64, high: u64) -> u32 {
    u32::try_from(rng.between(low, high)).expect("small")
}

fn life(rng: &mut Rng, object_wal: bool) -> ClusterLife {
    let end = match rng.below(20) {
        0..=8 => End::PowerLoss,
        9..=13 => End::Kill,
        _ => End::Close,
    };
    let most_us = [10_000, 60_000, 300_000][rng.index(3)];
    ClusterLife {
        end,
        after_us: rng.between(most_us / 10, most_us),
        zombie: object_wal && rng.chance(300),
        down_us: [0, 1_000, 50_000][rng.index(3)],
        wall_shift_ms: if rng.chance(200) {
            i64::try_from(rng.below(2_000_000)).expect("small") - 1_000_000
        } else {
            0
        },
    }
}
