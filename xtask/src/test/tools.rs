//! What the steps need and bring themselves: Python and Node packages, a Java program, kcat, Chromium.
//!
//! *Owns*: the folders below `target/tidewater-test` and when they are made anew.
//! *Does not own*: the pinned versions; they stand with the client scripts.
//!
//! Invariants
//! 1. A folder with a stamp is whole and was made from what the stamp says.
//! 2. What cannot be installed is a failure.
//!
//! *IO: driver*

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Processes;

const INSTALL_WITHIN: Duration = Duration::from_secs(600);

/// Where the pinned versions stand.
pub(crate) struct Tools {
    clients: PathBuf,
    work: PathBuf,
}

impl Tools {
    pub(crate) fn new(root: &Path, work: &Path) -> Self {
        Self {
            clients: root.join("broker-shim/tests/clients"),
            work: work.to_owned(),
        }
    }

    /// A Python with the client packages.
    pub(crate) fn python(&self, processes: &mut Processes) -> Result<PathBuf, String> {
        let folder = self.work.join("python");
        let requirements = self.clients.join("requirements.txt");
        made(&folder, &[&requirements], |folder| {
            processes.run(
                Command::new("python3").args(["-m", "venv"]).arg(folder),
                INSTALL_WITHIN,
            )?;
            let mut pip = Command::new(folder.join("bin/python"));
            pip.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements);
            processes.run(&mut pip, INSTALL_WITHIN)
        })?;
        Ok(folder.join("bin/python"))
    }

    /// The folder that Node finds the client packages in.
    pub(crate) fn node_modules(&self, processes: &mut Processes) -> Result<PathBuf, String> {
        let folder = self.work.join("node");
        let (package, lock) = (
            self.clients.join("package.json"),
            self.clients.join("package-lock.json"),
        );
        made(&folder, &[&package, &lock], |folder| {
            copy(&package, &folder.join("package.json"))?;
            copy(&lock, &folder.join("package-lock.json"))?;
            let mut npm = Command::new("npm");
            npm.current_dir(folder).args([
                "ci",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--loglevel=error",
            ]);
            processes.run(&mut npm, INSTALL_WITHIN)
        })?;
        Ok(folder.join("node_modules"))
    }

    /// The class path of the Java client's check.
    pub(crate) fn java(&self, processes: &mut Processes) -> Result<String, String> {
        let folder = self.work.join("java");
        let source = "src/main/java/tidewater/Smoke.java";
        let files = [
            self.clients.join("java/pom.xml"),
            self.clients.join("java").join(source),
        ];
        made(&folder, &[&files[0], &files[1]], |folder| {
            copy(&files[0], &folder.join("pom.xml"))?;
            copy(&files[1], &folder.join(source))?;
            let mut maven = Command::new("mvn");
            maven
                .current_dir(folder)
                .args(["--quiet", "--batch-mode", "compile"]);
            processes.run(&mut maven, INSTALL_WITHIN)
        })?;
        let target = folder.join("target");
        Ok(format!("{0}/classes:{0}/libs/*", target.display()))
    }

    /// kcat from the distribution, if nobody installed it before.
    pub(crate) fn kcat(&self, processes: &mut Processes) -> Result<(), String> {
        debian(processes, "kcat", "-V")
    }

    /// Chromium from the distribution, if nobody installed it before.
    pub(crate) fn chromium(&self, processes: &mut Processes) -> Result<(), String> {
        debian(processes, "chromium", "--version")
    }
}

/// A Debian package whose program has its name and answers to `probe`.
fn debian(processes: &mut Processes, package: &str, probe: &str) -> Result<(), String> {
    let probe = Command::new(package)
        .arg(probe)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if probe.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let mut apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        processes.run(&mut command, INSTALL_WITHIN)
    };
    apt(&["update", "--quiet"])?;
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    apt(&[&install[..], &[package]].concat())
}

/// Makes `folder` anew unless its stamp says that it was made from these very files.
fn made(
    folder: &Path,
    from: &[&Path],
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let said = |path: &Path, why: std::io::Error| format!("{}: {why}", path.display());
    let mut wanted = String::new();
    for path in from {
        wanted += &fs::read_to_string(path).map_err(|why| said(path, why))?;
    }
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|why| said(folder, why))?;
    }
    fs::create_dir_all(folder).map_err(|why| said(folder, why))?;
    make(folder)?;
    fs::write(&stamp, wanted).map_err(|why| said(&stamp, why))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(|why| format!("{}: {why}", parent.display()))?;
    fs::copy(from, to)
        .map(drop)
        .map_err(|why| format!("{}: {why}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_again_only_when_its_source_changed_or_it_failed() {
        let base = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&base).unwrap();
        let (source, folder) = (base.join("source"), base.join("made"));
        let mut count = 0;
        let mut run = |outcome: Result<(), String>| {
            let result = made(&folder, &[&source], |_| {
                count += 1;
                outcome
            });
            (result.is_ok(), count)
        };
        assert_eq!(
            run(Ok(())),
            (false, 0),
            "without its source nothing is made"
        );
        fs::write(&source, "one").unwrap();
        assert_eq!(run(Err("no".into())), (false, 1));
        assert_eq!(run(Ok(())), (true, 2));
        assert_eq!(run(Ok(())), (true, 2));
        fs::write(&source, "two").unwrap();
        assert_eq!(run(Ok(())), (true, 3));
        fs::remove_dir_all(&base).unwrap();
    }
}
