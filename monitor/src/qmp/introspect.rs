//! `query-qmp-schema`, and the types it answers with. Source: QEMU `qapi/introspect.json`.

use qapi::{At, Kind, QapiType, Schema};
use qom::Result;
use serde_json::Value;

/// What JSON makes of a built-in type.
#[derive(QapiType)]
#[qapi(name = "JSONType")]
#[allow(dead_code, reason = "it is described, not made: the schema is put together as JSON")]
enum JsonType {
    String,
    Number,
    Int,
    Boolean,
    Null,
    Object,
    Array,
    Value,
}

macro_rules! described {
    ($($(#[$meta:meta])* $name:ident { $($member:tt)* })*) => {$(
        $(#[$meta])*
        #[derive(QapiType)]
        #[allow(dead_code, reason = "it is described, not made: the schema is put together as JSON")]
        struct $name { $($member)* }
    )*};
}

described! {
    /// Something that has a name in the schema.
    SchemaInfo {
        name: String,
        features: Option<Vec<String>>,
        #[qapi(flatten)] content: SchemaContent,
    }
    /// A type without structure.
    SchemaInfoBuiltin { json_type: JsonType, }
    /// An enum.
    SchemaInfoEnum { members: Vec<SchemaInfoEnumMember>, values: Vec<String>, }
    /// A value of an enum.
    SchemaInfoEnumMember { name: String, features: Option<Vec<String>>, }
    /// Arrays of a type.
    SchemaInfoArray { element_type: String, }
    /// An object type.
    SchemaInfoObject {
        members: Vec<SchemaInfoObjectMember>,
        tag: Option<String>,
        variants: Option<Vec<SchemaInfoObjectVariant>>,
    }
    /// A member of an object type.
    SchemaInfoObjectMember {
        name: String,
        #[qapi(name = "type")] of: String,
        default: Option<Value>,
        features: Option<Vec<String>>,
    }
    /// What a value of the tag adds.
    SchemaInfoObjectVariant { case: String, #[qapi(name = "type")] of: String, }
    /// One of several types.
    SchemaInfoAlternate { members: Vec<SchemaInfoAlternateMember>, }
    /// One of these types.
    SchemaInfoAlternateMember { #[qapi(name = "type")] of: String, }
    /// A command.
    SchemaInfoCommand { arg_type: String, ret_type: String, allow_oob: Option<bool>, }
    /// An event.
    SchemaInfoEvent { arg_type: String, }
}

#[derive(QapiType)]
#[qapi(tag = "meta-type", tag_type = "SchemaMetaType")]
#[allow(dead_code, reason = "it is described, not made: the schema is put together as JSON")]
enum SchemaContent {
    Builtin(SchemaInfoBuiltin),
    Enum(SchemaInfoEnum),
    Array(SchemaInfoArray),
    Object(SchemaInfoObject),
    Alternate(SchemaInfoAlternate),
    Command(SchemaInfoCommand),
    Event(SchemaInfoEvent),
}

/// An array of [`SchemaInfo`], as JSON.
struct SchemaInfoList(Value);

impl QapiType for SchemaInfoList {
    const KIND: Kind = Kind::Array;
    fn type_name() -> String {
        <Vec<SchemaInfo> as QapiType>::type_name()
    }
    fn describe(schema: &mut Schema) {
        <Vec<SchemaInfo> as QapiType>::describe(schema);
    }
    fn from_json(value: Value, _: At<'_>) -> Result<Self> {
        Ok(Self(value))
    }
    fn to_json(&self) -> Value {
        self.0.clone()
    }
}

/// All commands, events and types, for programs.
#[qapi::command("query-qmp-schema", preconfig)]
fn query_qmp_schema() -> Result<SchemaInfoList> {
    Ok(SchemaInfoList(qapi::query_qmp_schema()))
}
