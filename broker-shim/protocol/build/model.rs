//! The schema as data: messages, structs, fields, types, version ranges.
//!
//! *Owns*: the vocabulary that every stage of the build script shares, and arithmetic on version
//! ranges.
//!
//! *Does not own*: syntax (`parse`) or validity (`check`).
//!
//! *IO: none*

use std::fmt;

/// A fault in a schema file. `line` is 1-based; 0 means the file as a whole.
#[derive(Debug)]
pub(crate) struct SchemaError {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// Where a thing stands in the schema, for error messages.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
}

impl Place {
    pub(crate) fn error(&self, reason: impl Into<String>) -> SchemaError {
        SchemaError {
            file: self.file.clone(),
            line: self.line,
            reason: reason.into(),
        }
    }
}

/// An inclusive range of versions; `none` is the empty range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) const NONE: Versions = Versions { min: 1, max: 0 };

    pub(crate) fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub(crate) fn intersect(self, other: Versions) -> Versions {
        Versions {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// A Rust expression that is true where `self` holds, given that `version` is in `within`.
    pub(crate) fn condition(self, within: Versions) -> String {
        let range = self.intersect(within);
        if range.is_empty() {
            "false".to_owned()
        } else if range == within {
            "true".to_owned()
        } else if range.max == within.max {
            format!("version >= {}", range.min)
        } else if range.min == within.min {
            format!("version <= {}", range.max)
        } else {
            format!("({}..={}).contains(&version)", range.min, range.max)
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_empty(), self.max) {
            (true, _) => f.write_str("none"),
            (_, i16::MAX) => write!(f, "{}+", self.min),
            _ if self.min == self.max => write!(f, "{}", self.min),
            _ => write!(f, "{}-{}", self.min, self.max),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    /// The struct behind this type, through an array as well.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(inner) => inner.struct_name(),
            _ => None,
        }
    }

    /// Whether null can stand on the wire for this type at all.
    pub(crate) fn can_be_null(&self) -> bool {
        matches!(
            self,
            Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_)
        )
    }
}

#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) number: u32,
    pub(crate) versions: Versions,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tag: Option<Tag>,
    /// As written in the schema; `None` is the type's own zero.
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    /// The old length prefix even in flexible versions (the request header's client id).
    pub(crate) inflexible: bool,
    pub(crate) place: Place,
}

impl Field {
    pub(crate) fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }

    /// The versions in which the field stands in the struct's fixed part, not among the tags.
    /// Tagged versions always reach to the end of the field's versions (`check`).
    pub(crate) fn fixed_versions(&self) -> Versions {
        match &self.tag {
            None => self.versions,
            Some(tag) => self.versions.intersect(Versions {
                min: 0,
                max: tag.versions.min - 1,
            }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request(i16),
    Response(i16),
    Data,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    /// The message itself first, then every struct in it.
    pub(crate) structs: Vec<Struct>,
    pub(crate) place: Place,
}

impl Message {
    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }

    pub(crate) fn api_key(&self) -> Option<i16> {
        match self.kind {
            Kind::Request(key) | Kind::Response(key) => Some(key),
            Kind::Data => None,
        }
    }
}
