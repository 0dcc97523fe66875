//! The object WAL as the conformance suite sees it: each place is a node of one bucket.
//!
//! *IO: none*

use super::*;
use crate::conformance::{Kind, Reopened};
use tidewater_types::BoxFuture;

pub(super) struct Objects {
    pub(super) bucket: Arc<dyn Bucket>,
    pub(super) env: Arc<dyn Env>,
    pub(super) config: ObjectWalConfig,
}

impl Objects {
    async fn open(&self, place: usize, mode: OpenMode) -> Reopened {
        let identity = Identity {
            node: NodeId(u32::try_from(place).unwrap()),
            ..identity()
        };
        let frames = Arc::new(Mutex::new(Vec::new()));
        let sink = frames.clone();
        let on_frame = move |lsn, frame| sink.lock().push((lsn, frame));
        let (bucket, env) = (self.bucket.clone(), self.env.clone());
        let config = self.config.clone();
        let opening = ObjectWal::open(bucket, env, config, identity, mode, on_frame);
        let (wal, _) = opening.await.unwrap();
        let frames = std::mem::take(&mut *frames.lock());
        Reopened {
            wal: Arc::new(wal),
            frames,
        }
    }
}

impl Kind for Objects {
    fn create(&self, place: usize) -> BoxFuture<'_, Arc<dyn Wal>> {
        Box::pin(async move { self.open(place, OpenMode::Create).await.wal })
    }

    fn reopen(&self, place: usize) -> BoxFuture<'_, Option<Reopened>> {
        Box::pin(async move { Some(self.open(place, OpenMode::Existing).await) })
    }

    fn capacity_bytes(&self) -> Option<u64> {
        None
    }
}
