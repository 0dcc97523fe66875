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
/// Uploads that fit beside each other into what waits.
const UPLOADS: u64 = 4;
/// An object that compaction writes is as large as two uploads, so that it can join two of one size.
const COMPACTED_UPLOADS: u64 = 2;
/// What an object has beside its records, in percent of them at most, if records are not tiny.
const OBJECT_OVERHEAD: u64 = 10;
/// More at a time makes no request of compaction cheaper.
const COMPACTION_READ_MAX: u64 = 8 * MIB;
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
    /// Indices of objects.
    pub(crate) index_cache: u64,
    /// Requests and responses under way, of all connections.
    pub(crate) network: u64,
    /// What a step of compaction holds, and one answer of the bucket beside it.
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
            index_cache,
            network,
            compaction,
        }
    }

    /// Most bytes of one upload: so many fit beside each other into what waits.
    pub(crate) fn upload_bytes_max(&self) -> u64 {
        self.waiting / UPLOADS
    }

    /// Largest object that compaction writes.
    pub(crate) fn compacted_bytes(&self) -> u64 {
        let uploads = COMPACTED_UPLOADS * self.upload_bytes();
        uploads + uploads / 100 * OBJECT_OVERHEAD
    }

    /// Bytes that one request of compaction reads.
    pub(crate) fn compaction_read_bytes(&self) -> u64 {
        (self.compaction - self.compacted_bytes()).min(COMPACTION_READ_MAX)
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
            let step = memory.compacted_bytes() + memory.compaction_read_bytes();
            assert!(step <= memory.compaction && memory.compaction_read_bytes() >= MIB);
        }
        let least = Memory::of(MEMORY_MIN);
        assert!(least.waiting / 2 >= 16 * MIB, "the largest append fits");
    }
}
