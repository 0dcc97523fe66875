//! Objects in parts on a store that speaks S3.
//!
//! *Owns*: the five requests of a multipart upload, each one attempt; two of them are made
//! here, as the client offers neither a completion on condition nor a copied part.
//! *Does not own*: what an answer means (`outcome`), retries.
//!
//! Invariants
//! 1. A completion sends `If-None-Match: *`, always.
//! 2. A completion and a copy have answered `Ok` only if the store's document says so: both may
//!    come with status 200 and an error in the body.
//!
//! *IO: driver*

use std::ops::Range;
use std::time::Duration;

use ::object_store::aws::{AmazonS3, AwsAuthorizer};
use ::object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use ::object_store::multipart::MultipartStore;
use ::object_store::path::Path;
use ::object_store::signer::Signer;
use ::object_store::{HeaderMap, HeaderValue, PutPayload};
use bytes::Bytes;
use http::Method;

use super::attempt::watched;
use super::outcome::{self, Asked, Failure};
use super::watch::{self, Answer};
use crate::port::{BucketError, MultipartId, MultipartLimits, Part, PartTag};

/// S3's own limits; stores that speak S3 keep to them or are more generous.
pub(super) const LIMITS: MultipartLimits = MultipartLimits {
    part_bytes_min: 5 << 20,
    part_bytes_max: 5 << 30,
    parts_max: 10_000,
};
/// For the signature that only serves to learn the URL.
const URL_VALID: Duration = Duration::from_secs(60);

/// Sends objects in parts. Paths are whole; keys are for messages.
pub(super) struct Parts {
    pub(super) store: AmazonS3,
    /// The store's bucket, for the source of a copy.
    pub(super) bucket: String,
    /// For the requests that are made here.
    pub(super) http: HttpClient,
    pub(super) region: String,
}

/// A request that is made here.
struct Request<'a> {
    method: Method,
    path: &'a Path,
    query: String,
    headers: HeaderMap,
    body: String,
}

/// The status and the body of its answer.
struct Answered {
    status: u16,
    text: String,
}

impl Parts {
    pub(super) async fn start(&self, key: &str, path: &Path) -> Result<MultipartId, BucketError> {
        let id = watched(key, Asked::Start, self.store.create_multipart(path)).await?;
        Ok(MultipartId(id))
    }

    pub(super) async fn put(
        &self,
        part: Part<'_>,
        path: &Path,
        body: Vec<Bytes>,
    ) -> Result<PartTag, BucketError> {
        let number = checked(&part)?;
        let payload = PutPayload::from_iter(body);
        // The client counts from 0.
        let place = number as usize - 1;
        let attempt = self.store.put_part(path, &part.upload.0, place, payload);
        let tag = watched(part.key, Asked::Part, attempt).await?.content_id;
        Ok(PartTag { number, tag })
    }

    pub(super) async fn copy(
        &self,
        part: Part<'_>,
        path: &Path,
        source: &Path,
        range: Range<u64>,
    ) -> Result<PartTag, BucketError> {
        let number = checked(&part)?;
        let Range { start, end } = range;
        if start >= end {
            let cause = format!("range {start}..{end} of a copy is empty");
            return Err(refused(part.key, cause));
        }
        let header = |text: String| {
            HeaderValue::from_str(&text)
                .map_err(|_| refused(part.key, format!("{text:?} in a header")))
        };
        let mut headers = HeaderMap::new();
        let whole_source = format!("{}/{source}", self.bucket);
        headers.insert("x-amz-copy-source", header(whole_source)?);
        let last = end - 1;
        headers.insert(
            "x-amz-copy-source-range",
            header(format!("bytes={start}-{last}"))?,
        );
        let request = Request {
            method: Method::PUT,
            path,
            query: format!("partNumber={number}&uploadId={}", encoded(&part.upload.0)),
            headers,
            body: String::new(),
        };
        let answered = self.raw(part.key, &Asked::Copy, request).await?;
        match element(&answered.text, "ETag") {
            Some(tag) => Ok(PartTag { number, tag }),
            None => Err(undocumented(part.key, &Asked::Copy, answered)),
        }
    }

