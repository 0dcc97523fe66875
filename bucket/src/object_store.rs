//! A bucket in a store that speaks S3.
//!
//! *Owns*: the client, how its requests are made so that one call is one attempt, and
//! where the bucket's prefix is put on and taken off.
//! *Does not own*: what an answer means (`outcome`), how answers are seen (`watch`), retries.
//!
//! Invariants
//! 1. The client's own retries are off: one call sends at most one request for the object.
//!    Fetching credentials is apart from that.
//! 2. `create` sends `If-None-Match: *`, always; so does the completion of an object in parts;
//!    no other request makes an object.
//! 3. A listing that a store does not sort is refused, never passed on: its pages would
//!    skip keys.
//!
//! *IO: driver*

mod attempt;
mod outcome;
mod parts;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::ops::Range;

use ::object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use ::object_store::client::HttpConnector;
use ::object_store::list::{PaginatedListOptions, PaginatedListStore};
use ::object_store::path::Path;
use ::object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
};
use bytes::Bytes;
use tidewater_types::BoxFuture;

use crate::config::{BucketOptions, LIST_PAGE_MAX};
use crate::error::OpenError;
use crate::key::{check_key, check_prefix};
use crate::port::{
    Bucket, BucketError, ListEntry, ListPage, MultipartId, MultipartLimits, Part, PartTag, Purpose,
};
use attempt::watched;
use outcome::Asked;
use parts::Parts;
use watch::WatchedConnector;

