//! A store whose WAL lies in its bucket.
//!
//! *Owns*: behaviour a caller relies on. *IO: driver*
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Gate, append, life, open_with as open_on_device, placed, quiet, read_all};
use tidewater_bucket::{Bucket, Purpose};
use tidewater_stream_store::{
    AppendRequest, FrameSink, ObjectWalConfig, ObjectWalOpener, OpenedWal, StoreConfig, StoreError,
    StreamStore, TokioEnv, WalError, WalExpectation, WalOpener,
};
use tidewater_types::{BoxFuture, ErrorKind, StreamId};

async fn open_with(gate: &Gate, config: StoreConfig) -> Result<StreamStore, StoreError> {
    let env = Arc::new(TokioEnv::current());
    let wal = ObjectWalOpener {
        bucket: Arc::new(gate.clone()),
        node: config.node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    StreamStore::open(env, Arc::new(gate.clone()), Box::new(wal), config).await
}

/// A life that appends `texts` to a new stream.
fn first_life(gate: &Gate, texts: &[&str]) -> StreamId {
    life(async || {
        let store = open_with(gate, quiet()).await.unwrap();
        let stream = store
            .open_stream(store.create().await.unwrap())
            .await
            .unwrap();
        for text in texts {
            append(&stream, text, 0).await;
        }
        stream.id()
    })
}

#[test]
fn what_was_acknowledged_is_there_after_the_process_is_gone() {
    let gate = Gate::default();
    let id = first_life(&gate, &["abc", "de"]);
    life(async || {
        let store = open_with(&gate, quiet()).await.unwrap();
        let report = store.recovery_report().unwrap();
        assert!(report.contains("recovered 2 frames"), "{report}");
        assert!(store.describe_wal().contains("object store"));
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc", "de"]));
        append(&stream, "f", 0).await;
        store.flush().await.unwrap();
        append(&stream, "gh", 0).await;
    });
    life(async || {
        let store = open_with(&gate, quiet()).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc", "de", "f", "gh"]));
    });
}

#[test]
fn an_owner_that_lives_on_is_fenced_when_another_opens() {
    let gate = Gate::default();
    life(async || {
        let old = open_with(&gate, quiet()).await.unwrap();
        let stream = old.open_stream(old.create().await.unwrap()).await.unwrap();
        append(&stream, "abc", 0).await;
        let new = open_with(&gate, quiet()).await.unwrap();
        let payload = Bytes::from_static(b"lost");
        let request = AppendRequest {
            record_count: 4,
            timestamp_ms_max: 0,
            num_bytes: payload.len(),
        };
        let appended = stream.append(request, |_| payload).await.unwrap();
        let refused = stream.wait_durable(appended.end_offset).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
        assert!(
            refused.to_string().contains("took over from epoch 1"),
            "{refused}"
        );
        let stream = new.open_stream(stream.id()).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
    });
}

/// Opens the WAL after a last deed of the owner that it is taken from.
struct Late<F> {
    deed: F,
    opener: ObjectWalOpener,
}

impl<F, D> WalOpener for Late<F>
where
    F: FnOnce() -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    fn limit(&mut self, limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {
        self.opener.limit(limits);
    }

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            (self.deed)().await;
            Box::new(self.opener).open(expect, on_frame).await
        })
    }
}

/// As [`Late`], with the deed behind the opening.
struct Early<F> {
    deed: F,
    opener: ObjectWalOpener,
}

impl<F, D> WalOpener for Early<F>
where
    F: FnOnce() -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    fn limit(&mut self, limits: &dyn Fn(Arc<dyn Bucket>) -> Arc<dyn Bucket>) {
        self.opener.limit(limits);
    }

    fn open(
        self: Box<Self>,
        expect: WalExpectation,
        on_frame: FrameSink,
    ) -> BoxFuture<'static, Result<OpenedWal, WalError>> {
        Box::pin(async move {
            let opened = Box::new(self.opener).open(expect, on_frame).await;
            (self.deed)().await;
            opened
        })
    }
}

/// Opens a store; `deed` is done after it read the metadata and before it fences the WAL.
async fn open_after<F, D>(gate: &Gate, deed: F) -> Result<StreamStore, StoreError>
where
    F: FnOnce() -> D + Send + Sync + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let env = Arc::new(TokioEnv::current());
    let opener = ObjectWalOpener {
        bucket: Arc::new(gate.clone()),
        node: quiet().node,
        config: ObjectWalConfig::default(),
        env: env.clone(),
    };
    let wal = Box::new(Late { deed, opener });
    StreamStore::open(env, Arc::new(gate.clone()), wal, quiet()).await
}

/// The metadata were read before the WAL was fenced: what the old owner made in between counts.
#[test]
fn a_stream_that_the_old_owner_makes_while_another_opens_is_not_lost() {
    let gate = Gate::default();
    life(async || {
        let old = Arc::new(open_with(&gate, quiet()).await.unwrap());
        let (made, id) = tokio::sync::oneshot::channel();
        let deed = move || async move {
            let stream = old.open_stream(old.create().await.unwrap()).await.unwrap();
            append(&stream, "abc", 0).await;
            made.send(stream.id()).unwrap();
        };
        let new = open_after(&gate, deed).await;
        let stream = new.unwrap().open_stream(id.await.unwrap()).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
    });
}

