//! The S3 adapter against canned answers: what each means, and that nothing is sent twice.
//!
//! The conformance suite against a real store is `tests/s3.rs`.
//!
//! *IO: driver*

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

const WAL: Purpose = Purpose::Wal;
const META: &str = "ETag: \"e\"\r\nLast-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n";

/// A store that gives the same answer to every request.
struct Canned {
    bucket: S3Bucket,
    requests: Receiver<String>,
}

impl Canned {
    /// An empty `answer` closes the connection after the request was read.
    fn new(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        let answer: Arc<str> = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = read_request(&mut stream) else {
                    continue;
                };
                if sender.send(request).is_err() {
                    return;
                }
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let options = BucketOptions {
            endpoint: Some(endpoint),
            ..keys()
        };
        Self {
            bucket: S3Bucket::open("abc", "some/prefix", &options).unwrap(),
            requests,
        }
    }

    fn status(status: &str, code: &str) -> Self {
        let body = match code {
            "" => String::new(),
            code => format!("<Error><Code>{code}</Code><Message>m</Message></Error>"),
        };
        Self::new(&answer(status, "", &body))
    }

    async fn create(&self) -> Result<(), BucketError> {
        self.bucket
            .create(WAL, "k", vec![Bytes::from_static(b"body")])
            .await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }
}

fn keys() -> BucketOptions {
    BucketOptions {
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some("very-secret".to_owned()),
        request_timeout: Duration::from_millis(500),
        ..BucketOptions::default()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let num_bytes = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        read.extend_from_slice(&chunk[..num_bytes]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let len = head.split_once("content-length: ").map_or(0, |(_, rest)| {
                rest.lines()
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .parse()
                    .unwrap_or(0)
            });
            if body.len() >= len {
                return Some(head);
            }
        }
    }
}

