//! What makes a parsed schema sound.
//!
//! *Owns*: every rule that `parse` cannot see in one line, so that the emitters may rely on them.
//!
//! *Does not own*: syntax (`parse`), sizes (`sizes`).
//!
//! Invariants (after `check_all`):
//! 1. Every struct that is named exists, is used, and does not contain itself. With the limit on
//!    nesting this bounds the decoder's recursion at build time; it needs no counter at run time.
//! 2. Tags run 0, 1, 2 … in a struct, in flexible versions only, up to the field's last version.
//! 3. Every default fits its type; null only where null is allowed.
//! 4. A request has a response of the same key, versions and flexible versions.
//! 5. A struct in an array takes at least one byte in every version it occurs in.
//!
//! *IO: none*

use std::collections::BTreeSet;

use crate::model::{Field, Kind, Message, SchemaError, Struct, Type};
use crate::{names, sizes};

/// How deep structs may hang in structs. Kafka's deepest message has five levels.
const MAX_DEPTH: usize = 8;

pub(crate) fn check_all(messages: &[Message]) -> Result<(), SchemaError> {
    let mut seen = BTreeSet::new();
    for message in messages {
        if !seen.insert(&message.name) {
            return Err(message
                .place
                .error(format!("message {} is defined twice", message.name)));
        }
        check_message(message)?;
    }
    check_pairs(messages)
}

fn check_pairs(messages: &[Message]) -> Result<(), SchemaError> {
    for message in messages {
        let (partner, suffix) = match message.kind {
            Kind::Request(key) => (Kind::Response(key), "Request"),
            Kind::Response(key) => (Kind::Request(key), "Response"),
            Kind::Data => continue,
        };
        if !message.name.ends_with(suffix) {
            return Err(message
                .place
                .error(format!("the name must end in {suffix}")));
        }
        if messages.iter().filter(|m| m.kind == message.kind).count() != 1 {
            return Err(message
                .place
                .error("another message has the same kind and api key"));
        }
        let found = messages.iter().find(|m| m.kind == partner);
        if found.is_none_or(|m| m.versions != message.versions || m.flexible != message.flexible) {
            let name = &message.name;
            return Err(message
                .place
                .error(format!("{name} has no partner with equal versions")));
        }
    }
    Ok(())
}

fn check_message(message: &Message) -> Result<(), SchemaError> {
    if message.versions.is_empty() {
        return Err(message.place.error("a message needs at least one version"));
    }
    if !message.flexible.is_empty() && message.flexible.max != message.versions.max {
        return Err(message
            .place
            .error("flexible versions must reach to the last version"));
    }
    let mut seen = BTreeSet::new();
    for item in &message.structs {
        if !seen.insert(&item.name) {
            return Err(item
                .place
                .error(format!("struct {} is defined twice", item.name)));
        }
        check_struct(message, item)?;
    }
    let mut reached = BTreeSet::new();
    walk(message, &message.structs[0], 1, &mut reached)?;
    for item in &message.structs {
        if !reached.contains(&item.name) {
            return Err(item
                .place
                .error(format!("struct {} is never used", item.name)));
        }
        for version in sizes::versions_of(message, &item.name) {
            if item.name != message.name && sizes::min_struct(message, item, version) == 0 {
                let reason = format!("struct {} has no bytes in version {version}", item.name);
                return Err(item.place.error(reason));
            }
        }
    }
    Ok(())
}

fn walk<'a>(
    message: &'a Message,
    item: &'a Struct,
    depth: usize,
    reached: &mut BTreeSet<&'a String>,
) -> Result<(), SchemaError> {
    if depth > MAX_DEPTH {
        let reason = format!("structs nest deeper than {MAX_DEPTH}, or contain themselves");
        return Err(item.place.error(reason));
    }
    reached.insert(&item.name);
    for field in &item.fields {
        let Some(name) = field.ty.struct_name() else {
            continue;
        };
        let Some(inner) = message.find(name) else {
            return Err(field.place.error(format!("unknown struct {name}")));
        };
        walk(message, inner, depth + 1, reached)?;
    }
    Ok(())
}

fn check_struct(message: &Message, item: &Struct) -> Result<(), SchemaError> {
    let mut seen = BTreeSet::new();
    let mut next_tag = 0;
    for field in &item.fields {
        if !seen.insert(names::field(&field.name)) {
            return Err(field
                .place
                .error(format!("field {} is defined twice", field.name)));
        }
        check_field(message, field)?;
        if let Some(tag) = &field.tag {
            if tag.number != next_tag {
                return Err(field.place.error(format!("expected tag {next_tag} here")));
            }
            next_tag += 1;
        }
    }
    Ok(())
}

fn check_field(message: &Message, field: &Field) -> Result<(), SchemaError> {
    let place = &field.place;
    if field.versions.is_empty() {
        return Err(place.error("a field needs at least one version"));
    }
    if field.is_nullable() && !field.ty.can_be_null() {
        return Err(place.error("this type has no null on the wire"));
    }
    let live = field.versions.intersect(message.versions);
    if matches!(field.ty, Type::Struct(_))
        && field.is_nullable()
        && field.nullable.intersect(live) != live
    {
        return Err(place.error("a nullable struct must be nullable in all of its versions"));
    }
    if let Some(tag) = &field.tag {
        let tagged = tag.versions.intersect(message.versions);
        if tagged.intersect(message.flexible) != tagged || tag.versions.max != field.versions.max {
            let reason = "tagged versions must be flexible and reach to the field's last version";
            return Err(place.error(reason));
        }
    }
    check_default(field)
}

fn check_default(field: &Field) -> Result<(), SchemaError> {
    let Some(value) = &field.default else {
        return Ok(());
    };
    let fits = match (&field.ty, value.as_str()) {
        (ty, "null") => ty.can_be_null() && field.is_nullable(),
        (Type::Bool, word) => matches!(word, "true" | "false"),
        (Type::Int8, word) => word.parse::<i8>().is_ok(),
        (Type::Int16, word) => word.parse::<i16>().is_ok(),
        (Type::Uint16, word) => word.parse::<u16>().is_ok(),
        (Type::Int32, word) => word.parse::<i32>().is_ok(),
        (Type::Uint32, word) => word.parse::<u32>().is_ok(),
        (Type::Int64, word) => word.parse::<i64>().is_ok(),
        (Type::Float64, word) => word.parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err(field.place.error(format!("`{value}` is no default here")))
    }
}
