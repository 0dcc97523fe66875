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
    /// Somebody got in the way; another attempt may go well.
    Disturbed(String),
}

/// Attempts before a disturbance counts as a refusal.
const ATTEMPTS_MAX: usize = 3;

/// Repeats `attempt` while it is only disturbed.
pub(crate) fn undisturbed<T>(
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    for _ in 1..ATTEMPTS_MAX {
        match attempt() {
            Err(Failure::Disturbed(why)) => eprintln!("once more: {why}"),
            other => return other,
        }
    }
    attempt().map_err(|failure| match failure {
        Failure::Disturbed(why) => Failure::Environment(why),
        other => other,
    })
}

impl Failure {
    /// The environment refused to do `what` with `path`.
    pub(crate) fn environment(what: &str, path: &Path, why: &std::io::Error) -> Self {
        Self::Environment(format!("cannot {what} {}: {why}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_attempt_is_repeated_and_in_the_end_refused() {
        let mut count = 0;
        let mut run = |disturbed: usize| {
            count = 0;
            undisturbed(|| {
                count += 1;
                if count <= disturbed {
                    return Err(Failure::Disturbed(String::new()));
                }
                Ok(count)
            })
        };
        assert!(matches!(run(0), Ok(1)));
        assert!(matches!(run(2), Ok(3)));
        assert!(matches!(run(3), Err(Failure::Environment(_))));
        let finding: Result<(), _> = undisturbed(|| Err(Failure::Check(String::new())));
        assert!(matches!(finding, Err(Failure::Check(_))));
    }
}
