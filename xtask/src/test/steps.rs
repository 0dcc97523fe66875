//! The steps of `cargo xtask test`, in order.
//!
//! *Owns*: what each step runs, and its limit.
//! *Does not own*: how a command is run (`process.rs`) and where tools come from (`tools.rs`).
//!
//! Invariants
//! 1. A step brings what it needs, so that `--only` works on a clean checkout.
//! 2. The broker is never built together with the simulator: that would turn the seeded bugs on.
//!
//! *IO: driver*

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::broker::Broker;
use super::process::Processes;
use super::timeline;
use super::tools::Tools;
use crate::build::target;
use crate::services::{seaweed, work_dir};

/// One step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Context) -> Result<(), String>,
}

/// What steps share.
pub(crate) struct Context {
    root: PathBuf,
    work: PathBuf,
    tools: Tools,
    processes: Processes,
    is_broker_built: bool,
}

const BUILD_WITHIN: Duration = Duration::from_secs(1_500);
const TESTS_WITHIN: Duration = Duration::from_secs(1_800);
const SIM_WITHIN: Duration = Duration::from_secs(900);
const CRASH_WITHIN: Duration = Duration::from_secs(1_800);
const CLIENT_WITHIN: Duration = Duration::from_secs(300);
const CHAOS_WITHIN: Duration = Duration::from_secs(660);

/// Minutes of seeds that nobody has run before; pinned plans are among the simulator's tests.
const FRESH_MINUTES: &str = "2";

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        about: "every file is formatted",
        run: |c| c.cargo(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "tidy",
        about: "sizes, headers, imports, cycles, formats, licences",
        run: tidy,
    },
    Step {
        name: "judge",
        about: "the judge of histories finds golden bad ones",
        run: judge,
    },
    Step {
        name: "clippy",
        about: "no warning in any target",
        run: |c| {
            c.cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])
        },
    },
    Step {
        name: "unit",
        about: "tests of all crates but the simulator, without seeded bugs",
        // Where this is set, a test that finds no loop device or no right to mount fails.
        run: |c| {
            let mut command = cargo(&["test", "--workspace", "--exclude", SIM]);
            c.run(command.env("CI", "true"), TESTS_WITHIN)
        },
    },
    Step {
        name: "uring",
        about: "the disk cache through io_uring, which no other step builds: no warning, its tests",
        run: uring,
    },
    Step {
        name: "wal-bugs",
        about: "the write-ahead log's own tests notice its seeded bugs",
        run: |c| {
            let wal = ["test", "--package", "tidewater-wal", "--lib"];
            let bugs = ["--features", "mutants", "--", "core::", "recovery::"];
            c.cargo(&[&wal[..], &bugs].concat())
        },
    },
    Step {
        name: "loom",
        about: "hand-over and wake-ups of the write-ahead log, under every interleaving",
        run: |c| {
            c.cargo(&[
                "test",
                "--package",
                "tidewater-wal",
                "--features",
                "loom",
                "--lib",
                "loom_",
            ])
        },
    },
    Step {
        name: "sim-unit",
        about: "tests of the simulator",
        run: |c| c.cargo(&["test", "--package", SIM]),
    },
    Step {
        name: "docs",
        about: "the API's documentation builds without a warning",
        run: docs,
    },
    Step {
        name: "package",
        about: "every library can be packaged",
        run: package,
    },
    Step {
        name: "release",
        about: "release builds of the broker and the simulator",
        run: release,
    },
    Step {
        name: "sim-seeds",
        about: "two minutes of fresh seeds of all scenarios",
        run: sim_seeds,
    },
    Step {
        name: "sim-timeline",
        about: "records are followed on timelines, one of a run that fails, in Chromium",
        run: sim_timeline,
    },
    Step {
        name: "sim-mutants",
        about: "every seeded bug is found",
        run: sim_mutants,
    },
    Step {
        name: "crash",
        about: "the write-ahead log on a real kernel: crashes, flushes that fail",
        run: |c| {
            let mut command = cargo(&["xtask", "crash-test", "--short"]);
            c.run(&mut command, CRASH_WITHIN)
        },
    },
    Step {
        name: "s3",
        about: "tests against SeaweedFS; brokers that are left alone make no request for a minute",
        run: s3,
    },
    Step {
        name: "client-kcat",
        about: "kcat",
        run: kcat,
    },
    Step {
        name: "client-confluent",
        about: "confluent-kafka",
        run: |c| python_client(c, "confluent_smoke.py"),
    },
    Step {
        name: "client-aiokafka",
        about: "aiokafka",
        run: |c| python_client(c, "aiokafka_smoke.py"),
    },
    Step {
        name: "client-kafka-python",
        about: "kafka-python",
        run: |c| python_client(c, "kafka_python_smoke.py"),
    },
    Step {
        name: "client-kafkajs",
        about: "KafkaJS",
        run: kafkajs,
    },
    Step {
        name: "client-java",
        about: "the Java client",
        run: java,
    },
    Step {
        name: "refusals",
        about: "what must be refused is; a full disk is survived",
        run: |c| chaos(c, &["refusals.py"]),
    },
    Step {
        name: "kill",
        about: "10 kills under load: nothing acknowledged is lost",
        run: |c| chaos(c, &["kill_loop.py", "--kills", "10"]),
    },
    Step {
        name: "kill-cold",
        about: "the same, read from objects with the log trimmed",
        run: |c| chaos(c, &["kill_loop.py", "--kills", "3", "--trim-cold"]),
    },
    Step {
        name: "kill-object",
        about: "the same, with the write-ahead log in the bucket",
        run: |c| {
            chaos(
                c,
                &[
                    "kill_loop.py",
                    "--kills",
                    "3",
                    "--serve-argument=--wal",
                    "--serve-argument=object",
                ],
            )
        },
    },
    Step {
        name: "kill-s3",
        about: "the same, with SeaweedFS as the bucket",
        run: kill_s3,
    },
    Step {
        name: "soak",
        about: "a minute at full speed within the smallest budget of memory; what it retains is read back",
        run: soak,
    },
];

