//! QAPI's built-in types, arrays, and the enums that are QOM property types.

use std::cell::Cell;

use qom::Result;
use serde_json::{Map, Number, Value};

use crate::schema::Schema;
use crate::types::{At, Kind, QapiType};

thread_local! {
    static TEXT: Cell<bool> = const { Cell::new(false) };
}

/// Reads a type from options of the command line, where every leaf is text (`qobject_input_visitor_new_keyval`).
///
/// # Errors
/// As [`QapiType::from_json`].
pub fn from_keyval<T: QapiType>(value: Value) -> Result<T> {
    let before = TEXT.replace(true);
    let result = T::from_json(value, At::Top);
    TEXT.set(before);
    result
}

/// The text to be read as another type.
fn text_of(value: &Value) -> Option<&str> {
    if TEXT.get() { value.as_str() } else { None }
}

impl QapiType for bool {
    const KIND: Kind = Kind::Bool;
    fn type_name() -> String {
        "bool".to_owned()
    }
    fn describe(schema: &mut Schema) {
        schema.builtin("bool", Kind::Bool);
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        if let Some(text) = text_of(&value) {
            return util::cutils::parse_bool(text).ok_or_else(|| at.expects("'on' or 'off'"));
        }
        value.as_bool().ok_or_else(|| at.invalid_type("boolean"))
    }
    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

/// A built-in type without a range of its own.
macro_rules! builtin {
    ($type:ty, $kind:ident, $name:literal, $expected:literal, $from:expr, $to:expr) => {
        impl QapiType for $type {
            const KIND: Kind = Kind::$kind;
            fn type_name() -> String {
                $name.to_owned()
            }
            fn describe(schema: &mut Schema) {
                schema.builtin($name, Kind::$kind);
            }
            fn from_json(value: Value, at: At<'_>) -> Result<Self> {
                let from: fn(Value) -> Option<$type> = $from;
                from(value).ok_or_else(|| at.invalid_type($expected))
            }
            fn to_json(&self) -> Value {
                let to: fn(&$type) -> Value = $to;
                to(self)
            }
        }
    };
}

builtin!(f64, Number, "number", "number", |v| v.as_f64(), |n| {
    Number::from_f64(*n).map_or(Value::Null, Value::Number)
});
builtin!(
    String,
    Str,
    "str",
    "string",
    |v| match v {
        Value::String(text) => Some(text),
        _ => None,
    },
    |s| Value::String(s.clone())
);
builtin!(Value, Any, "any", "any", Some, |v| v.clone());

/// A number in text; one without a sign may be a size with a suffix.
fn number_in(text: &str, unsigned: bool) -> Option<i128> {
    if unsigned {
        return util::cutils::strtosz(text, util::cutils::SizeUnit::Bytes).ok().map(i128::from);
    }
    text.parse().ok()
}

/// A whole number; on the wire all are `int`.
macro_rules! integer {
    ($($type:ty: $range:literal),+) => {$(
        impl QapiType for $type {
            const KIND: Kind = Kind::Int;
            fn type_name() -> String {
                "int".to_owned()
            }
            fn describe(schema: &mut Schema) {
                schema.builtin("int", Kind::Int);
            }
            fn from_json(value: Value, at: At<'_>) -> Result<Self> {
                if let Some(text) = text_of(&value) {
                    let unsigned = <$type>::MIN == 0;
                    return number_in(text, unsigned)
                        .and_then(|number| <$type>::try_from(number).ok())
                        .ok_or_else(|| at.expects(if unsigned { "a non-negative number below 2^64" } else { "integer" }));
                }
                let signed = value.as_i64().map(i128::from);
                let number = if <$type>::MIN == 0 && <$type>::BITS == 64 {
                    // QEMU's visitor reads 64-bit numbers of either sign.
                    let number = signed.map(|number| if number < 0 { i128::from(number as u64) } else { number });
                    number.or_else(|| value.as_u64().map(i128::from)).ok_or_else(|| at.no_uint64())?
                } else {
                    signed.ok_or_else(|| at.invalid_type("integer"))?
                };
                <$type>::try_from(number).map_err(|_| at.out_of_range($range))
            }
            fn to_json(&self) -> Value {
                Value::from(*self)
            }
        }
    )+};
}

integer!(u8: "uint8_t", u16: "uint16_t", u32: "uint32_t", u64: "uint64_t");
integer!(i8: "int8_t", i16: "int16_t", i32: "int32_t", i64: "int64_t");

/// No value: what a command without an answer gives, and JSON's null inside an alternate.
impl QapiType for () {
    const KIND: Kind = Kind::Null;
    fn type_name() -> String {
        "null".to_owned()
    }
    fn describe(schema: &mut Schema) {
        schema.builtin("null", Kind::Null);
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        if value.is_null() { Ok(()) } else { Err(at.invalid_type("null")) }
    }
    fn to_json(&self) -> Value {
        Value::Null
    }
}

impl<T: QapiType> QapiType for Vec<T> {
    const KIND: Kind = Kind::Array;
    fn type_name() -> String {
        format!("[{}]", T::type_name())
    }
    fn describe(schema: &mut Schema) {
        schema.array::<T>();
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        let Value::Array(values) = value else { return Err(at.invalid_type("array")) };
        values.into_iter().enumerate().map(|(n, value)| T::from_json(value, At::Element(&at, n))).collect()
    }
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(T::to_json).collect())
    }
}

