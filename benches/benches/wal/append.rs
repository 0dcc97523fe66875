//! `wal/append`: durable appends by 1 to 512 appenders, against the same bytes written raw.
//!
//! *Owns*: the cells, the order of the rounds, rows.
//! *Does not own*: appending (`crowd.rs`), raw writing.
//!
//! Invariants
//! 1. In each round every log runs once, its raw limit right behind it, and the first one changes
//!    from round to round.
//! 2. What was disturbed is measured again together with its limit.
//!
//! *IO: driver*

use std::time::Duration;

use serde_json::{Value, json};
use tidewater_benches::{
    Batch, Latencies, Observed, Options, Quiet, RawFile, RawRun, Rounds, Row, Sync, record,
};

use crate::Failure;
use crate::crowd::{self, By, Slice};
use crate::plan::Plan;
use crate::subject::{Limit, Subject};

pub(crate) const BENCH: &str = "wal/append";
const SIZES: [usize; 5] = [128, 1024, 4096, 65536, 1 << 20];
const TASKS: [usize; 4] = [1, 8, 64, 512];
const THREADS: [usize; 3] = [1, 8, 64];
/// The crowd of threads that WALs for tasks take part in as well.
const THREADS_OF_ALL: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) size: usize,
    pub(crate) appenders: usize,
    pub(crate) by: By,
}

impl Cell {
    /// Every cell there is.
    pub(crate) fn all() -> Vec<Self> {
        let crowds = |size| {
            let tasks = TASKS.map(|appenders| (appenders, By::Tasks));
            let threads = THREADS.map(|appenders| (appenders, By::Threads));
            let all = tasks.into_iter().chain(threads);
            all.map(move |(appenders, by)| Self {
                size,
                appenders,
                by,
            })
        };
        SIZES.into_iter().flat_map(crowds).collect()
    }

    fn has(self, subject: &Subject) -> bool {
        match self.by {
            By::Tasks => !subject.blocks,
            By::Threads => subject.blocks || self.appenders == THREADS_OF_ALL,
        }
    }

    pub(crate) fn id(self, subject: &str) -> String {
        let by = if self.by == By::Threads {
            "-threads"
        } else {
            ""
        };
        format!("append/{subject}/{}/{}{by}", self.size, self.appenders)
    }

    fn params(self, subject: &str) -> Value {
        let mut params = json!({"wal": subject, "size": self.size, "appenders": self.appenders});
        if self.by == By::Threads {
            params["by"] = json!("threads");
        }
        params
    }
}

/// Which subjects run in which cells.
pub(crate) struct Matrix(Vec<(Cell, Vec<usize>)>);

impl Matrix {
    pub(crate) fn new(cells: &[Cell], subjects: &[Subject], options: &Options) -> Self {
        let of_cell = |cell: &Cell| {
            let wanted = subjects
                .iter()
                .enumerate()
                .filter(|(_, subject)| cell.has(subject) && options.wants(&cell.id(subject.name)));
            let wanted: Vec<_> = wanted.map(|(place, _)| place).collect();
            (!wanted.is_empty()).then_some((*cell, wanted))
        };
        Self(cells.iter().filter_map(of_cell).collect())
    }

    pub(crate) fn ids<'a>(&'a self, subjects: &'a [Subject]) -> impl Iterator<Item = String> {
        let pairs = self
            .0
            .iter()
            .flat_map(|(cell, places)| places.iter().map(move |place| (cell, *place)));
        pairs.map(|(cell, place)| cell.id(subjects[place].name))
    }

    pub(crate) fn estimate(&self, subjects: &[Subject], plan: Plan) -> Duration {
        let all = self.0.iter().flat_map(|(_, places)| places);
        let is_limited = |place: &&usize| subjects[**place].name.starts_with("device");
        plan.estimate(all.clone().count(), all.filter(is_limited).count())
    }

    /// Opens what is kept open, so that no turn pays for it.
    fn open(&self, subjects: &mut [Subject]) -> Result<(), Failure> {
        for (place, subject) in subjects.iter_mut().enumerate() {
            if self.0.iter().any(|(_, places)| places.contains(&place)) {
                let open = subject.begin()?;
                subject.end(open)?;
            }
        }
        Ok(())
    }
}

/// What every turn needs.
pub(crate) struct Bench<'a> {
    pub(crate) runtime: &'a tokio::runtime::Runtime,
    pub(crate) plan: Plan,
    pub(crate) quiet: &'a mut Quiet,
    pub(crate) raw: RawFile,
}

/// What one log did in one cell, over all rounds.
#[derive(Default)]
struct Tally {
    ops: Rounds,
    cpu_ns: Rounds,
    latencies: Latencies,
    limit: Rounds,
    limit_cpu_ns: Rounds,
    limit_latencies: Latencies,
    limit_what: Option<String>,
}

