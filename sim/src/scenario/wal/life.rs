//! One life of the node: open, recover, write, trim, read.
//!
//! *Owns*: the workload. *Does not own*: its end; the life can be cut off at any await.
//!
//! *IO: none*

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use tidewater_types::{Env, ErrorKind, Lsn, sometimes};
use tidewater_wal::{DeviceWal, Frame, Wal, WalError};
use tokio::sync::oneshot;

use super::world::{Work, World, open_mode};
use crate::check::watermarks::{self, WatermarkModel};
use crate::check::{Violation, excuse, liveness, payload, read, value_of};
use crate::disk::SimDisk;
use crate::env::SimEnv;
use crate::exec::Tag;
use crate::plan::{End, Life};
use crate::rng::Rng;
use crate::scenario::common::{Opening, wal_config};
use crate::scenario::progress::served_word;

/// What the tasks of a life share.
#[derive(Clone)]
struct Node {
    world: Arc<World>,
    wal: Arc<DeviceWal>,
    tag: Tag,
    work: Work,
    marks: Arc<Mutex<WatermarkModel>>,
}

/// A whole life; it may end before this does.
pub(super) async fn body(world: Arc<World>, tag: Tag, life: Life, work: Work, disk: SimDisk) {
    let env: Arc<dyn Env> = Arc::new(
        SimEnv::new(
            world.handle.clone(),
            world.plan.seed,
            tag,
            life.wall_shift_ms,
        )
        .with_clock(world.plan.clock),
    );
    let (created, began) = {
        let mut model = world.model.lock();
        (model.created, std::mem::replace(&mut model.began, true))
    };
    let served = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&served);
    let on_frame = Box::new(move |lsn: Lsn, bytes: Bytes| sink.lock().push((lsn, bytes.to_vec())));
    let config = wal_config(&world.plan, life.sync);
    let opening = DeviceWal::open_on(
        Box::new(disk),
        env,
        config,
        world.identity(),
        open_mode(created),
        on_frame,
    );
    let guard = Opening::new(&world.handle);
    let outcome = opening.await;
    guard.over();
    let wal = match outcome {
        Ok((wal, _report)) => Arc::new(wal),
        Err(error) if created || !began => return open_failed(&world, work, &error, created),
        // A crash cut the creation short.
        Err(_) => return world.start_over(),
    };
    let served = std::mem::take(&mut *served.lock());
    world
        .handle
        .line(|| format!("wal   opened served {}", served_word(&served)));
    opened(&world, &wal, &served);
    let marks = Arc::new(Mutex::new(WatermarkModel::default()));
    let node = Node {
        world: Arc::clone(&world),
        wal,
        tag,
        work,
        marks,
    };
    if work != Work::Nothing {
        workload(&node, life).await;
    }
    if life.idle {
        // Longer than the WAL waits before it marks its end.
        world.handle.sleep(Duration::from_millis(10)).await;
    }
    if life.end == End::Close {
        close(&node).await;
    }
}

fn open_failed(world: &World, work: Work, error: &WalError, created: bool) {
    world.handle.line(|| format!("wal   open failed: {error}"));
    sometimes!("wal open failed");
    if !created {
        world.start_over();
    }
    if !excuse::device_open(error, world.facts(work)) {
        world.fail(Violation::new(
            "open",
            format!("refused without damage: {error}"),
        ));
    }
}

fn opened(world: &World, wal: &DeviceWal, served: &[(Lsn, Vec<u8>)]) {
    let result = {
        let mut model = world.model.lock();
        model.created = true;
        model.lied = false;
        model.frames.recovered(served)
    };
    world.check(result);
    world.check(world.served_must_be_durable(wal, served));
}

