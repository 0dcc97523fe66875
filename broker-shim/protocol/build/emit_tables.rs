//! The generated `ApiKey` enum and the table of header versions.
//!
//! *Owns*: what is known about an API from its request's schema.
//!
//! *Does not own*: the one exception among response headers (`src/header.rs`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::model::{Kind, Message};

pub(crate) fn api_keys(all: &[Message]) -> String {
    let mut apis: Vec<(i16, &str, &Message)> = Vec::new();
    for message in all {
        if let Kind::Request(key) = message.kind {
            apis.push((key, message.name.trim_end_matches("Request"), message));
        }
    }
    apis.sort_by_key(|api| api.0);
    let mut out = String::from(
        "/// The APIs this crate knows, by their keys on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs)]
pub enum ApiKey {\n",
    );
    for (key, name, _) in &apis {
        let _ = writeln!(out, "    {name} = {key},");
    }
    out.push_str("}\n\nimpl ApiKey {\n    /// Every API, in the order of the keys.\n");
    out.push_str("    pub const ALL: &'static [ApiKey] = &[\n");
    for (_, name, _) in &apis {
        let _ = writeln!(out, "        ApiKey::{name},");
    }
    out.push_str("    ];\n");
    lookup(&mut out, &apis);
    out.push_str("}\n");
    out
}

fn lookup(out: &mut String, apis: &[(i16, &str, &Message)]) {
    let mut arms = [const { String::new() }; 4];
    for (key, name, message) in apis {
        let (min, max) = (message.versions.min, message.versions.max);
        let since = (!message.flexible.is_empty()).then_some(message.flexible.min);
        let _ = writeln!(arms[0], "            {key} => Some(ApiKey::{name}),");
        let _ = writeln!(arms[1], "            ApiKey::{name} => \"{name}\",");
        let _ = writeln!(
            arms[2],
            "            ApiKey::{name} => crate::VersionRange {{ min: {min}, max: {max} }},"
        );
        let _ = writeln!(arms[3], "            ApiKey::{name} => {since:?},");
    }
    let [by_key, names, versions, flexible] = arms;
    let _ = write!(
        out,
        "
    /// The API with this key on the wire, if this crate knows it.
    pub const fn from_i16(key: i16) -> Option<ApiKey> {{
        match key {{
{by_key}            _ => None,
        }}
    }}

    /// The key on the wire.
    pub const fn code(self) -> i16 {{
        self as i16
    }}

    /// Kafka's name of the API, such as `Produce`.
    pub const fn name(self) -> &'static str {{
        match self {{
{names}        }}
    }}

    /// The versions of the request that this crate can decode.
    pub const fn versions(self) -> crate::VersionRange {{
        match self {{
{versions}        }}
    }}

    /// The first version with compact lengths and tagged fields.
    pub const fn flexible_since(self) -> Option<i16> {{
        match self {{
{flexible}        }}
    }}
"
    );
}
