//! A broker at full speed for a long time: does it stay within its budget of memory?
//!
//! *Owns*: the load over the Kafka protocol, the samples of memory and disk, the verdict.
//! *Does not own*: the client (`client.rs` of the library), the broker (a process of its own).
//!
//! Invariants
//! 1. What the broker acknowledged is there at the end, or in a topic that was deleted.
//! 2. Memory is the kernel's count of the broker's process at its highest, not the broker's own.
//! 3. Topics are exchanged and deleted, so that the disk holds a bounded rest.
//!
//! *IO: driver*
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement of a real process"
)]

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::{Scope, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewater_benches::{Client, Failure, batch};

const USAGE: &str = "\
usage: soak --broker PROGRAM --dir DIR [--minutes N] [--memory-mib N] [--producers N] [--consumers N]
            [--partitions N] [--batch-kib N] [--in-flight N] [--disk-gib N]

  starts PROGRAM with its data in DIR, produces and consumes as fast as it goes, and prints one JSON
  object. Leaves with 1 if its memory was above 1.2 times the budget, its data above --disk-gib, or
  a record that it acknowledged is missing.
";

const MEMORY_MAX: f64 = 1.2;
const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(120);
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Objects that nobody references any more go this soon.
const DELETE_DELAY_MS: &str = "2000";
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
/// The error code that asks a client to send again.
const KAFKA_STORAGE_ERROR: i16 = 56;

struct Options {
    broker: PathBuf,
    dir: PathBuf,
    seconds: f64,
    memory_mib: u64,
    producers: u64,
    consumers: u64,
    partitions: i32,
    batch_kib: u64,
    in_flight: usize,
    disk_gib: f64,
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
            in_flight: number("--in-flight", 5.0)? as usize,
            disk_gib: number("--disk-gib", 10.0)?,
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

/// What the threads of a run share.
struct Shared<'a> {
    options: &'a Options,
    address: SocketAddr,
    stop: AtomicBool,
    /// The topic that is written.
    topic: AtomicU64,
    produced: AtomicU64,
    consumed: AtomicU64,
    /// Batches that were refused for lack of room and sent again.
    slowed: AtomicU64,
    /// By topic and partition, the offset behind the last record that was acknowledged.
    acknowledged: [Vec<AtomicI64>; 4],
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

    fn ends(&self, topic: u64) -> &[AtomicI64] {
        &self.acknowledged[(topic % 4) as usize]
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
    let ends = || {
        let ends = (0..options.partitions).map(|_| AtomicI64::new(0));
        ends.collect::<Vec<_>>()
    };
    let shared = Shared {
        options,
        address: broker.address,
        stop: AtomicBool::new(false),
        topic: AtomicU64::new(0),
        produced: AtomicU64::new(0),
        consumed: AtomicU64::new(0),
        slowed: AtomicU64::new(0),
        acknowledged: [ends(), ends(), ends(), ends()],
        failure: Mutex::default(),
    };
    let mut control = Client::connect(broker.address)?;
    control.create_topic(&Shared::name(0), options.partitions)?;
    let began = Instant::now();
    let samples = std::thread::scope(|scope| {
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
    let missing = missing(&shared, &mut control)?;
    drop(control);
    broker.stop()?;
    Ok(report(&shared, &samples, seconds, missing))
}

fn report(shared: &Shared<'_>, samples: &Samples, seconds: f64, missing: i64) -> (Value, bool) {
    let options = shared.options;
    let mib = |num_bytes: u64| num_bytes as f64 / f64::from(1 << 20);
    let produced = mib(shared.produced.load(Ordering::Relaxed));
    let consumed = mib(shared.consumed.load(Ordering::Relaxed));
    let (memory, disk) = (mib(samples.memory_max), mib(samples.disk_max));
    let ratio = memory / options.memory_mib as f64;
    let within = ratio <= MEMORY_MAX && disk <= options.disk_gib * 1_024.0 && missing == 0;
    let report = json!({
        "seconds": seconds, "memory_mib": options.memory_mib,
        "resident_mib_max": memory, "resident_max_of_budget": ratio, "resident_max_allowed": MEMORY_MAX,
        "resident_mib_median": mib(samples.median()),
        "disk_mib_max": disk, "disk_mib_allowed": options.disk_gib * 1_024.0,
        "produced_mib": produced, "produced_mib_per_s": produced / seconds,
        "consumed_mib": consumed, "consumed_mib_per_s": consumed / seconds,
        "producers": options.producers, "consumers": options.consumers,
        "partitions": options.partitions, "batch_kib": options.batch_kib, "in_flight": options.in_flight,
        "topics": shared.topic() + 1, "batches_refused_for_lack_of_room": shared.slowed.load(Ordering::Relaxed),
        "acknowledged_missing": missing, "within": within,
    });
    (report, within)
}

/// Records of the last topic that were acknowledged and are not there.
fn missing(shared: &Shared<'_>, control: &mut Client) -> Result<i64, Failure> {
    let topic = shared.topic();
    let mut missing = 0;
    for (partition, end) in (0..).zip(shared.ends(topic)) {
        let found = control.latest_offset(&Shared::name(topic), partition)?;
        missing += (end.load(Ordering::Relaxed) - found).max(0);
    }
    Ok(missing)
}

/// Keeps `in_flight` batches on the way, to partitions of its own in turn.
fn produce(shared: &Shared<'_>, number: u64) -> Result<(), Failure> {
    let options = shared.options;
    let records = 16;
    let batch = batch(records, (options.batch_kib * KIB) as usize / records);
    let mut client = Client::connect(shared.address)?;
    let mut under_way: VecDeque<(i32, u64, i32)> = VecDeque::new();
    let mut turn = number;
    while !shared.is_over() || !under_way.is_empty() {
        while !shared.is_over() && under_way.len() < options.in_flight {
            let (topic, partition) = (shared.topic(), (turn % options.partitions as u64) as i32);
            turn += options.producers;
            let sent = client.send_batch(&Shared::name(topic), partition, batch.clone())?;
            under_way.push_back((sent, topic, partition));
        }
        let Some((sent, topic, partition)) = under_way.pop_front() else {
            break;
        };
        match client.receive_offset(sent)? {
            (0, base) => {
                let end = base + records as i64;
                shared.ends(topic)[partition as usize].fetch_max(end, Ordering::Relaxed);
                shared
                    .produced
                    .fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            (KAFKA_STORAGE_ERROR, _) => {
                shared.slowed.fetch_add(1, Ordering::Relaxed);
            }
            // The topic was exchanged and deleted while the batch was on its way.
            (_, _) if topic != shared.topic() => {}
            (code, _) => return Err(format!("Produce: error code {code}").into()),
        }
    }
    Ok(())
}

/// Reads its partitions of one topic after the other, each from its beginning. So half of the
/// consumers follow the tail, and half read what is in objects by now.
fn consume(shared: &Shared<'_>, number: u64) -> Result<(), Failure> {
    let options = shared.options;
    let mut client = Client::connect(shared.address)?;
    let (mut topic, mut next) = (u64::MAX, Vec::new());
    while !shared.is_over() {
        let wanted = match number % 2 {
            0 => shared.topic(),
            _ => shared.topic().saturating_sub(1),
        };
        if wanted != topic {
            (topic, next) = (wanted, vec![0; options.partitions as usize]);
        }
        let mut brought = 0;
        for partition in 0..options.partitions {
            if partition as u64 % options.consumers != number && number.is_multiple_of(2) {
                continue;
            }
            let from: &mut i64 = &mut next[partition as usize];
            let Ok(fetched) = client.fetch(&Shared::name(topic), partition, *from) else {
                // Deleted meanwhile: a new connection, since an error ends the old one here.
                client = Client::connect(shared.address)?;
                break;
            };
            if fetched.next < *from {
                return Err(format!("offsets go back from {from} to {}", fetched.next).into());
            }
            *from = fetched.next;
            brought += fetched.num_bytes;
            if shared.is_over() {
                break;
            }
        }
        shared.consumed.fetch_add(brought as u64, Ordering::Relaxed);
        if brought == 0 {
            sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Samples {
    memory: Vec<u64>,
    memory_max: u64,
    disk_max: u64,
}

impl Samples {
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
    while began.elapsed().as_secs_f64() < options.seconds && !shared.is_over() {
        sleep(SAMPLE_EVERY);
        let (now, most) = broker.memory()?;
        samples.memory.push(now);
        samples.memory_max = most;
        samples.disk_max = samples.disk_max.max(disk_bytes(&options.dir));
        if samples.memory.len().is_multiple_of(50) {
            let produced = shared.produced.load(Ordering::Relaxed) >> 20;
            let disk = disk_bytes(&options.dir) >> 20;
            eprintln!(
                "{:.0} s: {produced} MiB produced, resident {} MiB, at most {} MiB, disk {disk} MiB",
                began.elapsed().as_secs_f64(),
                now >> 20,
                most >> 20
            );
        }
        let produced = shared.produced.load(Ordering::Relaxed);
        if produced - produced_before < options.topic_bytes() {
            continue;
        }
        produced_before = produced;
        let next = shared.topic() + 1;
        control.create_topic(&Shared::name(next), options.partitions)?;
        for end in shared.ends(next) {
            end.store(0, Ordering::Relaxed);
        }
        shared.topic.store(next, Ordering::Release);
        if let Some(old) = next.checked_sub(2) {
            control.delete_topic(&Shared::name(old))?;
        }
    }
    Ok(samples)
}

/// Bytes that the files below `path` take.
fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

/// A broker that dies with this.
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    fn start(options: &Options) -> Result<Self, Failure> {
        let ready = options.dir.join("ready.json");
        let mut command = Command::new(&options.broker);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]);
        command.arg("--data-dir").arg(options.dir.join("data"));
        command.arg("--ready-file").arg(&ready);
        command.args(["--memory", &format!("{}MiB", options.memory_mib)]);
        command.args(["--delete-delay-ms", DELETE_DELAY_MS]);
        let mut child = command.stdout(Stdio::null()).spawn()?;
        let began = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the broker ended with {status}").into());
            }
            if began.elapsed() > START_WITHIN {
                child.kill()?;
                return Err("the broker did not start".into());
            }
            sleep(Duration::from_millis(10));
        }
        let facts: Value = serde_json::from_slice(&fs::read(&ready)?)?;
        let address = facts["listen"].as_str().ok_or("no address")?.parse()?;
        Ok(Self { child, address })
    }

    /// Resident bytes: now, and at their highest.
    fn memory(&mut self) -> Result<(u64, u64), Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("the broker ended with {status}").into());
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let both = kib("VmRSS:").zip(kib("VmHWM:"));
        let (now, most) = both.ok_or("no VmRSS and VmHWM")?;
        Ok((now * KIB, most * KIB))
    }

    fn stop(mut self) -> Result<(), Failure> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let began = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the broker stopped with {status}").into()),
                None if began.elapsed() > STOP_WITHIN => return Err("it did not stop".into()),
                None => sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

    #[test]
    fn files_below_a_folder_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        assert!(disk_bytes(folder.path()) >= 100_000);
    }
}
