//! A worked example: a bucket of one's own that breaks create-if-absent.
//!
//! The bucket looks whether the key is taken and then puts, as an adapter for a store without a
//! conditional put would. Two things find it: the conformance suite of the port, whose creates race;
//! and a scenario above it, in which owners of the engine's own `ObjectWal` take the log from each
//! other, and the late PUT of an older one replaces an object of a later one.
//!
//! ```text
//! cargo run -p tidewater-sim --example broken_bucket                # finds the bug
//! cargo run -p tidewater-sim --example broken_bucket -- --seed 3    # shows one seed
//! cargo run -p tidewater-sim --example broken_bucket -- --repaired  # finds nothing
//! ```
//!
//! *IO: driver* (prints)

#[path = "repaired/mod.rs"]
mod repaired;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewater_bucket::{Bucket, BucketError, ListPage, MemoryBucket, Purpose};
use tidewater_sim::{FrameModel, Handle, Rng, SimEnv, Tag, Trial, Violation, payload, value_of};
use tidewater_types::{BoxFuture, ClusterId, Lsn, NodeId};
use tidewater_wal::{Frame, Identity, ObjectWal, ObjectWalConfig, OpenMode, Wal, WalError};

/// The bucket: objects in memory, a way to it and a way back.
#[derive(Clone)]
struct OwnBucket {
    handle: Handle,
    objects: Arc<MemoryBucket>,
    rng: Arc<Mutex<Rng>>,
    broken: bool,
}

impl OwnBucket {
    fn new(handle: Handle, seed: u64, broken: bool) -> Self {
        let rng = Arc::new(Mutex::new(Rng::new(seed, "ways")));
        let objects = Arc::new(MemoryBucket::new());
        Self {
            handle,
            objects,
            rng,
            broken,
        }
    }

    async fn way(&self) {
        let nanos = self.rng.lock().latency(300_000);
        self.handle.sleep(Duration::from_nanos(nanos)).await;
    }

    /// The bug: two requests in place of one, and whatever came in between is replaced.
    async fn look_and_put(
        &self,
        purpose: Purpose,
        key: &str,
        body: Vec<Bytes>,
    ) -> Result<(), BucketError> {
        if self.objects.size(purpose, key).await.is_ok() {
            let key = key.to_owned();
            return Err(BucketError::Exists { key });
        }
        self.way().await;
        if let Ok(()) = self.objects.delete(purpose, key).await {
            self.handle.strike("replaced");
            self.handle.line(|| format!("bucket replaced {key}"));
        }
        self.objects.create(purpose, key, body).await
    }
}

impl Bucket for OwnBucket {
    fn create<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        body: Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.way().await;
            let outcome = if self.broken {
                self.look_and_put(purpose, key, body).await
            } else {
                self.objects.create(purpose, key, body).await
            };
            self.handle
                .line(|| format!("bucket create {key} {outcome:?}"));
            self.way().await;
            outcome
        })
    }

    fn get<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Bytes, BucketError>> {
        Box::pin(async move {
            self.way().await;
            self.objects.get(purpose, key, range).await
        })
    }

    fn size<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<u64, BucketError>> {
        Box::pin(async move {
            self.way().await;
            self.objects.size(purpose, key).await
        })
    }

    fn delete<'a>(
        &'a self,
        purpose: Purpose,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(), BucketError>> {
        Box::pin(async move {
            self.way().await;
            self.objects.delete(purpose, key).await
        })
    }

    fn list<'a>(
        &'a self,
        purpose: Purpose,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<ListPage, BucketError>> {
        Box::pin(async move {
            self.way().await;
            self.objects.list(purpose, prefix, after).await
        })
    }
}

/// The scenario: owners that follow each other, the older ones being none the wiser.
struct Takeovers {
    broken: bool,
}

/// For how long each owner is alone, in microseconds.
type Plan = Vec<u64>;

impl Trial for Takeovers {
    type Plan = Plan;

    fn name(&self) -> &str {
        "own-bucket"
    }

    fn replay(&self, seed: u64) -> String {
        repaired::replay(self.broken, seed)
    }

    fn plan(&self, seed: u64) -> Plan {
        let mut rng = Rng::new(seed, "plan");
        let owners = rng.between(2, 5);
        (0..owners).map(|_| rng.between(0, 20_000)).collect()
    }

    fn run(
        &self,
        handle: Handle,
        seed: u64,
        plan: &Plan,
    ) -> BoxFuture<'static, Result<(), Violation>> {
        let bucket = OwnBucket::new(handle.clone(), seed, self.broken);
        let world = Arc::new(World {
            handle,
            seed,
            bucket,
            model: Mutex::default(),
        });
        let plan = plan.clone();
        Box::pin(async move {
            let mut owner = 1;
            for alone_us in plan {
                let wal = world.open(owner).await?;
                let work = Arc::clone(&world).work(owner, wal);
                world.handle.spawn(Tag(owner), "owner", Box::pin(work));
                world.handle.sleep(Duration::from_micros(alone_us)).await;
                world.verdict()?;
                owner += 1;
            }
            // Whoever takes the log last must be served everything, and once more behind it.
            world.open(owner).await?;
            world.handle.sleep(Duration::from_secs(1)).await;
            world.open(owner + 1).await?;
            world.verdict()
        })
    }

    /// An owner less, or half of its time.
    fn smaller(&self, plan: &Plan) -> Vec<Plan> {
        let mut smaller = Vec::new();
        for place in 0..plan.len() {
            let [mut fewer, mut shorter] = [plan.clone(), plan.clone()];
            fewer.remove(place);
            shorter[place] /= 2;
            smaller.push(fewer);
            smaller.extend((shorter[place] < plan[place]).then_some(shorter));
        }
        smaller
    }
}

