//! What the command line asks of a bench.
//!
//! *Owns*: the flags, the filters, quick or full.
//! *Does not own*: what a bench does with them.
//!
//! Invariants
//! 1. A flag that nobody knows is refused, never taken for a filter.
//!
//! *IO: driver (arguments and environment)*

use std::io;

/// Flags and filters of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Short slices for a first look.
    pub quick: bool,
    /// Only say what there is.
    pub list: bool,
    words: Vec<String>,
}

impl Options {
    /// Reads the arguments of the process and `TIDEWATER_BENCH_MODE`. `None` unless cargo asks for
    /// a bench (`--bench`): `cargo test` starts the same program, and wants no measurement.
    ///
    /// # Errors
    /// A flag or a mode that is unknown.
    pub fn of_process() -> io::Result<Option<Self>> {
        let mode = std::env::var("TIDEWATER_BENCH_MODE").unwrap_or_default();
        Self::parse(std::env::args().skip(1), &mode)
    }

    fn parse(arguments: impl Iterator<Item = String>, mode: &str) -> io::Result<Option<Self>> {
        if !matches!(mode, "" | "full" | "quick") {
            return Err(refusal(format!(
                "TIDEWATER_BENCH_MODE = {mode}: expected quick or full"
            )));
        }
        let mut options = Self {
            quick: mode == "quick",
            ..Self::default()
        };
        let mut is_bench = false;
        for argument in arguments {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                flag if flag.starts_with('-') => {
                    return Err(refusal(format!(
                        "{flag}: expected --quick, --list or parts of names to run"
                    )));
                }
                _ => options.words.push(argument),
            }
        }
        Ok(is_bench.then_some(options))
    }

    /// Whether the thing of that name shall run: all do, unless there are filters, one of which
    /// must be a part of the name.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

fn refusal(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str, mode: &str) -> std::io::Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(str::to_owned), mode)
    }

    #[test]
    fn words_are_filters_and_no_words_mean_everything() {
        let all = parse("--bench", "").unwrap().unwrap();
        assert!(all.wants("append/device/1024/64") && !all.quick);
        let some = parse("device/1024 recovery --bench", "").unwrap().unwrap();
        assert!(some.wants("append/device/1024/64") && some.wants("recovery/1024"));
        assert!(!some.wants("append/device-portable/1024/64"));
    }

    #[test]
    fn quick_comes_from_the_flag_or_the_environment() {
        assert!(parse("--bench --quick", "full").unwrap().unwrap().quick);
        assert!(parse("--bench", "quick").unwrap().unwrap().quick);
        assert!(parse("--bench", "fast").is_err());
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(parse("--bench --save-baseline x", "").is_err());
    }

    #[test]
    fn without_bench_nothing_runs() {
        assert_eq!(parse("--quick", "").unwrap(), None);
    }
}
