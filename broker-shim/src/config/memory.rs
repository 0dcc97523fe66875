//! One budget of memory and its shares.
//!
//! *Owns*: who gets how much, and the least budget that works.
//! *Does not own*: keeping to a share; each part does that itself.
//!
//! Invariants
//! 1. The shares and what is left to the process itself never pass the budget.
//! 2. Every budget from [`MEMORY_MIN`] on gives each part what it needs.
//! 3. Where a part counts contents, a fifth of its share is left to the allocator, which rounds sizes up
//!    to a quarter of a power of two: what is in memory is within the share.
//!
//! *IO: none*

const MIB: u64 = 1 << 20;

/// The least budget.
pub(crate) const MEMORY_MIN: u64 = 128 * MIB;
/// The greatest budget.
pub(crate) const MEMORY_MAX: u64 = 16 << 40;
/// The budget if nothing is said.
pub(crate) const MEMORY_DEFAULT: u64 = 512 * MIB;
/// With fewer buffers the log cannot write its largest frames.
const WAL_POOL_MIN: u64 = 24 * MIB;
/// More buffers than this make a log no faster.
const WAL_POOL_MAX: u64 = 64 * MIB;
/// Larger uploads make objects larger and commits no cheaper.
const UPLOAD_BYTES_MAX: u64 = 64 * MIB;
/// Uploads that fit beside each other into what waits, if their batches are not small.
const UPLOADS: u64 = 4;
/// The least that S3 takes as a part.
const PART_BYTES_MIN: u64 = 5 * MIB;
/// Larger parts make no upload cheaper.
const PART_BYTES_MAX: u64 = 8 * MIB;
/// With less, requests of compaction would be too small for their price.
const STEP_BYTES_MIN: u64 = MIB / 2;
/// More blocks that wait for a disk do not make it faster.
const DISK_WAITING_MAX: u64 = 32 * MIB;
/// The least that may wait: two of the largest appends.
const WAITING_MIN: u64 = 32 * MIB;

/// Who gets how much of the budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The whole.
    pub(crate) budget: u64,
    /// Records that are durable and not in the bucket yet, those under way to it among them.
    pub(crate) waiting: u64,
    /// Buffers of the write-ahead log.
    pub(crate) wal_pool: u64,
    /// Records kept for readers at the tail after they went to the bucket.
    pub(crate) tail_cache: u64,
    /// Blocks read from the bucket.
    pub(crate) block_cache: u64,
    /// Blocks that wait to be written to the cache on a disk: with one, it is part of what the tail has.
    pub(crate) disk_waiting: u64,
    /// Indices of objects.
    pub(crate) index_cache: u64,
    /// Requests and responses under way, of all connections.
    pub(crate) network: u64,
    /// What a step of compaction holds: what it has read, indices, parts that are not full.
    pub(crate) compaction: u64,
}

impl Memory {
    /// Divides `budget`, which is in range.
    pub(crate) fn of(budget: u64) -> Self {
        let percent = |share: u64| budget / 100 * share;
        let contents = |share: u64| share / 5 * 4;
        let waiting = contents(percent(30)).max(WAITING_MIN);
        let wal_pool = percent(15).clamp(WAL_POOL_MIN, WAL_POOL_MAX);
        let (tail_cache, index_cache) = (contents(percent(10)), contents(percent(5)));
        let (network, compaction) = (percent(10), percent(10));
        // What the log does not need goes to readers; a tenth stays for the process itself.
        let block_cache = contents(percent(25) - wal_pool);
        Self {
            budget,
            waiting,
            wal_pool,
            tail_cache,
            block_cache,
            disk_waiting: 0,
            index_cache,
            network,
            compaction,
        }
    }

    /// The same beside a cache on a disk.
    pub(crate) fn with_disk_cache(self) -> Self {
        let disk_waiting = (self.tail_cache / 5 * 2).min(DISK_WAITING_MAX);
        Self {
            disk_waiting,
            tail_cache: self.tail_cache - disk_waiting,
            ..self
        }
    }

    /// Most bytes of one upload: so many fit beside each other into what waits.
    pub(crate) fn upload_bytes_max(&self) -> u64 {
        self.waiting / UPLOADS
    }

    /// Bytes of a part of an object: a step of compaction has two that are not full.
    pub(crate) fn part_bytes(&self) -> u64 {
        (self.compaction / 4).clamp(PART_BYTES_MIN, PART_BYTES_MAX)
    }

    /// Bytes of what a step of compaction has read; as much again is for indices, and for the answer
    /// under way.
    pub(crate) fn step_bytes(&self) -> u64 {
        let left = self.compaction.saturating_sub(2 * self.part_bytes());
        (left / 3).max(STEP_BYTES_MIN)
    }

    /// Bytes of one upload, if nothing is said.
    pub(crate) fn upload_bytes(&self) -> u64 {
        (self.waiting / (2 * UPLOADS)).min(UPLOAD_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_pass_the_budget_and_each_part_has_what_it_needs() {
        for budget in [
            MEMORY_MIN,
            200 * MIB + 7,
            MEMORY_DEFAULT,
            5 << 30,
            MEMORY_MAX,
        ] {
            let memory = Memory::of(budget);
            let beside = memory.with_disk_cache();
            let both = beside.tail_cache + beside.disk_waiting;
            assert_eq!(both, memory.tail_cache);
            assert!(beside.disk_waiting >= 4 * MIB, "a few blocks");
            let shares = [
                memory.waiting,
                memory.wal_pool,
                memory.tail_cache,
                memory.block_cache,
                memory.index_cache,
                memory.network,
                memory.compaction,
            ];
            let sum: u64 = shares.iter().sum();
            assert!(sum <= budget - budget / 20, "{memory:?}");
            let device = tidewater_stream_store::DeviceWalConfig {
                pool_bytes: memory.wal_pool,
                ..Default::default()
            };
            device
                .validate()
                .unwrap_or_else(|e| panic!("{memory:?}: {e}"));
            assert!(memory.upload_bytes() <= memory.upload_bytes_max());
            assert!(memory.block_cache >= 6 * MIB && memory.index_cache >= 4 * MIB);
            let step = 3 * memory.step_bytes() + 2 * memory.part_bytes();
            assert!(step <= memory.compaction, "{memory:?}");
        }
        let least = Memory::of(MEMORY_MIN);
        assert!(least.waiting / 2 >= 16 * MIB, "the largest append fits");
    }
}
