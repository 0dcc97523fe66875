//! The writing half of a connection: rests run side by side, responses leave in order.
//!
//! *Owns*: running the rests, the order of responses, vectored writes, turns.
//! *Does not own*: stages.
//!
//! Invariants
//! 1. The n-th response written answers the n-th request that has one.
//! 2. Every rest runs to its end; after a failed write or a `Close` its reply is
//!    dropped.
//! 3. A rest that waits for its turn is first polled when everything before it
//!    was written.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tidewater_types::{BoxFuture, Env, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::deadline::Deadline;
use super::handler::Reply;
use super::out::Out;
use super::window::Window;

/// A request whose ordered stage is done.
pub(crate) struct Pending {
    pub(crate) rest: BoxFuture<'static, Reply>,
    pub(crate) in_turn: bool,
    pub(crate) request_bytes: usize,
}

/// Why no further response was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteEnd {
    /// Everything was answered.
    #[error("all requests were answered")]
    Answered,
    /// The handler asked for it.
    #[error("a request closed the connection")]
    Closed,
    /// A response of 2 GiB or more.
    #[error("a response is too long for the protocol")]
    TooLong,
    /// The client stopped reading.
    #[error("the client does not read its responses")]
    Stalled,
    /// The socket failed.
    #[error("writing failed: {0}")]
    Write(io::Error),
}

/// The writing half.
pub(crate) struct Responder<'a, W> {
    output: W,
    queue: UnboundedReceiver<Pending>,
    window: &'a Window,
    env: Arc<dyn Env>,
    deadline: Deadline,
    stall: Duration,
    rests: FuturesOrdered<BoxFuture<'static, (Reply, usize)>>,
    /// Rests that wait for their turn, by the number of their request.
    turns: VecDeque<(u64, oneshot::Sender<()>)>,
    num_pushed: u64,
    num_answered: u64,
    out: Out,
    /// When a write last made progress.
    progress: Instant,
    end: Option<WriteEnd>,
}

impl<'a, W: AsyncWrite + Unpin> Responder<'a, W> {
    pub(crate) fn new(
        output: W,
        queue: UnboundedReceiver<Pending>,
        window: &'a Window,
        env: Arc<dyn Env>,
        stall: Duration,
    ) -> Self {
        Self {
            output,
            queue,
            window,
            deadline: Deadline::new(Arc::clone(&env)),
            stall,
            rests: FuturesOrdered::new(),
            turns: VecDeque::new(),
            num_pushed: 0,
            num_answered: 0,
            out: Out::default(),
            progress: env.now(),
            end: None,
            env,
        }
    }

    /// Runs until the reader has ended and every rest too.
    pub(crate) async fn run(mut self) -> WriteEnd {
        let (mut open, mut shut) = (true, false);
        loop {
            self.give_turn();
            if self.end.is_some() && self.out.is_empty() && !shut {
                // The client learns at once, although rests may still run.
                let _ = self.output.shutdown().await;
                shut = true;
            }
            let stalled_at = self.progress.after(self.stall);
            tokio::select! {
                biased;
                pending = self.queue.recv(), if open => match pending {
                    Some(pending) => self.push(pending),
                    None => open = false,
                },
                Some((reply, request_bytes)) = self.rests.next(), if !self.rests.is_empty() => {
                    self.take(reply, request_bytes);
                }
                written = write_some(&mut self.output, &self.out), if !self.out.is_empty() => {
                    self.wrote(written);
                }
                () = self.deadline.passed(stalled_at), if !self.out.is_empty() => {
                    self.give_up(WriteEnd::Stalled);
                }
                else => break,
            }
        }
        if !shut {
            let _ = self.output.shutdown().await;
        }
        self.end.unwrap_or(WriteEnd::Answered)
    }

    fn push(&mut self, pending: Pending) {
        let Pending {
            rest,
            in_turn,
            request_bytes,
        } = pending;
        let number = self.num_pushed;
        self.num_pushed += 1;
        if !in_turn {
            self.rests
                .push_back(Box::pin(async move { (rest.await, request_bytes) }));
            return;
        }
        let (turn, wait) = oneshot::channel();
        self.turns.push_back((number, turn));
        self.rests.push_back(Box::pin(async move {
            let reply = match wait.await {
                Ok(()) => rest.await,
                Err(_) => Reply::None,
            };
            (reply, request_bytes)
        }));
    }

    /// Lets the front rest run if it waits and everything before it was written. Once nothing
    /// is written any more, the waiting rests are dropped: they have no effect but a reply.
    fn give_turn(&mut self) {
        if self.end.is_some() {
            self.turns.clear();
        }
        let due = self
            .turns
            .front()
            .is_some_and(|(number, _)| *number == self.num_answered);
        if due
            && self.out.is_empty()
            && let Some((_, turn)) = self.turns.pop_front()
        {
            // The receiver lives in `rests` until it was answered.
            let _ = turn.send(());
        }
    }

    fn take(&mut self, reply: Reply, request_bytes: usize) {
        self.num_answered += 1;
        let was_empty = self.out.is_empty();
        let response_bytes = match reply {
            _ if self.end.is_some() => 0,
            Reply::None => 0,
            Reply::Segments(segments) => self.out.push(segments).unwrap_or_else(|| {
                self.finish(WriteEnd::TooLong);
                0
            }),
            Reply::Close => {
                self.finish(WriteEnd::Closed);
                0
            }
        };
        self.window.answered(request_bytes, response_bytes);
        if was_empty && response_bytes > 0 {
            self.progress = self.env.now();
        }
    }

    fn wrote(&mut self, written: io::Result<usize>) {
        match written {
            Ok(0) => self.give_up(WriteEnd::Write(io::ErrorKind::WriteZero.into())),
            Ok(num_bytes) => {
                self.out.advance(num_bytes);
                self.window.written(num_bytes);
                self.progress = self.env.now();
            }
            Err(error) => self.give_up(WriteEnd::Write(error)),
        }
    }

    /// Writes what there is and nothing more; the reader is told to end.
    fn finish(&mut self, end: WriteEnd) {
        self.end.get_or_insert(end);
        self.queue.close();
    }

    /// Writes nothing more.
    fn give_up(&mut self, end: WriteEnd) {
        self.window.written(self.out.discard());
        self.finish(end);
    }
}

async fn write_some<W: AsyncWrite + Unpin>(output: &mut W, out: &Out) -> io::Result<usize> {
    let (slices, count) = out.slices();
    output.write_vectored(&slices[..count]).await
}
