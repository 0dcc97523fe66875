//! The generated `read` function of a struct.
//!
//! *Owns*: the order of fields on the wire when reading, version conditions, tags.
//!
//! *Does not own*: the primitives and their bounds (`src/wire/decoder.rs`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::emit_struct::plain_type;
use crate::model::{Field, Message, Struct, Type, Versions};
use crate::{names, sizes};

pub(crate) fn read(message: &Message, item: &Struct) -> String {
    let mut out = String::new();
    let flexible = message.flexible.condition(message.versions);
    let _ = writeln!(
        out,
        "        pub(crate) fn read(d: &mut Decoder<'_>, version: i16) -> Result<Self, DecodeError> {{
            let flexible = {flexible};
            let mut this = Self::default();"
    );
    for field in &item.fields {
        let condition = field.fixed_versions().condition(message.versions);
        let body = assign(message, item, field);
        match condition.as_str() {
            "false" => {}
            "true" => {
                let _ = writeln!(out, "            {body}");
            }
            _ => {
                let _ = writeln!(out, "            if {condition} {{ {body} }}");
            }
        }
    }
    if flexible != "false" {
        let _ = writeln!(
            out,
            "            if flexible {{\n{}            }}",
            tags(message, item)
        );
    }
    out.push_str("            Ok(this)\n        }\n\n");
    out
}

fn tags(message: &Message, item: &Struct) -> String {
    let mut arms = String::new();
    for field in &item.fields {
        let Some(tag) = &field.tag else { continue };
        let condition = tag.versions.condition(message.versions);
        let guard = if condition == "true" {
            String::new()
        } else {
            format!(" if {condition}")
        };
        let body = assign(message, item, field);
        let _ = writeln!(
            arms,
            "                    {}{guard} => {{ {body} Ok(true) }}",
            tag.number
        );
    }
    if arms.is_empty() {
        return format!("                d.skip_tags(\"{}\")?;\n", item.name);
    }
    format!(
        "                d.tags(\"{}\", |d, tag| match tag {{
{arms}                    _ => Ok(false),
                }})?;\n",
        item.name
    )
}

/// A statement that reads the field into `this`.
fn assign(message: &Message, item: &Struct, field: &Field) -> String {
    let rust_name = names::field(&field.name);
    let path = format!("\"{}.{rust_name}\"", item.name);
    let flexible = if field.inflexible {
        "false"
    } else {
        "flexible"
    };
    let value = if field.is_nullable() || field.ty == Type::Records {
        let raw = nullable(message, &field.ty, &path, flexible);
        match null_condition(message, field).as_str() {
            "true" => format!("{raw}?"),
            condition => format!("d.refuse_null({path}, {condition}, |d| {raw})?"),
        }
    } else {
        format!("{}?", plain(message, &field.ty, &path, flexible))
    };
    format!("this.{rust_name} = {value};")
}

/// When null is allowed, within the versions in which the field exists.
pub(crate) fn null_condition(message: &Message, field: &Field) -> String {
    let live = field.versions.intersect(message.versions);
    if live.is_empty() || field.nullable.intersect(live) == live {
        return "true".to_owned();
    }
    let Versions { min, max } = field.nullable.intersect(live);
    if min > max {
        "false".to_owned()
    } else {
        field.nullable.condition(message.versions)
    }
}

fn plain(message: &Message, ty: &Type, path: &str, flexible: &str) -> String {
    match ty {
        Type::String => format!("d.string({path}, {flexible})"),
        Type::Bytes => format!("d.bytes({path}, {flexible})"),
        Type::Records => format!("d.records({path}, {flexible})"),
        Type::Struct(name) => format!("{name}::read(d, version)"),
        Type::Array(inner) => array("array", message, inner, path, flexible),
        scalar => format!("d.{}({path})", scalar_name(scalar)),
    }
}

fn nullable(message: &Message, ty: &Type, path: &str, flexible: &str) -> String {
    match ty {
        Type::String => format!("d.nullable_string({path}, {flexible})"),
        Type::Bytes => format!("d.nullable_bytes({path}, {flexible})"),
        Type::Records => format!("d.nullable_records({path}, {flexible})"),
        Type::Struct(name) => {
            format!("d.nullable_struct({path}, |d| {name}::read(d, version))")
        }
        Type::Array(inner) => array("nullable_array", message, inner, path, flexible),
        scalar => format!("d.{}({path})", scalar_name(scalar)),
    }
}

fn array(call: &str, message: &Message, inner: &Type, path: &str, flexible: &str) -> String {
    let min = sizes::min_element(message, inner);
    let element = plain(message, inner, path, flexible);
    format!(
        "d.{call}::<{}>({path}, {flexible}, {min}, |d| {element})",
        plain_type(inner)
    )
}

/// The primitive's name, the same for the decoder and the encoder.
pub(crate) fn scalar_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => {
            unreachable!("not a scalar")
        }
    }
}
