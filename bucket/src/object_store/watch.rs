//! Sees what the store itself answered, which the client's errors blur.
//!
//! *Owns*: a connector that notes the status of each signed request for the task that
//! made it.
//! *Does not own*: what the status means.
//!
//! The client reports 409 and 412 on a conditional PUT both as "already exists", and
//! 429, 416 and 5xx only as text. The status line tells them apart.
//!
//! Invariants
//! 1. Only requests signed for S3 are noted, so an answer of a credential service is
//!    never taken for the store's.
//!
//! *IO: driver*

use std::cell::Cell;
use std::future::Future;

use ::object_store::ClientOptions;
use ::object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use async_trait::async_trait;

/// What came of the request of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// No request was sent.
    #[default]
    NotSent,
    /// The request was sent, or may have been; no status came back.
    None,
    /// No connection was made, so nothing was sent.
    NotConnected,
    /// The status, and the object's size if a `Content-Range` told it.
    Status {
        /// As in HTTP.
        status: u16,
        /// Of the whole object, in bytes.
        object_size: Option<u64>,
    },
}

tokio::task_local! {
    static SEEN: Cell<Answer>;
}

/// Runs `attempt` and says what the store answered to it.
pub(super) async fn observe<T>(attempt: impl Future<Output = T>) -> (T, Answer) {
    SEEN.scope(Cell::default(), async {
        let result = attempt.await;
        (result, SEEN.with(Cell::get))
    })
    .await
}

/// Connects like the client does by default, and watches.
#[derive(Debug)]
pub(super) struct WatchedConnector;

impl HttpConnector for WatchedConnector {
    fn connect(&self, options: &ClientOptions) -> ::object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(WatchedService { client }))
    }
}

#[derive(Debug)]
struct WatchedService {
    client: HttpClient,
}

#[async_trait]
impl HttpService for WatchedService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let signature = request.headers().get("authorization");
        let signed = signature.is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
        if signed {
            note(Answer::None);
        }
        let result = self.client.execute(request).await;
        if signed {
            note(match &result {
                Ok(response) => Answer::Status {
                    status: response.status().as_u16(),
                    object_size: response
                        .headers()
                        .get("content-range")
                        .and_then(|value| value.to_str().ok())
                        .and_then(|value| value.rsplit_once('/')?.1.trim().parse().ok()),
                },
                Err(error) if error.kind() == HttpErrorKind::Connect => Answer::NotConnected,
                Err(_) => Answer::None,
            });
        }
        result
    }
}

fn note(answer: Answer) {
    // Outside of an attempt nobody asks.
    let _ = SEEN.try_with(|seen| seen.set(answer));
}
