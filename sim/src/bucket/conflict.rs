//! Writes of one key that meet at the store.
//!
//! *Owns*: which creates and deletes are on their way.
//! *Does not own*: when they arrive, and what becomes of those that meet.
//!
//! Invariants
//! 1. Of several writes the last one to arrive meets none: somebody gets on.
//!
//! *IO: none*

use std::collections::BTreeMap;

/// Creates and deletes on their way, by key.
#[derive(Debug, Default)]
pub(super) struct Writing(BTreeMap<String, u32>);

impl Writing {
    pub(super) fn sent(&mut self, key: &str) {
        *self.0.entry(key.to_owned()).or_default() += 1;
    }

    /// One arrives; whether it meets another.
    pub(super) fn arrives(&mut self, key: &str) -> bool {
        let Some(count) = self.0.get_mut(key) else {
            return false;
        };
        *count -= 1;
        let meets = *count > 0;
        if !meets {
            self.0.remove(key);
        }
        meets
    }
}

#[cfg(test)]
mod tests {
    use super::Writing;

    #[test]
    fn all_but_the_last_one_of_a_key_meet_another() {
        let mut writing = Writing::default();
        ["a", "a", "b"]
            .into_iter()
            .for_each(|key| writing.sent(key));
        assert_eq!(
            ["a", "b", "a", "c"].map(|key| writing.arrives(key)),
            [true, false, false, false]
        );
    }
}