async fn workload(node: &Node, life: Life) {
    let world = &node.world;
    let plan = &world.plan;
    let mut rng = {
        let mut model = world.model.lock();
        let seed = model.rng.next_u64();
        Rng::new(seed, "life")
    };
    // Without a trimmer the ring fills for good; a healed life must be able to go on.
    if plan.trim || node.work == Work::Healed {
        node.spawn(
            "trimmer",
            trimmer(node.clone(), Rng::new(rng.next_u64(), "trimmer")),
        );
    }
    let most = if plan.long { 300 } else { 50 };
    let writers = (0..plan.writers).map(|number| {
        let (sender, done) = oneshot::channel();
        let appends = match node.work {
            Work::Planned => rng.between(5, most),
            Work::Misdirected | Work::LyingFlush => rng.between(10, 30),
            Work::Healed | Work::Nothing => rng.between(5, 10),
        };
        let rng = Rng::new(rng.next_u64() ^ number, "writer");
        let writer = writer(node.clone(), rng, appends);
        node.spawn("writer", async move {
            writer.await;
            _ = sender.send(());
        });
        done
    });
    let all = join_all(writers.collect::<Vec<_>>());
    if life.end == End::Close {
        let reached = world.device.after_ops(life.after_ops);
        drop(select(reached, all).await);
    } else {
        drop(all.await);
    }
}

async fn close(node: &Node) {
    let world = &node.world;
    let accepted = node.wal.watermarks().accepted;
    match node.wal.close().await {
        Ok(()) => world.check(watermarks::closed(accepted, node.wal.watermarks().durable)),
        Err(error) if excuse::device_close(&error, world.facts(node.work)) => {}
        Err(error) => {
            let detail = format!("failed on a disk that is fine: {error}");
            world.fail(Violation::new("close", detail));
        }
    }
}

impl Node {
    fn spawn(&self, label: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.world.handle.spawn(self.tag, label, Box::pin(task));
    }

    /// Waits for the fate of an append; not for ever, as a full ring that nobody trims keeps it.
    async fn settled(&self, ack: oneshot::Receiver<()>) -> bool {
        let patience = match self.work {
            Work::Planned if self.is_slow() => 20_000,
            Work::Planned => 60,
            _ => 60_000,
        };
        let time = Box::pin(self.world.handle.sleep(Duration::from_millis(patience)));
        matches!(select(ack, time).await, Either::Left(_))
    }

    /// Operations may take seconds.
    fn is_slow(&self) -> bool {
        self.world.plan.disk_faults.slow > 0
    }

    /// A refusal that a disk without faults does not excuse.
    fn refused(&self, error: &WalError) {
        if !excuse::device_call(error, self.world.facts(self.work)) {
            self.world.fail(Violation::new(
                "poisoned",
                format!("on a disk that is fine: {error}"),
            ));
        }
    }
}

/// Appends frames until all have their fate; once all is healed nothing may be in the way of that.
async fn writer(node: Node, rng: Rng, appends: u64) {
    let done = append_all(&node, rng, appends).await;
    if node.work == Work::Healed {
        node.world.check(liveness::done(done, || {
            "a writer on a disk that is fine did not come to its end".to_owned()
        }));
    }
}

