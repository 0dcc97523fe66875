//! What `cargo metadata` says of the packages.
//!
//! *Owns*: the few fields the checks need.
//! *Does not own*: any rule.
//!
//! *IO: driver*

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The packages of the dependency graph.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

/// One package at one version.
#[derive(Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// Path of its Cargo.toml, from the root for members of the workspace.
    pub(crate) manifest: String,
    pub(crate) is_member: bool,
    /// Names of its direct dependencies, development ones included.
    pub(crate) dependencies: Vec<String>,
}

pub(crate) fn read(root: &Path) -> Result<Metadata, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--all-features"])
        .output()
        .map_err(|why| format!("cargo metadata did not start: {why}"))?;
    if !said.status.success() {
        return Err(format!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&said.stderr).trim()
        ));
    }
    let json: Value = serde_json::from_slice(&said.stdout)
        .map_err(|why| format!("cargo metadata is no JSON: {why}"))?;
    parse(&json).ok_or_else(|| "cargo metadata lacks a field".to_owned())
}

fn parse(json: &Value) -> Option<Metadata> {
    let root = json["workspace_root"].as_str()?;
    let members: Vec<&str> = json["workspace_members"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let packages = json["packages"]
        .as_array()?
        .iter()
        .map(|package| one(package, root, &members))
        .collect::<Option<_>>()?;
    Some(Metadata { packages })
}

fn one(package: &Value, root: &str, members: &[&str]) -> Option<Package> {
    let manifest = package["manifest_path"].as_str()?;
    let below = manifest
        .strip_prefix(root)
        .map(|path| path.trim_start_matches('/'));
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        version: package["version"].as_str()?.to_owned(),
        license: package["license"].as_str().map(str::to_owned),
        manifest: below.unwrap_or("Cargo.lock").to_owned(),
        is_member: members.contains(&package["id"].as_str()?),
        dependencies: package["dependencies"]
            .as_array()?
            .iter()
            .filter_map(|one| one["name"].as_str())
            .map(str::to_owned)
            .collect(),
    })
}
