//! The disk of a block cache that keeps nothing it is given for sure.
//!
//! *Owns*: the bytes, what each read and write does to them, what is left of them after a life.
//! *Does not own*: what is stored there. Nobody may rely on it: there is no contract to break.
//!
//! Invariants
//! 1. What is asked for lies on the disk: a cache that leaves its bounds panics.
//!
//! *IO: none*

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidewater_s3stream::CacheDisk;
use tidewater_types::BoxFuture;

use crate::exec::Handle;
use crate::rng::Rng;

const SECTOR: usize = 512;

/// Faults of the disk of a cache, each in so many of 1,000 operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CacheFaults {
    /// A read or write fails.
    pub eio: u32,
    /// A write says it was carried out, and was not.
    pub lost_write: u32,
    /// A write says it was carried out, and some of its sectors were not.
    pub torn_write: u32,
    /// A write lands elsewhere.
    pub misdirected: u32,
    /// One bit of what is read has flipped, for good.
    pub bit_rot: u32,
    /// An operation takes seconds.
    pub slow: u32,
    /// The disk dies: every operation fails from now on, in later lives too.
    pub death: u32,
}

/// The disk; clones name the same one. It outlives the lives of the node.
#[derive(Clone)]
pub(crate) struct CacheImage {
    handle: Handle,
    state: Arc<Mutex<State>>,
}

struct State {
    bytes: Vec<u8>,
    /// What it held some time ago.
    older: Vec<u8>,
    faults: CacheFaults,
    is_dead: bool,
    rng: Rng,
}

impl CacheImage {
    pub(crate) fn new(handle: Handle, seed: u64, faults: CacheFaults) -> Self {
        let mut rng = Rng::new(seed, "cache disk");
        let num_bytes = [64, 100, 256][rng.index(3)] << 10;
        let bytes = vec![0; num_bytes];
        let state = State {
            older: bytes.clone(),
            bytes,
            faults,
            is_dead: false,
            rng,
        };
        Self {
            handle,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A life ended: sectors of late may be as they were before.
    pub(crate) fn power_loss(&self) {
        let mut state = self.state.lock();
        let State {
            bytes, older, rng, ..
        } = &mut *state;
        for (new, old) in bytes.chunks_mut(SECTOR).zip(older.chunks(SECTOR)) {
            if new != old && rng.chance(300) {
                new.copy_from_slice(old);
            }
        }
        *older = bytes.clone();
    }

    fn strike(&self, state: &mut State, rate: u32, fault: &'static str) -> bool {
        let strikes = rate > 0 && state.rng.chance(rate);
        if strikes {
            self.handle.strike(fault);
        }
        strikes
    }

    /// How long the operation takes, and whether it fails.
    fn fate(&self) -> (Duration, bool) {
        let mut state = self.state.lock();
        let faults = state.faults;
        let slow = self.strike(&mut state, faults.slow, "cache_slow");
        let mean = if slow { 3_000_000_000 } else { 50_000 };
        let wait = Duration::from_nanos(state.rng.latency(mean));
        state.is_dead |= self.strike(&mut state, faults.death, "cache_death");
        let fails = self.strike(&mut state, faults.eio, "cache_eio");
        (wait, fails || state.is_dead)
    }

    fn apply_read(&self, position: usize, num_bytes: usize) -> Bytes {
        let mut state = self.state.lock();
        let rate = state.faults.bit_rot;
        if self.strike(&mut state, rate, "cache_bit_rot") {
            let at = position + state.rng.index(num_bytes);
            state.bytes[at] ^= 1 << state.rng.below(8);
        }
        Bytes::copy_from_slice(&state.bytes[position..position + num_bytes])
    }

    fn apply_write(&self, position: usize, data: &[u8]) {
        let mut state = self.state.lock();
        let faults = state.faults;
        if self.strike(&mut state, faults.lost_write, "cache_lost_write") {
            return;
        }
        let torn = self.strike(&mut state, faults.torn_write, "cache_torn_write");
        let mut position = position;
        if self.strike(&mut state, faults.misdirected, "cache_misdirected") {
            let places = (state.bytes.len() - data.len()) / 4096 + 1;
            position = state.rng.index(places) * 4096;
        }
        for (index, sector) in data.chunks(SECTOR).enumerate() {
            if !(torn && state.rng.chance(400)) {
                let at = position + index * SECTOR;
                state.bytes[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }

    fn check(&self, position: u64, num_bytes: usize) -> usize {
        let end = position + num_bytes as u64;
        let most = self.num_bytes();
        assert!(end <= most, "the cache goes to byte {end} of {most}");
        usize::try_from(position).expect("small")
    }
}

impl CacheDisk for CacheImage {
    fn num_bytes(&self) -> u64 {
        self.state.lock().bytes.len() as u64
    }

    fn read(&self, position: u64, num_bytes: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(async move {
            let at = self.check(position, num_bytes);
            let (wait, fails) = self.fate();
            self.handle.sleep(wait).await;
            if fails {
                return Err(io::Error::other("simulated"));
            }
            Ok(self.apply_read(at, num_bytes))
        })
    }

    fn write(&self, position: u64, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let data = parts.concat();
            let at = self.check(position, data.len());
            let (wait, fails) = self.fate();
            self.handle.sleep(wait).await;
            if fails {
                return Err(io::Error::other("simulated"));
            }
            self.apply_write(at, &data);
            Ok(())
        })
    }
}
