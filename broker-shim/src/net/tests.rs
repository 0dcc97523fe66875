//! Connections: order, limits, hostile and slow clients, the listener.
//!
//! *IO: driver* (loopback)

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewater_stream_store::TokioEnv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::driver::BindError;
use super::reader::ReadEnd;
use super::responder::WriteEnd;
use super::testing::{
    CLOSE, Client, GATED, LARGE, LARGE_BYTES, NOW, SILENT, Shared, TestHandler, connect, limits,
    request,
};
use super::{Limits, STATS_API_KEY, bind, decode_private_response, encode_private_request, serve};
use crate::config::HostPort;

const PIPE: usize = 1 << 16;
const PRODUCE: (i16, i16) = (0, 3);
const FETCH: (i16, i16) = (1, 4);

fn produce(correlation_id: i32, what: u8) -> Vec<u8> {
    request(PRODUCE.0, PRODUCE.1, correlation_id, what).to_vec()
}

fn fetch(correlation_id: i32, what: u8) -> Vec<u8> {
    request(FETCH.0, FETCH.1, correlation_id, what).to_vec()
}

async fn ended(client: Client) -> (ReadEnd, WriteEnd) {
    drop(client.stream);
    client.ended.await.unwrap()
}

#[tokio::test]
async fn responses_leave_in_the_order_of_requests_whatever_ends_first() {
    let mut client = connect(limits(), PIPE);
    let all: Vec<u8> = (1..=5).flat_map(|id| produce(id, GATED)).collect();
    client.send(&all).await;
    client.until(|h| h.begun.load(Ordering::SeqCst) == 5).await;
    assert_eq!(*client.handler.staged.lock(), [1, 2, 3, 4, 5]);
    for id in [4, 2, 5, 3, 1] {
        client.handler.release(id);
        client
            .until(|h| h.finished.lock().contains(&i32::try_from(id).unwrap()))
            .await;
    }
    assert_eq!(*client.handler.finished.lock(), [4, 2, 5, 3, 1]);
    for id in 1..=5 {
        assert_eq!(client.response().await, (id, b"ok".to_vec()));
    }
}

#[tokio::test]
async fn a_request_cut_anywhere_is_understood() {
    let mut client = connect(limits(), PIPE);
    let bytes = [produce(1, NOW), produce(2, NOW)].concat();
    for byte in bytes {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.0, 1);
    assert_eq!(client.response().await.0, 2);
}

#[tokio::test]
async fn a_request_without_response_leaves_no_gap() {
    let mut client = connect(limits(), PIPE);
    client
        .send(&[produce(1, SILENT), produce(2, NOW)].concat())
        .await;
    assert_eq!(client.response().await.0, 2);
}

#[tokio::test]
async fn close_comes_after_earlier_responses_and_before_later_ones() {
    let mut client = connect(limits(), PIPE);
    client
        .send(&[produce(1, GATED), produce(2, CLOSE), produce(3, NOW)].concat())
        .await;
    client.until(|h| h.finished.lock().contains(&2)).await;
    client.handler.release(1);
    assert_eq!(client.response().await.0, 1);
    client.closed().await;
    let (read, write) = ended(client).await;
    assert!(matches!(
        (read, write),
        (ReadEnd::Responses, WriteEnd::Closed)
    ));
}

#[tokio::test]
async fn hostile_lengths_close_the_connection() {
    for length in [i32::MAX, (100 << 20) + 1, 0, 7, -1, i32::MIN] {
        let mut client = connect(limits(), PIPE);
        client.send(&length.to_be_bytes()).await;
        client.closed().await;
        assert!(
            matches!(ended(client).await.0, ReadEnd::Framing(_)),
            "{length}"
        );
    }
}

#[tokio::test]
async fn versions_nobody_serves_close_the_connection_after_earlier_responses() {
    for (api_key, api_version) in [(0, 2), (0, 14), (77, 0), (1, 3)] {
        let mut client = connect(limits(), PIPE);
        let refused = request(api_key, api_version, 2, NOW).to_vec();
        client
            .send(&[produce(1, NOW), refused, produce(3, NOW)].concat())
            .await;
        assert_eq!(client.response().await.0, 1);
        client.closed().await;
        assert_eq!(*client.handler.staged.lock(), [1]);
        assert!(matches!(ended(client).await.0, ReadEnd::Refused(_)));
    }
}

