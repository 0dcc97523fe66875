//! The argument parser's complaints in the form of ours.
//!
//! *Owns*: telling help from errors; the one line that says what was wrong.
//!
//! *IO: none*

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args;
use crate::exit::{Code, Exit};

/// A command line that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// What the parser has to say, for people: usage and hints. May be empty.
    pub(super) hint: String,
    pub(super) exit: Exit,
}

impl From<Exit> for Refused {
    fn from(exit: Exit) -> Self {
        Self {
            hint: String::new(),
            exit,
        }
    }
}

/// Help and version are texts to print; the rest is refused.
pub(super) fn print_or_refuse(error: &clap::Error) -> Result<String, Refused> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(text),
        _ => Err(Refused {
            exit: reason(error, &text),
            hint: text,
        }),
    }
}

fn reason(error: &clap::Error, text: &str) -> Exit {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let what = "bad usage";
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let near = context(ContextKind::SuggestedArg);
            let expected = near.unwrap_or_else(|| "a flag that --help names".to_owned());
            Exit::new(Code::Usage, what, "command line", expected, argument)
        }
        ErrorKind::InvalidSubcommand => {
            let found = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let expected = args::commands_in_words(text);
            Exit::new(Code::Usage, what, "command", expected, found)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let expected = args::commands_in_words(text);
            Exit::new(Code::Usage, what, "command", expected, "none")
        }
        ErrorKind::ArgumentConflict => {
            let prior = context(ContextKind::PriorArg).filter(|prior| *prior != argument);
            let (expected, found) = match prior {
                Some(prior) => (format!("it without {prior}"), "both"),
                None => ("it once".to_owned(), "it again"),
            };
            let place = format!("flag {argument}");
            Exit::new(Code::Usage, what, place, expected, found)
        }
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            let found = context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
            let found = found.unwrap_or_else(|| "none".to_owned());
            Exit::new(
                Code::Usage,
                what,
                format!("flag {argument}"),
                "a value",
                found,
            )
        }
        _ => {
            let first = text.lines().next().unwrap_or_default();
            let found = first.trim_start_matches("error: ");
            Exit::new(
                Code::Usage,
                what,
                "command line",
                "what --help describes",
                found,
            )
        }
    }
}