/// Runs the matrix.
pub(crate) fn run(
    bench: &mut Bench<'_>,
    matrix: &Matrix,
    subjects: &mut [Subject],
) -> Result<Vec<Row>, Failure> {
    matrix.open(subjects)?;
    let mut rows = Vec::new();
    for (cell, places) in &matrix.0 {
        let mut tallies: Vec<_> = places.iter().map(|_| Tally::default()).collect();
        for round in 0..bench.plan.rounds {
            for turn in 0..places.len() {
                let at = (round + turn) % places.len();
                let subject = &mut subjects[places[at]];
                let once = bench.one_turn(subject, *cell)?;
                tallies[at].add(once);
            }
        }
        for (place, tally) in places.iter().zip(tallies) {
            rows.extend(tally.rows(subjects[*place].name, *cell));
        }
    }
    Ok(rows)
}

/// One slice of a log, and of its limit.
struct Turn {
    slice: Slice,
    limit: Option<(RawRun, String)>,
}

impl Bench<'_> {
    fn one_turn(&mut self, subject: &mut Subject, cell: Cell) -> Result<Turn, Failure> {
        let Self {
            runtime,
            plan,
            quiet,
            raw,
        } = self;
        quiet.measure(|| {
            let open = subject.begin()?;
            let crowd = (cell.size, cell.appenders, cell.by);
            let slice = crowd::slice(runtime, &open.log, crowd, (plan.warm_up, plan.slice))?;
            let recorded = match &open.limit {
                Limit::Groups(device, sync) => {
                    let places = slice.lsns.iter().filter_map(|lsn| device.locate(*lsn));
                    let observed = Observed {
                        appenders: cell.appenders,
                        appends_per_sync: slice.num_appends as f64 / slice.num_syncs.max(1) as f64,
                        sync: *sync,
                    };
                    record(places, observed)
                }
                Limit::None => None,
            };
            open.log.trim(open.log.durable());
            subject.end(open)?;
            let limit = match recorded {
                None => None,
                Some((batches, sync)) => {
                    let run = raw.replay(&batches, sync, plan.limit)?;
                    Some((run, what(&batches, sync, cell)))
                }
            };
            Ok(Turn { slice, limit })
        })
    }
}

fn what(batches: &[Batch], sync: Sync, cell: Cell) -> String {
    let num_writes: usize = batches.iter().map(|batch| batch.writes.len()).sum();
    let num_bytes: usize = batches.iter().flat_map(|batch| &batch.writes).sum();
    let num_ops: u64 = batches.iter().map(|batch| batch.num_ops).sum();
    let mean_bytes = num_bytes as f64 / num_writes as f64;
    let mean_writes = num_writes as f64 / batches.len() as f64;
    let mean_ops = num_ops as f64 / batches.len() as f64;
    match sync {
        Sync::Batch if cell.appenders == 1 => format!(
            "raw O_DIRECT write + fdatasync of the padded group, one at a time: {mean_bytes:.0} bytes"
        ),
        Sync::Batch => format!(
            "raw aligned batches, same size and depth: {mean_writes:.1} × {mean_bytes:.0} bytes and \
             one fdatasync for {mean_ops:.1} appends"
        ),
        Sync::Write { depth } => format!(
            "raw aligned RWF_DSYNC writes, same size, at the depth of the WAL: {depth} × \
             {mean_bytes:.0} bytes for {mean_ops:.1} appends each"
        ),
    }
}

impl Tally {
    fn add(&mut self, turn: Turn) {
        let slice = turn.slice;
        let num_ops = slice.latencies.len() as f64;
        self.ops.push(num_ops / slice.elapsed.as_secs_f64());
        self.cpu_ns.push(slice.cpu.as_nanos() as f64 / num_ops);
        self.latencies.merge(slice.latencies);
        let Some((limit, what)) = turn.limit else {
            return;
        };
        let num_raw = limit.num_ops as f64;
        self.limit.push(num_raw / limit.elapsed.as_secs_f64());
        self.limit_cpu_ns
            .push(limit.cpu.as_nanos() as f64 / num_raw);
        self.limit_latencies.merge(limit.latencies);
        self.limit_what = Some(what);
    }

    fn rows(self, subject: &str, cell: Cell) -> Vec<Row> {
        let row = |name, ops, latencies, cpu_ns| {
            Row::new(BENCH, cell.params(name), "throughput", "ops/s", ops)
                .with_latencies(latencies)
                .with_cpu(cpu_ns)
        };
        let own = row(subject, self.ops, &self.latencies, &self.cpu_ns);
        let Some(what) = self.limit_what else {
            return vec![own];
        };
        let mut rows = vec![own.with_limit(what, &self.limit)];
        if subject == "device" {
            rows.push(row(
                "raw",
                self.limit,
                &self.limit_latencies,
                &self.limit_cpu_ns,
            ));
        }
        rows
    }
}
