//! What was asked for on the command line.
//!
//! *Owns*: the arguments, their defaults, which classes run with how many states.
//! *Does not own*: the classes (`table.rs`).
//!
//! *IO: none*

use super::table::{PASSES, Pass};

pub(crate) const USAGE: &str = "\
usage: cargo xtask crash-test [--short] [--seed N] [--states N] [--class NAME]... [--no-faults]
                              [--keep] [--json PATH|-]
       cargo xtask crash-test --class NAME --seed N --state N

  without arguments records every class and judges some hundred crash states
  --short       fewer classes and states: what `cargo xtask test` runs
  --seed N      chooses workload and crashes (1)
  --states N    states a class
  --class NAME  only these classes (--list names them)
  --no-faults   without the flushes that fail
  --keep        keeps the recordings; without it those of bad classes are kept
  --state N     judges this state of the kept recording of a class again
  --json PATH   the summary as JSON; - is standard output
";

/// What was asked for.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) short: bool,
    pub(crate) seed: u64,
    pub(crate) states: Option<u64>,
    pub(crate) state: Option<u64>,
    pub(crate) keep: bool,
    pub(crate) list: bool,
    pub(crate) no_faults: bool,
    pub(crate) classes: Vec<&'static Pass>,
    pub(crate) json: Option<String>,
}

/// Understands the arguments.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn parse(args: &[&str]) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        ..Options::default()
    };
    let mut rest = args;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    loop {
        rest = match rest {
            [] => break,
            ["--short", behind @ ..] => {
                options.short = true;
                behind
            }
            ["--list", behind @ ..] => {
                options.list = true;
                behind
            }
            ["--keep", behind @ ..] => {
                options.keep = true;
                behind
            }
            ["--no-faults", behind @ ..] => {
                options.no_faults = true;
                behind
            }
            ["--seed", text, behind @ ..] => {
                options.seed = number(text)?;
                behind
            }
            ["--states", text, behind @ ..] => {
                options.states = Some(number(text)?);
                behind
            }
            ["--state", text, behind @ ..] => {
                options.state = Some(number(text)?);
                behind
            }
            ["--json", path, behind @ ..] => {
                options.json = Some((*path).to_owned());
                behind
            }
            ["--class", name, behind @ ..] => {
                let pass = PASSES.iter().find(|pass| pass.name == *name);
                options
                    .classes
                    .push(pass.ok_or_else(|| format!("no class is called {name:?}"))?);
                behind
            }
            [other, ..] => return Err(format!("unknown or incomplete argument {other:?}")),
        };
    }
    if options.state.is_some() && options.classes.len() != 1 {
        return Err("--state needs one --class".to_owned());
    }
    Ok(options)
}

/// The classes to run, each with its number of states.
pub(crate) fn chosen(options: &Options) -> Vec<(&'static Pass, u64)> {
    let asked = !options.classes.is_empty();
    let all: Vec<&Pass> = if asked {
        options.classes.clone()
    } else {
        PASSES.iter().collect()
    };
    all.into_iter()
        .map(|pass| {
            let states = pass.states[usize::from(options.short && !asked)];
            let states = if states > 0 {
                options.states.unwrap_or(states)
            } else {
                0
            };
            (pass, states)
        })
        .filter(|(_, states)| *states > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::table::Expect;

    #[test]
    fn the_default_judges_three_hundred_states_and_the_short_form_less() {
        let good = |options: &Options| -> u64 {
            let good = |pass: &Pass| pass.expect == Expect::Good;
            let chosen = chosen(options).into_iter().filter(|(pass, _)| good(pass));
            chosen.map(|(_, states)| states).sum()
        };
        assert!(good(&parse(&[]).unwrap()) >= 300);
        let short = parse(&["--short"]).unwrap();
        assert!((1..100).contains(&good(&short)));
        let bugs = |(pass, _): &(&Pass, u64)| pass.expect != Expect::Good;
        assert!(
            chosen(&short).iter().any(bugs),
            "the short form seeds a bug too"
        );
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        let replay = ["--class", "raw-ring-sync", "--seed", "7", "--state", "3"];
        let replay = parse(&replay).unwrap();
        assert_eq!((replay.seed, replay.state), (7, Some(3)));
        for bad in [
            &["--class", "none"] as &[&str],
            &["--state", "1"],
            &["--seed"],
            &["--seed", "x"],
            &["more"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
