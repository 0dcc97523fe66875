//! The part of a plan that the scenario `broker` alone has.
//!
//! *Owns*: clients, lives and network of that scenario, drawn from a stream of their own.
//! *Does not own*: disk and bucket (plan.rs).
//!
//! *IO: none*

use serde::{Deserialize, Serialize};

use crate::net::NetFaults;
use crate::rng::Rng;

use super::ends::{End, Sync};

/// One life of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokerLife {
    /// How it ends.
    pub end: End,
    /// It ends after so much virtual time, in microseconds.
    pub after_us: u64,
    /// Or after so many operations of its disk, whichever comes first.
    pub after_ops: u64,
    /// In place of its end it is stopped, and wakes up in a later life; or its volume is attached
    /// elsewhere, and it runs on.
    pub zombie: bool,
    /// How long nobody runs behind it, in microseconds.
    pub down_us: u64,
    /// How its device WAL makes bytes durable.
    pub sync: Sync,
    /// How far the wall clock is off, in milliseconds.
    pub wall_shift_ms: i64,
    /// Whether it gives all streams up in place of its end, so that another node may open them.
    #[serde(default)]
    pub releases: bool,
}

/// Clients, lives and network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BrokerPlan {
    /// Whether the WAL lies in the bucket.
    pub object_wal: bool,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Idempotent producers.
    pub idempotent: u32,
    /// Producers that do not de-duplicate.
    pub plain: u32,
    /// Producers that wait for no answer.
    pub unacked: u32,
    /// Whether the members of the group keep their place over a restart.
    pub static_members: bool,
    /// Batches that a producer sends.
    pub batches: u32,
    /// Batches that a producer has under way.
    pub depth: usize,
    /// Consumers outside groups.
    pub consumers: u32,
    /// Members of the group.
    pub members: u32,
    /// Rounds of consuming and committing of each member, at least.
    pub rounds: u32,
    /// Whether topics are created, grown and deleted meanwhile.
    pub admin: bool,
    /// The network.
    pub net: NetFaults,
    /// Mean time between partitions and pauses in microseconds; 0 is none.
    pub trouble_us: u64,
    /// The lives before all is healed.
    pub lives: Vec<BrokerLife>,
    /// The lives of each further broker, of another node id, on the same bucket.
    pub others: Vec<Vec<BrokerLife>>,
}

impl BrokerPlan {
    pub(super) fn new(seed: u64, long: bool) -> Self {
        let mut rng = Rng::new(seed, "plan: broker");
        let object_wal = rng.chance(500);
        let groups = rng.chance(500);
        let num_lives = if long {
            rng.between(3, 7)
        } else {
            rng.between(1, 3)
        };
        let lives = (0..num_lives).map(|_| life(&mut rng, groups));
        Self {
            lives: lives.collect(),
            object_wal,
            partitions: small(&mut rng, 1, 3),
            idempotent: small(&mut rng, 1, 2),
            plain: small(&mut rng, 0, 1),
            batches: if long {
                small(&mut rng, 40, 120)
            } else {
                small(&mut rng, 5, 25)
            },
            depth: rng.index(5) + 1,
            consumers: small(&mut rng, 0, 2),
            members: if groups { small(&mut rng, 1, 3) } else { 0 },
            rounds: small(&mut rng, 2, 6),
            admin: rng.chance(500),
            net: net_faults(&mut rng),
            trouble_us: if rng.chance(500) {
                [20_000, 200_000, 2_000_000][rng.index(3)]
            } else {
                0
            },
            unacked: small(&mut rng, 0, 1),
            static_members: rng.chance(400),
            others: Vec::new(),
        }
    }

    /// Two or three brokers of different node ids on one bucket.
    pub(super) fn several(seed: u64, long: bool) -> Self {
        let mut rng = Rng::new(seed, "plan: brokers");
        let mut plan = Self::new(seed, long);
        let groups = plan.members > 0;
        for _ in 0..rng.between(1, 2) {
            let num_lives = rng.between(1, if long { 4 } else { 2 });
            let lives = (0..num_lives).map(|_| life(&mut rng, groups));
            plan.others.push(lives.collect());
        }
        let all = plan
            .lives
            .iter_mut()
            .chain(plan.others.iter_mut().flatten());
        all.for_each(|life| life.releases = rng.chance(600));
        plan
    }
}

fn small(rng: &mut Rng, low: u64, high: u64) -> u32 {
    u32::try_from(rng.between(low, high)).expect("small")
}

fn net_faults(rng: &mut Rng) -> NetFaults {
    NetFaults {
        way_ns: [20_000, 200_000, 2_000_000][rng.index(3)],
        reset: if rng.chance(500) {
            small(rng, 1, 40)
        } else {
            0
        },
        partial: if rng.chance(500) { 100 } else { 0 },
        window_bytes: if rng.chance(300) { 300 } else { 64 << 10 },
        stall: if rng.chance(500) {
            small(rng, 1, 40)
        } else {
            0
        },
    }
}

fn life(rng: &mut Rng, groups: bool) -> BrokerLife {
    let end = match rng.below(20) {
        0..=10 => End::PowerLoss,
        11..=16 => End::Kill,
        _ => End::Close,
    };
    // Groups live by seconds, produce requests by less than a millisecond.
    let most_us = match rng.below(4) {
        0 => 3_000,
        1 => 30_000,
        2 => 300_000,
        _ if groups => 20_000_000,
        _ => 1_000_000,
    };
    BrokerLife {
        end,
        after_us: rng.between(most_us / 10, most_us),
        after_ops: if rng.chance(500) {
            rng.between(20, 600)
        } else {
            u64::MAX
        },
        zombie: rng.chance(300),
        down_us: [0, 1_000, 500_000][rng.index(3)],
        sync: if rng.chance(500) {
            Sync::Flush
        } else {
            Sync::Dsync
        },
        wall_shift_ms: if rng.chance(200) {
            i64::try_from(rng.below(2_000_000)).expect("small") - 1_000_000
        } else {
            0
        },
        releases: false,
    }
}