/// What the old owner committed and trimmed while another opened is not missing.
#[test]
fn what_the_old_owner_trims_while_another_opens_is_no_damage() {
    let gate = Gate::default();
    life(async || {
        let old = Arc::new(open_with(&gate, quiet()).await.unwrap());
        let stream = old.open_stream(old.create().await.unwrap()).await.unwrap();
        let id = stream.id();
        let deed = move || async move {
            append(&stream, "abc", 0).await;
            old.flush().await.unwrap();
            // States the trim that the commit made possible.
            append(&stream, "de", 0).await;
        };
        let new = open_after(&gate, deed).await.unwrap();
        let stream = new.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc", "de"]));
    });
}

#[test]
fn an_owner_that_was_fenced_shows_nothing_above_the_high_watermark_it_tells() {
    let gate = Gate::default();
    life(async || {
        let old = open_with(&gate, quiet()).await.unwrap();
        let stream = old.open_stream(old.create().await.unwrap()).await.unwrap();
        append(&stream, "abc", 0).await;
        old.flush().await.unwrap();
        let new = open_with(&gate, quiet()).await.unwrap();
        let later = new.open_stream(stream.id()).await.unwrap();
        append(&later, "de", 7).await;
        new.flush().await.unwrap();
        old.metadata().refresh().await.unwrap();
        let fetched = stream.fetch(stream.start(), 1 << 20).await.unwrap();
        let ends = fetched.entries.iter().map(|entry| entry.end_offset().0);
        assert_eq!(ends.collect::<Vec<_>>(), [3]);
        assert_eq!(fetched.high_watermark.0, 3);
        let found = stream.find_timestamp(7).await.unwrap();
        assert!(found.is_none(), "{found:?}");
    });
}

#[test]
fn a_node_does_not_move_from_one_kind_of_wal_to_another_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    first_life(&gate, &["abc"]);
    life(async || {
        let refused = open_on_device(folder.path(), &gate, quiet()).await;
        let refused = refused.expect_err("the metadata names the object WAL");
        assert!(
            matches!(refused, StoreError::Wal(WalError::Missing { .. })),
            "{refused}"
        );
    });
    let gate = Gate::default();
    life(async || drop(open_on_device(folder.path(), &gate, quiet()).await.unwrap()));
    life(async || {
        let refused = open_with(&gate, quiet()).await;
        let refused = refused.expect_err("the metadata names the device WAL");
        assert!(
            matches!(refused, StoreError::Wal(WalError::Missing { .. })),
            "{refused}"
        );
    });
}

#[test]
fn a_wal_with_a_lost_entry_is_refused_and_given_up_only_when_asked() {
    let gate = Gate::default();
    let id = first_life(&gate, &["abc", "de", "f"]);
    let lost = "wal/0000000001/00000000000000000001/00000000000000000003";
    life(async || gate.delete(Purpose::Wal, lost).await.unwrap());
    life(async || {
        let refused = open_with(&gate, quiet()).await.expect_err("damaged");
        assert!(refused.is_damage(), "{refused}");
        assert!(refused.to_string().contains(lost), "{refused}");
    });
    let lossy = StoreConfig {
        accept_data_loss: true,
        ..quiet()
    };
    life(async || {
        let store = open_with(&gate, lossy).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&[]));
        append(&stream, "gh", 0).await;
    });
    life(async || {
        let store = open_with(&gate, quiet()).await.unwrap();
        let stream = store.open_stream(id).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["gh"]));
    });
}

/// It read the metadata before there was a log, and another life made, named and used one meanwhile.
#[test]
fn a_life_that_was_held_up_takes_over_what_was_named_meanwhile() {
    let gate = Gate::default();
    life(async || {
        let (made, id) = tokio::sync::oneshot::channel();
        let other = gate.clone();
        let deed = move || async move {
            let store = open_with(&other, quiet()).await.unwrap();
            let stream = store
                .open_stream(store.create().await.unwrap())
                .await
                .unwrap();
            append(&stream, "abc", 0).await;
            made.send(stream.id()).unwrap();
        };
        let late = open_after(&gate, deed).await.unwrap();
        let stream = late.open_stream(id.await.unwrap()).await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc"]));
        append(&stream, "de", 0).await;
    });
}

/// It opened the log, and was held up while another life took it over and went on.
#[test]
fn a_life_whose_log_was_taken_while_it_opened_does_not_fence_who_took_it() {
    let gate = Gate::default();
    life(async || {
        let (made, successor) = tokio::sync::oneshot::channel();
        let other = gate.clone();
        let deed = move || async move {
            let store = open_with(&other, quiet()).await.unwrap();
            let stream = store
                .open_stream(store.create().await.unwrap())
                .await
                .unwrap();
            append(&stream, "abc", 0).await;
            made.send((store, stream)).unwrap();
        };
        let env = Arc::new(TokioEnv::current());
        let opener = ObjectWalOpener {
            bucket: Arc::new(gate.clone()),
            node: quiet().node,
            config: ObjectWalConfig::default(),
            env: env.clone(),
        };
        let wal = Box::new(Early { deed, opener });
        let refused = StreamStore::open(env, Arc::new(gate.clone()), wal, quiet()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced);
        let (store, stream) = successor.await.unwrap();
        append(&stream, "de", 0).await;
        store.flush().await.unwrap();
        assert_eq!(read_all(&stream).await, placed(&["abc", "de"]));
    });
}
