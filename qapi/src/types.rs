//! What a QAPI type can do: be read from JSON with QEMU's checks, be written, and describe itself.

use std::fmt;

use qom::{Error, Result};
use serde_json::{Map, Value};

use crate::schema::{Schema, Shape};

/// Where in a command's arguments a value stands; displays as QEMU names it in errors: `a.b[2]`.
#[derive(Clone, Copy)]
pub enum At<'a> {
    /// The value as a whole.
    Top,
    /// A member of an object.
    Member(&'a At<'a>, &'a str),
    /// An element of an array.
    Element(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Top => Ok(()),
            At::Member(At::Top, name) => f.write_str(name),
            At::Member(parent, name) => write!(f, "{parent}.{name}"),
            At::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl At<'_> {
    fn named(&self) -> String {
        let name = self.to_string();
        if name.is_empty() { "null".to_owned() } else { name }
    }

    /// The name of the member alone, which is all that errors about a value's range tell.
    fn local(&self) -> String {
        match self {
            At::Member(_, name) => (*name).to_owned(),
            At::Top | At::Element(..) => "null".to_owned(),
        }
    }

    /// The error for a value of another JSON type than `expected`.
    pub fn invalid_type(&self, expected: &str) -> Error {
        Error::new(format!("Invalid parameter type for '{}', expected: {expected}", self.named()))
    }

    /// The error for text that is not what an option takes.
    pub(crate) fn expects(&self, what: &str) -> Error {
        Error::new(format!("Parameter '{}' expects {what}", self.named()))
    }

    /// The error for a value that is no unsigned number, for which QEMU has words of its own.
    pub(crate) fn no_uint64(&self) -> Error {
        Error::new(format!("Parameter '{}' expects uint64", self.named()))
    }

    /// The error for a number that `type_name` cannot hold.
    pub fn out_of_range(&self, type_name: &str) -> Error {
        Error::new(format!("Parameter '{}' expects {type_name}", self.local()))
    }

    /// The error for a word that an enum does not have.
    pub fn not_accepted(&self, value: &str) -> Error {
        Error::new(format!("Parameter '{}' does not accept value '{value}'", self.local()))
    }

    /// The error for a mandatory member that is not there.
    pub fn missing(&self) -> Error {
        Error::new(format!("Parameter '{}' is missing", self.named()))
    }

    /// The error for a member that the type does not have.
    pub fn unexpected(&self) -> Error {
        Error::new(format!("Parameter '{}' is unexpected", self.named()))
    }
}

/// What JSON makes of a type; an alternate is told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number without a fraction.
    Int,
    /// A number.
    Number,
    /// A string, or a word of an enum.
    Str,
    /// An array.
    Array,
    /// An object.
    Object,
    /// Any of these.
    Any,
}

impl Kind {
    /// Whether `value` is of this kind.
    pub fn matches(self, value: &Value) -> bool {
        match self {
            Kind::Any => true,
            Kind::Null => value.is_null(),
            Kind::Bool => value.is_boolean(),
            Kind::Int => value.is_i64() || value.is_u64(),
            Kind::Number => value.is_number(),
            Kind::Str => value.is_string(),
            Kind::Array => value.is_array(),
            Kind::Object => value.is_object(),
        }
    }
}

/// A type of the QAPI schema.
pub trait QapiType: Sized {
    /// What JSON makes of it.
    const KIND: Kind;

    /// The name under which others refer to it: QAPI's.
    fn type_name() -> String;

    /// Adds itself, and what it refers to, to the schema.
    fn describe(schema: &mut Schema);

    /// Reads it.
    ///
    /// # Errors
    /// In QEMU's words, when the value is not one of this type.
    fn from_json(value: Value, at: At<'_>) -> Result<Self>;

    /// Writes it.
    fn to_json(&self) -> Value;
}

/// An object type: a struct, or a union.
pub trait QapiObject: QapiType {
    /// Its members and variants; what these refer to is described on the way.
    fn shape(schema: &mut Schema) -> Shape;

    /// Takes its members out of `map`.
    ///
    /// # Errors
    /// As [`QapiType::from_json`]; members that are left are not its business.
    fn take(map: &mut Map<String, Value>, at: At<'_>) -> Result<Self>;

    /// Adds its members to `map`.
    fn put(&self, map: &mut Map<String, Value>);
}

/// `from_json` of every object type: all members must be known.
///
/// # Errors
/// As [`QapiType::from_json`].
pub fn object_from_json<T: QapiObject>(value: Value, at: At<'_>) -> Result<T> {
    let Value::Object(mut map) = value else { return Err(at.invalid_type("object")) };
    let object = T::take(&mut map, at)?;
    no_more(&map, at)?;
    Ok(object)
}

/// `to_json` of every object type.
pub fn object_to_json<T: QapiObject>(object: &T) -> Value {
    let mut map = Map::new();
    object.put(&mut map);
    Value::Object(map)
}

/// Checks that nothing unknown is left.
pub(crate) fn no_more(map: &Map<String, Value>, at: At<'_>) -> Result<()> {
    map.keys().next().map_or(Ok(()), |name| Err(At::Member(&at, name).unexpected()))
}

/// Takes a mandatory member.
///
/// # Errors
/// When it is missing or of another type.
pub fn take_member<T: QapiType>(map: &mut Map<String, Value>, name: &str, at: At<'_>) -> Result<T> {
    let here = At::Member(&at, name);
    map.remove(name).map_or_else(|| Err(here.missing()), |value| T::from_json(value, here))
}

/// Takes an optional member.
///
/// # Errors
/// When it is of another type.
pub fn take_optional<T: QapiType>(map: &mut Map<String, Value>, name: &str, at: At<'_>) -> Result<Option<T>> {
    map.remove(name).map(|value| T::from_json(value, At::Member(&at, name))).transpose()
}