/// A value of its own allocation, for types that contain themselves.
impl<T: QapiType> QapiType for Box<T> {
    const KIND: Kind = T::KIND;
    fn type_name() -> String {
        T::type_name()
    }
    fn describe(schema: &mut Schema) {
        T::describe(schema);
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        T::from_json(value, at).map(Box::new)
    }
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

/// The object `{ "data": … }` around the content of an old-style union's variant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wrapper<T> {
    /// The content.
    pub data: T,
}

impl<T: QapiType> QapiType for Wrapper<T> {
    const KIND: Kind = Kind::Object;
    fn type_name() -> String {
        format!("{}Wrapper", T::type_name())
    }
    fn describe(schema: &mut Schema) {
        schema.object::<Self>();
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        crate::types::object_from_json(value, at)
    }
    fn to_json(&self) -> Value {
        crate::types::object_to_json(self)
    }
}

impl<T: QapiType> crate::QapiObject for Wrapper<T> {
    fn shape(schema: &mut Schema) -> crate::Shape {
        crate::Shape { members: vec![schema.member::<T>("data", false, &[])], ..crate::Shape::default() }
    }
    fn take(map: &mut Map<String, Value>, at: At<'_>) -> Result<Self> {
        Ok(Self { data: crate::types::take_member(map, "data", at)? })
    }
    fn put(&self, map: &mut Map<String, Value>) {
        map.insert("data".to_owned(), self.data.to_json());
    }
}

/// Makes an enum of [`qom::property_enum!`] a QAPI type, too: `qapi::property_type!(RunState)`.
#[macro_export]
macro_rules! property_type {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::QapiType for $type {
            const KIND: $crate::Kind = $crate::Kind::Str;
            fn type_name() -> String {
                <$type as qom::PropertyType>::type_name()
            }
            fn describe(schema: &mut $crate::Schema) {
                schema.enumeration(&Self::type_name(), &<$type>::ALL.map(|v| v.as_str()));
            }
            fn from_json(value: $crate::private::Value, at: $crate::At<'_>) -> qom::Result<Self> {
                let text = <String as $crate::QapiType>::from_json(value, at)?;
                let found = <$type>::ALL.into_iter().find(|v| v.as_str() == text);
                found.ok_or_else(|| at.not_accepted(&text))
            }
            fn to_json(&self) -> $crate::private::Value {
                self.as_str().into()
            }
        }
    )+};
}

crate::property_type!(qom::property::OnOffAuto);
