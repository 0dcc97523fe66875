//! One owner: takes the WAL over, writes, trims, reads.
//!
//! *Owns*: the workload. *Does not own*: its end; the life can be cut off at any await, or run
//! on after a later owner has opened.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tidewater_types::{Env, ErrorKind, Lsn, sometimes};
use tidewater_wal::{Frame, ObjectWal, OpenMode, Wal, WalError};
use tokio::sync::oneshot;

use super::world::{World, identity};
use crate::check::excuse::{self, Facts};
use crate::check::watermarks::{self, WatermarkModel};
use crate::check::{Violation, liveness, payload, read, value_of};
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::plan::{End, Life};
use crate::rng::Rng;
use crate::scenario::gate::Gate;

/// What an owner does after it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Writers and a trimmer, as planned.
    Planned,
    /// A few writers; each append must be acknowledged.
    Healed,
    /// Nothing but the checks.
    Nothing,
}

/// What the tasks of an owner share.
#[derive(Clone)]
struct Node {
    world: Arc<World>,
    wal: Arc<ObjectWal>,
    tag: Tag,
    work: Work,
}

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, tag: Tag, life: Life, work: Work, gate: Gate) {
    let (seed, shift) = (world.plan.seed, life.wall_shift_ms);
    let env: Arc<dyn Env> =
        Arc::new(SimEnv::new(world.handle.clone(), seed, tag, shift).with_clock(world.plan.clock));
    let opened = open(&world, env, gate, work).await;
    world.model.lock().opening.remove(&tag);
    let wal = match opened {
        Ok(wal) => Arc::new(wal),
        Err(error) => return open_failed(&world, work, &error),
    };
    let node = Node {
        world,
        wal,
        tag,
        work,
    };
    if work != Work::Nothing {
        workload(&node).await;
    }
    if life.idle {
        node.world.handle.sleep(Duration::from_millis(20)).await;
    }
    if life.end == End::Close {
        match node.wal.close().await {
            Ok(()) => {
                let marks = node.wal.watermarks();
                node.world.check(WatermarkModel::default().seen(marks));
                let result = watermarks::closed(marks.accepted, marks.durable);
                node.world.check(result);
            }
            Err(error) => node.refused(&error),
        }
    }
}

