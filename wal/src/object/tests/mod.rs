//! The whole WAL: on a bucket that goes wrong as planned, and on real stores.
//!
//! *IO: driver (stores.rs)*

mod conformance;
mod dropped;
mod fickle;
mod hostile;
mod looking;
mod race;
mod remains;
mod stores;
mod takeover;
mod turns;
mod writing;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_types::{ClusterId, Env, Epoch, Lsn, NodeId};

use super::format::{Place, key};
use super::{ObjectWal, ObjectWalConfig, TakeoverReport};
use crate::acks::Append;
use crate::config::{Identity, OpenMode};
use crate::error::WalError;
use crate::port::{Frame, Wal};
use crate::testing::env::TestEnv;
use crate::testing::frame_bytes;
use fickle::Fickle;

fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        node: NodeId(7),
        wal: None,
    }
}

fn key_of(epoch: u64, seq: u64) -> String {
    key(NodeId(7), Place::new(Epoch(epoch), seq))
}

type Opened = Result<(ObjectWal, Vec<(Lsn, Bytes)>, TakeoverReport), WalError>;

async fn open_with(
    bucket: Arc<dyn Bucket>,
    env: Arc<dyn Env>,
    config: ObjectWalConfig,
    mode: OpenMode,
) -> Opened {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let sink = frames.clone();
    let on_frame = move |lsn, frame| sink.lock().push((lsn, frame));
    let opening = ObjectWal::open(bucket, env, config, identity(), mode, on_frame);
    let (wal, report) = opening.await?;
    let frames = std::mem::take(&mut *frames.lock());
    Ok((wal, frames, report))
}

/// A bucket, and the world around it.
#[derive(Clone, Default)]
struct World {
    env: TestEnv,
    bucket: Fickle,
}

impl World {
    fn try_open(&self, mode: OpenMode) -> Opened {
        let (bucket, env) = (Arc::new(self.bucket.clone()), Arc::new(self.env.clone()));
        self.env
            .run(open_with(bucket, env, ObjectWalConfig::tiny(), mode))
    }

    fn create(&self) -> ObjectWal {
        self.try_open(OpenMode::Create).unwrap().0
    }

    fn open(&self) -> (ObjectWal, Vec<(Lsn, Bytes)>) {
        let (wal, frames, _) = self.try_open(OpenMode::Existing).unwrap();
        (wal, frames)
    }

    fn refused(&self) -> WalError {
        self.try_open(OpenMode::Existing).map(|_| ()).unwrap_err()
    }

    fn pass(&self, ms: u64) {
        self.env.pass(std::time::Duration::from_millis(ms));
    }

    /// Appends frame `number`, and waits for it.
    fn append(&self, wal: &ObjectWal, number: u64) -> Lsn {
        self.env.run(begin(wal, number)).unwrap()
    }

    /// A WAL with frames 1 to `last`, each in an object of its own: numbers 2 and up.
    fn filled(&self, last: u64) -> (ObjectWal, Vec<Lsn>) {
        let wal = self.create();
        let lsns = (1..=last).map(|number| self.append(&wal, number)).collect();
        (wal, lsns)
    }

    fn keys(&self) -> Vec<String> {
        self.env.run(self.bucket.keys())
    }
}

/// Begins the append of frame `number`.
fn begin(wal: &ObjectWal, number: u64) -> Append {
    let frame = Frame::from(body(number));
    let permit = wal.try_reserve(frame.num_bytes()).unwrap();
    wal.append(permit, frame).unwrap()
}

fn body(number: u64) -> Bytes {
    frame_bytes(number, 100)
}

/// The numbers of the frames, which must be among the first thousand.
fn numbers(frames: &[(Lsn, Bytes)]) -> Vec<u64> {
    let number = |bytes: &Bytes| (0..1000).find(|number| body(*number) == *bytes);
    frames
        .iter()
        .map(|(_, bytes)| number(bytes).unwrap())
        .collect()
}
