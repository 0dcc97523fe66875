//! The probe against stores that keep the promise and stores that break it, each its own way: a
//! server in this process that speaks just enough S3.
//!
//! *IO: driver*

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::config::BucketOptions;
use crate::memory::MemoryBucket;
use crate::object_store::S3Bucket;

/// What the store does with a create of a key that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Refuses it with 412.
    Keeps,
    /// Knows no conditions.
    Ignores,
    /// Refuses it with 412, and replaces the object all the same.
    Pretends,
    /// Looks first and writes later: of racing creates several succeed.
    Races,
    /// Cannot do it: 501.
    Cannot,
    /// Fails every second request.
    Falters,
}

#[derive(Clone)]
struct Store {
    manner: Manner,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    requests: Arc<AtomicUsize>,
}

impl Store {
    /// Starts the server; a client of it.
    fn start(manner: Manner) -> (Self, S3Bucket) {
        let store = Self {
            manner,
            objects: Arc::default(),
            requests: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        let options = BucketOptions {
            endpoint: Some(endpoint),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some("secret".to_owned()),
            request_timeout: Duration::from_secs(5),
            ..BucketOptions::default()
        };
        (store, S3Bucket::open("abc", "p", &options).unwrap())
    }

    fn serve(&self, mut stream: TcpStream) {
        while let Some((head, body)) = request(&mut stream) {
            let (status, content) = self.answer(&head, body);
            let is_head = head.starts_with("HEAD");
            let date = "Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\nETag: \"e\"\r\n";
            let len = content.len();
            let answer = format!("HTTP/1.1 {status}\r\n{date}Content-Length: {len}\r\n\r\n");
            let content = if is_head { Vec::new() } else { content };
            if stream
                .write_all(&[answer.as_bytes(), &content].concat())
                .is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, head: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if self.manner == Manner::Falters && number.is_multiple_of(2) {
            return ("500 Internal Server Error", Vec::new());
        }
        let mut words = head.split_ascii_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        let absent = (
            "404 Not Found",
            b"<Error><Code>NoSuchKey</Code></Error>".to_vec(),
        );
        match method {
            "PUT" => self.put(path, head, body),
            "DELETE" => {
                self.objects.lock().remove(&path);
                ("204 No Content", Vec::new())
            }
            _ => match self.objects.lock().get(&path) {
                Some(found) => ("200 OK", found.clone()),
                None => absent,
            },
        }
    }

    fn put(&self, path: String, head: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
        assert!(
            head.to_ascii_lowercase().contains("if-none-match: *"),
            "{head}"
        );
        let refused = ("412 Precondition Failed", Vec::new());
        let mut objects = self.objects.lock();
        let taken = objects.contains_key(&path);
        match self.manner {
            Manner::Cannot => return ("501 Not Implemented", Vec::new()),
            Manner::Keeps | Manner::Falters | Manner::Races if taken => return refused,
            Manner::Races => {
                drop(objects);
                std::thread::sleep(Duration::from_millis(100));
                objects = self.objects.lock();
            }
            _ => {}
        }
        objects.insert(path, body);
        if taken && self.manner == Manner::Pretends {
            return refused;
        }
        ("200 OK", Vec::new())
    }
}

fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        read.push(byte[0]);
    }
    let head = String::from_utf8(read).unwrap();
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut body = vec![0; lengths.next_back().unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_the_promise_is_asked_once() {
    let (store, bucket) = Store::start(Manner::Keeps);
    assert!(probe(&bucket, "s3://abc/p", 1).await.unwrap());
    let left: Vec<String> = store.objects.lock().keys().cloned().collect();
    assert_eq!(left, ["/abc/p/probe/35317b6f"], "only what remembers it");
    let asked = store.requests.load(Ordering::SeqCst);
    assert!(!probe(&bucket, "s3://abc/p", 2).await.unwrap());
    assert_eq!(store.requests.load(Ordering::SeqCst), asked + 1);
    // Under another name it is another store: the bucket was copied.
    assert!(probe(&bucket, "s3://abc/p at elsewhere", 3).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_replace_are_named_and_nothing_is_remembered() {
    for (manner, found) in [
        (Manner::Ignores, "a second creation"),
        (Manner::Pretends, "another one"),
        (Manner::Races, "of 4 racing creations"),
    ] {
        let (store, bucket) = Store::start(manner);
        for nonce in 1..3 {
            let refused = probe(&bucket, "s3://abc/p", nonce).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid);
            let text = refused.to_string();
            assert!(
                text.contains("s3://abc/p") && text.contains(found),
                "{manner:?}: {text}"
            );
        }
        assert!(store.objects.lock().is_empty(), "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_or_falters_is_not_judged() {
    let (_store, bucket) = Store::start(Manner::Cannot);
    let refused = probe(&bucket, "s3://abc/p", 1).await.unwrap_err();
    assert!(matches!(refused, ProbeError::Request { .. }), "{refused}");
    let (_store, bucket) = Store::start(Manner::Falters);
    let mut passed = false;
    for nonce in 1..20 {
        match probe(&bucket, "s3://abc/p", nonce).await {
            Ok(_) => passed = true,
            Err(unclear) => assert_eq!(unclear.kind(), ErrorKind::Retry, "{unclear}"),
        }
    }
    // It never gets through a whole probe, and never calls the store a bad one.
    assert!(!passed);
}

#[tokio::test]
async fn what_remembers_a_probe_has_the_bytes_of_its_vector() {
    let vector = include_str!("../../../docs/formats/vectors/store-probe-v1.hex");
    let bytes: Vec<u8> = vector
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let bucket = MemoryBucket::new();
    probe(&bucket, "s3://abc/p", 1).await.unwrap();
    let page = bucket.list(PURPOSE, "", None).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let found = bucket
        .get(PURPOSE, &page.entries[0].key, None)
        .await
        .unwrap();
    assert_eq!(found, bytes);
}
