//! A bucket in memory: the reference implementation of the port.
//!
//! *Owns*: a sorted map under a lock.
//! *Does not own*: faults; the simulator has a bucket of its own for them.
//!
//! Invariants
//! 1. A key and a key below it (`a` and `a/b`) are never both taken: a directory
//!    cannot hold both, so no code may come to rely on it.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use tidewater_types::{BoxFuture, crc32c};

use crate::config::LIST_PAGE_MAX;
use crate::key::{check_key, check_prefix};
use crate::parts::{self, Uploads};
use crate::port::{
    Bucket, BucketError, ListEntry, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};

/// A bucket in memory. Clones share the objects; they are gone with the last clone.
#[derive(Clone, Debug)]
pub struct MemoryBucket {
    objects: Arc<RwLock<BTreeMap<String, Bytes>>>,
    uploads: Arc<Uploads<Bytes>>,
    list_page: usize,
}

impl Default for MemoryBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBucket {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::with_list_page(LIST_PAGE_MAX)
    }

    /// An empty bucket whose listings come in pages of at most `list_page` objects.
    #[must_use]
    pub fn with_list_page(list_page: usize) -> Self {
        Self {
            objects: Arc::default(),
            uploads: Arc::default(),
            list_page: list_page.max(1),
        }
    }

    fn create_now(&self, key: &str, body: &[Bytes]) -> Result<(), BucketError> {
        check(key)?;
        let mut objects = self.objects.write();
        if objects.contains_key(key) {
            return Err(BucketError::Exists {
                key: key.to_owned(),
            });
        }
        if let Some(other) = neighbour_in_the_way(&objects, key) {
            let cause = format!("object {other} is in the way: a key cannot also be a directory");
            return Err(BucketError::Refused {
                key: key.to_owned(),
                cause,
            });
        }
        let mut whole = BytesMut::with_capacity(body.iter().map(Bytes::len).sum());
        for part in body {
            whole.extend_from_slice(part);
        }
        objects.insert(key.to_owned(), whole.freeze());
        Ok(())
    }

    fn find(&self, key: &str) -> Result<Bytes, BucketError> {
        check(key)?;
        let found = self.objects.read().get(key).cloned();
        found.ok_or_else(|| BucketError::Absent {
            key: key.to_owned(),
        })
    }

    /// Exactly the bytes of `range`.
    fn slice(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let body = self.find(key)?;
        let Range { start, end } = range;
        let size = body.len() as u64;
        if start > end {
            let cause = format!("range {start}..{end} ends before it starts");
            return Err(parts::refused(key, cause));
        }
        if end > size {
            return Err(BucketError::Short {
                key: key.to_owned(),
                size,
                start,
                end,
            });
        }
        // Both lie within a length that is a usize.
        Ok(body.slice(start as usize..end as usize))
    }

    fn put_part_now(&self, part: Part<'_>, body: Bytes) -> Result<PartTag, BucketError> {
        let tag = format!("{:08x}-{}", crc32c(&[&body]), body.len());
        self.uploads.put(part, tag, body)
    }

    fn complete_now(
        &self,
        key: &str,
        upload: &MultipartId,
        parts: &[PartTag],
    ) -> Result<(), BucketError> {
        let open = self.uploads.find(key, upload)?;
        let open = open.lock();
        if !self.uploads.is_open(upload) {
            return Err(parts::absent(key));
        }
        let bodies: Vec<Bytes> = open.bodies(parts)?.into_iter().cloned().collect();
        self.create_now(key, &bodies)?;
        self.uploads.close(upload);
        Ok(())
    }

    fn list_now(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, BucketError> {
        check_prefix(prefix).map_err(|problem| BucketError::Refused {
            key: prefix.to_owned(),
            cause: format!("prefix {problem}"),
        })?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects.read();
        let mut found = objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, body)| ListEntry {
                key: key.clone(),
                size: body.len() as u64,
            });
        let entries = found.by_ref().take(self.list_page).collect();
        Ok(ListPage {
            entries,
            more: found.next().is_some(),
        })
    }
}

fn check(key: &str) -> Result<(), BucketError> {
    check_key(key).map_err(|problem| BucketError::Refused {
        key: key.to_owned(),
        cause: format!("key {problem}"),
    })
}

/// An object above or below `key` in the tree that keys would form as paths.
fn neighbour_in_the_way(objects: &BTreeMap<String, Bytes>, key: &str) -> Option<String> {
    let above = key.match_indices('/').map(|(at, _)| &key[..at]);
    if let Some(above) = above.into_iter().find(|above| objects.contains_key(*above)) {
        return Some(above.to_owned());
    }
    let below = format!("{key}/");
    let next = objects.range(below.clone()..).next();
    next.filter(|(other, _)| other.starts_with(&below))
        .map(|(other, _)| other.clone())
}

impl Bucket for MemoryBucket {
    fn create<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { self.create_now(key, &body) })
    }

    fn get<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            match range {
                Some(range) => self.slice(key, range),
                None => self.find(key),
            }
        })
    }

    fn size<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move { Ok(self.find(key)?.len() as u64) })
    }

    fn delete<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            check(key)?;
            match self.objects.write().remove(key) {
                Some(_) => Ok(()),
                None => Err(BucketError::Absent {
                    key: key.to_owned(),
                }),
            }
        })
    }

    fn list<'a>(
        &'a self,
        _purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(async move { self.list_now(prefix, after) })
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        Some(parts::LIMITS)
    }

    fn create_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(async move {
            check(key)?;
            Ok(self.uploads.start(key))
        })
    }

    fn put_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move { self.put_part_now(part, Bytes::from(body.concat())) })
    }

    fn copy_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move { self.put_part_now(part, self.slice(source, range)?) })
    }

    fn complete_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { self.complete_now(key, upload, parts) })
    }

    fn abort_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { self.uploads.end(key, upload) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn memory_conforms() {
        conformance::run(&MemoryBucket::new(), "t").await;
    }

    #[tokio::test]
    async fn memory_conforms_in_small_pages() {
        let bucket = MemoryBucket::with_list_page(2);
        conformance::run(&bucket, "t/deep").await;
        conformance::listings_sort_a_slash_as_a_byte(&bucket, "t").await;
    }

    #[tokio::test]
    async fn a_key_is_never_also_a_directory() {
        conformance::key_is_never_also_a_directory(&MemoryBucket::new(), "t").await;
    }
}
