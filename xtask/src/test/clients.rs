//! The steps that point real clients at the release build of the broker.
//!
//! *Owns*: installing the clients (PyPI, npm, Maven Central, Debian), starting the broker, running
//! each client's script.
//! *Does not own*: the scripts (broker-shim/tests).
//!
//! *IO: driver*

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::run::{Context, Group, run};
use crate::services::seaweed;

const CLIENTS: &str = "broker-shim/tests/clients";
const CHAOS: &str = "broker-shim/tests/chaos";
/// How long a broker may take to its ready file.
const READY: Duration = Duration::from_secs(30);

/// The same smoke through kcat, three Python clients, KafkaJS and the Java client.
pub(crate) fn smoke(context: &Context) -> Result<(), String> {
    let python = python(context)?;
    kcat()?;
    let node = node(context)?;
    let classes = java(context)?;
    let broker = Broker::start(context)?;
    let address = broker.address.as_str();
    let scripts = context.root.join(CLIENTS);
    for script in [
        "confluent_smoke.py",
        "aiokafka_smoke.py",
        "kafka_python_smoke.py",
    ] {
        let script = scripts.join(script);
        context.run(5, &text(&python), &[text(&script), address.to_owned()])?;
    }
    context.run(
        5,
        "bash",
        &[text(&scripts.join("kcat_smoke.sh")), address.to_owned()],
    )?;
    context.run(
        5,
        "node",
        &[text(&node.join("kafkajs_smoke.js")), address.to_owned()],
    )?;
    context.run(
        5,
        "java",
        &["-Xmx256m", "-cp", &classes, "tidewater.Smoke", address],
    )
}

pub(crate) fn refusals(context: &Context) -> Result<(), String> {
    let python = python(context)?;
    let folder = context.root.join(CHAOS);
    context.run(2, &text(&python), &[text(&folder.join("test_history.py"))])?;
    context.run(10, &text(&python), &[text(&folder.join("refusals.py"))])
}

pub(crate) fn kills(context: &Context) -> Result<(), String> {
    let python = python(context)?;
    let script = text(&context.root.join(CHAOS).join("kill_loop.py"));
    context.run(
        10,
        &text(&python),
        &[&script, "--kills", "10", "--trim-cold"],
    )
}

pub(crate) fn kills_s3(context: &Context) -> Result<(), String> {
    let python = python(context)?;
    let server = seaweed::start(&context.work)?;
    let script = context.root.join(CHAOS).join("kill_loop.py");
    let mut command = Command::new(&python);
    command
        .arg(script)
        .args(["--kills", "10", "--trim-cold", "--bucket", "s3"])
        .envs(server.env())
        .current_dir(&context.root);
    run(10, command)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The interpreter of an environment that holds exactly the pinned packages.
fn python(context: &Context) -> Result<PathBuf, String> {
    let requirements = context.root.join(CLIENTS).join("requirements.txt");
    let folder = context.work.join("venv-clients");
    let interpreter = folder.join("bin/python");
    let wanted = std::fs::read_to_string(&requirements)
        .map_err(|error| format!("{}: {error}", requirements.display()))?;
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    context.run(5, "python3", &["-m", "venv", "--clear", &text(&folder)])?;
    let requirements = text(&requirements);
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--requirement",
        &requirements,
    ];
    context.run(10, &text(&interpreter), &install)?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(interpreter)
}

/// kcat from Debian, if it is not there already.
fn kcat() -> Result<(), String> {
    let mut present = Command::new("kcat");
    present
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if present.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        run(10, command)
    };
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", "--no-install-recommends", "kcat"])
}

/// A folder with the script and what the lock file pins.
fn node(context: &Context) -> Result<PathBuf, String> {
    let folder = context.work.join("kafkajs");
    let copied = ["package.json", "package-lock.json", "kafkajs_smoke.js"];
    copy(&context.root.join(CLIENTS), &folder, &copied)?;
    let mut command = Command::new("npm");
    command
        .args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(&folder);
    run(10, command)?;
    Ok(folder)
}

/// The class path of the Java client's check, built by Maven outside the source tree.
fn java(context: &Context) -> Result<String, String> {
    let source = context.root.join(CLIENTS).join("java");
    let folder = context.work.join("java");
    copy(&source, &folder, &["pom.xml"])?;
    let mut tree = Command::new("cp");
    tree.arg("-R").arg(source.join("src")).arg(&folder);
    run(1, tree)?;
    let mut command = Command::new("mvn");
    command
        .args(["--quiet", "--batch-mode", "package"])
        .current_dir(&folder);
    run(15, command)?;
    Ok(format!(
        "{}:{}/*",
        text(&folder.join("target/classes")),
        text(&folder.join("target/libs"))
    ))
}

fn copy(from: &Path, to: &Path, names: &[&str]) -> Result<(), String> {
    std::fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for name in names {
        let source = from.join(name);
        std::fs::copy(&source, to.join(name))
            .map_err(|error| format!("{}: {error}", source.display()))?;
    }
    Ok(())
}

/// A broker on a free port with a fresh directory; killed when dropped.
struct Broker {
    address: String,
    _process: Group,
}

impl Broker {
    fn start(context: &Context) -> Result<Self, String> {
        let folder = context.work.join("smoke");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let ready = folder.join("ready.json");
        let mut command = Command::new(context.root.join("target/release/tidewater"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null());
        let process = Group::start(&mut command).map_err(|error| format!("tidewater: {error}"))?;
        let deadline = Instant::now() + READY;
        while !ready.exists() {
            if Instant::now() > deadline {
                return Err(format!("the broker is not ready after {READY:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let facts = std::fs::read(&ready).map_err(|error| error.to_string())?;
        let facts: serde_json::Value =
            serde_json::from_slice(&facts).map_err(|error| error.to_string())?;
        let address = facts["listen"]
            .as_str()
            .ok_or("the ready file names no address")?;
        Ok(Self {
            address: address.to_owned(),
            _process: process,
        })
    }
}
