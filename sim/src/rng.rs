//! Random numbers that follow from a seed and a label, and from nothing else.
//!
//! *Owns*: the generator (xoshiro256++, seeded by splitmix64), its label hash, the draws.
//! *Does not own*: who draws; each component has a stream of its own, so that one
//! more draw in one of them shifts no other.
//!
//! Invariants
//! 1. The same (seed, label) gives the same numbers on every machine and in every process.
//! 2. Bounded draws are uniform enough for choosing faults: multiply-shift, no rejection.
//!
//! *IO: none*

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// The next state of splitmix64 and its output.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a over the label: short, and the same everywhere.
pub(crate) fn label_hash(label: &str) -> u64 {
    label.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Rng {
    /// The stream named `label` of the run `seed`.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        let mut state = seed ^ label_hash(label).rotate_left(17);
        // One round apart, so that neighbouring seeds share nothing.
        let mut state = splitmix(&mut state);
        let words = std::array::from_fn(|_| splitmix(&mut state));
        Self { state: words }
    }

    /// A number of 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("high half of a product")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A place in a list of `len` elements, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// `true` in `per_mille` of 1,000 draws.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// A number around `mean`, mostly within a factor of two, now and then ten times as much.
    pub fn latency(&mut self, mean: u64) -> u64 {
        let base = self.between(mean / 2, mean + mean / 2);
        if self.chance(20) {
            base.saturating_mul(10)
        } else {
            base.max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn numbers_follow_from_seed_and_label() {
        let draw = |seed, label| {
            let mut rng = Rng::new(seed, label);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "bucket"));
    }

    #[test]
    fn the_generator_is_pinned_for_ever() {
        // A change here makes every recorded seed mean something else.
        let mut rng = Rng::new(42, "pin");
        assert_eq!(rng.next_u64(), 0x7075_67bd_08f6_7739);
    }

    #[test]
    fn bounded_draws_stay_in_bounds_and_reach_them() {
        let mut rng = Rng::new(7, "bounds");
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] = true;
            let value = rng.between(3, 4);
            assert!((3..=4).contains(&value));
        }
        assert_eq!(seen, [true; 5]);
        assert!(!rng.chance(0));
        assert!(rng.chance(1000));
    }
}
