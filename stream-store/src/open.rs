//! Opening a store: metadata, then the WAL it names, then the tails the WAL holds.
//!
//! *Owns*: the order of the checks, so that a refusal changes nothing; the tails' recovery.
//! *Does not own*: recovery of the WAL itself, replay of the metadata log.
//!
//! Invariants
//! 1. Nothing is written before WAL and metadata are known to belong together, save the first
//!    entry of an empty bucket, and that only where no WAL claims another cluster.
//! 2. The metadata names the WAL before the first append goes into it.
//! 3. Recovered entries of a stream tile from its committed end; anything else refuses to open.
//!
//! *IO: none* (through ports)

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::Bucket;
use tidewater_s3stream::{Entry, MetaError, MetaOp, Metadata, Rejection, Tier};
use tidewater_types::{
    ClusterId, Env, Epoch, Lsn, NodeId, Offset, StreamId, WalId, mutant, sometimes,
};
use tidewater_wal::WalError;
use tokio::sync::Notify;

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::format::frame::{BadFrame, FrameHead, HEAD_BYTES};
use crate::opener::{OpenedWal, WalExpectation, WalOpener};
use crate::queue::Item;
use crate::shared::{Parts, Shared, StreamInner};
use crate::tail::Tail;
use crate::uplink::Uplink;

/// Bytes of a log entry that opening one stream takes, with room to spare.
const OPENING_BYTES: usize = 64;

/// One frame the WAL gave back.
type Frames = Vec<(Lsn, Bytes)>;

/// A transaction, and the epochs that it takes.
type Opening = (Vec<MetaOp>, Vec<(StreamId, Epoch)>);

/// A frame with its head read.
type HeadedFrame = (Lsn, FrameHead, Bytes);

pub(crate) async fn open(
    env: Arc<dyn Env>,
    bucket: Arc<dyn Bucket>,
    wal: Box<dyn WalOpener>,
    config: StoreConfig,
) -> Result<(Arc<Shared>, Option<String>), StoreError> {
    if let Err(wrong) = config.check() {
        let (field, found, expected) = (wrong.field, wrong.found, wrong.expected);
        return Err(StoreError::Config {
            field,
            found,
            expected,
        });
    }
    refuse_foreign_wal(&bucket, &env, wal.as_ref(), &config).await?;
    let tier = Tier::open(bucket, Arc::clone(&env), config.tier.clone()).await?;
    let registered = epoch_of(tier.metadata(), config.node);
    let frames = Arc::new(Mutex::new(Frames::new()));
    let opened = open_wal(&tier, wal, &config, &frames).await?;
    let frames = std::mem::take(&mut *frames.lock());
    // Whoever had the WAL may have gone on until it was fenced just now: what it acknowledged, and
    // what it trimmed because it had committed it, is judged by metadata at least as new.
    if !mutant!(70) {
        tier.metadata().refresh().await?;
    }
    refuse_unnamed_wal(tier.metadata(), &config, &opened)?;
    // Before anything is written: a contradiction refuses. What counts is judged again below,
    // as a request of an earlier life may commit more until the new epoch fences it.
    let tails = recover_tails(tier.metadata(), config.node, &frames)?;
    let node_epoch = register(tier.metadata(), &config, &opened, registered).await?;
    tier.metadata().act_for(config.node, node_epoch);
    let report = opened.report;
    let parts = Parts {
        env,
        wal: opened.wal,
        tier,
        config,
        node_epoch,
    };
    let (shared, durable) = Shared::new(parts);
    drop(tails);
    adopt(&shared, frames).await?;
    shared.take_recovered_room();
    // What was committed before may fill the ring: without this nothing could be appended, so
    // nothing be committed, so nothing ever be trimmed.
    shared.trim_wal();
    let pump = Arc::clone(&shared).pump(durable);
    shared.env.spawn("store: pump", Box::pin(pump));
    let tail = Arc::new(Uplink {
        shared: Arc::clone(&shared),
    });
    let uploader = shared
        .tier
        .start_uploader(shared.config.node, node_epoch, tail);
    *shared.uploader.lock() = Some(Arc::new(uploader));
    Ok((shared, report))
}

