//! The plan of one run: workload and faults, drawn from the seed, saved as JSON.
//!
//! *Owns*: what a seed means. *Does not own*: how a scenario carries it out.
//!
//! Invariants
//! 1. The plan follows from (seed, scenario) alone, never from a mutant: a mutant meets
//!    the same plans as the control run.
//! 2. Swarm selection: each fault and feature is off in a random half of the seeds.
//! 3. 90 % of the seeds are short, 10 % long.
//!
//! *IO: none*

mod broker;
mod cluster;
mod ends;
pub(crate) mod faults;
pub(crate) mod saved;
mod scenarios;
pub(crate) mod shrink;

use serde::{Deserialize, Serialize};

use crate::bucket::BucketFaults;
use crate::cache_disk::CacheFaults;
use crate::disk::{DiskFaults, DiskShape};
use crate::env::ClockFaults;
use crate::rng::Rng;

pub(crate) use broker::{BrokerLife, BrokerPlan};
pub(crate) use cluster::{ClusterLife, ClusterPlan};
pub(crate) use ends::{End, Sync};
pub use scenarios::Scenario;

/// One life of the node: from open to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// How it ends.
    pub end: End,
    /// After how many disk operations of this life it ends; small numbers end it in recovery.
    pub after_ops: u64,
    /// Whether writers stop and the WAL goes idle before the end.
    pub idle: bool,
    /// How it makes bytes durable.
    pub sync: Sync,
    /// How far the wall clock is off, in milliseconds.
    pub wall_shift_ms: i64,
    /// Whether it falls asleep now and then before it sends a request (`object-wal` alone).
    #[serde(default)]
    pub naps: bool,
}

/// Damage beyond the disk's contract: code must notice, it cannot repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Damage {
    /// One bit of an acknowledged, untrimmed frame flips.
    BitRot,
    /// One write lands at another place.
    Misdirected,
    /// One flush, or one DSYNC write, is answered and makes nothing durable; then power fails.
    LyingFlush,
    /// One read of the recovery gives a block as it was a life before.
    StaleRead,
    /// One bit of a superblock slot flips: the other slot must do.
    SlotRot,
    /// A sector cannot be read: of an acknowledged, untrimmed frame, or behind the end of the log.
    Unreadable,
    /// The log is replaced: by nothing, or by another log.
    Foreign,
    /// An object breaks off (object WAL).
    Truncated,
    /// Two objects change places (object WAL).
    Swapped,
    /// An object in front of durable ones is gone (object WAL).
    Lost,
}

impl Damage {
    /// Its name among the faults.
    pub(crate) fn fault(self) -> &'static str {
        match self {
            Self::BitRot => "damage_bit_rot",
            Self::Misdirected => "damage_misdirected",
            Self::LyingFlush => "damage_lying_flush",
            Self::StaleRead => "damage_stale_read",
            Self::SlotRot => "damage_slot_rot",
            Self::Unreadable => "damage_unreadable",
            Self::Foreign => "damage_foreign",
            Self::Truncated => "damage_truncated",
            Self::Swapped => "damage_swapped",
            Self::Lost => "damage_lost",
        }
    }
}

