//! A bucket seen through a film: what is created stays on the film.
//!
//! *Owns*: creates that reach no store, merged into what is read.
//! *Does not own*: who looks through it (`look.rs`).
//!
//! Invariants
//! 1. Nothing is created in or deleted from the bucket below.
//! 2. Whoever looks through it sees the bucket as if its own creates had been applied.
//!
//! *IO: through the bucket port*

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListEntry, ListPage, Purpose};
use tidewater_types::BoxFuture;

/// The bucket and what was created on top of it.
pub(super) struct Film {
    below: Arc<dyn Bucket>,
    purpose: Purpose,
    created: Mutex<BTreeMap<String, Bytes>>,
}

impl Film {
    /// A film over `below`; every request counts as `purpose`.
    pub(super) fn new(below: Arc<dyn Bucket>, purpose: Purpose) -> Self {
        let created = Mutex::default();
        Self {
            below,
            purpose,
            created,
        }
    }

    fn on_film(&self, key: &str) -> Option<Bytes> {
        self.created.lock().get(key).cloned()
    }
}

impl Bucket for Film {
    fn create<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let exists = || BucketError::Exists {
                key: key.to_owned(),
            };
            if self.on_film(key).is_some() {
                return Err(exists());
            }
            match self.below.size(self.purpose, key).await {
                Ok(_) => Err(exists()),
                Err(BucketError::Absent { .. }) => {
                    let body = Bytes::from(body.concat());
                    self.created.lock().insert(key.to_owned(), body);
                    Ok(())
                }
                Err(other) => Err(other),
            }
        })
    }

    fn get<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            match (self.on_film(key), range) {
                (Some(body), None) => Ok(body),
                (_, range) => self.below.get(self.purpose, key, range).await,
            }
        })
    }

    fn size<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move {
            match self.on_film(key) {
                Some(body) => Ok(body.len() as u64),
                None => self.below.size(self.purpose, key).await,
            }
        })
    }

    fn delete<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            Err(BucketError::Refused {
                key: key.to_owned(),
                cause: "this is only a look".to_owned(),
            })
        })
    }

    fn list<'a>(
        &'a self,
        _purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(async move {
            let mut page = self.below.list(self.purpose, prefix, after).await?;
            let last = page.entries.last().map(|entry| entry.key.clone());
            let created = self.created.lock();
            let on_film = created.iter().filter(|(key, _)| {
                let follows = after.is_none_or(|after| key.as_str() > after);
                // What lies behind the page belongs to a later one.
                let in_page = !page.more || last.as_ref().is_some_and(|last| *key <= last);
                key.starts_with(prefix) && follows && in_page
            });
            let mut entries: BTreeMap<String, u64> = on_film
                .map(|(key, body)| (key.clone(), body.len() as u64))
                .collect();
            entries.extend(page.entries.into_iter().map(|at| (at.key, at.size)));
            let entry = |(key, size)| ListEntry { key, size };
            page.entries = entries.into_iter().map(entry).collect();
            Ok(page)
        })
    }
}