/// An empty bucket beside a WAL that already belongs to a cluster is a wrong bucket.
async fn refuse_foreign_wal(
    bucket: &Arc<dyn Bucket>,
    env: &Arc<dyn Env>,
    wal: &dyn WalOpener,
    config: &StoreConfig,
) -> Result<(), StoreError> {
    if config.accept_data_loss {
        return Ok(());
    }
    let Some(found) = wal.peek().await? else {
        return Ok(());
    };
    if Metadata::exists(bucket, env, &config.tier.meta).await? {
        return Ok(());
    }
    let expected = String::from("no cluster");
    Err(StoreError::ForeignWal {
        found: found.to_string(),
        expected,
    })
}

async fn open_wal(
    tier: &Tier,
    mut wal: Box<dyn WalOpener>,
    config: &StoreConfig,
    frames: &Arc<Mutex<Frames>>,
) -> Result<OpenedWal, WalError> {
    let (cluster, named) = tier.metadata().read(|state| {
        let named = state.node(config.node).and_then(|node| node.wal);
        (state.cluster_id(), named)
    });
    let expect = WalExpectation {
        cluster,
        node: config.node,
        wal: named,
        accept_data_loss: config.accept_data_loss,
    };
    let sink = Arc::clone(frames);
    wal.limit(&|bucket| tier.ahead(bucket));
    wal.open(
        expect,
        Box::new(move |lsn, frame| sink.lock().push((lsn, frame))),
    )
    .await
}

/// The metadata names a WAL before it takes a frame, so one that was used and has no name was given
/// up. It is named by now if this life was held up before it opened it, and another one went ahead.
fn refuse_unnamed_wal(
    metadata: &Metadata,
    config: &StoreConfig,
    opened: &OpenedWal,
) -> Result<(), StoreError> {
    let named = metadata.read(|state| state.node(config.node).and_then(|node| node.wal));
    match opened.id.filter(|_| opened.is_used) {
        Some(used) if named != Some(used) => {
            let path = format!("WAL {used}");
            Err(WalError::Exists { path }.into())
        }
        _ => Ok(()),
    }
}

/// The node's epoch, 0 if it never had one.
fn epoch_of(metadata: &Metadata, node: NodeId) -> Epoch {
    metadata.read(|state| state.node(node).map_or(Epoch(0), |known| known.epoch))
}

