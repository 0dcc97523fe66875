//! A broker at full speed for a long time: does it stay within its budget of memory?
//!
//! *Owns*: the run, the samples of memory and disk, the verdict.
//! *Does not own*: the load (`load`), what must come back (`proof`), the broker (`process`, a process of
//! its own), the client (`client.rs` of the library).
//!
//! Invariants
//! 1. Every batch that the broker acknowledged is read back where it was acknowledged, unless its topic was
//!    deleted.
//! 2. Memory is the kernel's count of the broker's process at its highest, not the broker's own.
//! 3. Topics are exchanged and deleted, so that the disk holds a bounded rest.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement of a real process"
)]

mod load;
mod process;
mod proof;
mod stall;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewater_benches::{Client, Failure};

use load::{consume, produce};
use process::{Broker, disk_bytes};
use proof::read_back;
use stall::Stall;

const USAGE: &str = "\
usage: soak --broker PROGRAM --dir DIR [--minutes N] [--memory-mib N] [--producers N] [--consumers N]
            [--partitions N] [--batch-kib N | --batch-bytes N] [--in-flight N] [--disk-gib N]
            [--stall-seconds N]

  starts PROGRAM with its data in DIR, produces and consumes as fast as it goes, and prints one JSON
  object. Leaves with 1 if its memory was above 1.2 times the budget, a share of the budget above what it may
  hold, its data above --disk-gib, or a batch that it acknowledged does not come back where it was.
  --batch-bytes makes batches of one record with a value of so many bytes. With --stall-seconds the bucket
  takes nothing for so long, once, from a quarter of the run on.
";

const MEMORY_MAX: f64 = 1.2;
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Samples between two looks at the shares of the budget, and between two lines about the run.
const SHARES_EVERY: usize = 5;
const SAY_EVERY: usize = 50;
const GIB: u64 = 1 << 30;

struct Options {
    broker: PathBuf,
    dir: PathBuf,
    seconds: f64,
    memory_mib: u64,
    producers: u64,
    consumers: u64,
    partitions: i32,
    batch_kib: u64,
    /// One record of so many bytes a batch, in place of 16 that have `batch_kib` together.
    batch_bytes: Option<usize>,
    in_flight: usize,
    disk_gib: f64,
    stall_seconds: f64,
}

impl Options {
    fn parse(args: &[String]) -> Option<Self> {
        let value = |flag: &str| {
            let at = args.iter().position(|arg| arg == flag)?;
            args.get(at + 1).cloned()
        };
        let number = |flag: &str, default: f64| match value(flag) {
            None => Some(default),
            Some(text) => text.parse().ok().filter(|number: &f64| *number > 0.0),
        };
        Some(Self {
            broker: value("--broker")?.into(),
            dir: value("--dir")?.into(),
            seconds: number("--minutes", 10.0)? * 60.0,
            memory_mib: number("--memory-mib", 512.0)? as u64,
            producers: number("--producers", 8.0)? as u64,
            consumers: number("--consumers", 4.0)? as u64,
            partitions: number("--partitions", 64.0)? as i32,
            batch_kib: number("--batch-kib", 64.0)? as u64,
            batch_bytes: match value("--batch-bytes") {
                None => None,
                Some(text) => Some(text.parse().ok()?),
            },
            in_flight: number("--in-flight", 5.0)? as usize,
            disk_gib: number("--disk-gib", 10.0)?,
            stall_seconds: match value("--stall-seconds") {
                None => 0.0,
                Some(_) => number("--stall-seconds", 1.0)?,
            },
        })
    }