/// Whether the fate of each append was heard.
async fn append_all(node: &Node, mut rng: Rng, appends: u64) -> bool {
    let plan = &node.world.plan;
    let mut under_way: VecDeque<oneshot::Receiver<()>> = VecDeque::new();
    let mut refusals = 0;
    let mut left = appends;
    while left > 0 && refusals < 20 {
        if under_way.len() as u64 >= plan.depth
            && let Some(oldest) = under_way.pop_front()
            && !node.settled(oldest).await
        {
            return false;
        }
        let len = usize::try_from(rng.between(16, plan.payload_bytes_max)).expect("small");
        match append(node, &mut rng, len).await {
            Ok(done) => {
                under_way.push_back(done);
                left -= 1;
            }
            Err(error) if error.kind() == ErrorKind::Full => {
                sometimes!("wal full");
                refusals += 1;
                // Behind a slow operation the service must go on.
                let pause = if node.is_slow() { 200_000 } else { 300 };
                node.world.handle.sleep(Duration::from_micros(pause)).await;
            }
            Err(error) => {
                node.refused(&error);
                return false;
            }
        }
        if rng.chance(100) {
            let pause = [5, 100, 3000][rng.index(3)];
            node.world
                .handle
                .sleep(Duration::from_micros(rng.below(pause)))
                .await;
        }
        if rng.chance(60) {
            read_back(node, &mut rng).await;
        }
    }
    for ack in under_way {
        if !node.settled(ack).await {
            return false;
        }
    }
    left == 0
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
    let breaks = matches!(node.work, Work::Misdirected | Work::LyingFlush);
    if breaks && rng.chance(40) {
        breaks_its_contract(node);
    }
    let removed = node.world.device.is_removed();
    let append = node
        .wal
        .append(permit, Frame::new(head, Bytes::copy_from_slice(body)))?;
    let lsn = append.lsn();
    node.world.appended(value, lsn);
    (node.world.model.lock().removed).appended(lsn, removed);
    let (sender, done) = oneshot::channel();
    let acked = node.clone();
    node.spawn("ack", async move {
        match append.await {
            Ok(_) => {
                let from_nowhere = acked.world.model.lock().removed.acked(lsn);
                match from_nowhere {
                    Err(violation) => acked.world.fail(violation),
                    Ok(()) => acked
                        .world
                        .acked(&acked.wal, &acked.marks, value, lsn, &bytes),
                }
            }
            Err(error) => {
                if acked.world.model.lock().removed.is_late(lsn) {
                    sometimes!("wal: a removed device was noticed");
                }
                acked.refused(&error);
            }
        }
        _ = sender.send(());
    });
    Ok(done)
}

/// The disk does one thing that it must not.
fn breaks_its_contract(node: &Node) {
    let mut model = node.world.model.lock();
    if model.lied {
        return;
    }
    model.lied = true;
    model.lied_from = node.wal.watermarks().durable;
    if node.work == Work::LyingFlush {
        node.world.device.lie_next(true);
    } else {
        node.world.device.misdirect_next(true);
    }
}

/// Reads one promised frame back.
async fn read_back(node: &Node, rng: &mut Rng) {
    let picked = {
        let model = node.world.model.lock();
        let promised: Vec<(u64, Lsn)> = model.frames.promised().collect();
        (!promised.is_empty() && !model.lied).then(|| promised[rng.index(promised.len())])
    };
    let Some((value, lsn)) = picked else { return };
    let found = node.wal.read(lsn).await;
    if let Some(value) = found.as_ref().ok().and_then(|bytes| value_of(bytes)) {
        let handle = &node.world.handle;
        handle.line(|| format!("wal   read value={value} lsn={lsn}"));
    }
    let model = node.world.model.lock();
    let (wanted, lied) = (model.frames.is_wanted(lsn), model.lied);
    drop(model);
    match &found {
        Err(error) if error.kind() == ErrorKind::Closed => node.refused(error),
        _ if lied => {}
        _ => node.world.check(read::back(value, lsn, &found, wanted)),
    }
}

async fn trimmer(node: Node, mut rng: Rng) {
    loop {
        let pause = Duration::from_micros(rng.between(20, 3000));
        node.world.handle.sleep(pause).await;
        let marks = node.wal.watermarks();
        if node.work == Work::Healed && marks.accepted == marks.durable {
            // No frame waits for room: what is there stays, to be damaged or read.
            continue;
        }
        let picked = {
            let model = node.world.model.lock();
            let mut promised: Vec<Lsn> = model.frames.promised().map(|(_, lsn)| lsn).collect();
            promised.sort_unstable();
            let floor = promised.len() / 2;
            match promised.len() {
                // Few frames may still hold every segment: a healed life must be able to go on.
                0..=2 if node.work == Work::Healed => Some(marks.durable),
                0..=2 => None,
                num_promised => Some(promised[floor + rng.index(num_promised - floor)]),
            }
        };
        if let Some(lsn) = picked {
            node.world.trimmed(lsn);
            node.wal.trim(lsn);
        }
    }
}
