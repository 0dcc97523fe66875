//! A small Kafka client on a blocking socket: one request at a time, or several produce requests.
//!
//! *Owns*: framing, correlation, the six requests that the benches send.
//! *Does not own*: the messages' encoding (`tidewater-protocol`).
//!
//! Invariants
//! 1. An error code in an answer is an error here; nothing is retried without being asked to.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewater_protocol::messages::create_topics_request::CreatableTopic;
use tidewater_protocol::messages::delete_topics_request::DeleteTopicState;
use tidewater_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use tidewater_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tidewater_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidewater_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceRequest, ProduceResponse,
};
use tidewater_protocol::{
    Encoder, Message, Records, RequestHeader, decode_response_header, encode_request_header,
};

/// What goes wrong in a bench; also from its threads.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Longer than anything here takes.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
const TOPIC_ALREADY_EXISTS: i16 = 36;
const PRODUCE_VERSION: i16 = 9;

/// A connection to one broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// Bytes of whole and cut batches.
    pub num_bytes: usize,
    /// The offset behind the last batch that came.
    pub next: i64,
}

impl Client {
    /// Connects and asks for the versions, as every client does first.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let mut client = Self {
            stream,
            correlation_id: 0,
        };
        let request = ApiVersionsRequest {
            client_software_name: "tidewater-benches".to_owned(),
            client_software_version: "1".to_owned(),
        };
        let answer: ApiVersionsResponse = client.call(&request, 3)?;
        good("ApiVersions", answer.error_code)?;
        Ok(client)
    }

    fn call<Request: Message, Response: Message>(
        &mut self,
        request: &Request,
        version: i16,
    ) -> Result<Response, Failure> {
        let sent = self.send(request, version)?;
        self.receive::<Request, Response>(sent, version)
    }

    /// Sends a request; its number.
    fn send<Request: Message>(&mut self, request: &Request, version: i16) -> Result<i32, Failure> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: Request::API_KEY.ok_or("not a request")?,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("bench".to_owned()),
        };
        let mut out = Encoder::new();
        encode_request_header(&mut out, &header)?;
        request.encode(&mut out, version)?;
        let segments = out.finish();
        let num_bytes: usize = segments.iter().map(Bytes::len).sum();
        let mut frame = u32::try_from(num_bytes)?.to_be_bytes().to_vec();
        segments
            .iter()
            .for_each(|segment| frame.extend_from_slice(segment));
        self.stream.write_all(&frame)?;
        Ok(self.correlation_id)
    }

    /// Receives the next answer, which is that of the request `sent`.
    fn receive<Request: Message, Response: Message>(
        &mut self,
        sent: i32,
        version: i16,
    ) -> Result<Response, Failure> {
        let api_key = Request::API_KEY.ok_or("not a request")?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        let correlation_id = decode_response_header(&mut answer, api_key, version)?;
        if correlation_id != sent {
            return Err(format!("answer {correlation_id} to request {sent}").into());
        }
        Ok(Response::decode_exact(answer, version)?)
    }

    /// Makes a topic; one that is there already will do.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn create_topic(&mut self, name: &str, num_partitions: i32) -> Result<(), Failure> {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..CreateTopicsRequest::default()
        };
        let answer: CreateTopicsResponse = self.call(&request, 5)?;
        match answer
            .topics
            .first()
            .ok_or("no topic in the answer")?
            .error_code
        {
            TOPIC_ALREADY_EXISTS => Ok(()),
            code => good("CreateTopics", code),
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The connection failed, or the broker refused.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        let topic = DeleteTopicState {
            name: Some(name.to_owned()),
            ..DeleteTopicState::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let answer: DeleteTopicsResponse = self.call(&request, 6)?;
        let topic = answer.responses.first().ok_or("no topic in the answer")?;
        good("DeleteTopics", topic.error_code)
    }

    /// Produces `batch` with acks=all and returns its base offset.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn produce(&mut self, topic: &str, index: i32, batch: Bytes) -> Result<i64, Failure> {
        let sent = self.send_batch(topic, index, batch)?;
        let (error_code, base_offset) = self.receive_offset(sent)?;
        good("Produce", error_code)?;
        Ok(base_offset)
    }

    /// Sends `batch` with acks=all and waits for nothing; the number of the request.
    ///
    /// # Errors
    /// The connection failed.
    pub fn send_batch(&mut self, topic: &str, index: i32, batch: Bytes) -> Result<i32, Failure> {
        let partition = PartitionProduceData {
            index,
            records: Some(Records(vec![batch])),
        };
        let data = TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![data],
            ..ProduceRequest::default()
        };
        self.send(&request, PRODUCE_VERSION)
    }

    /// The answer to the oldest batch on its way, which is the request `sent`: error code, base offset.
    ///
    /// # Errors
    /// The connection failed.
    pub fn receive_offset(&mut self, sent: i32) -> Result<(i16, i64), Failure> {
        let answer: ProduceResponse = self.receive::<ProduceRequest, _>(sent, PRODUCE_VERSION)?;
        let topic = answer.responses.first().ok_or("no topic in the answer")?;
        let partition = topic
            .partition_responses
            .first()
            .ok_or("no partition in the answer")?;
        Ok((partition.error_code, partition.base_offset))
    }

    /// Fetches from `offset` on.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn fetch(&mut self, topic: &str, index: i32, offset: i64) -> Result<Fetched, Failure> {
        let records = self.fetch_records(topic, index, offset)?;
        let next = end_offset(&records, offset);
        let num_bytes = records.len();
        Ok(Fetched { num_bytes, next })
    }

    /// Fetches batches from the one that holds `offset` on; the last may be cut.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn fetch_records(
        &mut self,
        topic: &str,
        index: i32,
        offset: i64,
    ) -> Result<Bytes, Failure> {
        const BYTES_MAX: i32 = 8 << 20;
        let partition = FetchPartition {
            partition: index,
            fetch_offset: offset,
            partition_max_bytes: BYTES_MAX,
            ..FetchPartition::default()
        };
        let wanted = FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![partition],
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: BYTES_MAX,
            topics: vec![wanted],
            ..FetchRequest::default()
        };
        let answer: FetchResponse = self.call(&request, 12)?;
        good("Fetch", answer.error_code)?;
        let topic = answer
            .responses
            .into_iter()
            .next()
            .ok_or("no topic in the answer")?;
        let partition = topic.partitions.into_iter().next().ok_or("no partition")?;
        good("Fetch", partition.error_code)?;
        Ok(partition.records.unwrap_or_default().into_bytes())
    }

    /// The offset behind the last record that consumers may see.
    ///
    /// # Errors
    /// The connection failed, or the broker answered with an error code.
    pub fn latest_offset(&mut self, topic: &str, index: i32) -> Result<i64, Failure> {
        let partition = ListOffsetsPartition {
            partition_index: index,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        };
        let wanted = ListOffsetsTopic {
            name: topic.to_owned(),
            partitions: vec![partition],
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![wanted],
            ..ListOffsetsRequest::default()
        };
        let answer: ListOffsetsResponse = self.call(&request, 6)?;
        let topic = answer.topics.first().ok_or("no topic in the answer")?;
        let partition = topic
            .partitions
            .first()
            .ok_or("no partition in the answer")?;
        good("ListOffsets", partition.error_code)?;
        Ok(partition.offset)
    }
}