    /// A topic is exchanged after so many bytes. Up to three of them are on the disk: the one that is
    /// written, the one before, and what of the one before that is not deleted yet.
    fn topic_bytes(&self) -> u64 {
        (self.disk_gib * GIB as f64 / 8.0) as u64
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = Options::parse(&args) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok((report, within)) => {
            println!("{report}");
            ExitCode::from(u8::from(!within))
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The stamps of acknowledged batches, by their base offsets.
type Noted = BTreeMap<i64, u64>;

/// What the threads of a run share.
struct Shared<'a> {
    options: &'a Options,
    address: SocketAddr,
    stop: AtomicBool,
    /// The topic that is written.
    topic: AtomicU64,
    produced: AtomicU64,
    consumed: AtomicU64,
    /// Batches that were refused with a retriable code; they are not sent again.
    slowed: AtomicU64,
    /// No two batches have the same.
    stamps: AtomicU64,
    /// By topic and partition.
    acknowledged: Mutex<BTreeMap<(u64, i32), Noted>>,
    /// The first failure of any thread.
    failure: Mutex<Option<Failure>>,
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn name(topic: u64) -> String {
        format!("soak-{topic}")
    }

    fn topic(&self) -> u64 {
        self.topic.load(Ordering::Acquire)
    }

    /// A batch was acknowledged. No two may be at one place.
    fn note(&self, (topic, partition): (u64, i32), base: i64, stamp: u64) -> Result<(), Failure> {
        let mut all = self.acknowledged.lock().expect("no panic");
        let noted = all.entry((topic, partition)).or_default();
        match noted.insert(base, stamp) {
            None => Ok(()),
            Some(other) => Err(format!(
                "topic {topic}, partition {partition}: batches {other} and {stamp} were both \
                 acknowledged at offset {base}"
            )
            .into()),
        }
    }

    fn noted(&self, topic: u64, partition: i32) -> Noted {
        let all = self.acknowledged.lock().expect("no panic");
        all.get(&(topic, partition)).cloned().unwrap_or_default()
    }

    /// Topics before this one are deleted: nothing of them must come back.
    fn forget_before(&self, topic: u64) {
        let mut all = self.acknowledged.lock().expect("no panic");
        *all = all.split_off(&(topic, 0));
    }

    /// Runs `work` in a thread; the first failure ends the run.
    fn spawn<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        work: impl FnOnce() -> Result<(), Failure> + Send + 's,
    ) {
        scope.spawn(move || {
            if let Err(failure) = work() {
                let mut first = self.failure.lock().expect("no panic");
                first.get_or_insert(failure);
                self.stop.store(true, Ordering::Relaxed);
            }
        });
    }
}

fn run(options: &Options) -> Result<(Value, bool), Failure> {
    fs::create_dir_all(&options.dir)?;
    let mut broker = Broker::start(options)?;
    let shared = Shared {
        options,
        address: broker.address,
        stop: AtomicBool::new(false),
        topic: AtomicU64::new(0),
        produced: AtomicU64::new(0),
        consumed: AtomicU64::new(0),
        slowed: AtomicU64::new(0),
        stamps: AtomicU64::new(0),
        acknowledged: Mutex::default(),
        failure: Mutex::default(),
    };
    let mut control = Client::connect(broker.address)?;
    control.create_topic(&Shared::name(0), options.partitions)?;
    let began = Instant::now();
    let mut samples = std::thread::scope(|scope| {
        for number in 0..options.producers {
            let shared = &shared;
            shared.spawn(scope, move || produce(shared, number));
        }
        for number in 0..options.consumers {
            let shared = &shared;
            shared.spawn(scope, move || consume(shared, number));
        }
        let samples = supervise(&shared, &mut broker, &mut control, began);
        shared.stop.store(true, Ordering::Relaxed);
        samples
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if let Some(failure) = shared.failure.lock().expect("no panic").take() {
        return Err(failure);
    }
    let read = read_back(&shared, &mut control)?;
    // The highest of all, the reading back among it.
    samples.take(&mut broker, &shared)?;
    drop(control);
    broker.stop()?;
    Ok(report(&shared, &samples, seconds, read))
}

fn report(
    shared: &Shared<'_>,
    samples: &Samples,
    seconds: f64,
    (read, missing): (u64, u64),
) -> (Value, bool) {
    let options = shared.options;
    let mib = |num_bytes: u64| num_bytes as f64 / f64::from(1 << 20);
    let produced = mib(shared.produced.load(Ordering::Relaxed));
    let consumed = mib(shared.consumed.load(Ordering::Relaxed));
    let (memory, disk) = (mib(samples.memory_max), mib(samples.disk_max));
    let ratio = memory / options.memory_mib as f64;
    let over = samples.shares.iter().filter(|(_, (most, may))| most > may);
    let over: Vec<&str> = over.map(|(name, _)| name.as_str()).collect();
    let within = ratio <= MEMORY_MAX
        && disk <= options.disk_gib * 1_024.0
        && missing == 0
        // A run in which nothing works proves nothing.
        && read > 0
        && consumed > 0.0
        && over.is_empty();
    let share = |(name, (most, may)): (&String, &(u64, u64))| {
        let share = json!({"mib_max": mib(*most), "mib_allowed": mib(*may)});
        (name.clone(), share)
    };
    let shares: serde_json::Map<_, _> = samples.shares.iter().map(share).collect();
    let report = json!({
        "seconds": seconds, "memory_mib": options.memory_mib,
        "resident_mib_max": memory, "resident_max_of_budget": ratio, "resident_max_allowed": MEMORY_MAX,
        "resident_mib_median": mib(samples.median()), "anonymous_mib_max": mib(samples.own_max),
        "shares": shares, "shares_over": over,
        "disk_mib_max": disk, "disk_mib_allowed": options.disk_gib * 1_024.0,
        "produced_mib": produced, "produced_mib_per_s": produced / seconds,
        "consumed_mib": consumed, "consumed_mib_per_s": consumed / seconds,
        "producers": options.producers, "consumers": options.consumers,
        "partitions": options.partitions, "batch_kib": options.batch_kib, "in_flight": options.in_flight,
        "batch_bytes": options.batch_bytes, "stall_seconds": options.stall_seconds,
        "topics": shared.topic() + 1, "batches_refused_for_lack_of_room": shared.slowed.load(Ordering::Relaxed),
        "batches_read_back": read, "acknowledged_missing": missing, "within": within,
    });
    (report, within)
}

#[derive(Default)]
struct Samples {
    memory: Vec<u64>,
    memory_max: u64,
    /// Without pages of files.
    own_max: u64,
    disk_max: u64,
    /// Of each share the most that it held, and what it may hold.
    shares: BTreeMap<String, (u64, u64)>,
}

impl Samples {
    fn take(&mut self, broker: &mut Broker, shared: &Shared<'_>) -> Result<(), Failure> {
        let resident = broker.resident()?;
        self.memory.push(resident.now);
        self.memory_max = resident.most;
        self.own_max = self.own_max.max(resident.own);
        let disk = disk_bytes(&shared.options.dir);
        self.disk_max = self.disk_max.max(disk);
        if self.memory.len().is_multiple_of(SHARES_EVERY) {
            for (name, (now, may)) in broker.shares()? {
                let (most, _) = self.shares.get(&name).copied().unwrap_or_default();
                self.shares.insert(name, (most.max(now), may));
            }
        }
        if self.memory.len().is_multiple_of(SAY_EVERY) {
            let produced = shared.produced.load(Ordering::Relaxed) >> 20;
            let (now, most) = (resident.now >> 20, resident.most >> 20);
            let disk = disk >> 20;
            eprintln!(
                "{produced} MiB produced, resident {now} MiB, at most {most} MiB, disk {disk} MiB"
            );
        }
        Ok(())
    }

    fn median(&self) -> u64 {
        let mut sorted = self.memory.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }
}

/// Exchanges topics and takes samples until the time is over.
fn supervise(
    shared: &Shared<'_>,
    broker: &mut Broker,
    control: &mut Client,
    began: Instant,
) -> Result<Samples, Failure> {
    let options = shared.options;
    let mut samples = Samples::default();
    let mut produced_before = 0;
    let mut stall = Stall::new(&options.dir, options.seconds / 4.0, options.stall_seconds);
    while began.elapsed().as_secs_f64() < options.seconds && !shared.is_over() {
        sleep(SAMPLE_EVERY);
        samples.take(broker, shared)?;
        if stall.look(began.elapsed().as_secs_f64())? {
            continue;
        }
        let produced = shared.produced.load(Ordering::Relaxed);
        if produced - produced_before < options.topic_bytes() {
            continue;
        }
        produced_before = produced;
        let next = shared.topic() + 1;
        control.create_topic(&Shared::name(next), options.partitions)?;
        shared.topic.store(next, Ordering::Release);
        if let Some(old) = next.checked_sub(2) {
            control.delete_topic(&Shared::name(old))?;
            shared.forget_before(old + 1);
        }
    }
    stall.end()?;
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_all_samples() {
        let samples = Samples {
            memory: vec![5, 1, 9],
            ..Samples::default()
        };
        assert_eq!((samples.median(), Samples::default().median()), (5, 0));
    }
}
