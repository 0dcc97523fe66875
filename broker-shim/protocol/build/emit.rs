//! The generated `messages` module: one Rust module per message.
//!
//! *Owns*: the frame around the structs, the `Message` impls, re-exports, the list of all messages.
//!
//! *Does not own*: the structs' own code (`emit_struct`, `emit_decode`, `emit_encode`).
//!
//! *IO: none*

use std::fmt::Write;

use crate::model::{Message, Versions};
use crate::{emit_decode, emit_encode, emit_struct, names};

/// The whole file.
pub(crate) fn messages(all: &[Message]) -> String {
    let mut out = String::new();
    for message in all {
        let _ = writeln!(out, "{}", module(message));
    }
    for message in all {
        let _ = writeln!(
            out,
            "pub use {}::{};",
            names::snake(&message.name),
            message.name
        );
    }
    out.push_str(&for_each(all));
    out
}

fn module(message: &Message) -> String {
    let name = &message.name;
    let mut out = format!(
        "/// {name}, versions {}, flexible versions {}.\npub mod {} {{\n",
        message.versions,
        message.flexible,
        names::snake(name)
    );
    out.push_str("    use crate::{DecodeError, EncodeError, Encoder, Message, VersionRange};\n");
    out.push_str("    use crate::wire::Decoder;\n    use ::bytes::Bytes;\n\n");
    for item in &message.structs {
        out.push_str(&emit_struct::definition(message, item));
        let _ = writeln!(out, "    impl {} {{", item.name);
        out.push_str(&emit_decode::read(message, item));
        out.push_str(&emit_encode::write(message, item));
        out.push_str("    }\n\n");
    }
    out.push_str(&message_impl(message));
    out.push_str("}\n");
    out
}

fn message_impl(message: &Message) -> String {
    let name = &message.name;
    let Versions { min, max } = message.versions;
    let flexible = message.flexible;
    let since = (!flexible.is_empty()).then_some(flexible.min);
    format!(
        "    impl Message for {name} {{
        const NAME: &'static str = \"{name}\";
        const API_KEY: Option<i16> = {:?};
        const VERSIONS: VersionRange = VersionRange {{ min: {min}, max: {max} }};
        const FLEXIBLE_SINCE: Option<i16> = {since:?};

        fn decode(buf: &mut Bytes, version: i16) -> Result<Self, DecodeError> {{
            let mut d = Decoder::new(buf, Self::NAME);
            d.check_version(Self::VERSIONS, version)?;
            Self::read(&mut d, version)
        }}

        fn encode(&self, out: &mut Encoder, version: i16) -> Result<(), EncodeError> {{
            out.begin(Self::NAME, Self::VERSIONS, version)?;
            self.write(out, version)
        }}
    }}
",
        message.api_key()
    )
}

fn for_each(all: &[Message]) -> String {
    let names: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
    format!(
        "
/// Calls `$callback!` with the type names of all messages, separated by commas: for code that must
/// treat every message, such as tests and fuzz targets.
#[macro_export]
macro_rules! for_each_message {{
    ($callback:ident) => {{ $callback! {{ {} }} }};
}}
",
        names.join(", ")
    )
}
