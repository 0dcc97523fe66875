//! One client and its connection: requests in the bytes of the protocol, several under way.
//!
//! *Owns*: frames, correlation ids, the order of responses, when a client gives up, whom it asks next.
//! *Does not own*: what is asked.
//!
//! Invariants
//! 1. Responses come in the order of the requests, each with its correlation id, and decode.
//! 2. A client that gives up drops its connection: what was under way may still be carried out.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use tidewater_protocol::{Encoder, Message, RequestHeader, encode_request_header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::world::World;
use crate::check::protocol;
use crate::exec::Tag;
use crate::net::{Connected, Host, SimRead};
use crate::rng::Rng;

/// Longest response a client takes.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// No answer: the connection failed, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// An answer, and the life of the broker that gave it.
pub(super) struct Answer<R> {
    pub(super) message: R,
    pub(super) life: Tag,
}

/// A request under way.
pub(super) struct UnderWay {
    answer: oneshot::Receiver<Bytes>,
    api: i16,
    version: i16,
    life: Tag,
}

type Waiting = Arc<Mutex<VecDeque<(i32, oneshot::Sender<Bytes>)>>>;

/// One connection.
struct Conn {
    frames: mpsc::UnboundedSender<Vec<Bytes>>,
    waiting: Waiting,
    life: Tag,
}

