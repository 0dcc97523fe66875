//! Hands that reach into the store behind everybody's back.
//!
//! *Owns*: taking objects away, putting others there, looking at all of them.
//! *Does not own*: what that damages.
//!
//! *IO: none*

use bytes::Bytes;

use super::SimBucket;

impl SimBucket {
    /// All objects whose key begins with `prefix`, by their keys in ascending order.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let state = self.state.lock();
        let from = state.objects.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, bytes)| (key.clone(), bytes.clone()))
            .collect()
    }

    /// Removes every object whose key begins with `prefix`.
    pub fn wipe(&self, prefix: &str) {
        let mut state = self.state.lock();
        state.objects.retain(|key, _| !key.starts_with(prefix));
    }

    /// Puts `bytes` where `key` names an object, or takes that one away.
    pub fn put(&self, key: &str, bytes: Option<Bytes>) {
        let mut state = self.state.lock();
        match bytes {
            Some(bytes) => drop(state.objects.insert(key.to_owned(), bytes)),
            None => drop(state.objects.remove(key)),
        }
    }
}
