//! What the network promises, and what it does not.
//!
//! *IO: none*

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tidewater_broker::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Host, NetFaults, SimNet};
use crate::exec::{Executor, Limits, Tag};

const LIMITS: Limits = Limits {
    polls: 1_000_000,
    time: Duration::from_secs(100),
};
const NODE: Host = Host(1);
const CLIENT: Host = Host(9);

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 9092))
}

fn run<F: Future<Output = ()> + Send + 'static>(
    seed: u64,
    faults: NetFaults,
    body: impl FnOnce(SimNet, crate::exec::Handle) -> F,
) {
    let executor = Executor::new(seed);
    let net = SimNet::new(executor.handle(), seed, faults);
    let root = body(net, executor.handle());
    executor.run(LIMITS, root).unwrap();
}

#[test]
fn bytes_arrive_in_order_whatever_the_sizes_of_reads_and_writes() {
    let faults = NetFaults {
        partial: 500,
        window_bytes: 100,
        ..NetFaults::default()
    };
    for seed in 0..20 {
        run(seed, faults, |net, handle| async move {
            let mut listener = net.listen(NODE, Tag(1), address());
            let sent: Vec<u8> = (0..2_000u32)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect();
            let expected = sent.clone();
            let mut client = net.connect(CLIENT, address()).await.unwrap();
            handle.spawn(
                Tag(0),
                "client",
                Box::pin(async move {
                    client.output.write_all(&sent).await.unwrap();
                }),
            );
            let (mut input, _output, _peer) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            input.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, expected);
        });
    }
}

#[test]
fn nobody_listens_is_refused() {
    run(1, NetFaults::default(), |net, _| async move {
        let refused = net.connect(CLIENT, address()).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drop(net.listen(NODE, Tag(1), address()));
        let refused = net.connect(CLIENT, address()).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_reset_ends_both_sides() {
    let faults = NetFaults {
        reset: 1000,
        ..NetFaults::default()
    };
    run(1, faults, |net, _| async move {
        let mut listener = net.listen(NODE, Tag(1), address());
        let mut client = net.connect(CLIENT, address()).await.unwrap();
        let (mut input, _output, _) = listener.accept().await.unwrap();
        client.output.write_all(b"hello").await.unwrap();
        let error = input.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = client.input.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_one_way_partition_holds_one_way_until_it_heals() {
    run(1, NetFaults::default(), |net, handle| async move {
        let mut listener = net.listen(NODE, Tag(1), address());
        let mut client = net.connect(CLIENT, address()).await.unwrap();
        let (mut input, mut output, _) = listener.accept().await.unwrap();
        net.block(NODE, CLIENT);
        client.output.write_all(b"ab").await.unwrap();
        assert_eq!(input.read_u8().await.unwrap(), b'a');
        output.write_all(b"x").await.unwrap();
        output.write_all(b"y").await.unwrap();
        let healer = net.clone();
        handle.call_after(3_000_000_000, move || healer.heal());
        assert_eq!(client.input.read_u8().await.unwrap(), b'x');
        assert!(handle.now().0 >= 3_000_000_000);
        assert_eq!(client.input.read_u8().await.unwrap(), b'y');
    });
}

#[test]
fn a_process_that_is_killed_closes_and_one_without_power_is_silent() {
    run(1, NetFaults::default(), |net, handle| async move {
        let mut listener = net.listen(NODE, Tag(1), address());
        let mut client = net.connect(CLIENT, address()).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert_eq!(client.input.read(&mut [0]).await.unwrap(), 0, "closed");

        let mut client = net.connect(CLIENT, address()).await.unwrap();
        let server = listener.accept().await.unwrap();
        net.power_loss(NODE, Tag(1));
        drop((server, listener));
        let mut byte = [0];
        let silent = client.input.read(&mut byte);
        let time = std::pin::pin!(handle.sleep(Duration::from_secs(50)));
        let silent = std::pin::pin!(silent);
        let first = futures_util::future::select(silent, time).await;
        assert!(matches!(first, futures_util::future::Either::Right(_)));
        drop(first);
        // Once the host is up again, whoever speaks to it is told.
        let _listener = net.listen(NODE, Tag(2), address());
        client.output.write_all(b"still there?").await.unwrap();
        let error = client.input.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_address_goes_to_the_latest_life() {
    run(1, NetFaults::default(), |net, _| async move {
        let mut old = net.listen(NODE, Tag(1), address());
        let first = net.connect(CLIENT, address()).await.unwrap();
        let mut new = net.listen(NODE, Tag(2), address());
        let second = net.connect(CLIENT, address()).await.unwrap();
        assert_eq!((first.life, second.life), (Tag(1), Tag(2)));
        let (_, _output, _) = old.accept().await.unwrap();
        let (_, _output, _) = new.accept().await.unwrap();
    });
}

#[test]
fn a_host_without_power_silences_its_own_address_alone() {
    run(5, NetFaults::default(), |net, _| async move {
        let other = SocketAddr::from(([10, 0, 0, 2], 9092));
        let _first = net.listen(NODE, Tag(1), address());
        let second = net.listen(Host(2), Tag(2), other);
        net.power_loss(NODE, Tag(1));
        assert_eq!(net.connect(CLIENT, other).await.unwrap().life, Tag(2));
        let refused = net.connect(CLIENT, address()).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
        drop(second);
        let refused = net.connect(CLIENT, other).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let _again = net.listen(NODE, Tag(3), address());
        assert_eq!(net.connect(CLIENT, address()).await.unwrap().life, Tag(3));
    });
}
