//! Struct definitions, their defaults, and the compile-time memory assertion.
//!
//! *Owns*: how a schema type looks in Rust, what a field's default is and how to test for it.
//!
//! *Does not own*: reading and writing (`emit_decode`, `emit_encode`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::model::{Field, Message, Struct, Type};
use crate::{names, sizes};

/// The struct, its `Default`, and the proof that an array of it stays within the memory bound.
pub(crate) fn definition(message: &Message, item: &Struct) -> String {
    let name = &item.name;
    let mut out = if *name == message.name {
        format!("    /// {name}, versions {}.\n", message.versions)
    } else {
        format!("    /// Part of [`{}`].\n", message.name)
    };
    let _ = writeln!(
        out,
        "    #[derive(Debug, Clone, PartialEq)]\n    pub struct {name} {{"
    );
    for field in &item.fields {
        let _ = writeln!(out, "        /// {}", describe(field));
        let _ = writeln!(
            out,
            "        pub {}: {},",
            names::field(&field.name),
            rust_type(field)
        );
    }
    let _ = writeln!(out, "    }}\n\n    impl Default for {name} {{");
    let _ = writeln!(out, "        fn default() -> Self {{\n            Self {{");
    for field in &item.fields {
        let _ = writeln!(
            out,
            "                {}: {},",
            names::field(&field.name),
            default(field)
        );
    }
    out.push_str("            }\n        }\n    }\n\n");
    if *name != message.name {
        out.push_str(&assertion(message, item));
    }
    out
}

/// A records field also allocates its list of one segment, so it is counted with the struct.
fn assertion(message: &Message, item: &Struct) -> String {
    let element = Type::Struct(item.name.clone());
    let records = item.fields.iter().filter(|f| f.ty == Type::Records).count();
    format!(
        "    const _: () = assert!(
        size_of::<{name}>() + {records} * size_of::<Bytes>() <= crate::MAX_EXPANSION * {min},
        \"{name} takes more memory for its bytes on the wire than MAX_EXPANSION allows\"
    );\n\n",
        name = item.name,
        min = sizes::min_element(message, &element),
    )
}

fn describe(field: &Field) -> String {
    let mut text = format!("Versions {}", field.versions);
    if field.is_nullable() {
        let _ = write!(text, ", nullable in {}", field.nullable);
    }
    if let Some(tag) = &field.tag {
        let _ = write!(text, ", tag {} in {}", tag.number, tag.versions);
    }
    if let Some(value) = &field.default {
        let _ = write!(text, ", default {value}");
    }
    if field.ignorable {
        text.push_str(", left out where the version does not know it");
    }
    text.push('.');
    text
}

pub(crate) fn rust_type(field: &Field) -> String {
    let plain = plain_type(&field.ty);
    // Records are nullable wherever Kafka has them but in snapshots; one type serves both.
    if field.is_nullable() || field.ty == Type::Records {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

pub(crate) fn plain_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Uint32 => "u32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::Uuid => "crate::Uuid".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Records => "crate::Records".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(inner) => format!("Vec<{}>", plain_type(inner)),
    }
}

/// The value a field has where nobody set it and the version does not carry it.
fn default(field: &Field) -> String {
    match (&field.ty, field.default.as_deref()) {
        (_, Some("null")) | (Type::Records, _) => "None".to_owned(),
        (Type::Float64, Some(value)) => format!("{value}_f64"),
        (_, Some(value)) => value.to_owned(),
        (ty, None) if field.is_nullable() => format!("Some({})", zero(ty)),
        (ty, None) => zero(ty),
    }
}

fn zero(ty: &Type) -> String {
    match ty {
        Type::Bool => "false".to_owned(),
        Type::Float64 => "0.0".to_owned(),
        Type::Uuid => "crate::Uuid::ZERO".to_owned(),
        Type::String => "String::new()".to_owned(),
        Type::Bytes => "Bytes::new()".to_owned(),
        Type::Array(_) => "Vec::new()".to_owned(),
        Type::Struct(name) => format!("{name}::default()"),
        _ => "0".to_owned(),
    }
}

/// An expression that is true when the field differs from its default.
pub(crate) fn is_set(field: &Field) -> String {
    let this = format!("self.{}", names::field(&field.name));
    match (&field.ty, field.default.as_deref()) {
        (_, Some("null")) | (Type::Records, _) => format!("{this}.is_some()"),
        (Type::String | Type::Bytes | Type::Array(_), None) if field.is_nullable() => {
            format!("{this}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Type::String | Type::Bytes | Type::Array(_), None) => format!("!{this}.is_empty()"),
        (Type::Bool, None | Some("false")) => this,
        (Type::Bool, _) => format!("!{this}"),
        _ => format!("{this} != {}", default(field)),
    }
}
