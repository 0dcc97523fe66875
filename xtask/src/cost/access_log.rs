//! The access log of an S3 server, as the server writes it.
//!
//! *Owns*: taking the log's lines, what is kept of each.
//! *Does not own*: making the server write them (`services::seaweed`).
//!
//! Invariants
//! 1. A line that cannot be read stops the process: what was missed would count as silence.
//!
//! *IO: driver*

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    at: Instant,
    /// `REST.PUT.OBJECT` and the like.
    operation: String,
    /// Empty for a listing.
    key: String,
}

/// A log that is being written. It ends with the process.
pub(super) struct AccessLog {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl AccessLog {
    /// Listens on a free loopback port for a server that sends its lines there.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let shared = Arc::clone(&requests);
        std::thread::spawn(move || {
            for server in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&shared);
                std::thread::spawn(move || take(server, &requests));
            }
        });
        Ok(Self { address, requests })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Those behind the first `known`, in words.
    pub(super) fn since(&self, known: usize) -> Vec<String> {
        let requests = self.lock();
        let first = requests.get(known).map(|request| request.at);
        let word = |Request { at, operation, key }: &Request| {
            let after = at.duration_since(first.expect("one of them")).as_secs_f64();
            format!("{operation} {key} +{after:.1} s")
        };
        requests.iter().skip(known).map(word).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(server: TcpStream, requests: &Mutex<Vec<Request>>) {
    let lines = serde_json::Deserializer::from_reader(io::BufReader::new(server));
    for line in lines.into_iter::<Value>() {
        let request = line.map_err(|e| e.to_string()).and_then(|line| {
            let found = request(&line);
            found.ok_or_else(|| format!("no request: {line}"))
        });
        match request {
            Ok(request) => requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request),
            Err(why) => {
                eprintln!("the access log cannot be read: {why}");
                std::process::exit(1);
            }
        }
    }
}

fn request(line: &Value) -> Option<Request> {
    let text = |name: &str| Some(line.get(2)?.get(name)?.as_str()?.to_owned());
    Some(Request {
        at: Instant::now(),
        operation: text("operation")?,
        key: text("key")?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_line_is_a_request_however_the_bytes_are_cut() {
        let log = AccessLog::start().unwrap();
        let line = |operation: &str, key: &str| {
            serde_json::json!(["audit.s3.access", 1, {"operation": operation, "key": key}, {}])
                .to_string()
        };
        let text = line("REST.PUT.OBJECT", "a/b") + &line("REST.GET.BUCKET", "");
        let mut server = TcpStream::connect(log.address()).unwrap();
        let (head, rest) = text.as_bytes().split_at(30);
        server.write_all(head).unwrap();
        server.flush().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(log.len(), 0);
        server.write_all(rest).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while log.len() < 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let since = log.since(1);
        assert_eq!(since, ["REST.GET.BUCKET  +0.0 s"]);
        assert_eq!(log.since(2), Vec::<String>::new());
    }
}