/// Everything that a seed decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed it was drawn from; components draw from it under labels of their own.
    pub seed: u64,
    /// What runs.
    pub scenario: Scenario,
    /// Whether it is one of the long seeds.
    pub long: bool,
    /// Sizes and speeds of the disk.
    pub disk: DiskShape,
    /// Faults of the disk.
    pub disk_faults: DiskFaults,
    /// Faults of the bucket.
    pub bucket: BucketFaults,
    /// Faults of the disk of the block cache (store); without it there is no such cache.
    #[serde(default)]
    pub(crate) cache: Option<CacheFaults>,
    /// Segments in the ring.
    pub segments: u64,
    /// Writers at a time.
    pub writers: u64,
    /// Appends that a writer keeps under way.
    pub depth: u64,
    /// Largest payload in bytes.
    pub payload_bytes_max: u64,
    /// Whether the log is trimmed.
    pub trim: bool,
    /// Readers at a time (store).
    pub readers: u64,
    /// Streams (store).
    pub streams: u64,
    /// Whether the WAL lies in the bucket (store); killed lives run on as zombies then.
    #[serde(default)]
    pub object_wal: bool,
    /// In so many of 1,000 acknowledgements, a fork of the disk is recovered.
    pub forks: u32,
    /// The lives of the node before all is healed.
    pub(crate) lives: Vec<Life>,
    /// Damage done after the last life, if any.
    pub(crate) damage: Option<Damage>,
    /// Lives whose wall clock goes wrong.
    #[serde(default)]
    pub(crate) clock: ClockFaults,
    /// Clients, lives and network of the scenario `broker`.
    #[serde(default)]
    pub(crate) broker: BrokerPlan,
    /// Nodes, lives and moves of the scenario `cluster`.
    #[serde(default)]
    pub(crate) cluster: ClusterPlan,
}

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn new(seed: u64, scenario: Scenario) -> Self {
        let mut rng = Rng::new(seed, "plan");
        let mut device = Rng::new(seed, "plan: device");
        let is_file = device.chance(500);
        let long = rng.chance(100);
        let lives = if long {
            rng.between(3, 8)
        } else {
            rng.between(1, 3)
        };
        let damage = damage(&mut rng, seed, scenario);
        Self {
            seed,
            scenario,
            long,
            disk: DiskShape {
                is_file,
                ..disk_shape(&mut rng)
            },
            disk_faults: device_faults(&mut device, disk_faults(&mut rng)),
            cache: cache_faults(seed),
            bucket: late_faults(seed, bucket_faults(&mut rng)),
            segments: {
                // A draw that nothing uses any more keeps those behind it what they were.
                _ = rng.between(14, 16);
                rng.between(3, 6)
            },
            writers: rng.between(1, 6),
            depth: rng.between(1, 6),
            payload_bytes_max: [40, 400, 3000, 9000][rng.index(4)],
            trim: rng.chance(700),
            readers: rng.between(0, 3),
            streams: rng.between(1, 4),
            object_wal: scenario == Scenario::Store && Rng::new(seed, "plan: wal").chance(300),
            forks: [0, 10, 50][rng.index(3)],
            lives: {
                let mut lives = (0..lives).map(|_| life(&mut rng, long, scenario)).collect();
                if scenario == Scenario::ObjectWal {
                    crash_loop(&mut Rng::new(seed, "plan: crash loop"), &mut lives);
                    takers(&mut Rng::new(seed, "plan: takers"), &mut lives);
                }
                lives
            },
            damage,
            clock: clock_faults(&mut Rng::new(seed, "plan: clock")),
            broker: match scenario {
                Scenario::Broker => BrokerPlan::new(seed, long),
                Scenario::Brokers => BrokerPlan::several(seed, long),
                _ => BrokerPlan::default(),
            },
            cluster: if scenario == Scenario::Cluster {
                ClusterPlan::new(seed, long)
            } else {
                ClusterPlan::default()
            },
        }
    }
}

fn damage(rng: &mut Rng, seed: u64, scenario: Scenario) -> Option<Damage> {
    let damage = match rng.below(12) {
        0 => Some(Damage::BitRot),
        1 => Some(Damage::SlotRot),
        2 => Some(Damage::Misdirected),
        3 => Some(Damage::Foreign),
        _ => None,
    };
    match scenario {
        Scenario::ObjectWal => object_damage(&mut Rng::new(seed, "plan: objects")),
        Scenario::Wal => damage
            .or_else(|| {
                let unreadable = Rng::new(seed, "plan: sectors").chance(120);
                unreadable.then_some(Damage::Unreadable)
            })
            .or_else(|| lies(&mut Rng::new(seed, "plan: lies"))),
        Scenario::Metadata => damage,
        // What lies under the others is damaged in these three.
        _ => None,
    }
}

