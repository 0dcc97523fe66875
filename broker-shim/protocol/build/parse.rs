//! Parser of the schema syntax described in the crate's README.
//!
//! *Owns*: lines, indentation, words, and turning them into `model` values.
//!
//! *Does not own*: whether the result makes sense (`check`).
//!
//! Invariants:
//! 1. Nothing is skipped: a word that is not understood fails the build with file and line.
//! 2. Two spaces open one level; a level may only hang below a field of struct type or a `struct`.
//!
//! *IO: none*

use crate::model::{Field, Kind, Message, Place, SchemaError, Struct, Tag, Type, Versions};
use crate::names;

struct Line<'a> {
    depth: usize,
    words: Vec<&'a str>,
    place: Place,
}

/// Every message in the text of one file; `file` is only used in errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Message>, SchemaError> {
    let lines = split(file, text)?;
    let mut messages = Vec::new();
    let mut rest = lines.as_slice();
    while let Some((head, tail)) = rest.split_first() {
        if head.depth != 0 {
            return Err(head.place.error("a message must start at the left margin"));
        }
        let len = tail.iter().take_while(|line| line.depth > 0).count();
        messages.push(message(head, &tail[..len])?);
        rest = &tail[len..];
    }
    Ok(messages)
}

fn split<'a>(file: &str, text: &'a str) -> Result<Vec<Line<'a>>, SchemaError> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let place = Place {
            file: file.to_owned(),
            line: index + 1,
        };
        let body = raw.trim_end();
        let words: Vec<&str> = body.split_whitespace().collect();
        if words.is_empty() || words[0].starts_with('#') {
            continue;
        }
        let indent = body.len() - body.trim_start_matches(' ').len();
        if indent % 2 != 0 || body.trim_start_matches(' ').starts_with('\t') {
            return Err(place.error("indentation must be a multiple of two spaces"));
        }
        lines.push(Line {
            depth: indent / 2,
            words,
            place,
        });
    }
    Ok(lines)
}

fn message(head: &Line<'_>, body: &[Line<'_>]) -> Result<Message, SchemaError> {
    let place = &head.place;
    let mut words = head.words.iter().copied();
    let kind = match words.next() {
        Some("request") => Kind::Request(number(place, words.next(), "api key")?),
        Some("response") => Kind::Response(number(place, words.next(), "api key")?),
        Some("data") => Kind::Data,
        other => {
            let found = other.unwrap_or_default();
            return Err(place.error(format!(
                "expected request, response or data, found `{found}`"
            )));
        }
    };
    let name = name(place, words.next())?;
    let valid = attribute(place, words.next(), "versions")?;
    let flexible = attribute(place, words.next(), "flexible")?;
    if let Some(extra) = words.next() {
        return Err(place.error(format!("unexpected `{extra}` after the message head")));
    }
    let mut structs = vec![Struct {
        name: name.clone(),
        fields: Vec::new(),
        place: place.clone(),
    }];
    structs[0].fields = fields(body, 1, &mut structs)?;
    Ok(Message {
        kind,
        name,
        versions: valid,
        flexible: flexible.intersect(valid),
        structs,
        place: place.clone(),
    })
}

/// The fields at `depth`; the structs below them are appended to `structs`.
fn fields(
    lines: &[Line<'_>],
    depth: usize,
    structs: &mut Vec<Struct>,
) -> Result<Vec<Field>, SchemaError> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while let Some((line, tail)) = rest.split_first() {
        if line.depth != depth {
            return Err(line
                .place
                .error(format!("expected {} spaces before this line", depth * 2)));
        }
        let len = tail.iter().take_while(|below| below.depth > depth).count();
        let (children, after) = tail.split_at(len);
        rest = after;
        if line.words[0] == "struct" {
            let name = name(&line.place, line.words.get(1).copied())?;
            nested(line, name, children, depth, structs)?;
            continue;
        }
        let field = field(line)?;
        if !children.is_empty() {
            let Some(name) = field.ty.struct_name().map(str::to_owned) else {
                return Err(children[0]
                    .place
                    .error("only a struct can have fields below it"));
            };
            nested(line, name, children, depth, structs)?;
        }
        fields.push(field);
    }
    Ok(fields)
}

