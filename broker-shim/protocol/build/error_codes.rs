//! The list of error codes: parser and emitter.
//!
//! *Owns*: `schema/error_codes.txt`, lines of `CODE NAME [retriable]`.
//!
//! *Does not own*: the `ErrorCode` type itself (`src/error_code.rs`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::model::{Place, SchemaError};

pub(crate) struct Code {
    value: i16,
    name: String,
    retriable: bool,
}

pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Code>, SchemaError> {
    let mut codes: Vec<Code> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = Place {
            file: file.to_owned(),
            line: index + 1,
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (value, name, retriable) = match words.as_slice() {
            [] => continue,
            [first, ..] if first.starts_with('#') => continue,
            [value, name] => (value, name, false),
            [value, name, "retriable"] => (value, name, true),
            _ => return Err(place.error("expected CODE NAME [retriable]")),
        };
        let value = value
            .parse()
            .map_err(|_| place.error(format!("bad code `{value}`")))?;
        if !name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(place.error(format!("bad name `{name}`")));
        }
        if codes
            .iter()
            .any(|code| code.value == value || code.name == *name)
        {
            return Err(place.error(format!("{value} {name} is listed twice")));
        }
        codes.push(Code {
            value,
            name: (*name).to_owned(),
            retriable,
        });
    }
    Ok(codes)
}

pub(crate) fn emit(codes: &[Code]) -> String {
    let mut consts = String::new();
    let mut names = String::new();
    let mut retriable = Vec::new();
    for Code {
        value,
        name,
        retriable: again,
    } in codes
    {
        let _ = writeln!(consts, "    /// Code {value}.");
        let _ = writeln!(
            consts,
            "    pub const {name}: ErrorCode = ErrorCode({value});"
        );
        let _ = writeln!(names, "            {value} => \"{name}\",");
        if *again {
            retriable.push(value.to_string());
        }
    }
    format!(
        "impl ErrorCode {{
{consts}
    /// Kafka's name, such as `OFFSET_OUT_OF_RANGE`; `UNLISTED` for a code this crate does not know.
    pub const fn name(self) -> &'static str {{
        match self.0 {{
{names}            _ => \"UNLISTED\",
        }}
    }}

    /// Whether Kafka's clients try the same request again on this code.
    pub const fn is_retriable(self) -> bool {{
        matches!(self.0, {})
    }}
}}
",
        retriable.join(" | ")
    )
}
