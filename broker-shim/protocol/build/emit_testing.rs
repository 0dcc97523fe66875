//! Generated `Arbitrary` impls, for tests only.
//!
//! *Owns*: which fields a random message of a version may set, and where null may stand.
//!
//! *Does not own*: how random scalars look (`src/testing.rs`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::emit_decode::{null_condition, scalar_name};
use crate::model::{Message, Struct, Type};
use crate::names;

pub(crate) fn arbitrary(all: &[Message]) -> String {
    let mut out = String::new();
    for message in all {
        let module = names::snake(&message.name);
        let _ = writeln!(
            out,
            "#[allow(unused_variables, unused_parens, clippy::nonminimal_bool)]\nmod {module} {{\n    use super::{{Arbitrary, Entropy}};"
        );
        let _ = writeln!(out, "    use crate::messages::{module}::*;\n");
        for item in &message.structs {
            out.push_str(&one(message, item));
        }
        out.push_str("}\n\n");
    }
    out
}

fn one(message: &Message, item: &Struct) -> String {
    let mut out = format!(
        "    impl Arbitrary for {} {{
        fn arbitrary(entropy: &mut Entropy, version: i16) -> Self {{
            let mut this = Self::default();\n",
        item.name
    );
    for field in &item.fields {
        let condition = field.versions.condition(message.versions);
        let null = null_condition(message, field);
        let value = if field.is_nullable() || field.ty == Type::Records {
            format!(
                "if ({null}) && entropy.null() {{ None }} else {{ Some({}) }}",
                value(&field.ty)
            )
        } else {
            value(&field.ty)
        };
        let name = names::field(&field.name);
        let _ = writeln!(
            out,
            "            if {condition} {{ this.{name} = {value}; }}"
        );
    }
    out.push_str("            this\n        }\n    }\n\n");
    out
}

fn value(ty: &Type) -> String {
    match ty {
        Type::String => "entropy.string()".to_owned(),
        Type::Bytes => "entropy.bytes()".to_owned(),
        Type::Records => "entropy.records()".to_owned(),
        Type::Struct(name) => format!("{name}::arbitrary(entropy, version)"),
        Type::Array(inner) => format!("entropy.array(|entropy| {})", value(inner)),
        scalar => format!("entropy.{}()", scalar_name(scalar)),
    }
}
