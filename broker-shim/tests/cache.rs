//! The cache of blocks on a disk, from the outside: filled, found again by the next life, damaged, and
//! in the way of nobody.
//!
//! *IO: driver* (child processes, loopback, signals)
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use tidewater_protocol::messages::create_topics_request::CreatableTopic;
use tidewater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tidewater_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidewater_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, ProduceRequest,
    ProduceResponse,
};
use tidewater_protocol::{
    Encoder, Message, Records, RequestHeader, decode_response_header, encode_request_header,
};
use tidewater_types::crc32c;

const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "cached";
/// More than twice the memory for blocks of the smallest budget.
const NUM_BATCHES: u32 = 100;
const VALUE_BYTES: usize = 900 << 10;
/// Where a batch is no longer the broker's to write: its checksum, and all that it covers.
const OWN_AT: usize = 17;

struct Broker {
    child: Child,
    address: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEWATER_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stderr(Stdio::null());
    command
}

fn start(folder: &Path) -> Broker {
    let args = "--listen 127.0.0.1:0 --ready-file ready.json --memory 128MiB --cache-dir cache \
                --cache-dir-bytes 256MiB --upload-interval-ms 200";
    let child = command(folder).args(args.split_whitespace()).spawn();
    let mut child = child.unwrap();
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read(folder.join("ready.json")) {
            let ready: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let address = ready["listen"].as_str().unwrap().to_owned();
            return Broker { child, address };
        }
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        assert!(began.elapsed() < PATIENCE, "the ready file did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Broker {
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    fn stats(&self, folder: &Path) -> serde_json::Value {
        let args = ["stats", "--json", "--bootstrap", &self.address];
        let output = command(folder).args(args).output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// MiB that readers had brought from the bucket. Most of it is read ahead, so that a consumer finds
    /// it in memory: `reads_from` does not tell where it came from.
    fn mib_from_bucket(&self, folder: &Path) -> u64 {
        let stats = self.stats(folder);
        let all = stats["bucket_bytes"].as_array().unwrap();
        let is_read =
            |one: &&serde_json::Value| one["direction"] == "in" && one["purpose"] == "read";
        let num_bytes = all.iter().find(is_read).map(|one| &one["value"]);
        num_bytes.and_then(serde_json::Value::as_u64).unwrap_or(0) >> 20
    }

    fn call<Request: Message, Response: Message>(
        &self,
        request: &Request,
        version: i16,
    ) -> Response {
        let api_key = Request::API_KEY.unwrap();
        let header = RequestHeader {
            api_key,
            api_version: version,
            correlation_id: 7,
            client_id: None,
        };
        let mut out = Encoder::new();
        encode_request_header(&mut out, &header).unwrap();
        request.encode(&mut out, version).unwrap();
        let body = out.finish().concat();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        stream.write_all(&length).unwrap();
        stream.write_all(&body).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        decode_response_header(&mut answer, api_key, version).unwrap();
        Response::decode_exact(answer, version).unwrap()
    }

    fn fill(&self) {
        let topic = CreatableTopic {
            name: TOPIC.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..CreateTopicsRequest::default()
        };
        let answer: CreateTopicsResponse = self.call(&request, 5);
        assert_eq!(answer.topics[0].error_code, 0);
        for number in 0..NUM_BATCHES {
            let partition = PartitionProduceData {
                index: 0,
                records: Some(Records(vec![batch(number)])),
            };
            let data = TopicProduceData {
                name: TOPIC.to_owned(),
                partition_data: vec![partition],
                ..TopicProduceData::default()
            };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![data],
                ..ProduceRequest::default()
            };
            let answer: ProduceResponse = self.call(&request, 9);
            let partition = &answer.responses[0].partition_responses[0];
            let expected = (0, i64::from(number));
            assert_eq!((partition.error_code, partition.base_offset), expected);
        }
    }

    /// Reads everything from the start, and finds it to be what was written.
    fn read_all(&self) {
        let mut next = 0;
        while next < NUM_BATCHES {
            let partition = FetchPartition {
                partition: 0,
                fetch_offset: i64::from(next),
                partition_max_bytes: 4 << 20,
                ..FetchPartition::default()
            };
            let topic = FetchTopic {
                topic: TOPIC.to_owned(),
                partitions: vec![partition],
                ..FetchTopic::default()
            };
            let request = FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: 4 << 20,
                topics: vec![topic],
                ..FetchRequest::default()
            };
            let answer: FetchResponse = self.call(&request, 12);
            let partition = answer.responses.into_iter().next().unwrap().partitions;
            let partition = partition.into_iter().next().unwrap();
            assert_eq!(partition.error_code, 0);
            let records = partition.records.unwrap().into_bytes();
            let size = batch(0).len();
            assert!(!records.is_empty() && records.len().is_multiple_of(size));
            for found in records.chunks(size) {
                assert!(found[OWN_AT..] == batch(next)[OWN_AT..], "batch {next}");
                next += 1;
            }
        }
    }
}

