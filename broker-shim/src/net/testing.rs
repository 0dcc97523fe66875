//! A handler and a client for the tests of connections.
//!
//! *IO: none*

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tidewater_stream_store::TokioEnv;
use tidewater_types::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::connection::{Connection, Stop};
use super::handler::{Handler, Reply, Request, Staged};
use super::limits::Limits;
use super::private_wire::{STATS_API_KEY, encode_private_response};
use super::reader::ReadEnd;
use super::responder::WriteEnd;
use super::session;
use super::window::Pool;

/// What the first byte of a test request's body asks for.
pub(super) const NOW: u8 = 0;
pub(super) const GATED: u8 = 1;
pub(super) const SILENT: u8 = 2;
pub(super) const CLOSE: u8 = 3;
pub(super) const LARGE: u8 = 4;
pub(super) const LARGE_BYTES: usize = 1 << 20;

/// Produce runs beside others, Fetch in turn; the body says how it ends.
pub(super) struct TestHandler {
    /// Correlation ids in the order of the ends of their stages.
    pub(super) staged: Mutex<Vec<i32>>,
    /// Correlation ids in the order in which their rests ended.
    pub(super) finished: Mutex<Vec<i32>>,
    /// Rests that began.
    pub(super) begun: AtomicUsize,
    in_stage: AtomicUsize,
    /// One permit lets one gated request of the correlation id pass.
    gates: Vec<Semaphore>,
}

impl TestHandler {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            staged: Mutex::default(),
            finished: Mutex::default(),
            begun: AtomicUsize::new(0),
            in_stage: AtomicUsize::new(0),
            gates: (0..100).map(|_| Semaphore::new(0)).collect(),
        })
    }

    pub(super) fn release(&self, correlation_id: usize) {
        self.gates[correlation_id].add_permits(1);
    }

    async fn rest(self: Arc<Self>, correlation_id: i32, what: u8) -> Reply {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if what == GATED {
            let gate = &self.gates[usize::try_from(correlation_id).unwrap()];
            gate.acquire().await.unwrap().forget();
        }
        self.finished.lock().push(correlation_id);
        let head = Bytes::copy_from_slice(&correlation_id.to_be_bytes());
        match what {
            SILENT => Reply::None,
            CLOSE => Reply::Close,
            LARGE => Reply::Segments(vec![head, Bytes::from(vec![9; LARGE_BYTES])]),
            _ => Reply::Segments(vec![head, Bytes::new(), Bytes::from_static(b"ok")]),
        }
    }
}

/// The handler as the connections hold it.
pub(super) struct Shared(pub(super) Arc<TestHandler>);

impl Handler for Shared {
    fn served(&self, api_key: i16) -> Option<(i16, i16)> {
        match api_key {
            0 => Some((3, 13)),
            1 => Some((4, 18)),
            18 => Some((0, 4)),
            STATS_API_KEY => Some((0, 0)),
            _ => None,
        }
    }

    fn handle(&self, request: Request) -> BoxFuture<'_, Staged> {
        Box::pin(async move {
            let inner = &self.0;
            let correlation_id = request.header.correlation_id;
            assert_eq!(
                inner.in_stage.fetch_add(1, Ordering::SeqCst),
                0,
                "stages do not overlap"
            );
            tokio::task::yield_now().await;
            inner.in_stage.fetch_sub(1, Ordering::SeqCst);
            inner.staged.lock().push(correlation_id);
            if request.header.api_key == STATS_API_KEY {
                let json = format!("{{\"peer\":\"{}\"}}", request.client_host);
                return Staged::ready(Reply::Segments(encode_private_response(
                    correlation_id,
                    json,
                )));
            }
            let what = request.body.first().copied().unwrap_or(NOW);
            let rest = Arc::clone(inner).rest(correlation_id, what);
            match request.header.api_key {
                1 => Staged::in_turn(rest),
                _ => Staged::concurrent(rest),
            }
        })
    }
}

/// Limits that let time-outs be waited for.
pub(super) fn limits() -> Limits {
    Limits {
        first_request: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        frame_base: Duration::from_secs(20),
        ..Limits::default()
    }
}

pub(super) struct Client {
    pub(super) stream: DuplexStream,
    pub(super) handler: Arc<TestHandler>,
    pub(super) stop: Stop,
    pub(super) ended: JoinHandle<(ReadEnd, WriteEnd)>,
}

/// A client whose connection is served; `pipe` bytes fit between the two, each way.
pub(super) fn connect(limits: Limits, pipe: usize) -> Client {
    let (stream, server) = tokio::io::duplex(pipe);
    let handler = TestHandler::new();
    let stop = Stop::default();
    let pool = Pool::new(limits.total_bytes_max);
    let connection = Connection {
        handler: Arc::new(Shared(Arc::clone(&handler))),
        env: Arc::new(TokioEnv::current()),
        limits: Arc::new(limits),
        peer: SocketAddr::from(([127, 0, 0, 1], 5)),
        id: 1,
        stop: stop.clone(),
        pool,
    };
    let (input, output) = tokio::io::split(server);
    let ended = tokio::spawn(session::run(connection, input, output));
    Client {
        stream,
        handler,
        stop,
        ended,
    }
}

/// A framed request with a header of version 1 and no client id.
pub(super) fn request(api_key: i16, api_version: i16, correlation_id: i32, what: u8) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(11);
    frame.put_i16(api_key);
    frame.put_i16(api_version);
    frame.put_i32(correlation_id);
    frame.put_i16(-1);
    frame.put_u8(what);
    frame.freeze()
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next response's correlation id and body.
    pub(super) async fn response(&mut self) -> (i32, Vec<u8>) {
        let len = self.stream.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(len).unwrap()];
        self.stream.read_exact(&mut frame).await.unwrap();
        let body = frame.split_off(4);
        (i32::from_be_bytes(frame.try_into().unwrap()), body)
    }

    /// Waits for the end of the stream; nothing may come before it.
    pub(super) async fn closed(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, Vec::<u8>::new(), "bytes before the end");
    }

    /// Waits until `holds`.
    pub(super) async fn until(&self, holds: impl Fn(&TestHandler) -> bool) {
        while !holds(&self.handler) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
