//! From a URL to a bucket.
//!
//! *Owns*: the choice of the adapter.
//! *Does not own*: any of the adapters.
//!
//! *IO: driver (the local adapter creates its directory and syncs its file system)*

use std::sync::Arc;

use crate::config::BucketOptions;
use crate::error::OpenError;
use crate::local::LocalBucket;
use crate::memory::MemoryBucket;
use crate::object_store::S3Bucket;
use crate::port::Bucket;
use crate::url::BucketUrl;

/// Opens the bucket `url`.
///
/// A directory is created if it is missing, and its file system is synced, which can
/// take seconds on a busy machine: call this where blocking is fine. For S3 no request
/// is made: whether the bucket exists and answers, the first request tells.
///
/// # Errors
/// The directory cannot be created or written, or an S3 setting is missing or wrong.
pub fn open(url: &BucketUrl, options: &BucketOptions) -> Result<Arc<dyn Bucket>, OpenError> {
    Ok(match url {
        BucketUrl::File { path } => {
            Arc::new(LocalBucket::open(path)?.with_list_page(options.list_page))
        }
        BucketUrl::Memory => Arc::new(MemoryBucket::with_list_page(options.list_page)),
        BucketUrl::S3 { bucket, prefix } => Arc::new(S3Bucket::open(bucket, prefix, options)?),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::port::Purpose;

    #[tokio::test]
    async fn a_file_url_opens_a_directory_that_outlives_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let url: BucketUrl = format!("file:{}/b", dir.path().display()).parse().unwrap();
        let body = Bytes::from_static(b"kept");
        let bucket = open(&url, &BucketOptions::default()).unwrap();
        bucket
            .create(Purpose::Wal, "k", vec![body.clone()])
            .await
            .unwrap();
        drop(bucket);
        let bucket = open(&url, &BucketOptions::default()).unwrap();
        assert_eq!(bucket.get(Purpose::Wal, "k", None).await.unwrap(), body);
    }

    #[tokio::test]
    async fn each_memory_url_opens_an_empty_bucket() {
        let first = open(&BucketUrl::Memory, &BucketOptions::default()).unwrap();
        first.create(Purpose::Wal, "k", vec![]).await.unwrap();
        let second = open(&BucketUrl::Memory, &BucketOptions::default()).unwrap();
        assert!(second.get(Purpose::Wal, "k", None).await.is_err());
    }

    #[test]
    fn s3_with_an_endpoint_but_no_key_is_refused_by_name() {
        let url: BucketUrl = "s3://abc".parse().unwrap();
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let options = BucketOptions {
            endpoint,
            ..BucketOptions::default()
        };
        let refused = open(&url, &options).err().expect("must be refused");
        assert!(matches!(
            refused,
            OpenError::Missing {
                setting: "AWS_ACCESS_KEY_ID",
                ..
            }
        ));
    }
}