async fn open(
    world: &Arc<World>,
    env: Arc<dyn Env>,
    gate: Gate,
    work: Work,
) -> Result<ObjectWal, WalError> {
    let first = world.model.lock().owner.0 == 0;
    let modes: &[OpenMode] = if first {
        &[OpenMode::Create, OpenMode::Existing]
    } else {
        &[OpenMode::Existing]
    };
    let mut last = None;
    for mode in modes {
        let served = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&served);
        let on_frame = move |lsn: Lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec()));
        let (bucket, config) = (Arc::new(gate.clone()), world.config.clone());
        let opening = ObjectWal::open(bucket, env.clone(), config, identity(), *mode, on_frame);
        match opening.await {
            Ok((wal, _report)) => {
                let served = std::mem::take(&mut *served.lock());
                let epoch = wal.epoch();
                world.model.lock().wal = Some(wal.wal_id());
                world.opened(epoch, &served, work);
                return Ok(wal);
            }
            Err(error @ WalError::Exists { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.expect("at least one mode"))
}

/// What explains an error in a life that does `work`.
fn facts(world: &World, work: Work) -> Facts {
    Facts {
        planned: work == Work::Planned,
        bucket_fails: !world.bucket_is_fine(),
        ..Facts::default()
    }
}

fn open_failed(world: &World, work: Work, error: &WalError) {
    world.handle.line(|| format!("wal   open failed: {error}"));
    if !excuse::object_open(error, facts(world, work)) {
        let detail = format!("refused without damage: {error}");
        world.fail(Violation::new("open", detail));
    }
}

async fn workload(node: &Node) {
    let plan = &node.world.plan;
    let mut rng = Rng::new(node.world.model.lock().rng.next_u64(), "life");
    if plan.trim {
        let trimmer = trimmer(node.clone(), Rng::new(rng.next_u64(), "trimmer"));
        node.spawn("trimmer", trimmer);
    }
    let most = if plan.long { 100 } else { 25 };
    let writers = (0..plan.writers).map(|number| {
        let (sender, done) = oneshot::channel();
        let appends = match node.work {
            Work::Planned => rng.between(3, most),
            Work::Healed | Work::Nothing => rng.between(2, 5),
        };
        let rng = Rng::new(rng.next_u64() ^ number, "writer");
        let writer = writer(node.clone(), rng, appends);
        node.spawn("writer", async move {
            writer.await;
            _ = sender.send(());
        });
        done
    });
    drop(join_all(writers.collect::<Vec<_>>()).await);
}

impl Node {
    fn spawn(&self, label: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.world.handle.spawn(self.tag, label, Box::pin(task));
    }

    fn is_owner(&self) -> bool {
        self.wal.epoch() == self.world.model.lock().owner
    }

    /// A refusal that nothing excuses.
    fn refused(&self, error: &WalError) {
        if matches!(error, WalError::Fenced { .. }) {
            sometimes!("object wal: a zombie is told");
        }
        if !excuse::object_call(error, facts(&self.world, self.work)) {
            let detail = format!("without a reason: {error}");
            self.world.fail(Violation::new("poisoned", detail));
        }
    }
}

/// Appends frames until all have their fate; once all is healed each must be acknowledged.
async fn writer(node: Node, rng: Rng, appends: u64) {
    let done = append_all(&node, rng, appends).await;
    if node.work == Work::Healed {
        node.world.check(liveness::done(done, || {
            "a writer on a healed bucket did not come to its end".to_owned()
        }));
    }
}

/// Whether each append was accepted and its fate heard.
async fn append_all(node: &Node, mut rng: Rng, appends: u64) -> bool {
    let plan = &node.world.plan;
    let mut under_way: VecDeque<oneshot::Receiver<()>> = VecDeque::new();
    let mut refusals = 0;
    let mut left = appends;
    let mut is_heard = true;
    // While takers are asleep, whoever writes all the time is soon at the barrier.
    let pauses = if plan.lives.iter().any(|life| life.naps) {
        4
    } else {
        3
    };
    while left > 0 && refusals < 20 {
        if under_way.len() as u64 >= plan.depth
            && let Some(oldest) = under_way.pop_front()
        {
            is_heard &= oldest.await.is_ok();
        }
        let len = usize::try_from(rng.between(16, plan.payload_bytes_max)).expect("small");
        match append(node, &mut rng, len).await {
            Ok(done) => {
                under_way.push_back(done);
                left -= 1;
            }
            Err(error) if error.kind() == ErrorKind::Full => {
                sometimes!("object wal: full");
                refusals += 1;
            }
            Err(error) => {
                node.refused(&error);
                return false;
            }
        }
        if rng.chance(300) {
            let pause = [200, 3_000, 12_000, 100_000][rng.index(pauses)];
            let pause = Duration::from_micros(rng.below(pause));
            node.world.handle.sleep(pause).await;
        }
        if rng.chance(60) {
            read_back(node, &mut rng).await;
        }
    }
    for done in under_way {
        is_heard &= done.await.is_ok();
    }
    is_heard && left == 0
}

/// Appends one frame; the receiver hears when its fate is known.
async fn append(node: &Node, rng: &mut Rng, len: usize) -> Result<oneshot::Receiver<()>, WalError> {
    let permit = node.wal.reserve(len).await?;
    let value = {
        let mut model = node.world.model.lock();
        model.next_value += 1;
        model.next_value
    };
    let bytes = payload(value, len);
    let (head, body) = bytes.split_at(rng.index(64).min(len));
    let frame = Frame::new(head, Bytes::copy_from_slice(body));
    let append = node.wal.append(permit, frame)?;
    let (lsn, epoch) = (append.lsn(), node.wal.epoch());
    node.world.appended(epoch, value, lsn);
    let (sender, done) = oneshot::channel();
    let acked = node.clone();
    node.spawn("ack", async move {
        match append.await {
            Ok(_) => acked.world.acked(epoch, value, lsn, &bytes),
            Err(error) => acked.refused(&error),
        }
        _ = sender.send(());
    });
    Ok(done)
}

/// Reads one promised frame back, if this owner is the latest.
async fn read_back(node: &Node, rng: &mut Rng) {
    let picked = {
        let model = node.world.model.lock();
        let promised: Vec<(u64, Lsn)> = model.frames.promised().collect();
        (!promised.is_empty()).then(|| promised[rng.index(promised.len())])
    };
    let Some((value, lsn)) = picked else { return };
    let found = node.wal.read(lsn).await;
    if let Some(value) = found.as_ref().ok().and_then(|bytes| value_of(bytes)) {
        let handle = &node.world.handle;
        handle.line(|| format!("wal   read value={value} lsn={lsn}"));
    }
    let wanted = node.is_owner() && node.world.model.lock().frames.is_wanted(lsn);
    let mut must_be_there = true;
    if let Err(error) = &found {
        if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Fenced) {
            return node.refused(error);
        }
        must_be_there = error.kind() != ErrorKind::Retry || node.world.bucket_is_fine();
    }
    if wanted {
        let result = read::back(value, lsn, &found, must_be_there);
        node.world.check(result);
    }
}

async fn trimmer(node: Node, mut rng: Rng) {
    loop {
        let pause = Duration::from_micros(rng.between(100, 15_000));
        node.world.handle.sleep(pause).await;
        // A fenced owner gives nothing up: its commits would be refused.
        if !node.is_owner() || node.work != Work::Planned {
            return;
        }
        let durable = node.wal.watermarks().durable;
        let picked = {
            let model = node.world.model.lock();
            let promised = model.frames.promised().map(|(_, lsn)| lsn);
            let mut below: Vec<Lsn> = promised.filter(|lsn| *lsn < durable).collect();
            below.sort_unstable();
            let floor = below.len() / 2;
            if rng.chance(300) {
                // Nothing is wanted any more: all that is left of the log will be a state.
                sometimes!("object wal: trimmed to its end");
                Some(durable)
            } else {
                (below.len() > 2).then(|| below[floor + rng.index(below.len() - floor)])
            }
        };
        if let Some(lsn) = picked {
            node.world.handle.line(|| format!("wal   trim up_to={lsn}"));
            node.world.model.lock().frames.trimmed(lsn);
            node.wal.trim(lsn);
        }
    }
}
