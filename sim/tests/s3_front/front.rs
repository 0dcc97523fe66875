//! An HTTP server that speaks S3 and keeps everything in the simulated bucket.
//!
//! *Owns*: the connections, S3's own rules that the simulated bucket does not know.
//! *Does not own*: the words (wire.rs), what goes wrong (the simulated bucket).
//!
//! Invariants
//! 1. Requests are applied one after the other, on the virtual time of the bucket.
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, BucketOptions, MultipartId, Part, Purpose, S3Bucket};
use tidewater_sim::{BucketFaults, Executor, Limits, SimBucket};
use tokio::net::TcpListener;

use super::wire::{Answer, Asked, asked, failed, page};

const WHY: Purpose = Purpose::Wal;
pub(crate) const BUCKET: &str = "abc";
/// S3's rule: every part but the last one has at least 5 MiB.
const PART_BYTES_MIN: usize = 5 << 20;

/// What the bucket made of a request, and so what its client may come to believe.
pub(crate) type Outcome = Result<(), BucketError>;

struct State {
    executor: Executor,
    /// Bytes of the parts of each upload.
    parts: BTreeMap<(String, u32), usize>,
    outcomes: Vec<Outcome>,
}

/// The server; it lives as long as its runtime.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) bucket: SimBucket,
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl Front {
    pub(crate) async fn start(seed: u64) -> Self {
        let executor = Executor::new(seed);
        let bucket = SimBucket::new(executor.handle(), seed, BucketFaults::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let state = State {
            executor,
            parts: BTreeMap::new(),
            outcomes: Vec::new(),
        };
        let front = Self {
            bucket,
            state: Arc::new(Mutex::new(state)),
            endpoint,
        };
        let server = front.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let front = server.clone();
                let service = service_fn(move |request| front.clone().serve(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        front
    }

    /// A client of it, as one more node has it.
    pub(crate) fn client(&self, list_page: usize) -> S3Bucket {
        let mut options = BucketOptions::default();
        options.endpoint = Some(self.endpoint.clone());
        options.access_key_id = Some("id".to_owned());
        options.secret_access_key = Some("secret".to_owned());
        options.list_page = list_page;
        S3Bucket::open(BUCKET, "team", &options).expect("a client")
    }

    /// What came of the requests since the last call.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.state.lock().outcomes)
    }

    async fn serve(self, request: Request<Incoming>) -> io::Result<Response<StreamBody<Parts>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = asked(BUCKET, (&head.method, &head.uri, &head.headers), &body);
        let answer = match asked {
            Ok(asked) => self.answer(asked, body),
            Err(answer) => Some(answer),
        };
        // Without an answer the connection is closed.
        let answer = answer.ok_or_else(|| io::Error::other("no answer"))?;
        Ok(sent(&head.method, answer))
    }

    fn answer(&self, asked: Asked, body: Bytes) -> Option<Answer> {
        let mut state = self.state.lock();
        if let Some(refused) = state.rules(&asked, &body) {
            let (key, cause) = (String::new(), "a rule of S3".to_owned());
            state
                .outcomes
                .push(Err(BucketError::Refused { key, cause }));
            return Some(refused);
        }
        let (bucket, asked) = (self.bucket.clone(), Arc::new(asked));
        let limits = Limits {
            polls: u64::MAX,
            time: Duration::MAX,
        };
        let request = Arc::clone(&asked);
        let done = async move { apply(&bucket, &request, body).await };
        let outcome = state.executor.run(limits, done).expect("it ends");
        state
            .outcomes
            .push(outcome.as_ref().map(drop).map_err(Clone::clone));
        let nth = state.outcomes.len() as u64;
        match (&outcome, &*asked) {
            // A range that reaches behind the end is answered as far as there is something.
            (Err(BucketError::Short { size, start, .. }), Asked::Get { key, .. })
                if start < size =>
            {
                let whole = self.bucket.object(key).expect("it is there");
                let from = usize::try_from(*start).expect("small");
                Some(part_of(whole.slice(from..), *start, *size))
            }
            (Err(error), asked) => failed(asked, error, nth),
            (Ok(_), _) => outcome.ok(),
        }
    }
}

impl State {
    /// What S3 refuses and the simulated bucket does not.
    fn rules(&mut self, asked: &Asked, body: &[u8]) -> Option<Answer> {
        match asked {
            Asked::Part { upload, number, .. } => {
                self.parts.insert((upload.clone(), *number), body.len());
            }
            Asked::Copy {
                upload,
                number,
                range,
                ..
            } => {
                let bytes = usize::try_from(range.end - range.start).expect("small");
                self.parts.insert((upload.clone(), *number), bytes);
            }
            Asked::Complete { upload, parts, .. } => {
                let (_, all_but_last) = parts.split_last()?;
                let bytes = |number| self.parts.get(&(upload.clone(), number));
                let small = |number| bytes(number).is_some_and(|bytes| *bytes < PART_BYTES_MIN);
                if all_but_last.iter().any(|part| small(part.number)) {
                    return Some(Answer::error(400, "EntityTooSmall"));
                }
            }
            // Nobody here may write without the condition.
            Asked::Replace => return Some(Answer::error(403, "AccessDenied")),
            _ => {}
        }
        None
    }
}

fn part_of(bytes: Bytes, start: u64, size: u64) -> Answer {
    let last = start + bytes.len() as u64 - 1;
    stored(Answer::new(206, bytes)).with("content-range", format!("bytes {start}-{last}/{size}"))
}

fn stored(answer: Answer) -> Answer {
    let answer = answer.with("etag", "\"e\"");
    answer.with("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT")
}

/// Makes the request; the answer to what was done.
async fn apply(bucket: &SimBucket, asked: &Asked, body: Bytes) -> Result<Answer, BucketError> {
    Ok(match asked {
        Asked::List { prefix, after } => {
            page(BUCKET, &bucket.list(WHY, prefix, after.as_deref()).await?)
        }
        Asked::Get { key, range: None } => {
            stored(Answer::new(200, bucket.get(WHY, key, None).await?))
        }
        Asked::Get {
            key,
            range: Some(range),
        } => {
            let bytes = bucket.get(WHY, key, Some(range.clone())).await?;
            let size = bucket.object(key).map_or(0, |whole| whole.len() as u64);
            part_of(bytes, range.start, size)
        }
        Asked::Size { key } => {
            let size = bucket.size(WHY, key).await?;
            stored(Answer::new(200, "")).with("content-length", size.to_string())
        }
        Asked::Create { key } => {
            bucket.create(WHY, key, vec![body]).await?;
            Answer::new(200, "").with("etag", "\"e\"")
        }
        Asked::Delete { key } => {
            bucket.delete(WHY, key).await?;
            Answer::new(204, "")
        }
        asked => return apply_in_parts(bucket, asked, body).await,
    })
}

/// As [`apply`], of objects in parts.
async fn apply_in_parts(
    bucket: &SimBucket,
    asked: &Asked,
    body: Bytes,
) -> Result<Answer, BucketError> {
    let id = |upload: &str| MultipartId(upload.to_owned());
    let document = |text: String| Answer::new(200, format!("<?xml version=\"1.0\"?>{text}"));
    Ok(match asked {
        Asked::Start { key } => {
            let MultipartId(id) = bucket.create_multipart(WHY, key).await?;
            document(format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        Asked::Part {
            key,
            upload,
            number,
        } => {
            let part = Part {
                key,
                upload: &id(upload),
                number: *number,
            };
            let tag = bucket.put_part(WHY, part, vec![body]).await?.tag;
            Answer::new(200, "").with("etag", format!("\"{tag}\""))
        }
        Asked::Copy {
            key,
            upload,
            number,
            source,
            range,
        } => {
            let part = Part {
                key,
                upload: &id(upload),
                number: *number,
            };
            let tag = bucket
                .copy_part(WHY, part, source, range.clone())
                .await?
                .tag;
            document(format!(
                "<CopyPartResult><ETag>&quot;{tag}&quot;</ETag></CopyPartResult>"
            ))
        }
        Asked::Complete { key, upload, parts } => {
            bucket
                .complete_multipart(WHY, key, &id(upload), parts)
                .await?;
            document("<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>".to_owned())
        }
        Asked::Abort { key, upload } => {
            bucket.abort_multipart(WHY, key, &id(upload)).await?;
            Answer::new(204, "")
        }
        _ => unreachable!("answered before"),
    })
}

type Parts = stream::Iter<std::vec::IntoIter<io::Result<Frame<Bytes>>>>;

fn sent(method: &http::Method, answer: Answer) -> Response<StreamBody<Parts>> {
    let (mut head, ()) = answer.head().into_parts();
    let mut frames = Vec::new();
    if method != http::Method::HEAD {
        let announced = answer.body.len() as u64 + answer.missing;
        head.headers.insert("content-length", announced.into());
        frames.push(Ok(Frame::data(answer.body)));
    }
    if answer.missing > 0 {
        frames.push(Err(io::Error::other("the answer breaks off")));
    }
    Response::from_parts(head, StreamBody::new(stream::iter(frames)))
}
