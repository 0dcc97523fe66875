//! S3's words: what a request asks for, and how an answer looks.
//!
//! *Owns*: paths, queries, headers, documents. *Does not own*: what is stored.
//!
//! *IO: none*

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use form_urlencoded::parse;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use tidewater_bucket::{BucketError, ListPage, PartTag};

/// What a request asks for; keys are those within the bucket.
#[derive(Debug)]
pub(crate) enum Asked {
    List {
        prefix: String,
        after: Option<String>,
    },
    Get {
        key: String,
        range: Option<Range<u64>>,
    },
    Size {
        key: String,
    },
    Create {
        key: String,
    },
    Replace,
    Delete {
        key: String,
    },
    Start {
        key: String,
    },
    Part {
        key: String,
        upload: String,
        number: u32,
    },
    Copy {
        key: String,
        upload: String,
        number: u32,
        source: String,
        range: Range<u64>,
    },
    Complete {
        key: String,
        upload: String,
        parts: Vec<PartTag>,
    },
    Abort {
        key: String,
        upload: String,
    },
}

/// An answer, or none: the connection is closed.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// The body breaks off in front of so many bytes that were announced.
    pub(crate) missing: u64,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: Vec::new(),
            body: body.into(),
            missing: 0,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let told = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>of the test</Message></Error>"
        );
        Self::new(status, told).with("content-type", "application/xml")
    }

    pub(crate) fn head(&self) -> Response<()> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, value);
        }
        response.body(()).expect("a response")
    }
}

/// Reads a request on the bucket `bucket`.
///
/// # Errors
/// What S3 would answer to one that it does not take.
pub(crate) fn asked(
    bucket: &str,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
    body: &[u8],
) -> Result<Asked, Answer> {
    let path = uri.path().trim_start_matches('/');
    let (named, key) = path.split_once('/').unwrap_or((path, ""));
    if named != bucket {
        return Err(Answer::error(404, "NoSuchBucket"));
    }
    let signed = headers
        .get("authorization")
        .and_then(|text| text.to_str().ok());
    if !signed.is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 Credential=id/")) {
        return Err(Answer::error(403, "AccessDenied"));
    }
    let query: BTreeMap<String, String> = parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (key, of) = (key.to_owned(), |name: &str| query.get(name).cloned());
    let number = || of("partNumber").and_then(|text| text.parse().ok());
    Ok(match (method.as_str(), of("uploadId")) {
        ("GET", _) if key.is_empty() => {
            let (prefix, after) = (of("prefix").unwrap_or_default(), of("start-after"));
            // The token of this store is the last key of the page.
            let after = of("continuation-token").or(after);
            Asked::List { prefix, after }
        }
        ("GET", _) => Asked::Get {
            key,
            range: header("range").and_then(range),
        },
        ("HEAD", _) => Asked::Size { key },
        ("POST", None) if query.contains_key("uploads") => Asked::Start { key },
        ("POST", Some(upload)) if header("if-none-match") == Some("*") => Asked::Complete {
            key,
            upload,
            parts: parts(body),
        },
        ("PUT", Some(upload)) => {
            let number = number().ok_or_else(|| Answer::error(400, "InvalidArgument"))?;
            match header("x-amz-copy-source") {
                None => Asked::Part {
                    key,
                    upload,
                    number,
                },
                Some(source) => Asked::Copy {
                    key,
                    upload,
                    number,
                    source: source.trim_start_matches('/').trim_start_matches(bucket)[1..]
                        .to_owned(),
                    range: header("x-amz-copy-source-range")
                        .and_then(range)
                        .ok_or_else(|| Answer::error(400, "InvalidArgument"))?,
                },
            }
        }
        ("PUT", None) if header("if-none-match") == Some("*") => Asked::Create { key },
        ("PUT", None) => Asked::Replace,
        ("DELETE", Some(upload)) => Asked::Abort { key, upload },
        ("DELETE", None) => Asked::Delete { key },
        _ => return Err(Answer::error(501, "NotImplemented")),
    })
}

/// `bytes=3-9`: both ends are part of it.
fn range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
}

/// The parts that the document of a completion names.
fn parts(body: &[u8]) -> Vec<PartTag> {
    let text = String::from_utf8_lossy(body);
    let field = |part: &str, name: &str| {
        let (_, rest) = part.split_once(&format!("<{name}>"))?;
        Some(
            rest.split_once(&format!("</{name}>"))?
                .0
                .replace("&quot;", ""),
        )
    };
    let parts = text.split("<Part>").skip(1).filter_map(|part| {
        let number = field(part, "PartNumber")?.parse().ok()?;
        Some(PartTag {
            number,
            tag: field(part, "ETag")?.trim_matches('"').to_owned(),
        })
    });
    parts.collect()
}

/// The document of a page.
pub(crate) fn page(bucket: &str, page: &ListPage) -> Answer {
    let mut told = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{bucket}</Name><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        page.entries.len(),
        page.more
    );
    if let (true, Some(last)) = (page.more, page.entries.last()) {
        let key = &last.key;
        told += &format!("<NextContinuationToken>{key}</NextContinuationToken>");
    }
    for entry in &page.entries {
        told += &format!(
            "<Contents><Key>{}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>{}</Size></Contents>",
            entry.key, entry.size
        );
    }
    Answer::new(200, told + "</ListBucketResult>").with("content-type", "application/xml")
}

/// The answer to what was not done, or not as far as the client hears; `None` is silence.
pub(crate) fn failed(asked: &Asked, error: &BucketError, nth: u64) -> Option<Answer> {
    let writes = matches!(asked, Asked::Create { .. } | Asked::Complete { .. });
    let long = matches!(asked, Asked::Copy { .. } | Asked::Complete { .. });
    Some(match error {
        BucketError::Exists { .. } => Answer::error(412, "PreconditionFailed"),
        // S3 says the same of a racing write as of its own load: nothing was applied.
        BucketError::Throttled { .. } if writes && nth.is_multiple_of(2) => {
            Answer::error(409, "ConditionalRequestConflict")
        }
        BucketError::Throttled { .. } => Answer::error(503, "SlowDown"),
        BucketError::Absent { .. } => match asked {
            Asked::Delete { .. } => Answer::new(204, ""),
            Asked::Size { .. } => Answer::new(404, ""),
            Asked::Get { .. } => Answer::error(404, "NoSuchKey"),
            Asked::Copy { .. } if nth.is_multiple_of(2) => Answer::error(404, "NoSuchKey"),
            _ => Answer::error(404, "NoSuchUpload"),
        },
        // S3 begins to answer before it knows how a long request ends.
        BucketError::Unknown { cause, .. } if cause == "server error" && long => Answer {
            status: StatusCode::OK,
            ..Answer::error(500, "InternalError")
        },
        BucketError::Unknown { cause, .. } if cause == "server error" => {
            Answer::error(500, "InternalError")
        }
        BucketError::Unknown { cause, .. } if cause == "answer broke off" => Answer {
            missing: 100,
            ..Answer::new(200, "<?xml")
        },
        BucketError::Unknown { .. } => return None,
        BucketError::NoSpace { .. } => Answer::error(507, "QuotaExceeded"),
        BucketError::Refused { .. } => Answer::error(400, "InvalidPart"),
        BucketError::Short { size, .. } => {
            Answer::error(416, "InvalidRange").with("content-range", format!("bytes */{size}"))
        }
    })
}
