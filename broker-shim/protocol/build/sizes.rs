//! The least number of bytes a thing takes on the wire.
//!
//! *Owns*: the numbers behind the decoder's bound on array counts.
//!
//! *Does not own*: sizes in memory; those are asserted in the generated code, where the compiler
//! knows them.
//!
//! *IO: none*

use crate::model::{Field, Message, Struct, Type};

/// The least size of an array's element, over every version of the message that can contain it.
pub(crate) fn min_element(message: &Message, element: &Type) -> usize {
    let range = message.versions.min..=message.versions.max;
    match element {
        Type::Struct(name) => versions_of(message, name)
            .into_iter()
            .filter_map(|v| message.find(name).map(|item| min_struct(message, item, v)))
            .min()
            .unwrap_or(1),
        other => range
            .map(|v| min_type(message, other, message.flexible.contains(v), v))
            .min()
            .unwrap_or(1),
    }
}

/// The least size of a struct in one version, its (empty) tag section included.
pub(crate) fn min_struct(message: &Message, item: &Struct, version: i16) -> usize {
    let flexible = message.flexible.contains(version);
    let fixed: usize = item
        .fields
        .iter()
        .filter(|field| field.fixed_versions().contains(version))
        .map(|field| min_field(message, field, flexible, version))
        .sum();
    fixed + usize::from(flexible)
}

/// The versions of the message in which the named struct can occur.
pub(crate) fn versions_of(message: &Message, name: &str) -> Vec<i16> {
    let range = message.versions.min..=message.versions.max;
    range
        .filter(|v| reaches(message, &message.structs[0], name, *v))
        .collect()
}

fn reaches(message: &Message, from: &Struct, name: &str, version: i16) -> bool {
    from.name == name
        || from
            .fields
            .iter()
            .filter(|field| field.versions.contains(version))
            .filter_map(|field| message.find(field.ty.struct_name()?))
            .any(|inner| reaches(message, inner, name, version))
}

fn min_field(message: &Message, field: &Field, flexible: bool, version: i16) -> usize {
    if field.is_nullable() && matches!(field.ty, Type::Struct(_)) {
        return 1;
    }
    min_type(message, &field.ty, flexible && !field.inflexible, version)
}

fn min_type(message: &Message, ty: &Type, flexible: bool, version: i16) -> usize {
    match ty {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 | Type::Uint32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String if flexible => 1,
        Type::String => 2,
        Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(name) => message
            .find(name)
            .map_or(0, |item| min_struct(message, item, version)),
    }
}
