//! A TCP proxy that counts what a client sends.
//!
//! *Owns*: passing bytes both ways, the count.
//! *Does not own*: what the bytes mean.
//!
//! *IO: driver*

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A running proxy. It ends with the process.
pub(super) struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    connections: AtomicU64,
}

impl Proxy {
    /// Listens on a free loopback port for clients of the server at `to`.
    pub(super) fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(&shared);
                std::thread::spawn(move || pass(client, to, &counts));
            }
        });
        Ok(Self { address, counts })
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that clients sent so far.
    pub(super) fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::SeqCst)
    }

    /// Connections that clients opened so far.
    pub(super) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }
}

fn pass(client: TcpStream, to: SocketAddr, counts: &Counts) {
    let Ok(server) = TcpStream::connect(to) else {
        return;
    };
    let (Ok(client_again), Ok(server_again)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let back = std::thread::spawn(move || copy(server_again, client_again, |_| {}));
    copy(client, server, |num_bytes| {
        counts.bytes.fetch_add(num_bytes, Ordering::SeqCst);
    });
    let _ = back.join();
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: impl Fn(u64)) {
    let mut buf = vec![0; 64 << 10];
    loop {
        match from.read(&mut buf) {
            Ok(num_bytes) if num_bytes > 0 => {
                count(num_bytes as u64);
                if to.write_all(&buf[..num_bytes]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sends_is_passed_and_counted_and_the_answer_only_passed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"a longer answer").unwrap();
            request
        });
        let address = proxy.endpoint()["http://".len()..].to_owned();
        let mut client = TcpStream::connect(address).unwrap();
        assert_eq!(proxy.bytes(), 0);
        client.write_all(b"asked").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(&server.join().unwrap(), b"asked");
        assert_eq!((answer.as_str(), proxy.bytes()), ("a longer answer", 5));
        assert_eq!(proxy.connections(), 1);
    }
}