    pub(super) async fn complete(
        &self,
        key: &str,
        path: &Path,
        upload: &MultipartId,
        parts: &[PartTag],
    ) -> Result<(), BucketError> {
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
            let cause = "a completion names parts in ascending order, at least one".to_owned();
            return Err(refused(key, cause));
        }
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", HeaderValue::from_static("*"));
        headers.insert("content-type", HeaderValue::from_static("application/xml"));
        let request = Request {
            method: Method::POST,
            path,
            query: format!("uploadId={}", encoded(&upload.0)),
            headers,
            body: completion(parts),
        };
        let answered = self.raw(key, &Asked::Complete, request).await?;
        if answered.text.contains("<CompleteMultipartUploadResult") {
            return Ok(());
        }
        Err(undocumented(key, &Asked::Complete, answered))
    }

    pub(super) async fn abort(
        &self,
        key: &str,
        path: &Path,
        upload: &MultipartId,
    ) -> Result<(), BucketError> {
        let attempt = self.store.abort_multipart(path, &upload.0);
        watched(key, Asked::Abort, attempt).await
    }

    /// Makes one attempt; an answer that is no success is judged already.
    async fn raw(
        &self,
        key: &str,
        asked: &Asked,
        request: Request<'_>,
    ) -> Result<Answered, BucketError> {
        let unsent = |error: ::object_store::Error| {
            let failure = Failure {
                cause: outcome::text_of(&error),
                answer: Answer::NotSent,
            };
            outcome::judge(key, asked, failure)
        };
        let request = signed(&self.store, &self.region, request)
            .await
            .map_err(unsent)?;
        let attempt = async {
            let response = self.http.execute(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().bytes().await?;
            Ok::<_, ::object_store::client::HttpError>((status, body))
        };
        let (result, answer) = watch::observe(attempt).await;
        let (cause, answer) = match result {
            Ok((status, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                if (200..300).contains(&status) {
                    return Ok(Answered { status, text });
                }
                (text, answer)
            }
            // A status whose body broke off says nothing.
            Err(error) => (error.to_string(), Answer::None),
        };
        Err(outcome::judge(key, asked, Failure { cause, answer }))
    }
}

async fn signed(
    store: &AmazonS3,
    region: &str,
    request: Request<'_>,
) -> ::object_store::Result<HttpRequest> {
    // The client knows how its URLs are made; the signature in this one is not used.
    let mut url = store
        .signed_url(request.method.clone(), request.path, URL_VALID)
        .await?;
    url.set_query(Some(&request.query));
    let credential = store.credentials().get_credential().await?;
    let mut signed = HttpRequest::new(HttpRequestBody::from(request.body));
    *signed.method_mut() = request.method;
    *signed.uri_mut() = url.as_str().parse().map_err(|e| generic(Box::new(e)))?;
    *signed.headers_mut() = request.headers;
    AwsAuthorizer::new(&credential, "s3", region).try_authorize(&mut signed, None)?;
    Ok(signed)
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> ::object_store::Error {
    ::object_store::Error::Generic {
        store: "S3",
        source,
    }
}

/// The answer has a status of success, but not the document that goes with it.
fn undocumented(key: &str, asked: &Asked, answered: Answered) -> BucketError {
    // S3 begins to answer before it knows how a long request ends; the error is in the body.
    let failure = Failure {
        cause: format!("status {}, answer {:?}", answered.status, answered.text),
        answer: Answer::Status {
            status: 500,
            object_size: None,
        },
    };
    outcome::judge(key, asked, failure)
}

fn checked(part: &Part<'_>) -> Result<u32, BucketError> {
    let number = part.number;
    if (1..=LIMITS.parts_max).contains(&number) {
        return Ok(number);
    }
    Err(refused(
        part.key,
        format!("no part can have number {number}"),
    ))
}

fn refused(key: &str, cause: String) -> BucketError {
    crate::parts::refused(key, cause)
}

/// The document that names the parts.
fn completion(parts: &[PartTag]) -> String {
    let mut text = String::from("<CompleteMultipartUpload>");
    for PartTag { number, tag } in parts {
        let tag = tag
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;");
        text.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        ));
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

/// The text of the first element of that name.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (found, _) = rest.split_once(&format!("</{name}>"))?;
    let found = found
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&lt;", "<")
        .replace("&amp;", "&");
    Some(found.trim().to_owned())
}

/// As a value in a query: everything but what RFC 3986 leaves alone.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