/// A bucket in a store that speaks S3 and honours `If-None-Match: *`.
pub struct S3Bucket {
    store: AmazonS3,
    parts: Parts,
    /// Empty, or ends with a slash.
    prefix: String,
    list_page: usize,
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own output would hold credentials.
        f.debug_struct("S3Bucket")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3Bucket {
    /// A client for `bucket`, with `prefix` in front of all keys. Sends nothing.
    ///
    /// # Errors
    /// [`OpenError::Missing`] or [`OpenError::Setting`].
    pub fn open(bucket: &str, prefix: &str, options: &BucketOptions) -> Result<Self, OpenError> {
        let url = format!("s3://{bucket}/{prefix}");
        let setting = |setting, cause: String| OpenError::Setting {
            url: url.clone(),
            setting,
            cause,
        };
        check_prefix(prefix).map_err(|problem| setting("prefix", problem.to_string()))?;
        let store = builder(bucket, options, &url)?
            .build()
            .map_err(|e| setting("client", outcome::text_of(&e)))?;
        let http = WatchedConnector
            .connect(&client_options(options))
            .map_err(|e| setting("client", outcome::text_of(&e)))?;
        let parts = Parts {
            store: store.clone(),
            bucket: bucket.to_owned(),
            http,
            region: region(options).to_owned(),
        };
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            store,
            parts,
            prefix,
            list_page: options.list_page.clamp(1, LIST_PAGE_MAX),
        })
    }

    fn path(&self, key: &str) -> Result<Path, BucketError> {
        let refused = |cause: String| BucketError::Refused {
            key: key.to_owned(),
            cause,
        };
        check_key(key).map_err(|problem| refused(format!("key {problem}")))?;
        Path::parse(format!("{}{key}", self.prefix)).map_err(|e| refused(e.to_string()))
    }

    async fn create_once(&self, key: &str, body: Vec<Bytes>) -> Result<(), BucketError> {
        let path = self.path(key)?;
        let options = PutOptions::from(PutMode::Create);
        let payload = PutPayload::from_iter(body);
        watched(
            key,
            Asked::Create,
            self.store.put_opts(&path, payload, options),
        )
        .await?;
        Ok(())
    }

    async fn get_once(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, BucketError> {
        let path = self.path(key)?;
        if let Some(Range { start, end }) = range.clone() {
            if start > end {
                let cause = format!("range {start}..{end} ends before it starts");
                return Err(BucketError::Refused {
                    key: key.to_owned(),
                    cause,
                });
            }
            // HTTP has no empty range.
            if start == end {
                let size = self.size_once(key).await?;
                return match end <= size {
                    true => Ok(Bytes::new()),
                    false => Err(BucketError::Short {
                        key: key.to_owned(),
                        size,
                        start,
                        end,
                    }),
                };
            }
        }
        let asked = range.clone().map_or(Asked::Get, Asked::Range);
        let (body, size, given) = watched(key, asked, async {
            let range = range.clone().map(GetRange::Bounded);
            let found = self.store.get_opts(
                &path,
                GetOptions {
                    range,
                    ..GetOptions::default()
                },
            );
            let found = found.await?;
            let (size, given) = (found.meta.size, found.range.clone());
            Ok((found.bytes().await?, size, given))
        })
        .await?;
        let Range { start, end } = range.unwrap_or(0..size);
        if size < end {
            return Err(BucketError::Short {
                key: key.to_owned(),
                size,
                start,
                end,
            });
        }
        if given != (start..end) || body.len() as u64 != end - start {
            let cause = format!("{} bytes of {given:?} came for {start}..{end}", body.len());
            return Err(BucketError::Unknown {
                key: key.to_owned(),
                cause,
            });
        }
        Ok(body)
    }

    async fn size_once(&self, key: &str) -> Result<u64, BucketError> {
        let path = self.path(key)?;
        let found = watched(key, Asked::Size, self.store.head(&path)).await?;
        Ok(found.size)
    }

    async fn delete_once(&self, key: &str) -> Result<(), BucketError> {
        let path = self.path(key)?;
        watched(key, Asked::Delete, self.store.delete(&path)).await
    }

    async fn list_once(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, BucketError> {
        let refused = |cause: String| BucketError::Refused {
            key: prefix.to_owned(),
            cause,
        };
        check_prefix(prefix).map_err(|problem| refused(format!("prefix {problem}")))?;
        // Some stores answer nothing when they are to start before the prefix.
        let after = after.filter(|after| *after >= prefix);
        let whole_prefix = format!("{}{prefix}", self.prefix);
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{}{after}", self.prefix)),
            max_keys: Some(self.list_page),
            ..PaginatedListOptions::default()
        };
        let whole_prefix = (!whole_prefix.is_empty()).then_some(whole_prefix.as_str());
        let request = self.store.list_paginated(whole_prefix, options);
        let found = watched(prefix, Asked::List, request).await?;
        let mut page = ListPage {
            entries: Vec::new(),
            more: found.page_token.is_some(),
        };
        for object in found.result.objects {
            let whole = object.location.as_ref();
            let Some(key) = whole.strip_prefix(&self.prefix) else {
                return Err(refused(format!(
                    "the store lists {whole}, outside of the prefix"
                )));
            };
            let last = page
                .entries
                .last()
                .map(|entry: &ListEntry| entry.key.as_str())
                .or(after);
            if last.is_some_and(|last| key <= last) {
                let last = last.unwrap_or_default();
                return Err(refused(format!(
                    "the store lists {key} behind {last}: not sorted"
                )));
            }
            page.entries.push(ListEntry {
                key: key.to_owned(),
                size: object.size,
            });
        }
        if page.more && page.entries.is_empty() {
            let cause = "the store answers an empty page and says that more follows".to_owned();
            return Err(BucketError::Unknown {
                key: prefix.to_owned(),
                cause,
            });
        }
        Ok(page)
    }
}

fn region(options: &BucketOptions) -> &str {
    options.region.as_deref().unwrap_or("us-east-1")
}

fn client_options(options: &BucketOptions) -> ClientOptions {
    let own_endpoint = options.endpoint.as_deref();
    let plain_http = own_endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_timeout(options.request_timeout)
        .with_connect_timeout(options.connect_timeout)
        .with_allow_http(plain_http)
}