#[tokio::test]
async fn api_versions_of_an_unknown_version_is_answered_and_the_connection_goes_on() {
    let mut client = connect(limits(), PIPE);
    client
        .send(&[request(18, 99, 1, NOW).to_vec(), produce(2, NOW)].concat())
        .await;
    let expected = vec![0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(client.response().await, (1, expected));
    assert_eq!(client.response().await.0, 2);
}

#[tokio::test]
async fn a_client_that_sends_no_whole_request_is_given_up() {
    let first_request = Duration::from_millis(30);
    let mut client = connect(
        Limits {
            first_request,
            ..limits()
        },
        PIPE,
    );
    client.closed().await;
    assert!(matches!(ended(client).await.0, ReadEnd::NoFirstRequest));

    let frame_base = Duration::from_millis(50);
    for first in [vec![], produce(1, NOW)] {
        let mut client = connect(
            Limits {
                frame_base,
                ..limits()
            },
            PIPE,
        );
        client.send(&first).await;
        if !first.is_empty() {
            assert_eq!(client.response().await.0, 1);
        }
        // One byte at a time keeps a connection busy, but not for ever.
        let mut sent = 0;
        for byte in [vec![0, 0, 1, 0], vec![7; 100]].concat() {
            if client.stream.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(sent < 100, "cut off before its time");
        assert!(matches!(ended(client).await.0, ReadEnd::SlowFrame));
    }
}

#[tokio::test]
async fn a_large_frame_gets_time_by_its_size() {
    let limits = Limits {
        frame_bytes_per_second: 1000,
        ..limits()
    };
    assert_eq!(limits.frame_time(999), Duration::from_secs(20));
    assert_eq!(limits.frame_time(60_000), Duration::from_secs(80));
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let idle = Duration::from_millis(40);
    let mut client = connect(Limits { idle, ..limits() }, PIPE);
    client.send(&produce(1, GATED)).await;
    tokio::time::sleep(4 * idle).await;
    client.handler.release(1);
    assert_eq!(client.response().await.0, 1);
    client.closed().await;
    assert!(matches!(ended(client).await.0, ReadEnd::Idle));
}

#[tokio::test]
async fn no_more_requests_begin_than_may_be_in_flight() {
    let mut client = connect(
        Limits {
            in_flight_max: 2,
            ..limits()
        },
        PIPE,
    );
    let all: Vec<u8> = (1..=4).flat_map(|id| produce(id, GATED)).collect();
    client.send(&all).await;
    client.until(|h| h.begun.load(Ordering::SeqCst) == 2).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(*client.handler.staged.lock(), [1, 2]);
    client.handler.release(1);
    client.until(|h| h.begun.load(Ordering::SeqCst) == 3).await;
    assert_eq!(*client.handler.staged.lock(), [1, 2, 3]);
    (2..=4).for_each(|id| client.handler.release(id));
    for id in 1..=4 {
        assert_eq!(client.response().await.0, id);
    }
}

#[tokio::test]
async fn unwritten_responses_hold_back_further_requests() {
    let mut client = connect(
        Limits {
            in_flight_bytes_max: LARGE_BYTES,
            ..limits()
        },
        1 << 10,
    );
    let all: Vec<u8> = (1..=4).flat_map(|id| produce(id, LARGE)).collect();
    client.send(&all).await;
    client.until(|h| !h.finished.lock().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        client.handler.finished.lock().len() < 4,
        "the client has read nothing"
    );
    for id in 1..=4 {
        assert_eq!(client.response().await.1.len(), LARGE_BYTES, "{id}");
    }
}

#[tokio::test]
async fn large_reads_wait_until_earlier_responses_are_written() {
    let mut client = connect(limits(), 1 << 10);
    let all: Vec<u8> = (1..=4).flat_map(|id| fetch(id, LARGE)).collect();
    client.send(&all).await;
    client.until(|h| h.staged.lock().len() == 4).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(client.handler.begun.load(Ordering::SeqCst), 1);
    for id in 1..=4 {
        let (found, body) = client.response().await;
        assert_eq!((found, body.len()), (id, LARGE_BYTES));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let idle = Duration::from_millis(40);
    let mut client = connect(Limits { idle, ..limits() }, 1 << 10);
    client
        .send(&[fetch(1, LARGE), fetch(2, LARGE)].concat())
        .await;
    let (_, write) = tokio::time::timeout(Duration::from_secs(10), client.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(write, WriteEnd::Stalled), "{write}");
    assert_eq!(
        client.handler.begun.load(Ordering::SeqCst),
        1,
        "the second never had its turn"
    );
}

#[tokio::test]
async fn a_rest_runs_to_its_end_when_the_client_is_gone() {
    let mut client = connect(limits(), PIPE);
    client
        .send(&[produce(1, GATED), produce(2, GATED)].concat())
        .await;
    client.until(|h| h.begun.load(Ordering::SeqCst) == 2).await;
    let handler = Arc::clone(&client.handler);
    drop(client.stream);
    handler.release(1);
    handler.release(2);
    client.ended.await.unwrap();
    assert_eq!(*handler.finished.lock(), [1, 2]);
}

#[tokio::test]
async fn requests_sent_before_a_half_close_are_answered() {
    let mut client = connect(limits(), PIPE);
    client
        .send(&[produce(1, GATED), fetch(2, NOW)].concat())
        .await;
    client.stream.shutdown().await.unwrap();
    client.handler.release(1);
    assert_eq!(client.response().await.0, 1);
    assert_eq!(client.response().await.0, 2);
    client.closed().await;
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_reads_no_more() {
    let mut client = connect(limits(), PIPE);
    client.send(&produce(1, GATED)).await;
    client.until(|h| h.begun.load(Ordering::SeqCst) == 1).await;
    client.stop.set();
    client.send(&produce(2, NOW)).await;
    client.handler.release(1);
    assert_eq!(client.response().await.0, 1);
    client.closed().await;
    assert_eq!(*client.handler.staged.lock(), [1]);
    assert!(matches!(ended(client).await.0, ReadEnd::Stopping));
}

#[tokio::test]
async fn the_listener_serves_limits_and_stops() {
    let bound = bind(&HostPort::parse("127.0.0.1:0").unwrap()).unwrap();
    let address = bound.local();
    assert_eq!(bound.advertised(None).to_string(), address.to_string());
    let advertise = HostPort::parse("kafka.example.org:0").unwrap();
    let advertised = bound.advertised(Some(&advertise)).to_string();
    assert_eq!(advertised, format!("kafka.example.org:{}", address.port()));
    let again = bind(&HostPort::parse(&address.to_string()).unwrap());
    assert!(matches!(again, Err(BindError::InUse { .. })));

    let (stop, stopping) = oneshot::channel();
    let handler = Arc::new(Shared(TestHandler::new()));
    let limits = Limits {
        connections_max: 2,
        ..limits()
    };
    let env = Arc::new(TokioEnv::current());
    let server = tokio::spawn(serve(
        bound.accepting().unwrap(),
        handler,
        limits,
        env,
        async { drop(stopping.await) },
    ));

    let mut first = TcpStream::connect(address).await.unwrap();
    first
        .write_all(&encode_private_request(STATS_API_KEY, 9, &[]))
        .await
        .unwrap();
    let len = first.read_u32().await.unwrap();
    let mut frame = vec![0; usize::try_from(len).unwrap()];
    first.read_exact(&mut frame).await.unwrap();
    let json = decode_private_response(9, frame.into()).unwrap();
    assert_eq!(json, "{\"peer\":\"/127.0.0.1\"}");

    let _second = TcpStream::connect(address).await.unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0, "one too many");

    stop.send(()).unwrap();
    server.await.unwrap();
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[test]
fn an_address_that_cannot_be_bound_is_named() {
    let error = bind(&HostPort::parse("192.0.2.1:0").unwrap()).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    assert!(matches!(error, BindError::Foreign { .. }));
}
