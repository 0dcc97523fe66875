//! What the parts of this bench have in common.
//!
//! *Owns*: the trait of a part, how long everything takes, runtime, environment, folder, buckets.
//! *Does not own*: what is measured.
//!
//! *IO: driver*
#![allow(clippy::disallowed_methods, reason = "measures the real world")]

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidewater_benches::{
    BenchEnv, Copied, Options, Place, Precise, Quiet, Row, SlowBucket, rounds,
};
use tidewater_bucket::{Bucket, BucketOptions, LocalBucket, MemoryBucket};
use tidewater_types::Env;

/// What goes wrong in a bench; also from its threads.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// One part of the bench.
pub(crate) trait Part: Sync {
    /// The names of its cells: filters choose among them, `--list` prints them.
    fn ids(&self) -> Vec<String>;

    /// Measures the cell `id`.
    fn run(&self, id: &str, rig: &mut Rig) -> Result<Vec<Row>, Failure>;
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds of each measurement.
    pub(crate) rounds: usize,
    /// Bytes that a measurement moves, for parts that move bytes.
    pub(crate) num_bytes: u64,
    /// Time that a measurement takes, for parts that go on for a time.
    pub(crate) slice: Duration,
}

impl Plan {
    pub(crate) fn of(options: &Options) -> io::Result<Self> {
        let (default, mib, ms) = if options.quick {
            (3, 32, 500)
        } else {
            (5, 256, 3_000)
        };
        Ok(Self {
            rounds: rounds(default)?,
            num_bytes: mib << 20,
            slice: Duration::from_millis(ms),
        })
    }
}

/// What every part works with.
pub(crate) struct Rig {
    pub(crate) plan: Plan,
    pub(crate) runtime: tokio::runtime::Runtime,
    /// With precise sleeps.
    pub(crate) env: Arc<dyn Env>,
    pub(crate) quiet: Quiet,
    /// A folder that goes with the process.
    pub(crate) scratch: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(plan: Plan, place: &Place) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let env = Arc::new(BenchEnv::new(runtime.handle()));
        let folder = place.folder("TIDEWATER_BENCH_DATA", "data")?;
        Ok(Self {
            plan,
            env: Arc::new(Precise::new(env)?),
            runtime,
            quiet: Quiet::from_environment()?,
            scratch: tempfile::tempdir_in(folder)?,
        })
    }

    /// An empty bucket.
    pub(crate) fn bucket(&self, kind: Kind) -> Result<Ways, Failure> {
        let mut folder = None;
        let near: Arc<dyn Bucket> = match kind {
            Kind::Memory | Kind::Slow { .. } => Arc::new(MemoryBucket::new()),
            Kind::Local => {
                let path = tempfile::tempdir_in(self.scratch.path())?.keep();
                Arc::new(LocalBucket::open(folder.insert(path))?)
            }
            Kind::Store => store()?,
        };
        let far: Arc<dyn Bucket> = match kind {
            Kind::Memory | Kind::Local | Kind::Store => near.clone(),
            Kind::Slow { ms } => {
                let latency = Duration::from_millis(ms);
                Arc::new(SlowBucket::new(near.clone(), self.env.clone(), latency))
            }
        };
        Ok(Ways { near, far, folder })
    }
}

/// One bucket.
#[derive(Clone)]
pub(crate) struct Ways {
    /// Without its latency, to fill it.
    pub(crate) near: Arc<dyn Bucket>,
    /// As it is measured.
    pub(crate) far: Arc<dyn Bucket>,
    /// Where the objects of a local directory are.
    pub(crate) folder: Option<PathBuf>,
}

impl Ways {
    /// As it is measured where the memory of answers matters: a store's are in memory of their own,
    /// and so are those of this bucket, wherever the objects are.
    pub(crate) fn received(&self, kind: Kind) -> Arc<dyn Bucket> {
        match kind {
            Kind::Local | Kind::Store => self.far.clone(),
            Kind::Memory | Kind::Slow { .. } => Arc::new(Copied::new(self.far.clone())),
        }
    }
}

/// Where the objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In memory: what is left is our own work.
    Memory,
    /// In a local directory.
    Local,
    /// In memory, and every request takes so long more.
    Slow { ms: u64 },
    /// Where `TIDEWATER_BENCH_BUCKET` says.
    Store,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Local => "local".to_owned(),
            Self::Slow { ms } => format!("slow-{ms}ms"),
            Self::Store => "store".to_owned(),
        }
    }
}

/// The URL of a bucket with a prefix that nobody has used, if the user names one.
pub(crate) fn store_url() -> Option<String> {
    std::env::var("TIDEWATER_BENCH_BUCKET").ok()
}

fn store() -> Result<Arc<dyn Bucket>, Failure> {
    let url = store_url().ok_or("TIDEWATER_BENCH_BUCKET is not set")?;
    let options = BucketOptions::from_env(|name| std::env::var(name).ok());
    Ok(tidewater_bucket::open(&url.parse()?, &options)?)
}
