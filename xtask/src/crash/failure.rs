//! Why a crash test is not as it should be: a finding, or an environment that refuses.
//!
//! *Owns*: the difference, on which the exit code rests.
//! *Does not own*: the exit codes.
//!
//! *IO: none*

use std::path::Path;

/// Why a part of the run is not as it should be.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What is tested is wrong.
    Check(String),
    /// It could not be tested.
    Environment(String),
}

impl Failure {
    /// The environment refused to do `what` with `path`.
    pub(crate) fn environment(what: &str, path: &Path, why: &std::io::Error) -> Self {
        Self::Environment(format!("cannot {what} {}: {why}", path.display()))
    }
}