struct World {
    handle: Handle,
    seed: u64,
    bucket: OwnBucket,
    model: Mutex<Model>,
}

#[derive(Default)]
struct Model {
    frames: FrameModel,
    /// Who opened the log last.
    owner: u32,
    next_value: u64,
    violation: Option<Violation>,
}

impl World {
    async fn open(&self, owner: u32) -> Result<ObjectWal, Violation> {
        let env = Arc::new(SimEnv::new(self.handle.clone(), self.seed, Tag(owner), 0));
        let identity = Identity {
            cluster: ClusterId([7; 16]),
            node: NodeId(1),
            wal: None,
        };
        let mode = if owner == 1 {
            OpenMode::Create
        } else {
            OpenMode::Existing
        };
        let served = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&served);
        let on_frame = move |lsn: Lsn, frame: Bytes| sink.lock().push((lsn, frame.to_vec()));
        let (bucket, config) = (Arc::new(self.bucket.clone()), ObjectWalConfig::tiny());
        let opened = ObjectWal::open(bucket, env, config, identity, mode, on_frame).await;
        let (wal, _) = opened.map_err(|why| Violation::new("refused", why.to_string()))?;
        let mut model = self.model.lock();
        let served = std::mem::take(&mut *served.lock());
        self.handle.line(|| {
            let values = served.iter().filter_map(|(_, frame)| value_of(frame));
            let values: Vec<String> = values.map(|value| value.to_string()).collect();
            format!("wal   read owner={owner} values={}", values.join(","))
        });
        model.owner = owner;
        model.frames.recovered(&served)?;
        Ok(wal)
    }

    /// Appends until it is told that another one has the log.
    async fn work(self: Arc<Self>, owner: u32, wal: ObjectWal) {
        for _ in 0..20 {
            match self.append_one(owner, &wal).await {
                Ok(()) => {}
                Err(WalError::Fenced { .. }) => return self.handle.strike("fenced"),
                Err(why) => return self.fail(Violation::new("refused", why.to_string())),
            }
        }
    }

    async fn append_one(&self, owner: u32, wal: &ObjectWal) -> Result<(), WalError> {
        let permit = wal.reserve(100).await?;
        let (value, append) = {
            let mut model = self.model.lock();
            let value = model.next_value;
            model.next_value += 1;
            let append = wal.append(permit, Frame::from(Bytes::from(payload(value, 100))))?;
            let lsn = append.lsn();
            if model.owner == owner {
                model.frames.appended(value, lsn);
            } else {
                // Nobody may ever hear of it: a later owner was told what there is.
                model.frames.doomed(value, lsn);
            }
            self.handle
                .line(|| format!("wal   append owner={owner} value={value} lsn={lsn}"));
            (value, append)
        };
        append.await?;
        self.handle.line(|| format!("wal   ack value={value}"));
        let is_gone = self.model.lock().frames.is_gone(value);
        if is_gone {
            let detail = format!("frame {value} of owner {owner} acknowledged, and it is gone");
            self.fail(Violation::new("fence", detail));
        }
        self.model.lock().frames.acked(value);
        Ok(())
    }

    /// Keeps the first violation.
    fn fail(&self, violation: Violation) {
        self.handle.line(|| format!("FAIL  {violation}"));
        self.model.lock().violation.get_or_insert(violation);
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.model.lock().violation.take().map_or(Ok(()), Err)
    }
}

fn main() -> ExitCode {
    repaired::main(|broken| Takeovers { broken })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidewater_bucket::conformance;
    use tidewater_sim::{Executor, Limits, Stop, Trials};

    use super::{OwnBucket, Takeovers};

    fn conforms(broken: bool) -> Result<(), Stop> {
        let executor = Executor::new(1);
        let bucket = OwnBucket::new(executor.handle(), 1, broken);
        let limits = Limits {
            polls: 1_000_000,
            time: Duration::from_secs(3600),
        };
        executor.run(limits, async move {
            conformance::run(&bucket, "suite").await;
        })
    }

    #[test]
    fn the_suite_finds_that_several_creates_win() {
        let stop = conforms(true).unwrap_err().to_string();
        assert!(stop.contains("race") && stop.contains("winners"), "{stop}");
        assert_eq!(conforms(false), Ok(()));
    }

    #[test]
    fn a_scenario_above_finds_what_it_costs() {
        let found = Trials::new(500).run(&Takeovers { broken: true });
        let found = found.expect_err("within 500 seeds");
        let checkers = ["frames", "fence", "refused"];
        assert!(checkers.contains(&found.violation.checker), "{found}");
        assert!(found.lanes.contains("bucket replaced"), "{found}");
    }

    #[test]
    fn the_repaired_bucket_is_not_blamed() {
        let faults = Trials::new(300).run(&Takeovers { broken: false });
        let faults = faults.unwrap_or_else(|found| panic!("{found}"));
        assert!(faults["fenced"] > 100, "{faults:?}");
        assert!(!faults.contains_key("replaced"));
    }
}