fn nested(
    line: &Line<'_>,
    name: String,
    children: &[Line<'_>],
    depth: usize,
    structs: &mut Vec<Struct>,
) -> Result<(), SchemaError> {
    let index = structs.len();
    structs.push(Struct {
        name,
        fields: Vec::new(),
        place: line.place.clone(),
    });
    structs[index].fields = fields(children, depth + 1, structs)?;
    Ok(())
}

/// `Name type versions [null=V] [tag=N@V] [default=X] [ignorable] [inflexible]`
fn field(line: &Line<'_>) -> Result<Field, SchemaError> {
    let place = &line.place;
    let mut words = line.words.iter().copied();
    let name = name(place, words.next())?;
    let ty = ty(place, words.next().unwrap_or_default())?;
    let valid = versions(place, words.next().unwrap_or_default())?;
    let mut field = Field {
        name,
        ty,
        versions: valid,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        inflexible: false,
        place: place.clone(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("null", range)) => field.nullable = versions(place, range)?,
            Some(("default", value)) => field.default = Some(value.to_owned()),
            Some(("tag", value)) => {
                let Some((digits, range)) = value.split_once('@') else {
                    return Err(place.error("a tag is written tag=NUMBER@VERSIONS"));
                };
                let number = number(place, Some(digits), "tag")?;
                field.tag = Some(Tag {
                    number,
                    versions: versions(place, range)?,
                });
            }
            None if word == "ignorable" => field.ignorable = true,
            None if word == "inflexible" => field.inflexible = true,
            _ => return Err(place.error(format!("unknown attribute `{word}`"))),
        }
    }
    Ok(field)
}

fn ty(place: &Place, word: &str) -> Result<Type, SchemaError> {
    if let Some(inner) = word.strip_prefix("[]") {
        return match ty(place, inner)? {
            Type::Array(_) => Err(place.error("an array of arrays does not exist on the wire")),
            element => Ok(Type::Array(Box::new(element))),
        };
    }
    Ok(match word {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "uint32" => Type::Uint32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        _ if names::is_name(word) => Type::Struct(word.to_owned()),
        _ => return Err(place.error(format!("unknown type `{word}`"))),
    })
}

fn attribute(place: &Place, word: Option<&str>, key: &str) -> Result<Versions, SchemaError> {
    match word.and_then(|w| w.split_once('=')) {
        Some((found, range)) if found == key => versions(place, range),
        _ => Err(place.error(format!(
            "expected {key}=VERSIONS, found `{}`",
            word.unwrap_or("")
        ))),
    }
}

/// `3`, `3-7`, `3+` or `none`.
fn versions(place: &Place, word: &str) -> Result<Versions, SchemaError> {
    let what = "version";
    let range = if word == "none" {
        return Ok(Versions::NONE);
    } else if let Some(min) = word.strip_suffix('+') {
        Versions {
            min: number(place, Some(min), what)?,
            max: i16::MAX,
        }
    } else if let Some((min, max)) = word.split_once('-') {
        Versions {
            min: number(place, Some(min), what)?,
            max: number(place, Some(max), what)?,
        }
    } else {
        let only = number(place, Some(word), what)?;
        Versions {
            min: only,
            max: only,
        }
    };
    if range.is_empty() {
        return Err(place.error(format!("version range `{word}` runs backwards")));
    }
    Ok(range)
}

fn name(place: &Place, word: Option<&str>) -> Result<String, SchemaError> {
    match word {
        Some(word) if names::is_name(word) => Ok(word.to_owned()),
        _ => Err(place.error(format!(
            "expected a CamelCase name, found `{}`",
            word.unwrap_or("")
        ))),
    }
}

fn number<N: std::str::FromStr>(
    place: &Place,
    word: Option<&str>,
    what: &str,
) -> Result<N, SchemaError> {
    let word = word.unwrap_or_default();
    word.parse()
        .map_err(|_| place.error(format!("expected a number for the {what}, found `{word}`")))
}