/// In one plan of four, lives that end while they open follow each other.
fn crash_loop(rng: &mut Rng, lives: &mut Vec<Life>) {
    if !rng.chance(250) {
        return;
    }
    let most = rng.between(10, 120);
    let at = rng.index(lives.len()) + 1;
    let short = (0..rng.between(3, 10)).map(|_| Life {
        end: if rng.chance(300) {
            End::Kill
        } else {
            End::PowerLoss
        },
        after_ops: rng.between(5, most),
        ..lives[at - 1]
    });
    let short: Vec<Life> = short.collect();
    lives.splice(at..at, short);
}

/// In one plan of six, takers that fall asleep while they open follow an owner that writes on: they
/// end its chain side by side.
fn takers(rng: &mut Rng, lives: &mut Vec<Life>) {
    if !rng.chance(170) {
        return;
    }
    let owner = rng.index(lives.len());
    lives[owner].end = End::Kill;
    let most = rng.between(20, 300);
    let takers = (0..rng.between(2, 4)).map(|_| Life {
        after_ops: rng.between(5, most),
        naps: true,
        ..lives[owner]
    });
    let takers: Vec<Life> = takers.collect();
    lives.splice(owner + 1..=owner, takers);
}

/// A device that says what is not so.
fn lies(rng: &mut Rng) -> Option<Damage> {
    let all = [Damage::LyingFlush, Damage::StaleRead];
    all.get(rng.index(12)).copied()
}

fn object_damage(rng: &mut Rng) -> Option<Damage> {
    let all = [
        Damage::BitRot,
        Damage::Truncated,
        Damage::Swapped,
        Damage::Lost,
        Damage::Foreign,
    ];
    all.get(rng.index(15)).copied()
}

/// A rate for a fault: off in half of the seeds, seldom otherwise.
fn rate(rng: &mut Rng, most: u64) -> u32 {
    if rng.chance(500) {
        0
    } else {
        u32::try_from(rng.between(1, most)).expect("small")
    }
}

fn disk_shape(rng: &mut Rng) -> DiskShape {
    let (block_bytes, sector_bytes) = [(512, 512), (4096, 512), (4096, 4096)][rng.index(3)];
    DiskShape {
        block_bytes,
        sector_bytes,
        write_ns: [2_000, 20_000, 200_000][rng.index(3)],
        flush_ns: [5_000, 80_000, 2_000_000][rng.index(3)],
        is_file: false,
    }
}

fn disk_faults(rng: &mut Rng) -> DiskFaults {
    // In half of the seeds the disk itself is fine, so that lives last long enough.
    if rng.chance(500) {
        return DiskFaults::default();
    }
    DiskFaults {
        read_eio: rate(rng, 4),
        write_eio: rate(rng, 8),
        flush_eio: rate(rng, 20),
        enospc: rate(rng, 6),
        short_write: rate(rng, 40),
        short_read: rate(rng, 40),
        ..DiskFaults::default()
    }
}

/// Faults of a device that is slow, goes away or cancels. They draw from a stream of their own.
fn device_faults(rng: &mut Rng, faults: DiskFaults) -> DiskFaults {
    let mut seldom = |most| if rng.chance(500) { rate(rng, most) } else { 0 };
    DiskFaults {
        slow: seldom(4),
        removed: seldom(5),
        cancelled: seldom(5),
        name_eio: seldom(500),
        ..faults
    }
}

/// They draw from a stream of their own: the plans of old seeds stay as they were.
fn cache_faults(seed: u64) -> Option<CacheFaults> {
    let mut rng = Rng::new(seed, "plan: cache");
    if rng.chance(300) {
        return None;
    }
    Some(CacheFaults {
        eio: rate(&mut rng, 40),
        lost_write: rate(&mut rng, 200),
        torn_write: rate(&mut rng, 200),
        misdirected: rate(&mut rng, 100),
        bit_rot: rate(&mut rng, 200),
        slow: rate(&mut rng, 20),
        death: rate(&mut rng, 20),
    })
}

fn clock_faults(rng: &mut Rng) -> ClockFaults {
    ClockFaults {
        drift: rate(rng, 300),
        jump: rate(rng, 300),
    }
}

