//! What `query-qmp-schema` answers: every command and event, and the types that they use.
//!
//! Types are known by numbers, not by names, as QEMU has it: a client is not to depend on a name that is no
//! part of the protocol. Source: QEMU `qapi/introspect.json`, `docs/devel/qapi-code-gen.rst`.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::types::{Kind, QapiObject, QapiType};
use crate::{commands, events};

/// Something a client can find out about a command, an event, a type or a member: `deprecated`, `unstable`, or
/// a name of its own.
pub type Feature = &'static str;

/// A member of an object type.
#[derive(Clone, Debug)]
pub struct Member {
    name: String,
    type_id: String,
    optional: bool,
    features: Vec<Feature>,
}

/// What one value of a union's tag adds.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The tag's value.
    pub case: String,
    /// The object type whose members are added, as [`Schema::reference`] gave it.
    pub type_id: String,
}

/// The members of an object type, and what a union has beyond.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// In order.
    pub members: Vec<Member>,
    /// A union's tag.
    pub tag: Option<String>,
    /// A union's variants.
    pub variants: Vec<Variant>,
}

impl Shape {
    /// Adds what a flattened part has.
    pub fn merge(&mut self, part: Shape) {
        self.members.extend(part.members);
        self.tag = self.tag.take().or(part.tag);
        self.variants.extend(part.variants);
    }
}

/// The schema while it is put together.
#[derive(Default)]
pub struct Schema {
    entries: Vec<Value>,
    ids: HashMap<String, String>,
}

impl Schema {
    /// What `T` is called in the schema; describes it if it is not there yet.
    pub fn reference<T: QapiType>(&mut self) -> String {
        let name = T::type_name();
        if !self.ids.contains_key(&name) {
            T::describe(self);
        }
        self.ids.get(&name).cloned().unwrap_or(name)
    }

    /// A member of type `T`.
    pub fn member<T: QapiType>(&mut self, name: &str, optional: bool, features: &[Feature]) -> Member {
        let type_id = self.reference::<T>();
        Member { name: name.to_owned(), type_id, optional, features: features.to_vec() }
    }

    /// A number for a type that was not there yet.
    fn new_id(&mut self, name: &str) -> String {
        let id = self.ids.len().to_string();
        self.ids.insert(name.to_owned(), id.clone());
        id
    }

    fn add(&mut self, name: &str, meta_type: &str, mut content: Value) {
        content["name"] = name.into();
        content["meta-type"] = meta_type.into();
        self.entries.push(content);
    }

    /// Adds a built-in type, which keeps its name.
    pub fn builtin(&mut self, name: &str, kind: Kind) {
        if self.ids.insert(name.to_owned(), name.to_owned()).is_some() {
            return;
        }
        let json_type = match kind {
            Kind::Null => "null",
            Kind::Bool => "boolean",
            Kind::Int => "int",
            Kind::Number => "number",
            Kind::Str => "string",
            Kind::Array => "array",
            Kind::Object => "object",
            Kind::Any => "value",
        };
        self.add(name, "builtin", json!({ "json-type": json_type }));
    }

    /// Adds the arrays of `T`, named after their elements.
    pub fn array<T: QapiType>(&mut self) {
        let element = self.reference::<T>();
        let id = format!("[{element}]");
        // An element that has such an array of its own has added it.
        if self.ids.insert(<Vec<T> as QapiType>::type_name(), id.clone()).is_some() {
            return;
        }
        self.add(&id, "array", json!({ "element-type": element }));
    }

    /// Adds an enum.
    pub fn enumeration(&mut self, name: &str, values: &[&str]) {
        if self.ids.contains_key(name) {
            return;
        }
        let id = self.new_id(name);
        let members: Vec<_> = values.iter().map(|value| json!({ "name": value })).collect();
        self.add(&id, "enum", json!({ "values": values, "members": members }));
    }

    /// Adds the enum that is a union's tag; the member that is the tag.
    pub fn tag(&mut self, name: &str, member: &str, values: &[&str]) -> Member {
        self.enum_member(member, name, values, false)
    }

    /// A member that is an enum of values that are known when the program runs.
    pub fn enum_member(&mut self, name: &str, type_name: &str, values: &[&str], optional: bool) -> Member {
        self.enumeration(type_name, values);
        let type_id = self.ids.get(type_name).cloned().unwrap_or_default();
        Member { name: name.to_owned(), type_id, optional, features: Vec::new() }
    }

    /// Adds an alternate of the given types.
    pub fn alternate(&mut self, name: &str, members: fn(&mut Schema) -> Vec<String>) {
        let id = self.new_id(name);
        let members: Vec<_> = members(self).into_iter().map(|id| json!({ "type": id })).collect();
        self.add(&id, "alternate", json!({ "members": members }));
    }

    /// Adds an object type.
    pub fn object<T: QapiObject>(&mut self) {
        self.object_of(&T::type_name(), T::shape);
    }

    /// Adds an object type by its shape; what it is called.
    pub fn object_of(&mut self, name: &str, shape: impl FnOnce(&mut Schema) -> Shape) -> String {
        if let Some(id) = self.ids.get(name) {
            return id.clone();
        }
        // First, for it may contain itself.
        let id = self.new_id(name);
        let shape = shape(self);
        let members: Vec<_> = shape.members.iter().map(member_info).collect();
        let mut content = json!({ "members": members });
        if let Some(tag) = shape.tag {
            let variant = |v: &Variant| json!({ "case": v.case, "type": v.type_id });
            content["tag"] = tag.into();
            content["variants"] = shape.variants.iter().map(variant).collect();
        }
        self.add(&id, "object", content);
        id
    }

    /// The object type without members.
    pub fn empty(&mut self) -> String {
        self.object_of("q_empty", |_| Shape::default())
    }
}

fn member_info(member: &Member) -> Value {
    let mut info = json!({ "name": member.name, "type": member.type_id });
    if member.optional {
        info["default"] = Value::Null;
    }
    with_features(info, &member.features)
}

fn with_features(mut info: Value, features: &[Feature]) -> Value {
    if !features.is_empty() {
        info["features"] = json!(features);
    }
    info
}

/// All commands and events, and the types that they use, as `SchemaInfo`s.
pub fn query_qmp_schema() -> Value {
    let mut schema = Schema::default();
    for command in commands() {
        let (arguments, answer) = (command.describe)(&mut schema);
        let mut info = json!({ "arg-type": arguments, "ret-type": answer });
        if command.options.allow_oob {
            info["allow-oob"] = true.into();
        }
        schema.add(command.name, "command", with_features(info, command.features));
    }
    for event in events() {
        let content = (event.describe)(&mut schema);
        schema.add(event.name, "event", json!({ "arg-type": content }));
    }
    Value::Array(schema.entries)
}
