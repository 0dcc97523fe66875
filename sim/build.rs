//! Collects the names of all `sometimes!` in the code under test, so that a campaign can tell
//! which of them it never reached.
//!
//! *Owns*: `sometimes.rs` in the build's output. *Does not own*: the counters (types).
//!
//! Invariants
//! 1. Crates that are not beside this one, as in a package, are left out.
//!
//! *IO: driver*

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SOURCES: &[&str] = &[
    "src",
    "../bucket/src",
    "../broker-shim/src",
    "../s3stream/src",
    "../stream-store/src",
    "../wal/src",
];

fn main() {
    let mut names = BTreeSet::new();
    for folder in SOURCES.iter().map(Path::new).filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", folder.display());
        collect(folder, &mut names);
    }
    let list: String = names
        .iter()
        .map(|name| format!("    {name:?},\n"))
        .collect();
    let text = format!("pub(super) const SOMETIMES: &[&str] = &[\n{list}];\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("sometimes.rs"), text).expect("the build's folder is ours");
}

fn collect(path: &Path, names: &mut BTreeSet<String>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder of sources");
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| collect(entry, names));
        return;
    }
    let name = path.file_name().unwrap_or_default();
    let is_test = name == "tests.rs" || path.iter().any(|part| part == "tests");
    if is_test || path.extension().is_none_or(|extension| extension != "rs") {
        return;
    }
    let text = fs::read_to_string(path).expect("sources are text");
    let inline = "#[cfg(test)]\nmod tests {";
    let code = text.split(inline).next().unwrap_or_default();
    for behind in code.split("sometimes!(").skip(1) {
        let named = behind.trim_start().strip_prefix('"');
        if let Some((name, _)) = named.and_then(|rest| rest.split_once('"')) {
            names.insert(name.to_owned());
        }
    }
}