/// The offset behind the last whole batch in `records`, or `start` if there is none.
fn end_offset(records: &[u8], start: i64) -> i64 {
    let (mut position, mut end) = (0, start);
    while let Some(header) = records.get(position..position + 27) {
        let int = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let base = i64::from_be_bytes(header[..8].try_into().expect("8 bytes"));
        let num_bytes = 12 + usize::try_from(int(8)).unwrap_or(usize::MAX / 2);
        if position + num_bytes > records.len() {
            break;
        }
        end = base + i64::from(int(23)) + 1;
        position += num_bytes;
    }
    end
}

/// Does `attempt` again and again, on a new connection each time, until it succeeds.
///
/// # Errors
/// The last one, once `wait` is over.
pub fn until_good<T>(
    address: SocketAddr,
    wait: Duration,
    mut attempt: impl FnMut(&mut Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    const PAUSE: Duration = Duration::from_millis(1);
    let begun = Instant::now();
    let mut client = None;
    loop {
        let answer = match client.as_mut() {
            Some(client) => attempt(client),
            None => match Client::connect(address) {
                Ok(fresh) => attempt(client.insert(fresh)),
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(value) => return Ok(value),
            Err(error) if begun.elapsed() > wait => return Err(error),
            Err(_) => client = None,
        }
        std::thread::sleep(PAUSE);
    }
}

fn good(what: &str, error_code: i16) -> Result<(), Failure> {
    match error_code {
        0 => Ok(()),
        code => Err(format!("{what}: error code {code}").into()),
    }
}
