//! Kinds of property values and the cell a device keeps one in.
//!
//! A value comes as text (command line) or as JSON (QMP, `-device {…}`); each kind reads both, with QEMU's
//! error texts (`qapi/string-input-visitor.c`, `qapi/qobject-input-visitor.c`, `hw/core/qdev-properties.c`).

use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use util::cutils::{SizeUnit, strtosz};

use crate::path::ResolveError;
use crate::{Error, Object, ObjectType, Result, Value, bail, object_resolve_path};

/// A value on its way into a property.
#[derive(Clone, Copy, Debug)]
pub enum PropertyInput<'a> {
    /// From an option: `iobase=0x3f8`.
    Text(&'a str),
    /// From JSON: `{"iobase": 1016}`.
    Json(&'a Value),
}

/// A Rust type that a property can have.
pub trait PropertyType: Clone + Send + Sync + 'static {
    /// QAPI's name of the type.
    fn type_name() -> String;
    /// Whether the value of a new object is worth telling: a reference has none.
    fn has_default() -> bool {
        true
    }
    /// An enum's values.
    fn values() -> &'static [&'static str] {
        &[]
    }
    /// Reads a value for the property `name`.
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self>;
    /// The same for a property of an object of type `owner`, which some errors name.
    ///
    /// # Errors
    /// As [`PropertyType::parse`].
    fn parse_for(_owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse(name, input)
    }
    /// The value as QMP shows it.
    fn to_value(&self) -> Value;
}

/// Where an object keeps a property: readable from any thread, set through the object.
#[derive(Debug, Default)]
pub struct Property<T>(RwLock<T>);

impl<T: PropertyType> Property<T> {
    /// A cell with its default value.
    pub fn new(value: T) -> Property<T> {
        Property(RwLock::new(value))
    }

    /// A copy of the value. A device reads its properties once, when it is realized.
    pub fn get(&self) -> T {
        self.0.read().clone()
    }

    /// Sets the value from the program's own code.
    pub fn set(&self, value: T) {
        *self.0.write() = value;
    }
}

fn expects(name: &str, what: &str) -> Error {
    Error::new(format!("Parameter '{name}' expects {what}"))
}

fn invalid_type(name: &str, expected: &str) -> Error {
    Error::new(format!("Invalid parameter type for '{name}', expected: {expected}"))
}

/// An integer as the command line writes it: decimal, `0x` hexadecimal or `0` octal, with a sign.
pub fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -i128::from(value) } else { i128::from(value) })
}

macro_rules! integer_property {
    ($($t:ty => $name:literal),+ $(,)?) => {$(
        impl PropertyType for $t {
            fn type_name() -> String {
                $name.to_owned()
            }
            fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
                let wide = match input {
                    PropertyInput::Text(text) => parse_int(text).ok_or_else(|| expects(name, "integer")),
                    PropertyInput::Json(Value::Number(n)) if n.is_i64() || n.is_u64() => {
                        Ok(n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from)).unwrap_or_default())
                    }
                    // Two visitors of QEMU's word it in two ways.
                    PropertyInput::Json(_) if $name.starts_with('u') => Err(expects(name, "uint64")),
                    PropertyInput::Json(_) => Err(invalid_type(name, "integer")),
                };
                <$t>::try_from(wide?).map_err(|_| expects(name, concat!($name, "_t")))
            }
            fn to_value(&self) -> Value {
                (*self).into()
            }
        }
    )+};
}

integer_property!(u8 => "uint8", u16 => "uint16", u32 => "uint32", u64 => "uint64",
    i8 => "int8", i16 => "int16", i32 => "int32", i64 => "int64");

