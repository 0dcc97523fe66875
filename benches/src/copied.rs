//! A bucket whose answers are in memory of their own, as those of a store are that came over a line.
//!
//! *Owns*: the copy.
//! *Does not own*: the objects; `MemoryBucket` hands out the very bytes that it holds.
//!
//! *IO: through the bucket port*

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_bucket::{Bucket, BucketError, ListPage, Purpose};
use tidewater_types::BoxFuture;

/// [`Bucket`] that copies each answer once.
pub struct Copied(Arc<dyn Bucket>);

impl Copied {
    /// `inner`, whose answers are copied.
    #[must_use]
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        Self(inner)
    }
}

impl Bucket for Copied {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.0.create(purpose, key, body)
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        let answer = self.0.get(purpose, key, range);
        Box::pin(async move { Ok(Bytes::copy_from_slice(&answer.await?)) })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        self.0.size(purpose, key)
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        self.0.delete(purpose, key)
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        self.0.list(purpose, prefix, after)
    }
}

#[cfg(test)]
mod tests {
    use super::Copied;
    use bytes::Bytes;
    use std::sync::Arc;
    use tidewater_bucket::{Bucket, MemoryBucket, Purpose, conformance};

    #[test]
    fn answers_are_copies_and_the_bucket_conforms() {
        let memory: Arc<dyn Bucket> = Arc::new(MemoryBucket::new());
        let copied = Copied::new(memory.clone());
        crate::block_on(conformance::run(&copied, "t"));
        let body = Bytes::from_static(b"abc");
        crate::block_on(copied.create(Purpose::Upload, "t/key", vec![body])).unwrap();
        let get = |bucket: &dyn Bucket| {
            crate::block_on(bucket.get(Purpose::Read, "t/key", Some(1..3))).unwrap()
        };
        let (held, answer) = (get(&*memory), get(&copied));
        assert_eq!(held, answer);
        assert_ne!(held.as_ptr(), answer.as_ptr());
    }
}