/// A batch of one record, whose value follows from its number.
fn batch(number: u32) -> Bytes {
    let mut value = vec![0; VALUE_BYTES];
    let mut state = u64::from(number) + 1;
    for chunk in value.chunks_exact_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    let mut record = BytesMut::new();
    record.put_bytes(0, 3);
    record.put_u8(1);
    put_varint(&mut record, VALUE_BYTES);
    record.put_slice(&value);
    record.put_u8(0);
    let mut out = BytesMut::new();
    out.put_bytes(0, 12);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_bytes(0, 4 + 2 + 4);
    out.put_i64(1_700_000_000_000);
    out.put_i64(1_700_000_000_000);
    out.put_bytes(0xff, 8 + 2 + 4);
    out.put_i32(1);
    put_varint(&mut out, record.len());
    out.put_slice(&record);
    let length = i32::try_from(out.len() - 12).unwrap();
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c(&[&out[OWN_AT + 4..]]);
    out[OWN_AT..OWN_AT + 4].copy_from_slice(&checksum.to_be_bytes());
    out.freeze()
}

fn put_varint(out: &mut BytesMut, value: usize) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Inverts a byte in every 64 KiB, and so in every block.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes
        .iter_mut()
        .skip(5_000)
        .step_by(64 << 10)
        .for_each(|byte| *byte ^= 0xff);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_read_twice_is_served_from_the_disk_until_it_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let broker = start(folder);
    broker.fill();
    let began = Instant::now();
    while broker.stats(folder)["waiting_bytes"] != 0 {
        assert!(began.elapsed() < PATIENCE, "it was not uploaded");
        std::thread::sleep(Duration::from_millis(50));
    }
    broker.stop();

    // Without its tail: all of 88 MiB from the bucket, and what comes by again to the disk.
    let broker = start(folder);
    broker.read_all();
    let once = broker.mib_from_bucket(folder);
    assert!(once > 80, "{once}");
    broker.read_all();
    broker.stop();

    // What may wait to be written is less than a pass reads: on a busy machine some blocks find no
    // room, and are kept by a later pass.
    let began = Instant::now();
    loop {
        let broker = start(folder);
        broker.read_all();
        let warm = broker.mib_from_bucket(folder);
        if warm < 30 {
            broker.stop();
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{warm}");
        broker.read_all();
        broker.stop();
    }

    let path = folder.join("cache/blocks.cache");
    damage(&path);
    let broker = start(folder);
    broker.read_all();
    let damaged = broker.mib_from_bucket(folder);
    assert!(damaged > 80, "{damaged}");
    broker.stop();

    // No file at all, and no way to make one: the broker runs without.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let broker = start(folder);
    for times in 1..=2 {
        broker.read_all();
        let without = broker.mib_from_bucket(folder);
        assert!(without > 80 * times, "{without}");
    }
    broker.stop();
}

#[test]
fn a_cache_in_use_is_refused_with_3() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _broker = start(one.path());
    let cache = one.path().join("cache");
    let args = ["--listen", "127.0.0.1:0", "--cache-dir"];
    let mut second = command(other.path());
    let mut second = second.args(args).arg(&cache).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = second.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            second.kill().unwrap();
            second.wait().unwrap();
            panic!("it serves beside the first");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(3));
}