impl PropertyType for bool {
    fn type_name() -> String {
        "bool".to_owned()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        match input {
            PropertyInput::Text("on" | "yes" | "true" | "y") => Ok(true),
            PropertyInput::Text("off" | "no" | "false" | "n") => Ok(false),
            PropertyInput::Text(_) => bail!("Parameter '{name}' expects 'on' or 'off'"),
            PropertyInput::Json(Value::Bool(value)) => Ok(*value),
            PropertyInput::Json(_) => Err(invalid_type(name, "boolean")),
        }
    }
    fn to_value(&self) -> Value {
        (*self).into()
    }
}

impl PropertyType for String {
    fn type_name() -> String {
        "str".to_owned()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        match input {
            PropertyInput::Text(text) => Ok(text.to_owned()),
            PropertyInput::Json(Value::String(text)) => Ok(text.clone()),
            PropertyInput::Json(_) => Err(invalid_type(name, "string")),
        }
    }
    fn to_value(&self) -> Value {
        self.as_str().into()
    }
}

/// A value that may be absent; absent reads as the empty string, as QEMU's string properties do.
impl<T: PropertyType> PropertyType for Option<T> {
    fn type_name() -> String {
        T::type_name()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        T::parse(name, input).map(Some)
    }
    fn to_value(&self) -> Value {
        match self {
            Some(value) => value.to_value(),
            None => "".into(),
        }
    }
}

/// A number of bytes, written with a suffix: `64k`, `1.5G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

impl PropertyType for Size {
    fn type_name() -> String {
        "size".to_owned()
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        match input {
            PropertyInput::Text(text) => match strtosz(text, SizeUnit::Bytes) {
                Ok(value) => Ok(Size(value)),
                Err(_) => Err(expects(name, "size")),
            },
            PropertyInput::Json(_) => u64::parse(name, input).map(Size),
        }
    }
    fn to_value(&self) -> Value {
        self.0.into()
    }
}

/// A list; on the command line its elements are separated by `:`, as in QEMU's array options.
impl<T: PropertyType> PropertyType for Vec<T> {
    fn type_name() -> String {
        format!("list<{}>", T::type_name())
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        match input {
            PropertyInput::Text("") => Ok(Vec::new()),
            PropertyInput::Text(text) => {
                text.split(':').map(|t| T::parse(name, PropertyInput::Text(t))).collect()
            }
            PropertyInput::Json(Value::Array(values)) => {
                values.iter().map(|v| T::parse(name, PropertyInput::Json(v))).collect()
            }
            PropertyInput::Json(_) => Err(invalid_type(name, "array")),
        }
    }
    fn to_value(&self) -> Value {
        self.iter().map(PropertyType::to_value).collect::<Vec<_>>().into()
    }
}

/// A reference to another object by path or id, which must be a `T`; keeps nothing alive.
pub struct Link<T: ObjectType> {
    target: Option<Weak<dyn Object>>,
    kind: PhantomData<fn() -> T>,
}

impl<T: ObjectType> Clone for Link<T> {
    fn clone(&self) -> Self {
        Link { target: self.target.clone(), kind: PhantomData }
    }
}

impl<T: ObjectType> Default for Link<T> {
    fn default() -> Self {
        Link { target: None, kind: PhantomData }
    }
}

impl<T: ObjectType> Link<T> {
    /// A link to `target`.
    pub fn to(target: &Arc<dyn Object>) -> Link<T> {
        Link { target: Some(Arc::downgrade(target)), kind: PhantomData }
    }

    /// The object, if the link is set and it still lives.
    pub fn object(&self) -> Option<Arc<dyn Object>> {
        self.target.as_ref()?.upgrade()
    }
}

impl<T: ObjectType> PropertyType for Link<T> {
    fn type_name() -> String {
        format!("link<{}>", T::TYPE_NAME)
    }
    fn has_default() -> bool {
        false
    }
    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let path = String::parse(name, input)?;
        if path.is_empty() {
            return Ok(Link::default());
        }
        match object_resolve_path(&path) {
            Ok(object) if object.is_a(T::TYPE_NAME) => Ok(Link::to(&object)),
            Ok(_) => bail!("Invalid parameter type for '{name}', expected: {}", T::TYPE_NAME),
            Err(ResolveError::Ambiguous) => bail!("Path '{path}' does not uniquely identify an object"),
            Err(ResolveError::NotFound) => Err(crate::object::device_not_found(&path)),
        }
    }
    fn to_value(&self) -> Value {
        self.object().and_then(|o| o.canonical_path()).unwrap_or_default().into()
    }
}