/// One client, on a host of its own.
pub(super) struct Client {
    pub(super) world: Arc<World>,
    pub(super) rng: Rng,
    host: Host,
    /// The node that it asks next.
    node: usize,
    name: String,
    conn: Option<Conn>,
    next_correlation: i32,
    /// How long it waits for an answer.
    pub(super) patience: Duration,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, label: &'static str) -> Self {
        let (host, seed) = world.next_client();
        Self {
            world: Arc::clone(world),
            rng: Rng::new(seed, label),
            host,
            node: 0,
            name: format!("{label}-{}", host.0),
            conn: None,
            next_correlation: 0,
            patience: Duration::from_secs(3),
        }
    }

    /// Connects to this node, before there is anything to ask.
    pub(super) async fn connect_to(&mut self, node: usize) -> Result<(), Lost> {
        self.node = node;
        self.conn = Some(self.connect().await?);
        Ok(())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.conn.is_some()
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<R: Message>(
        &mut self,
        version: i16,
        request: &impl Message,
    ) -> Result<Answer<R>, Lost> {
        let under_way = self.send(version, request).await?;
        self.receive(under_way).await
    }

    /// Sends a request; connects first if there is no connection.
    pub(super) async fn send<Q: Message>(
        &mut self,
        version: i16,
        request: &Q,
    ) -> Result<UnderWay, Lost> {
        let frame = self.frame(version, request).await?;
        let conn = self.conn.as_ref().expect("the frame is for it");
        let (sender, answer) = oneshot::channel();
        conn.waiting
            .lock()
            .push_back((self.next_correlation, sender));
        let life = conn.life;
        if conn.frames.send(frame).is_err() {
            self.conn = None;
            return Err(Lost);
        }
        Ok(UnderWay {
            answer,
            api: Q::API_KEY.expect("a request"),
            version,
            life,
        })
    }

    /// Sends a request that has no answer.
    pub(super) async fn send_unanswered<Q: Message>(
        &mut self,
        version: i16,
        request: &Q,
    ) -> Result<(), Lost> {
        let frame = self.frame(version, request).await?;
        let conn = self.conn.as_ref().expect("the frame is for it");
        let sent = conn.frames.send(frame).map_err(|_| Lost);
        if sent.is_err() {
            self.conn = None;
        }
        sent
    }

    /// The bytes of a request; connects first if there is no connection.
    async fn frame<Q: Message>(&mut self, version: i16, request: &Q) -> Result<Vec<Bytes>, Lost> {
        if self.conn.is_none() {
            self.conn = Some(self.connect().await?);
        }
        self.next_correlation += 1;
        let api = Q::API_KEY.expect("a request");
        let header = RequestHeader {
            api_key: api,
            api_version: version,
            correlation_id: self.next_correlation,
            client_id: Some(self.name.clone()),
        };
        let mut out = Encoder::new();
        encode_request_header(&mut out, &header).expect("a header can be encoded");
        request.encode(&mut out, version).expect("so can a request");
        let len = u32::try_from(out.len()).expect("small");
        let mut frame = vec![Bytes::copy_from_slice(&len.to_be_bytes())];
        frame.extend(out.finish());
        Ok(frame)
    }

    /// Waits for an answer; gives the connection up if none comes.
    pub(super) async fn receive<R: Message>(
        &mut self,
        under_way: UnderWay,
    ) -> Result<Answer<R>, Lost> {
        let UnderWay {
            answer,
            api,
            version,
            life,
        } = under_way;
        let time = self.world.handle.sleep(self.patience);
        let Either::Left((Ok(frame), _)) = select(answer, time).await else {
            self.hang_up();
            return Err(Lost);
        };
        // The reader has looked at the correlation id.
        let decoded = protocol::decoded(frame, api, version);
        // Of several brokers, one that was replaced is not asked again at once.
        if self.world.num_nodes() > 1 && life != self.world.life() {
            self.hang_up();
        }
        match decoded {
            Ok(message) => Ok(Answer { message, life }),
            Err(violation) => {
                self.world.fail(violation);
                self.hang_up();
                Err(Lost)
            }
        }
    }

    /// Drops the connection.
    pub(super) fn hang_up(&mut self) {
        self.conn = None;
    }

    pub(super) async fn pause(&mut self, most: Duration) {
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.rng.below(most_us));
        self.world.handle.sleep(pause).await;
    }

    async fn connect(&mut self) -> Result<Conn, Lost> {
        let handle = self.world.handle.clone();
        let address = World::address(self.node);
        self.node = (self.node + 1) % self.world.num_nodes();
        let Ok(connected) = self.world.net.connect(self.host, address).await else {
            self.pause(Duration::from_millis(20)).await;
            return Err(Lost);
        };
        let Connected {
            input,
            mut output,
            life,
        } = connected;
        let (frames, mut queued) = mpsc::unbounded_channel::<Vec<Bytes>>();
        let waiting = Waiting::default();
        let (net, vanishes) = (self.world.net.clone(), self.world.may_vanish(&mut self.rng));
        let writer = async move {
            while let Some(frame) = queued.recv().await {
                for bytes in frame {
                    if output.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
            if vanishes {
                net.vanish(&output);
            }
        };
        handle.spawn(Tag(0), "client: write", Box::pin(writer));
        let (world, asked) = (Arc::clone(&self.world), Arc::clone(&waiting));
        handle.spawn(
            Tag(0),
            "client: read",
            Box::pin(async move { read_all(input, &asked, &world).await }),
        );
        Ok(Conn {
            frames,
            waiting,
            life,
        })
    }
}

async fn read_all(mut input: SimRead, waiting: &Waiting, world: &World) {
    while let Some(frame) = read_one(&mut input).await {
        let first = waiting.lock().pop_front();
        let asked = first.as_ref().map(|(asked, _)| *asked);
        if let Err(violation) = protocol::in_turn(asked, &frame) {
            world.fail(violation);
            break;
        }
        if let Some((_, answer)) = first {
            // Who asked may have given up.
            let _ = answer.send(frame);
        }
    }
    // Whoever waits hears at once that nothing comes.
    waiting.lock().clear();
}

async fn read_one(input: &mut SimRead) -> Option<Bytes> {
    let len = usize::try_from(input.read_u32().await.ok()?).ok()?;
    if len > FRAME_BYTES_MAX {
        return None;
    }
    let mut frame = BytesMut::zeroed(len);
    input.read_exact(&mut frame).await.ok()?;
    Some(frame.freeze())
}
