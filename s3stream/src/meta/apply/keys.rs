//! Judges what does not belong to streams: keys, and the deletion delay.
//!
//! *Owns*: versions of keys, and that the delay is said once.
//! *Does not own*: what keys mean; the engine does not know.
//!
//! Invariants
//! 1. A key's version is given once, also over its deletion.
//!
//! *IO: none*

use bytes::Bytes;

use crate::error::Rejection;
use crate::meta::state::KeyState;

use super::{Judge, Verdict};

/// Longest key in bytes.
const KEY_BYTES_MAX: usize = 1_024;

impl Judge<'_> {
    pub(super) fn set_delete_delay(&mut self, delay_ns: u64) -> Verdict {
        let current_ns = self.changes.state.delete_delay_ns;
        if delay_ns == 0 {
            let what = "a deletion delay is at least 1 ns";
            return Err(Rejection::Malformed { what });
        }
        if current_ns == 0 {
            self.changes.set_delete_delay(delay_ns);
        } else if current_ns != delay_ns {
            return Err(Rejection::DeleteDelay { current_ns });
        }
        Ok(())
    }

    pub(super) fn put_key(
        &mut self,
        key: &str,
        value: &Bytes,
        expected_version: Option<u64>,
    ) -> Verdict {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Rejection::Malformed {
                what: "a key has 1 to 1,024 bytes",
            });
        }
        self.check_version(key, expected_version)?;
        let version = self.next_version()?;
        self.changes.set_key(
            key,
            Some(KeyState {
                value: value.clone(),
                version,
            }),
        );
        Ok(())
    }

    pub(super) fn check_version(&self, key: &str, expected: Option<u64>) -> Verdict {
        let current = self
            .changes
            .state
            .keys
            .get(key)
            .map_or(0, |state| state.version);
        if expected.is_none_or(|expected| expected == current) {
            return Ok(());
        }
        Err(Rejection::KeyVersion {
            key: key.to_owned(),
            current,
        })
    }

    fn next_version(&mut self) -> Result<u64, Rejection> {
        let (stream, version) = (
            self.changes.state.next_stream,
            self.changes.state.last_version,
        );
        let version = version.checked_add(1).ok_or(Rejection::Malformed {
            what: "versions are used up",
        })?;
        self.changes.set_counters(stream, version);
        Ok(version)
    }
}