const SIM: &str = "tidewater-sim";

impl Context {
    pub(crate) fn new(root: &Path, processes: Processes) -> Self {
        let work = work_dir(root);
        Self {
            root: root.to_owned(),
            tools: Tools::new(root, &work),
            work,
            processes,
            is_broker_built: false,
        }
    }

    /// Runs a command in the root folder.
    fn run(&mut self, command: &mut Command, limit: Duration) -> Result<(), String> {
        command.current_dir(&self.root);
        self.processes.run(command, limit)
    }

    fn cargo(&mut self, args: &[&str]) -> Result<(), String> {
        self.run(&mut cargo(args), TESTS_WITHIN)
    }

    /// The release build of the broker.
    fn broker_binary(&mut self) -> Result<PathBuf, String> {
        if !self.is_broker_built {
            self.run(
                &mut cargo(&["build", "--release", "--package", "tidewater-broker"]),
                BUILD_WITHIN,
            )?;
            self.is_broker_built = true;
        }
        Ok(target(&self.root).join("release/tidewater"))
    }

    fn sim(&mut self, args: &[&str]) -> Result<(), String> {
        self.run(
            &mut cargo(&["build", "--release", "--package", SIM]),
            BUILD_WITHIN,
        )?;
        let mut command = Command::new(target(&self.root).join("release").join(SIM));
        self.run(command.args(args), SIM_WITHIN)
    }

    /// Runs a client's check against a broker of its own.
    fn client(&mut self, command: &mut Command) -> Result<(), String> {
        let binary = self.broker_binary()?;
        let folder = self.work.join(format!("client-{}", std::process::id()));
        let broker = Broker::start(&mut self.processes, &binary, &folder)?;
        command
            .arg(&broker.address)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let checked = self.run(command, CLIENT_WITHIN);
        let stopped = broker.stop(&mut self.processes, checked.is_ok());
        match (checked, stopped) {
            (Err(check), Err(words)) => Err(format!("{check}{words}")),
            (checked, stopped) => checked.and(stopped),
        }
    }

    fn script(&self, folder: &str, name: &str) -> PathBuf {
        self.root.join("broker-shim/tests").join(folder).join(name)
    }
}

/// Cargo as the one that runs us, without what it set for our own build.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

fn tidy(context: &mut Context) -> Result<(), String> {
    context.run(&mut cargo(&["xtask", "tidy"]), TESTS_WITHIN)
}

fn judge(context: &mut Context) -> Result<(), String> {
    let script = context.script("chaos", "test_history.py");
    context.run(
        Command::new("python3")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(script),
        CLIENT_WITHIN,
    )
}

/// Everything is selected, so that third-party crates are those that the step `clippy` checked; and what
/// is built for these tests alone is not optimised.
fn uring(context: &mut Context) -> Result<(), String> {
    context.cargo(&[
        "clippy",
        "--workspace",
        "--lib",
        "--bench",
        "tier",
        "--features",
        "tidewater-broker/uring,tidewater-benches/uring",
        "--",
        "-D",
        "warnings",
    ])?;
    let mut command = cargo(&["test", "--package", "tidewater-s3stream", "--lib"]);
    let config = "profile.dev.package.tidewater-s3stream.opt-level=0";
    command.args(["--features", "uring", "--config", config, "read::disk"]);
    // Where this is set, a kernel without io_uring fails the tests.
    context.run(command.env("CI", "true"), TESTS_WITHIN)
}

fn docs(context: &mut Context) -> Result<(), String> {
    let mut command = cargo(&["doc", "--workspace", "--no-deps"]);
    context.run(command.env("RUSTDOCFLAGS", "-D warnings"), TESTS_WITHIN)
}

