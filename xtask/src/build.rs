//! Builds a program of the workspace for a measurement.
//!
//! *Owns*: the profile, and where the program lies then.
//! *Does not own*: running it.
//!
//! *IO: driver*

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program and says where it is: as it is released, or with `dev` of the dev profile. A broker
/// that `TIDEWATER_BINARY` names is taken as it is.
pub(crate) fn built(root: &Path, dev: bool, package: &str, name: &str) -> Result<PathBuf, String> {
    let given = std::env::var_os("TIDEWATER_BINARY");
    if let Some(path) = given.filter(|_| name == "tidewater") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "-p", package, "--bin", name]);
    let folder = if dev {
        "debug"
    } else {
        command.arg("--release");
        "release"
    };
    match command.status() {
        Ok(status) if status.success() => {}
        other => return Err(format!("cannot build {name}: {other:?}")),
    }
    Ok(target(root).join(folder).join(name))
}

/// The folder that builds and measurements go to.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