/// Declares an enum that is a property type, with QAPI's names of its values:
///
/// ```
/// qom::property_enum! {
///     /// What happens to ticks that came while the guest could not take them.
///     pub enum LostTickPolicy: "LostTickPolicy" { Discard = "discard", Delay = "delay" }
/// }
/// ```
#[macro_export]
macro_rules! property_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident : $qapi:literal {
        $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        $vis enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// The values, in order.
            $vis const ALL: [Self; [$($text),+].len()] = [$($name::$variant),+];

            /// QAPI's name of the value.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl $crate::PropertyType for $name {
            fn type_name() -> String {
                $qapi.to_owned()
            }
            fn values() -> &'static [&'static str] {
                &[$($text),+]
            }
            fn parse(name: &str, input: $crate::property::PropertyInput<'_>) -> $crate::Result<Self> {
                match <String as $crate::PropertyType>::parse(name, input)?.as_str() {
                    $($text => Ok($name::$variant),)+
                    other => Err($crate::Error::new(format!(
                        "Parameter '{name}' does not accept value '{other}'"
                    ))),
                }
            }
            fn to_value(&self) -> $crate::Value {
                self.as_str().into()
            }
        }
    };
}

property_enum! {
    /// QAPI's `OnOffAuto`.
    pub enum OnOffAuto: "OnOffAuto" { Auto = "auto", On = "on", Off = "off" }
}

#[allow(clippy::derivable_impls)] // The macro declares it.
impl Default for OnOffAuto {
    fn default() -> Self {
        OnOffAuto::Auto
    }
}

/// The property that a field of `O` is; `#[derive(Object)]` calls this.
pub fn field<O: Object, T: PropertyType>(
    name: &'static str,
    description: &str,
    live: bool,
    cell: fn(&O) -> &Property<T>,
    default: &Property<T>,
) -> crate::PropertyInfo {
    crate::PropertyInfo {
        live,
        description: description.to_owned(),
        default: T::has_default().then(|| default.get().to_value()),
        ..cell_property(name, cell)
    }
}

/// The property that a field of a struct is which several types have as one of theirs: `group` gives the struct.
pub fn group_field<O: Object, G: 'static, T: PropertyType>(
    name: &'static str,
    description: &str,
    group: fn(&O) -> &G,
    cell: fn(&G) -> &Property<T>,
    default: &G,
) -> crate::PropertyInfo {
    crate::PropertyInfo {
        description: description.to_owned(),
        default: T::has_default().then(|| cell(default).get().to_value()),
        ..cell_property(name, move |object: &O| cell(group(object)))
    }
}

fn cell_property<O: Object, T: PropertyType>(
    name: &'static str,
    cell: impl Fn(&O) -> &Property<T> + Copy + Send + Sync + 'static,
) -> crate::PropertyInfo {
    crate::PropertyInfo {
        get: Some(Arc::new(move |object| match object.cast::<O>() {
            Some(object) => Ok(cell(object).get().to_value()),
            None => bail!("Property '{}.{}' not found", object.type_name(), name),
        })),
        set: Some(Arc::new(move |object, input| match object.cast::<O>() {
            Some(owner) => {
                cell(owner).set(T::parse_for(object.type_name(), name, input)?);
                Ok(())
            }
            None => bail!("Property '{}.{}' not found", object.type_name(), name),
        })),
        values: T::values(),
        ..crate::PropertyInfo::new(name, T::type_name())
    }
}