#[tokio::test]
async fn create_is_one_signed_conditional_put_below_the_prefix() {
    let store = Canned::new(&answer("200 OK", META, ""));
    store.create().await.unwrap();
    let requests = store.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].starts_with("put /abc/some/prefix/k http/1.1"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("if-none-match: *"), "{}", requests[0]);
    assert!(
        requests[0].contains("authorization: aws4-hmac-sha256"),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn each_answer_to_a_create_has_its_outcome_and_none_is_retried() {
    let key = || "k".to_owned();
    let exists = |e: &BucketError| *e == BucketError::Exists { key: key() };
    let throttled = |e: &BucketError| *e == BucketError::Throttled { key: key() };
    let unknown = |e: &BucketError| matches!(e, BucketError::Unknown { .. });
    let refused = |e: &BucketError| matches!(e, BucketError::Refused { .. });
    let no_space = |e: &BucketError| matches!(e, BucketError::NoSpace { .. });
    type Wanted<'a> = &'a dyn Fn(&BucketError) -> bool;
    let table: [(&str, &str, Wanted<'_>); 18] = [
        ("412 Precondition Failed", "PreconditionFailed", &exists),
        ("409 Conflict", "ConditionalRequestConflict", &throttled),
        ("409 Conflict", "", &throttled),
        ("429 Too Many Requests", "", &throttled),
        ("503 Service Unavailable", "SlowDown", &throttled),
        ("503 Service Unavailable", "", &unknown),
        ("500 Internal Server Error", "InternalError", &unknown),
        ("502 Bad Gateway", "", &unknown),
        ("504 Gateway Timeout", "", &unknown),
        ("400 Bad Request", "RequestTimeout", &unknown),
        ("400 Bad Request", "InvalidArgument", &refused),
        ("401 Unauthorized", "", &refused),
        ("403 Forbidden", "AccessDenied", &refused),
        ("404 Not Found", "NoSuchBucket", &refused),
        ("301 Moved Permanently", "PermanentRedirect", &refused),
        ("501 Not Implemented", "NotImplemented", &refused),
        ("507 Insufficient Storage", "XMinioStorageFull", &no_space),
        ("403 Forbidden", "QuotaExceeded", &no_space),
    ];
    for (status, code, wanted) in table {
        let store = Canned::status(status, code);
        let outcome = store.create().await.expect_err(status);
        assert!(wanted(&outcome), "{status} {code}: {outcome:?}");
        assert!(!outcome.to_string().contains("very-secret"), "{outcome}");
        assert_eq!(store.requests().len(), 1, "{status} {code}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown() {
    let store = Canned::new("");
    let lost = store.create().await;
    assert!(matches!(lost, Err(BucketError::Unknown { .. })), "{lost:?}");
    assert_eq!(store.requests().len(), 1);
    let half = Canned::new(&format!(
        "HTTP/1.1 200 OK\r\n{META}Content-Length: 9\r\n\r\nhalf"
    ));
    let cut = half.bucket.get(WAL, "k", None).await;
    assert!(matches!(cut, Err(BucketError::Unknown { .. })), "{cut:?}");
    assert_eq!(half.requests().len(), 1);
}

#[tokio::test]
async fn a_store_that_does_not_answer_in_time_leaves_the_outcome_unknown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let options = BucketOptions {
        endpoint: Some(endpoint),
        ..keys()
    };
    let bucket = S3Bucket::open("abc", "", &options).unwrap();
    let outcome = bucket.create(WAL, "k", vec![]).await;
    assert!(
        matches!(outcome, Err(BucketError::Unknown { .. })),
        "{outcome:?}"
    );
    drop(silent);
    let nobody = bucket.create(WAL, "k", vec![]).await;
    assert!(
        matches!(nobody, Err(BucketError::Unknown { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn answers_to_reads_have_their_outcomes() {
    let absent = Canned::status("404 Not Found", "NoSuchKey");
    let key = || "k".to_owned();
    assert_eq!(
        absent.bucket.get(WAL, "k", None).await,
        Err(BucketError::Absent { key: key() })
    );
    assert_eq!(
        absent.bucket.size(WAL, "k").await,
        Err(BucketError::Absent { key: key() })
    );
    let no_bucket = Canned::status("404 Not Found", "NoSuchBucket");
    let refused = no_bucket.bucket.get(WAL, "k", None).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
    let busy = Canned::status("503 Service Unavailable", "");
    assert_eq!(
        busy.bucket.get(WAL, "k", None).await,
        Err(BucketError::Throttled { key: key() })
    );
    let past = answer(
        "416 Range Not Satisfiable",
        "Content-Range: bytes */5\r\n",
        "",
    );
    let short = BucketError::Short {
        key: key(),
        size: 5,
        start: 7,
        end: 9,
    };
    assert_eq!(
        Canned::new(&past).bucket.get(WAL, "k", Some(7..9)).await,
        Err(short)
    );
    let part = format!("{META}Content-Range: bytes 3-4/5\r\n");
    let part = answer("206 Partial Content", &part, "de");
    let short = BucketError::Short {
        key: key(),
        size: 5,
        start: 3,
        end: 9,
    };
    assert_eq!(
        Canned::new(&part).bucket.get(WAL, "k", Some(3..9)).await,
        Err(short)
    );
    let whole = answer("200 OK", META, "abcde");
    let ignored = Canned::new(&whole).bucket.get(WAL, "k", Some(1..3)).await;
    assert!(
        matches!(ignored, Err(BucketError::Unknown { .. })),
        "{ignored:?}"
    );
}

fn listing(keys: &[&str]) -> String {
    let entries: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified>\
                 <ETag>e</ETag><Size>3</Size></Contents>"
            )
        })
        .collect();
    answer(
        "200 OK",
        "",
        &format!("<ListBucketResult>{entries}</ListBucketResult>"),
    )
}

#[tokio::test]
async fn a_listing_loses_the_prefix_and_asks_for_what_comes_after() {
    let store = Canned::new(&listing(&["some/prefix/a/2", "some/prefix/a/3"]));
    let page = store.bucket.list(WAL, "a/", Some("a/1")).await.unwrap();
    let keys: Vec<&str> = page
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!((keys, page.more), (vec!["a/2", "a/3"], false));
    let request = store.requests().remove(0);
    assert!(request.contains("prefix=some%2fprefix%2fa%2f"), "{request}");
    assert!(
        request.contains("start-after=some%2fprefix%2fa%2f1"),
        "{request}"
    );
}

#[tokio::test]
async fn a_listing_that_is_not_sorted_or_not_ours_is_refused() {
    for keys in [
        &["some/prefix/b", "some/prefix/a"][..],
        &["some/prefix/a", "some/prefix/a"],
        &["other/a"],
    ] {
        let outcome = Canned::new(&listing(keys)).bucket.list(WAL, "", None).await;
        assert!(
            matches!(outcome, Err(BucketError::Refused { .. })),
            "{keys:?}: {outcome:?}"
        );
    }
}

#[test]
fn the_bucket_goes_into_the_host_or_into_the_path() {
    let of = |endpoint, path_style| endpoint_for("abc", endpoint, path_style, "s3://abc");
    assert_eq!(of("http://h:1/", true).unwrap(), "http://h:1");
    assert_eq!(of("https://h", false).unwrap(), "https://abc.h");
    for odd in ["h:1", "ftp://h", "http://", "https://user:pw@h"] {
        let refused = of(odd, true);
        assert!(
            matches!(
                refused,
                Err(OpenError::Setting {
                    setting: "AWS_ENDPOINT_URL",
                    ..
                })
            ),
            "{odd}: {refused:?}"
        );
    }
}

#[test]
fn half_a_key_is_refused_by_the_name_of_the_other_half() {
    let half = BucketOptions {
        secret_access_key: None,
        ..keys()
    };
    let refused = S3Bucket::open("abc", "", &half).expect_err("must be refused");
    assert!(matches!(
        refused,
        OpenError::Missing {
            setting: "AWS_SECRET_ACCESS_KEY",
            ..
        }
    ));
    let whole = S3Bucket::open("abc", "", &keys()).unwrap();
    assert!(!format!("{whole:?}").contains("secret"), "{whole:?}");
}

fn tags() -> [PartTag; 2] {
    [(1, "\"a\""), (2, "b&c")].map(|(number, tag)| PartTag {
        number,
        tag: tag.to_owned(),
    })
}

#[tokio::test]
async fn a_completion_is_one_signed_conditional_request_and_believed_by_its_document() {
    let key = || "k".to_owned();
    let (upload, tags) = (MultipartId("up/load id".to_owned()), tags());
    let document = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
    let store = Canned::new(&answer("200 OK", "", document));
    let done = store.bucket.complete_multipart(WAL, "k", &upload, &tags);
    done.await.unwrap();
    let requests = store.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert!(
        request.starts_with("post /abc/some/prefix/k?uploadid=up%2fload%20id http/1.1"),
        "{request}"
    );
    assert!(request.contains("if-none-match: *"), "{request}");
    let signed = request.split_once("signedheaders=").expect("signed").1;
    assert!(signed.contains("if-none-match"), "{request}");

    let inside = "<Error><Code>InternalError</Code></Error>";
    let slow = "<Error><Code>SlowDown</Code></Error>";
    let table = [
        (answer("200 OK", "", inside), None),
        (answer("200 OK", "", ""), None),
        (
            answer("200 OK", "", slow),
            Some(BucketError::Throttled { key: key() }),
        ),
        (
            answer("412 Precondition Failed", "", ""),
            Some(BucketError::Exists { key: key() }),
        ),
        (
            answer("409 Conflict", "", ""),
            Some(BucketError::Throttled { key: key() }),
        ),
        (
            answer(
                "404 Not Found",
                "",
                "<Error><Code>NoSuchUpload</Code></Error>",
            ),
            Some(BucketError::Absent { key: key() }),
        ),
        (answer("500 Internal Server Error", "", ""), None),
        (String::new(), None),
    ];
    for (answer, wanted) in table {
        let store = Canned::new(&answer);
        let done = store.bucket.complete_multipart(WAL, "k", &upload, &tags);
        let outcome = done.await.expect_err(&answer);
        match wanted {
            Some(wanted) => assert_eq!(outcome, wanted, "{answer}"),
            None => assert!(
                matches!(outcome, BucketError::Unknown { .. }),
                "{answer}: {outcome:?}"
            ),
        }
        assert!(!outcome.to_string().contains("very-secret"), "{outcome}");
        assert_eq!(store.requests().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_copied_part_names_its_source_and_brings_its_tag() {
    let upload = MultipartId("id".to_owned());
    let part = Part {
        key: "k",
        upload: &upload,
        number: 7,
    };
    let document = "<CopyPartResult><ETag>&quot;e&quot;</ETag></CopyPartResult>";
    let store = Canned::new(&answer("200 OK", "", document));
    let copied = store.bucket.copy_part(WAL, part, "from/here", 5..9).await;
    let (number, tag) = (7, "\"e\"".to_owned());
    assert_eq!(copied, Ok(PartTag { number, tag }));
    let request = store.requests().remove(0);
    assert!(
        request.starts_with("put /abc/some/prefix/k?partnumber=7&uploadid=id http/1.1"),
        "{request}"
    );
    assert!(
        request.contains("x-amz-copy-source: abc/some/prefix/from/here"),
        "{request}"
    );
    assert!(
        request.contains("x-amz-copy-source-range: bytes=5-8"),
        "{request}"
    );
    let failed = Canned::new(&answer(
        "200 OK",
        "",
        "<Error><Code>InternalError</Code></Error>",
    ));
    let outcome = failed.bucket.copy_part(WAL, part, "from/here", 5..9).await;
    assert!(
        matches!(outcome, Err(BucketError::Unknown { .. })),
        "{outcome:?}"
    );
    let zeroth = Part { number: 0, ..part };
    for outcome in [
        failed.bucket.copy_part(WAL, zeroth, "from", 5..9).await,
        failed.bucket.copy_part(WAL, part, "from", 5..5).await,
        failed.bucket.put_part(WAL, zeroth, vec![]).await,
    ] {
        assert!(
            matches!(outcome, Err(BucketError::Refused { .. })),
            "{outcome:?}"
        );
    }
}
