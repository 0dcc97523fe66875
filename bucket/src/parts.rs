//! Objects that are being sent in parts, for the adapters that keep them themselves.
//!
//! *Owns*: which uploads are open, and which parts each has.
//! *Does not own*: where the bytes of a part are.
//!
//! Invariants
//! 1. An upload belongs to one key and ends once: by completion or by being given up.
//! 2. A completion names parts that are there, as they are there, in ascending order.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::port::{BucketError, MultipartId, MultipartLimits, Part, PartTag};

/// What the adapters that keep parts themselves take: anything.
pub(crate) const LIMITS: MultipartLimits = MultipartLimits {
    part_bytes_min: 1,
    part_bytes_max: 5 << 30,
    parts_max: 10_000,
};

/// The open uploads; `P` holds the bytes of a part.
#[derive(Debug)]
pub(crate) struct Uploads<P> {
    next: AtomicU64,
    open: Mutex<BTreeMap<String, Arc<Mutex<Upload<P>>>>>,
}

/// One open upload.
#[derive(Debug)]
pub(crate) struct Upload<P> {
    key: String,
    parts: BTreeMap<u32, (String, P)>,
}

impl<P> Default for Uploads<P> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0),
            open: Mutex::default(),
        }
    }
}

impl<P> Uploads<P> {
    /// Begins an upload.
    pub(crate) fn start(&self, key: &str) -> MultipartId {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let upload = Upload {
            key: key.to_owned(),
            parts: BTreeMap::new(),
        };
        self.open
            .lock()
            .insert(id.clone(), Arc::new(Mutex::new(upload)));
        MultipartId(id)
    }

    /// The open upload. Whoever completes it holds its lock, so that nobody else does.
    pub(crate) fn find(
        &self,
        key: &str,
        id: &MultipartId,
    ) -> Result<Arc<Mutex<Upload<P>>>, BucketError> {
        let found = self.open.lock().get(&id.0).cloned();
        found
            .filter(|upload| upload.lock().key == key)
            .ok_or_else(|| absent(key))
    }

    /// Takes a part, instead of an earlier one of its number.
    pub(crate) fn put(&self, part: Part<'_>, tag: String, body: P) -> Result<PartTag, BucketError> {
        let number = part.number;
        if !(1..=LIMITS.parts_max).contains(&number) {
            return Err(refused(
                part.key,
                format!("no part can have number {number}"),
            ));
        }
        let upload = self.find(part.key, part.upload)?;
        let mut upload = upload.lock();
        if !self.open.lock().contains_key(&part.upload.0) {
            return Err(absent(part.key));
        }
        upload.parts.insert(number, (tag.clone(), body));
        Ok(PartTag { number, tag })
    }

    /// Ends the upload; its parts are gone.
    pub(crate) fn end(&self, key: &str, id: &MultipartId) -> Result<(), BucketError> {
        self.find(key, id)?;
        if self.close(id) {
            Ok(())
        } else {
            Err(absent(key))
        }
    }

    /// Ends the upload, if it is open; the caller may hold its lock.
    pub(crate) fn close(&self, id: &MultipartId) -> bool {
        self.open.lock().remove(&id.0).is_some()
    }

    /// Whether it is open still: asked again under the upload's lock.
    pub(crate) fn is_open(&self, id: &MultipartId) -> bool {
        self.open.lock().contains_key(&id.0)
    }
}

impl<P> Upload<P> {
    /// The bodies of the parts that a completion names.
    pub(crate) fn bodies(&self, named: &[PartTag]) -> Result<Vec<&P>, BucketError> {
        if named.is_empty() || !named.is_sorted_by(|a, b| a.number < b.number) {
            let cause = "a completion names parts in ascending order, at least one".to_owned();
            return Err(refused(&self.key, cause));
        }
        named
            .iter()
            .map(|wanted| match self.parts.get(&wanted.number) {
                Some((tag, body)) if *tag == wanted.tag => Ok(body),
                _ => Err(refused(
                    &self.key,
                    format!("part {} is not the one named", wanted.number),
                )),
            })
            .collect()
    }
}

pub(crate) fn absent(key: &str) -> BucketError {
    BucketError::Absent {
        key: key.to_owned(),
    }
}

pub(crate) fn refused(key: &str, cause: String) -> BucketError {
    BucketError::Refused {
        key: key.to_owned(),
        cause,
    }
}
