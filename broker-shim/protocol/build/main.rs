//! Build script: turns `schema/` into Rust in `OUT_DIR`.
//!
//! *Owns*: reading the schema folder, running the stages in order, reporting a bad schema as
//! `file:line: reason` and failing the build.
//!
//! *Does not own*: the syntax (`parse`), what makes a schema sound (`check`), or the shape of the
//! generated code (`emit*`). The wire primitives the generated code calls live in `src/wire/`.
//!
//! *IO: driver* (reads `schema/`, writes `OUT_DIR`).

mod check;
mod emit;
mod emit_decode;
mod emit_encode;
mod emit_struct;
mod emit_tables;
mod emit_testing;
mod error_codes;
mod model;
mod names;
mod parse;
mod sizes;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use model::{Message, SchemaError};

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        process::exit(1);
    }
}

fn run() -> Result<(), SchemaError> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let folder = root.join("schema");
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");

    let messages = read_messages(&folder)?;
    check::check_all(&messages)?;
    let codes = error_codes::parse(
        "schema/error_codes.txt",
        &read(&folder.join("error_codes.txt"))?,
    )?;

    write(&out.join("messages.rs"), &emit::messages(&messages))?;
    write(&out.join("api_key.rs"), &emit_tables::api_keys(&messages))?;
    write(&out.join("error_code.rs"), &error_codes::emit(&codes))?;
    write(&out.join("testing.rs"), &emit_testing::arbitrary(&messages))
}

fn read_messages(folder: &Path) -> Result<Vec<Message>, SchemaError> {
    let entries = fs::read_dir(folder).map_err(|e| io_error(folder, &e))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    // The order of a directory listing is not stable; generated code must be.
    paths.sort();
    let mut messages = Vec::new();
    for path in paths
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "schema"))
    {
        let label = format!(
            "schema/{}",
            path.file_name().unwrap_or_default().to_string_lossy()
        );
        messages.extend(parse::parse(&label, &read(path)?)?);
    }
    Ok(messages)
}

fn read(path: &Path) -> Result<String, SchemaError> {
    fs::read_to_string(path).map_err(|e| io_error(path, &e))
}

fn write(path: &Path, text: &str) -> Result<(), SchemaError> {
    fs::write(path, text).map_err(|e| io_error(path, &e))
}

fn io_error(path: &Path, error: &std::io::Error) -> SchemaError {
    SchemaError {
        file: path.display().to_string(),
        line: 0,
        reason: error.to_string(),
    }
}
