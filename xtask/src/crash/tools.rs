//! What the crash test needs and brings itself: Debian packages, a shim, the program under test.
//!
//! *Owns*: the list of packages, how each is found, where the built files lie.
//! *Does not own*: what is run with them.
//!
//! Invariants
//! 1. What cannot be installed or built is a refusal of the environment, never a skip.
//!
//! *IO: driver*

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::failure::Failure;
use super::runs::Runner;

const INSTALL_WITHIN: Duration = Duration::from_secs(900);
const BUILD_WITHIN: Duration = Duration::from_secs(1_500);

/// Programs, and the packages of Debian that bring them.
const PACKAGES: &[(&str, &str)] = &[
    ("linux.uml", "user-mode-linux"),
    ("modprobe", "kmod"),
    ("dmsetup", "dmsetup"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("qemu-storage-daemon", "qemu-system-common"),
    ("strace", "strace"),
    ("cc", "gcc"),
];
/// Where the package of the guest's kernel puts its modules.
const MODULES: &str = "/usr/lib/uml/modules";
/// The order in which programs are looked for; administrators' programs are in no user's path.
const FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Paths of what was found, installed or built.
pub(crate) struct Tools {
    /// The program that runs in the guest and outside.
    pub(crate) program: PathBuf,
    /// Preloaded into the guest's kernel.
    pub(crate) shim: PathBuf,
    /// A root folder for `modprobe` in which the guest's modules lie.
    pub(crate) modules: PathBuf,
}

impl Tools {
    pub(crate) fn prepare(runner: &mut Runner, root: &Path) -> Result<Self, Failure> {
        packages(runner)?;
        let shim = runner.work.join("xstate.so");
        let mut cc = command("cc");
        cc.args([
            "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o",
        ])
        .arg(&shim)
        .arg(root.join("xtask/src/crash/xstate.c"));
        runner.must(&mut cc, BUILD_WITHIN)?;
        let modules = runner.work.join("modules");
        link_modules(&modules).map_err(|why| Failure::environment("link", &modules, &why))?;
        let program = program(runner, root)?;
        Ok(Self {
            program,
            shim,
            modules,
        })
    }
}

/// A command that finds administrators' programs too.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", path()).env("LC_ALL", "C");
    command
}

fn path() -> OsString {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    folders.extend(FOLDERS.iter().map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or_default()
}

fn is_there(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| folder.join(program).is_file())
}

fn packages(runner: &mut Runner) -> Result<(), Failure> {
    let missing = || PACKAGES.iter().filter(|(program, _)| !is_there(program));
    if missing().next().is_none() {
        return Ok(());
    }
    let wanted: Vec<&str> = missing().map(|(_, package)| *package).collect();
    println!("installing {}", wanted.join(", "));
    let mut update = command("apt-get");
    update.args(["update", "--quiet"]);
    runner.must(&mut update, INSTALL_WITHIN)?;
    let mut install = command("apt-get");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--quiet", "--yes", "--no-install-recommends"])
        .args(&wanted);
    runner.must(&mut install, INSTALL_WITHIN)?;
    match missing().next() {
        None => Ok(()),
        Some((program, package)) => Err(Failure::Environment(format!(
            "the package {package} brought no {program}"
        ))),
    }
}

/// `modprobe -d ROOT` looks below `ROOT/lib/modules`.
fn link_modules(root: &Path) -> std::io::Result<()> {
    let lib = root.join("lib");
    fs::create_dir_all(&lib)?;
    let link = lib.join("modules");
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(MODULES, link)
}

fn program(runner: &mut Runner, root: &Path) -> Result<PathBuf, Failure> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root).args([
        "build",
        "--quiet",
        "--package",
        "tidewater-sim",
        "--bin",
        "tidewater-crash",
    ]);
    runner.must(&mut build, BUILD_WITHIN)?;
    Ok(target.join("debug/tidewater-crash"))
}
