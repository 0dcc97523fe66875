//! The generated `write` function of a struct.
//!
//! *Owns*: the order of fields on the wire when writing, the refusal of values that the version
//! cannot carry, tags.
//!
//! *Does not own*: the primitives (`src/wire/encoder.rs`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::emit_decode::{null_condition, scalar_name};
use crate::emit_struct::is_set;
use crate::model::{Field, Message, Struct, Type};
use crate::names;

pub(crate) fn write(message: &Message, item: &Struct) -> String {
    let mut out = String::new();
    let flexible = message.flexible.condition(message.versions);
    let _ = writeln!(
        out,
        "        pub(crate) fn write(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {{
            let flexible = {flexible};"
    );
    for field in &item.fields {
        let condition = field.fixed_versions().condition(message.versions);
        let body = put(message, item, field, "e");
        match condition.as_str() {
            "false" => {}
            "true" => out.push_str(&body),
            _ => {
                let _ = writeln!(out, "            if {condition} {{\n{body}            }}");
            }
        }
        out.push_str(&refuse_unsupported(message, item, field));
    }
    if flexible != "false" {
        let _ = writeln!(
            out,
            "            if flexible {{\n{}            }}",
            tags(message, item)
        );
    }
    out.push_str("            Ok(())\n        }\n");
    out
}

fn refuse_unsupported(message: &Message, item: &Struct, field: &Field) -> String {
    let condition = field.versions.condition(message.versions);
    if condition == "true" || field.ignorable {
        return String::new();
    }
    format!(
        "            if !({condition}) && {} {{ return Err(e.unsupported({})); }}\n",
        is_set(field),
        path(item, field)
    )
}

fn tags(message: &Message, item: &Struct) -> String {
    let mut out = String::new();
    let mut count = "0".to_owned();
    for field in &item.fields {
        let Some(tag) = &field.tag else { continue };
        let number = tag.number;
        let live = tag.versions.condition(message.versions);
        let _ = writeln!(
            out,
            "                let tag{number}: bool = ({live}) && ({});",
            is_set(field)
        );
        let _ = write!(count, " + u32::from(tag{number})");
    }
    let _ = writeln!(out, "                e.uvarint({count});");
    for field in &item.fields {
        let Some(tag) = &field.tag else { continue };
        let _ = writeln!(
            out,
            "                if tag{number} {{
                    let mut inner = e.nested();
{body}                    e.tagged({number}, {path}, inner)?;
                }}",
            number = tag.number,
            body = put(message, item, field, "inner"),
            path = path(item, field),
        );
    }
    out
}

fn path(item: &Struct, field: &Field) -> String {
    format!("\"{}.{}\"", item.name, names::field(&field.name))
}

/// Statements that write the field to the encoder named `to`.
fn put(message: &Message, item: &Struct, field: &Field, to: &str) -> String {
    let path = path(item, field);
    let this = format!("self.{}", names::field(&field.name));
    let flexible = if field.inflexible {
        "false"
    } else {
        "flexible"
    };
    if !(field.is_nullable() || field.ty == Type::Records) {
        return plain(&field.ty, &this, &path, flexible, to);
    }
    let mut out = String::new();
    let allowed = null_condition(message, field);
    if allowed != "true" {
        let _ = writeln!(
            out,
            "            if {this}.is_none() && !({allowed}) {{ return Err({to}.unexpected_null({path})); }}"
        );
    }
    let line = match &field.ty {
        Type::String => format!("{to}.nullable_string({path}, {this}.as_deref(), {flexible})?;"),
        Type::Bytes => format!("{to}.nullable_bytes({path}, {this}.as_ref(), {flexible})?;"),
        Type::Records => format!("{to}.nullable_records({path}, {this}.as_ref(), {flexible})?;"),
        Type::Struct(_) => format!(
            "match &{this} {{
                Some(value) => {{ {to}.i8(1); value.write(&mut *{to_mut}, version)?; }}
                None => {to}.i8(-1),
            }}",
            to_mut = reborrow(to)
        ),
        Type::Array(inner) => format!(
            "match &{this} {{
                Some(list) => {{\n{}            }}
                None => {to}.null_array({flexible}),
            }}",
            array(inner, "list", &path, flexible, to)
        ),
        _ => unreachable!("only these types are nullable"),
    };
    let _ = writeln!(out, "            {line}");
    out
}

fn plain(ty: &Type, this: &str, path: &str, flexible: &str, to: &str) -> String {
    let line = match ty {
        Type::String => format!("{to}.string({path}, &{this}, {flexible})?;"),
        Type::Bytes => format!("{to}.bytes({path}, &{this}, {flexible})?;"),
        Type::Struct(_) => format!("{this}.write(&mut *{}, version)?;", reborrow(to)),
        Type::Array(inner) => return array(inner, &format!("&{this}"), path, flexible, to),
        scalar => format!("{to}.{}({this});", scalar_name(scalar)),
    };
    format!("            {line}\n")
}

/// `e` is a `&mut Encoder`, `inner` an `Encoder`.
fn reborrow(to: &str) -> &'static str {
    if to == "e" { "e" } else { "(&mut inner)" }
}

fn array(inner: &Type, list: &str, path: &str, flexible: &str, to: &str) -> String {
    let element = match inner {
        Type::String | Type::Bytes => {
            plain(inner, "item", path, flexible, to).replace("&item", "item")
        }
        Type::Struct(_) => plain(inner, "item", path, flexible, to),
        _ => plain(inner, "*item", path, flexible, to),
    };
    let bare = list.trim_start_matches('&');
    format!(
        "            {to}.array_len({path}, {bare}.len(), {flexible})?;
            for item in {list} {{\n    {element}            }}\n"
    )
}
