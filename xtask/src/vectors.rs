//! `cargo xtask release-vectors VERSION`: from now on these vectors never change.
//!
//! *Owns*: writing the list of a version, once.
//! *Does not own*: the list's form and the check (`tidy/vectors.rs`).
//!
//! *IO: driver*

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::tidy::{list_of_vectors, path_of_list, read_tree};

const USAGE: &str = "usage: cargo xtask release-vectors MAJOR.MINOR.PATCH\n";

pub(crate) fn main(root: &Path, args: &[&str]) -> ExitCode {
    let [version] = args else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let Some(path) = path_of_list(version) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    match write(root, version, &path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("release-vectors: {path}: {message}");
            ExitCode::from(3)
        }
    }
}

fn write(root: &Path, version: &str, path: &str) -> Result<(), String> {
    let file = root.join(path);
    if file.exists() {
        return Err("this version was released".to_owned());
    }
    let text = list_of_vectors(&read_tree(root)?, version);
    fs::create_dir_all(file.parent().expect("below the root")).map_err(|e| e.to_string())?;
    fs::write(&file, text).map_err(|e| e.to_string())?;
    println!("{path}");
    Ok(())
}
