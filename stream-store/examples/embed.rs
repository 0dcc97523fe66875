//! A program of its own around the store, without Kafka: counts up, and survives `kill -9`.
//!
//! *Owns*: a usage example that checks itself.
//!
//! ```text
//! cargo run --release -p tidewater-stream-store --example embed -- ./embed-data 100000
//! ```
//! Kill it whenever you like and start it again: it reads back everything that it ever printed as
//! acknowledged, says so, and goes on counting.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    reason = "a program with a runtime of its own"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tidewater_stream_store::{
    AppendRequest, DeviceWalConfig, DeviceWalOpener, MetaOp, StoreConfig, Stream, StreamStore,
    TokioEnv, bucket,
};
use tidewater_types::{Offset, StreamId};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let data = PathBuf::from(args.next().unwrap_or_else(|| "./embed-data".to_owned()));
    let count: u64 = args.next().map_or(Ok(10_000), |text| text.parse())?;

    let env = Arc::new(TokioEnv::current());
    let url = format!("file:{}", data.join("bucket").display()).parse()?;
    let bucket = bucket::open(&url, &bucket::BucketOptions::default())?;
    let wal = DeviceWalOpener {
        path: data.join("wal"),
        config: DeviceWalConfig::default(),
        env: env.clone(),
    };
    let store = StreamStore::open(env, bucket, Box::new(wal), StoreConfig::default()).await?;
    let stream = the_stream(&store).await?;

    let mut next = check(&stream).await?;
    println!("read back {next} numbers, none missing, none twice");
    for _ in 0..count {
        let payload = Bytes::copy_from_slice(&next.to_le_bytes());
        let request = AppendRequest {
            record_count: 1,
            timestamp_ms_max: 0,
            num_bytes: payload.len(),
        };
        let appended = stream.append(request, |_| payload).await?;
        stream.wait_durable(appended.end_offset).await?;
        // Only now may anybody be told.
        writeln!(std::io::stdout(), "acknowledged {next}")?;
        next += 1;
    }
    store.close().await?;
    Ok(())
}

/// The program's one stream, remembered under a key of its own.
async fn the_stream(store: &StreamStore) -> Result<Stream, Failure> {
    const KEY: &str = "embed/stream";
    let known = store
        .metadata()
        .read(|state| state.key(KEY).map(|(value, _)| value.clone()));
    let id = match known {
        Some(value) => StreamId(u64::from_le_bytes(value.as_ref().try_into()?)),
        None => {
            let stream = store.metadata().read(|state| state.next_stream_id());
            let value = Bytes::copy_from_slice(&stream.0.to_le_bytes());
            let put = MetaOp::PutKey {
                key: KEY.to_owned(),
                value,
                expected_version: Some(0),
            };
            // One transaction: the stream exists if and only if the key names it.
            store
                .metadata()
                .propose(vec![MetaOp::CreateStream { stream }, put])
                .await?;
            stream
        }
    };
    Ok(store.open_stream(id).await?)
}

/// Reads everything and checks that the numbers are 0, 1, 2 and so on. Answers how many there are.
async fn check(stream: &Stream) -> Result<u64, Failure> {
    let (mut offset, end) = (stream.start(), stream.high_watermark());
    while offset < end {
        for entry in stream.fetch(offset, 1 << 20).await?.entries {
            let number = u64::from_le_bytes(entry.payload.as_ref().try_into()?);
            if Offset(number) != entry.base_offset {
                return Err(format!("offset {} holds {number}", entry.base_offset).into());
            }
            offset = entry.end_offset();
        }
    }
    Ok(end.0)
}