/// Takes the node's next epoch and names its WAL, in one transaction.
///
/// The node was at epoch `registered` before the WAL was opened. Whoever registered since may be a
/// successor that has the WAL by now: a life that was held up must not fence it.
async fn register(
    metadata: &Metadata,
    config: &StoreConfig,
    opened: &OpenedWal,
    mut registered: Epoch,
) -> Result<Epoch, StoreError> {
    let (node, wal) = (config.node, opened.id);
    let known = || {
        metadata.read(|state| match state.node(node) {
            Some(known) => (
                known.epoch.next().expect("epochs do not run out"),
                known.wal,
            ),
            None => (Epoch(1), None),
        })
    };
    let (_, expected) = known();
    loop {
        let (epoch, named) = known();
        let current = epoch_of(metadata, node);
        if current != registered && !mutant!(85) {
            opened.wal.confirm().await?;
            registered = current;
        }
        if named != expected && named != wal {
            // Another life named another log meanwhile: it may have acknowledged into that one.
            let name = |id: Option<WalId>| id.map_or("none".into(), |id| format!("WAL {id}"));
            return Err(WalError::Missing { path: name(named) }.into());
        }
        let mut txn = vec![MetaOp::RegisterNode { node, epoch }];
        if named != wal {
            txn.push(MetaOp::SetNodeWal {
                node,
                node_epoch: epoch,
                wal,
            });
        }
        match metadata.propose(txn).await {
            Ok(()) => return Ok(epoch),
            // The registration of an earlier life arrived late and took this epoch: take the next.
            Err(MetaError::Rejected { .. }) if known().0 > epoch => {
                sometimes!("store: a late registration took the epoch");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sorts recovered frames by stream and checks that they tile above the committed ends.
fn recover_tails(
    metadata: &Metadata,
    node: NodeId,
    frames: &Frames,
) -> Result<BTreeMap<StreamId, Vec<HeadedFrame>>, StoreError> {
    let mut tails: BTreeMap<StreamId, Vec<HeadedFrame>> = BTreeMap::new();
    for (lsn, frame) in frames {
        let lsn = *lsn;
        let head = FrameHead::decode(frame).map_err(|bad| bad_frame(lsn, bad))?;
        let committed = metadata.read(|state| {
            let known = state.stream(head.stream)?;
            let owned = (known.owner, known.owned_since);
            let is_tail = is_tail(owned, node, &head);
            if known.owner == Some(node) && !is_tail {
                sometimes!("store: a frame from before a move is passed over");
            }
            is_tail.then(|| known.end.max(known.start))
        });
        let Some(committed) = committed else { continue };
        let end = Offset(head.base_offset.0 + u64::from(head.record_count));
        if end <= committed {
            continue;
        }
        let tail = tails.entry(head.stream).or_default();
        let expected = tail.last().map_or(committed, |(_, last, _)| {
            Offset(last.base_offset.0 + u64::from(last.record_count))
        });
        if head.base_offset != expected {
            let (field, found) = ("base_offset", head.base_offset.0);
            return Err(StoreError::BadFrame {
                lsn,
                field,
                found,
                expected: expected.0,
            });
        }
        sometimes!("store: entry recovered from the wal");
        tail.push((lsn, head, frame.slice(HEAD_BYTES..)));
    }
    Ok(tails)
}

/// Whether a frame in the WAL of `node` belongs to the tail of its stream, which has this owner since
/// that epoch. If another node has it by now, or had it since this was appended, objects hold all of
/// it, or the loss of this was accepted.
pub(crate) fn is_tail(
    (owner, since): (Option<NodeId>, Epoch),
    node: NodeId,
    head: &FrameHead,
) -> bool {
    owner == Some(node) && head.stream_epoch >= since
}

fn bad_frame(lsn: Lsn, bad: BadFrame) -> StoreError {
    let BadFrame {
        field,
        found,
        newer,
    } = bad;
    if newer {
        StoreError::NewerFrame { lsn, field, found }
    } else {
        StoreError::BadFrame {
            lsn,
            field,
            found,
            expected: 0,
        }
    }
}

/// Opens the streams that have recovered entries and queues these for upload, in WAL order.
async fn adopt(shared: &Arc<Shared>, frames: Frames) -> Result<(), StoreError> {
    // Commits of an earlier life end once its streams are opened anew: so judge, open, judge again.
    let tails = loop {
        let tails = recover_tails(shared.tier.metadata(), shared.config.node, &frames)?;
        let closed: Vec<StreamId> = {
            let open = shared.streams.lock();
            let is_closed = |id: &&StreamId| !open.contains_key(*id);
            tails.keys().filter(is_closed).copied().collect()
        };
        if closed.is_empty() {
            break tails;
        }
        open_streams(shared, &closed).await?;
    };
    drop(frames);
    let mut in_order: Vec<HeadedFrame> = tails.into_values().flatten().collect();
    in_order.sort_by_key(|(lsn, _, _)| *lsn);
    for (lsn, head, payload) in in_order {
        let stream = shared.streams.lock().get(&head.stream).cloned();
        let stream = stream.expect("opened above");
        let entry = Entry {
            base_offset: head.base_offset,
            record_count: head.record_count,
            timestamp_ms_max: head.timestamp_ms_max,
            // As it was read, it keeps in memory all that was read with it.
            payload: Bytes::copy_from_slice(&payload),
        };
        let item = Item {
            stream: head.stream,
            stream_epoch: stream.epoch,
            lsn,
            lsn_end: lsn.checked_add(1).expect("lsns do not run out"),
            base_offset: entry.base_offset,
            end_offset: entry.end_offset(),
            num_bytes: entry.payload.len() as u64,
            waiting_bytes: shared.waiting_cost(entry.payload.len()),
            durable_since: shared.env.now(),
        };
        stream.tail.lock().accept(entry);
        shared.became_durable(&stream, item);
    }
    let recovered_end = shared.wal.watermarks().accepted;
    shared.queue.lock().recovered_up_to(recovered_end);
    Ok(())
}

/// Opens streams of this node with new epochs, in as few transactions as fit the metadata log.
/// Those open already stay.
pub(crate) async fn open_streams(shared: &Arc<Shared>, ids: &[StreamId]) -> Result<(), StoreError> {
    let _opening = shared.opening.lock().await;
    let at_once = shared.config.tier.meta.entry_bytes_max / (2 * OPENING_BYTES);
    for ids in ids.chunks(at_once.max(1)) {
        open_some(shared, ids).await?;
    }
    Ok(())
}

async fn open_some(shared: &Arc<Shared>, ids: &[StreamId]) -> Result<(), StoreError> {
    let opened = loop {
        let (txn, opened) = opening(shared, ids)?;
        if txn.is_empty() {
            return Ok(());
        }
        let reason = match shared.tier.metadata().propose(txn).await {
            Ok(()) => break opened,
            Err(MetaError::Rejected { reason, .. }) => reason,
            Err(error) => return Err(error.into()),
        };
        match reason {
            // Somebody opened a stream and gave it up again: its epoch is known by now.
            Rejection::StreamEpochStale { .. } => {}
            Rejection::StreamOwned { stream, owner } => {
                return Err(StoreError::Owned { stream, owner });
            }
            Rejection::StreamUnknown { stream } => return Err(StoreError::NoStream { stream }),
            reason => return Err(MetaError::Rejected { index: 0, reason }.into()),
        }
    };
    for (id, epoch) in opened {
        // Read only now: until the epoch was taken, an earlier life could move both.
        let reached = shared
            .tier
            .metadata()
            .read(|state| state.stream(id).map(|s| (s.start, s.end)));
        let (start, committed) = reached.ok_or(StoreError::NoStream { stream: id })?;
        let stream = StreamInner {
            id,
            epoch,
            tail: Mutex::new(Tail::new(start, committed)),
            changed: Notify::new(),
            state_source: Mutex::default(),
            closed: Mutex::default(),
        };
        shared
            .streams
            .lock()
            .entry(id)
            .or_insert_with(|| Arc::new(stream));
    }
    Ok(())
}

/// The transaction that opens those of the streams that are not open, and their new epochs.
fn opening(shared: &Shared, ids: &[StreamId]) -> Result<Opening, StoreError> {
    let (mut txn, mut opened) = (Vec::new(), Vec::new());
    for &id in ids {
        if shared.streams.lock().contains_key(&id) {
            continue;
        }
        let metadata = shared.tier.metadata();
        let known = metadata.read(|state| state.stream(id).map(|s| s.epoch));
        let epoch = known.ok_or(StoreError::NoStream { stream: id })?;
        let epoch = epoch.next().expect("epochs do not run out");
        let (node, node_epoch) = (shared.config.node, shared.node_epoch);
        if !shared.config.accept_data_loss {
            txn.push(MetaOp::RequireOwner { stream: id, node });
        }
        txn.push(MetaOp::OpenStream {
            stream: id,
            node,
            node_epoch,
            epoch,
        });
        opened.push((id, epoch));
    }
    Ok((txn, opened))
}

/// What the cluster and node are called, for the operator.
pub(crate) fn cluster_of(shared: &Shared) -> (ClusterId, NodeId) {
    (
        shared.tier.metadata().read(|state| state.cluster_id()),
        shared.config.node,
    )
}