fn package(context: &mut Context) -> Result<(), String> {
    let chores = [
        "--exclude",
        "tidewater-xtask",
        "--exclude",
        "tidewater-benches",
    ];
    let mut command = cargo(&[
        "package",
        "--workspace",
        "--no-verify",
        "--allow-dirty",
        "--quiet",
    ]);
    context.run(command.args(chores), TESTS_WITHIN)
}

fn release(context: &mut Context) -> Result<(), String> {
    context.broker_binary()?;
    context.run(
        &mut cargo(&["build", "--release", "--package", SIM]),
        BUILD_WITHIN,
    )
}

fn sim_seeds(context: &mut Context) -> Result<(), String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Far apart, so that two runs do not meet; the command that is printed runs them again.
    let first = now.map_or(1, |since| since.as_secs() * 100_000);
    context.sim(&[
        "campaign",
        "--minutes",
        FRESH_MINUTES,
        "--seed",
        &first.to_string(),
    ])
}

fn sim_timeline(context: &mut Context) -> Result<(), String> {
    context.tools.chromium(&mut context.processes)?;
    let folder = context.work.join("timeline");
    std::fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for run in timeline::RUNS {
        let page = run.page(&folder)?;
        let path = page.display().to_string();
        let ended = context.sim(&[&["replay", "--html", &path], run.args].concat());
        run.check(&mut context.processes, &page, ended)?;
    }
    Ok(())
}

fn sim_mutants(context: &mut Context) -> Result<(), String> {
    context.sim(&["mutants"])
}

fn s3(context: &mut Context) -> Result<(), String> {
    let store = seaweed::start(&context.work)?;
    for (package, [kind, name]) in [
        ("tidewater-bucket", ["--test", "s3"]),
        ("tidewater-wal", ["--lib", "s3"]),
        ("tidewater-s3stream", ["--test", "linearizable"]),
        ("tidewater-stream-store", ["--test", "whole_way"]),
    ] {
        let mut command = cargo(&["test", "--package", package, kind, name, "--", "--ignored"]);
        context.run(command.envs(store.env()), TESTS_WITHIN)?;
    }
    let binary = context.broker_binary()?;
    let mut idle = cargo(&["xtask", "cost-run", "--minutes", "0", "--idle-minutes", "1"]);
    context.run(idle.env("TIDEWATER_BINARY", binary), TESTS_WITHIN)
}

fn kcat(context: &mut Context) -> Result<(), String> {
    context.tools.kcat(&mut context.processes)?;
    let script = context.script("clients", "kcat_smoke.sh");
    context.client(&mut Command::new(script))
}

fn python_client(context: &mut Context, script: &str) -> Result<(), String> {
    let python = context.tools.python(&mut context.processes)?;
    let script = context.script("clients", script);
    context.client(Command::new(python).arg(script))
}

fn kafkajs(context: &mut Context) -> Result<(), String> {
    let modules = context.tools.node_modules(&mut context.processes)?;
    let script = context.script("clients", "kafkajs_smoke.js");
    context.client(
        Command::new("node")
            .env("NODE_PATH", modules)
            .env("KAFKAJS_NO_PARTITIONER_WARNING", "1")
            .arg(script),
    )
}

fn java(context: &mut Context) -> Result<(), String> {
    let class_path = context.tools.java(&mut context.processes)?;
    context.client(Command::new("java").args(["-Xmx256m", "-cp", &class_path, "tidewater.Smoke"]))
}

fn chaos(context: &mut Context, args: &[&str]) -> Result<(), String> {
    let mut command = chaos_command(context, args)?;
    context.run(&mut command, CHAOS_WITHIN)
}

fn kill_s3(context: &mut Context) -> Result<(), String> {
    let mut command = chaos_command(
        context,
        &[
            "kill_loop.py",
            "--kills",
            "3",
            "--trim-cold",
            "--bucket",
            "s3",
        ],
    )?;
    let store = seaweed::start(&context.work)?;
    context.run(command.envs(store.env()), CHAOS_WITHIN)
}

/// A small budget: its caches are full after seconds, and what is held beside them shows.
fn soak(context: &mut Context) -> Result<(), String> {
    let load = ["--minutes", "1", "--memory-mib", "128", "--disk-gib", "4"];
    let mut command = cargo(&["xtask", "soak"]);
    context.run(command.args(load), BUILD_WITHIN)
}

/// A script of the chaos folder; the first of `args` is its name.
fn chaos_command(context: &mut Context, args: &[&str]) -> Result<Command, String> {
    let binary = context.broker_binary()?;
    let python = context.tools.python(&mut context.processes)?;
    let mut command = Command::new(python);
    command
        .env("TIDEWATER_BINARY", binary)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .arg(context.script("chaos", args[0]))
        .args(&args[1..]);
    Ok(command)
}
