//! The reading half of a connection: frames in, ordered stages run, rests queued.
//!
//! *Owns*: when bytes are read, the connection's time limits, the order of stages.
//! *Does not own*: responses.
//!
//! Invariants
//! 1. A stage that was begun is awaited to its end.
//! 2. While a request or response is under way the connection is not idle.
//! 3. Time spent waiting for room is not held against the client.
//! 4. Of a frame that is not small no more is read than its length before there is room for all of it.
//!
//! *IO: none*

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_types::Instant;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::UnboundedSender;

use super::connection::Connection;
use super::deadline::Deadline;
use super::frames::{Frames, FramingError};
use super::handler::{Handler, Reply, Request, Staged};
use super::open::{Opened, Refusal, open};
use super::responder::Pending;
use super::window::Window;

/// Why no further request was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadEnd {
    /// The client closed the connection.
    #[error("the client closed it")]
    Client,
    /// The responder ended first: it could not write, or was told to close.
    #[error("its responses ended")]
    Responses,
    /// The broker stops.
    #[error("the broker stops")]
    Stopping,
    /// Nothing happened for too long.
    #[error("it was idle")]
    Idle,
    /// No whole request arrived in time after connecting.
    #[error("no first request arrived in time")]
    NoFirstRequest,
    /// A frame took too long.
    #[error("a frame did not arrive in time")]
    SlowFrame,
    /// A length that cannot be a request's.
    #[error("bad frame: {0}")]
    Framing(#[from] FramingError),
    /// A request nobody serves.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The socket failed.
    #[error("reading failed: {0}")]
    Read(io::Error),
}

/// The reading half.
pub(crate) struct Reader<'a, H, R> {
    connection: Connection<H>,
    input: R,
    queue: UnboundedSender<Pending>,
    window: &'a Window,
    frames: Frames,
    deadline: Deadline,
    client_host: String,
    /// When the last byte arrived or, in its absence, the connection.
    active: Instant,
    /// When the frame under way began.
    frame_since: Option<Instant>,
    any_request: bool,
    /// Bytes of the frame under way that are in flight already.
    reserved: usize,
}

/// A larger frame is in flight from when its length is known.
const SMALL_FRAME: usize = 64 << 10;

impl<'a, H: Handler, R: AsyncRead + Unpin> Reader<'a, H, R> {
    pub(crate) fn new(
        connection: Connection<H>,
        input: R,
        queue: UnboundedSender<Pending>,
        window: &'a Window,
    ) -> Self {
        let active = connection.env.now();
        Self {
            frames: Frames::new(connection.limits.frame_bytes_max),
            deadline: Deadline::new(connection.env.clone()),
            client_host: format!("/{}", connection.peer.ip().to_canonical()),
            connection,
            input,
            queue,
            window,
            active,
            frame_since: None,
            any_request: false,
            reserved: 0,
        }
    }

    /// Reads until there is a reason not to.
    pub(crate) async fn run(mut self) -> ReadEnd {
        loop {
            if let Err(end) = self.take_frames().await {
                return end;
            }
            if let Err(end) = self.fill().await {
                return end;
            }
        }
    }

    /// Stages every whole frame of the buffer.
    async fn take_frames(&mut self) -> Result<(), ReadEnd> {
        let mut any = false;
        while let Some(frame) = self.frames.next()? {
            any = true;
            self.reserve(frame.len()).await;
            self.reserved = 0;
            if self.connection.stop.is_set() {
                return Err(ReadEnd::Stopping);
            }
            self.stage(frame).await?;
        }
        let claimed = self.frames.partial_len();
        if claimed > SMALL_FRAME && self.reserved == 0 {
            self.reserve(claimed).await;
            self.active = self.connection.env.now();
            any = true;
        }
        if !self.frames.is_partial() {
            self.frame_since = None;
        } else if any || self.frame_since.is_none() {
            self.frame_since = Some(self.connection.env.now());
        }
        Ok(())
    }

    /// Waits for room for a frame, unless that was done when its length was known.
    async fn reserve(&mut self, num_bytes: usize) {
        if self.reserved == 0 {
            self.window.room().await;
            self.window.begin(num_bytes);
            self.reserved = num_bytes;
        }
    }

    async fn stage(&mut self, frame: Bytes) -> Result<(), ReadEnd> {
        let request_bytes = frame.len();
        let handler = &self.connection.handler;
        let opened = open(frame, |api_key| handler.served(api_key))?;
        let staged = match opened {
            Opened::Answer(response) => Staged::ready(Reply::Segments(vec![response])),
            Opened::Serve { header, body } => {
                let request = Request {
                    header,
                    body,
                    peer: self.connection.peer,
                    client_host: self.client_host.clone(),
                    pool: Arc::clone(&self.connection.pool),
                    connection: self.connection.id,
                };
                handler.handle(request).await
            }
        };
        self.any_request = true;
        let Staged { rest, in_turn } = staged;
        let pending = Pending {
            rest,
            in_turn,
            request_bytes,
        };
        self.queue.send(pending).map_err(|_| ReadEnd::Responses)
    }

    /// Waits for bytes.
    async fn fill(&mut self) -> Result<(), ReadEnd> {
        let at = self.deadline_at();
        tokio::select! {
            biased;
            () = self.queue.closed() => Err(ReadEnd::Responses),
            () = self.connection.stop.wait() => Err(ReadEnd::Stopping),
            read = self.input.read_buf(self.frames.buffer()) => match read {
                Ok(0) => Err(ReadEnd::Client),
                Ok(_) => {
                    self.active = self.connection.env.now();
                    Ok(())
                }
                Err(error) => Err(ReadEnd::Read(error)),
            },
            () = self.deadline.passed(at) => self.late(),
        }
    }

    fn deadline_at(&self) -> Instant {
        let limits = &self.connection.limits;
        let frame = self
            .frame_since
            .map(|since| since.after(limits.frame_time(self.frames.partial_len())));
        match frame {
            // What is in flight already is room that others wait for: its bytes must go on coming.
            Some(frame) if self.reserved > 0 => frame.min(self.active.after(limits.frame_base)),
            Some(frame) => frame,
            None if self.any_request => self.active.after(limits.idle),
            None => self.active.after(limits.first_request),
        }
    }

    fn late(&mut self) -> Result<(), ReadEnd> {
        if self.frame_since.is_some() {
            return Err(ReadEnd::SlowFrame);
        }
        if !self.any_request {
            return Err(ReadEnd::NoFirstRequest);
        }
        if self.window.is_idle() {
            return Err(ReadEnd::Idle);
        }
        self.active = self.connection.env.now();
        Ok(())
    }
}