/// Faults that were added later draw from streams of their own: earlier plans stay what they are.
fn late_faults(seed: u64, faults: BucketFaults) -> BucketFaults {
    BucketFaults {
        completion_replaces: Rng::new(seed, "plan: parts").chance(500),
        parts_equal: Rng::new(seed, "plan: equal parts").chance(200),
        conflict: rate(&mut Rng::new(seed, "plan: conflicts"), 1000),
        garbled: rate(&mut Rng::new(seed, "plan: garbled"), 30),
        upload_forgotten: rate(&mut Rng::new(seed, "plan: uploads"), 300),
        ..faults
    }
}

fn bucket_faults(rng: &mut Rng) -> BucketFaults {
    BucketFaults {
        throttled: rate(rng, 50),
        never_arrives: rate(rng, 40),
        server_error: rate(rng, 60),
        lost_answer: rate(rng, 80),
        late: rate(rng, 80),
        truncated: rate(rng, 40),
        way_ns: [50_000, 300_000, 3_000_000][rng.index(3)],
        timeout_ns: 20_000_000,
        conflict: 0,
        garbled: 0,
        upload_forgotten: 0,
        page_keys: if rng.chance(500) { 3 } else { 1000 },
        completion_replaces: false,
        parts_equal: false,
    }
}

fn life(rng: &mut Rng, long: bool, scenario: Scenario) -> Life {
    let end = match rng.below(20) {
        0..=10 => End::PowerLoss,
        11..=16 => End::Kill,
        _ => End::Close,
    };
    let most = if long { 2000 } else { 250 };
    let most = if scenario == Scenario::Store {
        most * 2
    } else {
        most
    };
    // Every fifth life ends while it opens or just after.
    let after_ops = if rng.chance(200) {
        rng.between(1, 25)
    } else {
        rng.between(10, most)
    };
    Life {
        end,
        after_ops,
        idle: rng.chance(250),
        sync: if rng.chance(700) {
            Sync::Flush
        } else {
            Sync::Dsync
        },
        wall_shift_ms: if rng.chance(200) {
            rng.below(20_000).cast_signed() - 10_000
        } else {
            0
        },
        naps: false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Damage, Plan, Scenario};

    #[test]
    fn a_plan_follows_from_its_seed_and_survives_json() {
        for seed in 0..50 {
            let plan = Plan::new(seed, Scenario::Wal);
            assert_eq!(plan, Plan::new(seed, Scenario::Wal));
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
        }
    }

    #[test]
    fn swarm_selection_turns_every_fault_on_and_off() {
        let plans: Vec<Plan> = (0..500)
            .map(|seed| Plan::new(seed, Scenario::Store))
            .collect();
        let both = |on: &dyn Fn(&Plan) -> bool| plans.iter().any(on) && !plans.iter().all(on);
        assert!(both(&|plan| plan.disk_faults.flush_eio > 0));
        assert!(both(&|plan| plan.disk_faults.short_write > 0));
        assert!(both(&|plan| plan.disk_faults.slow > 0));
        assert!(both(&|plan| plan.disk_faults.removed > 0));
        assert!(both(&|plan| plan.disk_faults.cancelled > 0));
        assert!(both(&|plan| plan.disk.is_file));
        assert!(both(&|plan| plan.bucket.late > 0));
        assert!(both(&|plan| plan.bucket.conflict > 0));
        assert!(both(&|plan| plan.trim));
        assert!(both(&|plan| plan.object_wal));
        let plans_of_wal: Vec<Plan> = (0..500)
            .map(|seed| Plan::new(seed, Scenario::Wal))
            .collect();
        for damage in [
            Damage::BitRot,
            Damage::SlotRot,
            Damage::Misdirected,
            Damage::LyingFlush,
            Damage::StaleRead,
            Damage::Foreign,
            Damage::Unreadable,
        ] {
            let on = plans_of_wal
                .iter()
                .filter(|plan| plan.damage == Some(damage));
            assert!((5..250).contains(&on.count()), "{damage:?}");
        }
        let long = plans.iter().filter(|plan| plan.long).count();
        assert!((20..=90).contains(&long), "{long} of 500 are long");
    }
}