fn builder(bucket: &str, options: &BucketOptions, url: &str) -> Result<AmazonS3Builder, OpenError> {
    let own_endpoint = options.endpoint.as_deref();
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region(options))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // The bulk delete answers 200 with the failures in its body.
        .with_disable_bulk_delete(true)
        .with_retry(retry)
        .with_client_options(client_options(options))
        .with_http_connector(WatchedConnector);
    // A name with dots fits no wildcard certificate.
    let path_style = options
        .path_style
        .unwrap_or(own_endpoint.is_some() || bucket.contains('.'));
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(endpoint) = own_endpoint {
        builder = builder.with_endpoint(endpoint_for(bucket, endpoint, path_style, url)?);
    }
    credentials(builder, options, url)
}

/// The endpoint, with the bucket's name in its host where that is the style.
fn endpoint_for(
    bucket: &str,
    endpoint: &str,
    path_style: bool,
    url: &str,
) -> Result<String, OpenError> {
    let Some((scheme @ ("http" | "https"), host)) = endpoint.split_once("://") else {
        let cause = format!("{endpoint:?} starts with neither http:// nor https://");
        return Err(OpenError::Setting {
            url: url.to_owned(),
            setting: "AWS_ENDPOINT_URL",
            cause,
        });
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains('@') {
        let cause = "it has no host, or credentials in it".to_owned();
        return Err(OpenError::Setting {
            url: url.to_owned(),
            setting: "AWS_ENDPOINT_URL",
            cause,
        });
    }
    Ok(if path_style {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{bucket}.{host}")
    })
}

fn credentials(
    mut builder: AmazonS3Builder,
    options: &BucketOptions,
    url: &str,
) -> Result<AmazonS3Builder, OpenError> {
    let missing = |setting| OpenError::Missing {
        url: url.to_owned(),
        setting,
    };
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
            if let Some(token) = &options.session_token {
                builder = builder.with_token(token);
            }
        }
        (Some(_), None) => return Err(missing("AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(missing("AWS_ACCESS_KEY_ID")),
        // Without a key AWS has roles to offer; another store has not.
        (None, None) if options.endpoint.is_some() && options.credential_sources.is_empty() => {
            return Err(missing("AWS_ACCESS_KEY_ID"));
        }
        (None, None) => {
            for (name, value) in &options.credential_sources {
                let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| {
                    let cause = format!("{name} is not known to the client");
                    OpenError::Setting {
                        url: url.to_owned(),
                        setting: "credential_sources",
                        cause,
                    }
                })?;
                builder = builder.with_config(key, value);
            }
        }
    }
    Ok(builder)
}

impl Bucket for S3Bucket {
    fn create<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.create_once(key, body))
    }

    fn get<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(self.get_once(key, range))
    }

    fn size<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(self.size_once(key))
    }

    fn delete<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(self.delete_once(key))
    }

    fn list<'a>(
        &'a self,
        _purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(self.list_once(prefix, after))
    }

    fn multipart(&self) -> Option<MultipartLimits> {
        Some(parts::LIMITS)
    }

    fn create_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<MultipartId, BucketError>> {
        Box::pin(async move { self.parts.start(key, &self.path(key)?).await })
    }

    fn put_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move { self.parts.put(part, &self.path(part.key)?, body).await })
    }

    fn copy_part<'a>(
        &'a self,
        _purpose: Purpose,
        part: Part<'a>,
        source: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<PartTag, BucketError>> {
        Box::pin(async move {
            let (path, source) = (self.path(part.key)?, self.path(source)?);
            self.parts.copy(part, &path, &source, range).await
        })
    }

    fn complete_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
        parts: &'a [PartTag],
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            let path = self.path(key)?;
            self.parts.complete(key, &path, upload, parts).await
        })
    }

    fn abort_multipart<'a>(
        &'a self,
        _purpose: Purpose,
        key: &'a str,
        upload: &'a MultipartId,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move { self.parts.abort(key, &self.path(key)?, upload).await })
    }
}
