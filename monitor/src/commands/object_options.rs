//! The options of objects that users make: QAPI's union `ObjectOptions` (`qapi/qom.json`), made of what the types'
//! classes say, so that `query-qmp-schema` tells which types there are and what each takes.

use qapi::private::take_member;
use qapi::{At, Kind, Member, QapiObject, QapiType, Schema, Shape, Variant};
use qom::{Class, Interface, PropertyInfo, Result, UserCreatable, Value, class_list, object_new};
use serde_json::Map;

/// Properties that are lists of numbers, which QOM's types do not tell.
const LISTS: [&str; 3] = ["host-nodes", "cpu-affinity", "node-affinity"];

/// What `object-add` takes.
pub(super) struct ObjectOptions {
    pub qom_type: String,
    pub id: String,
    /// What the type has.
    pub properties: Map<String, Value>,
}

impl QapiType for ObjectOptions {
    const KIND: Kind = Kind::Object;
    fn type_name() -> String {
        "ObjectOptions".to_owned()
    }
    fn describe(schema: &mut Schema) {
        schema.object::<Self>();
    }
    fn from_json(value: Value, at: At<'_>) -> Result<Self> {
        qapi::private::object_from_json(value, at)
    }
    fn to_json(&self) -> Value {
        qapi::private::object_to_json(self)
    }
}

impl QapiObject for ObjectOptions {
    fn shape(schema: &mut Schema) -> Shape {
        let classes = class_list(<dyn UserCreatable>::TYPE_NAME, false);
        let names: Vec<_> = classes.iter().map(|class| class.name()).collect();
        let tag = schema.tag("ObjectType", "qom-type", &names);
        let members = vec![tag, schema.member::<String>("id", false, &[])];
        let variant = |class: &&Class| Variant {
            case: class.name().to_owned(),
            type_id: schema
                .object_of(&format!("{}-properties", class.name()), |schema| properties(schema, class)),
        };
        let variants = classes.iter().map(variant).collect();
        Shape { members, tag: Some("qom-type".to_owned()), variants }
    }

    fn take(map: &mut Map<String, Value>, at: At<'_>) -> Result<Self> {
        Ok(ObjectOptions {
            qom_type: take_member(map, "qom-type", at)?,
            id: take_member(map, "id", at)?,
            properties: std::mem::take(map),
        })
    }

    fn put(&self, map: &mut Map<String, Value>) {
        map.insert("qom-type".to_owned(), self.qom_type.as_str().into());
        map.insert("id".to_owned(), self.id.as_str().into());
        map.extend(self.properties.clone());
    }
}

/// What a type of objects takes.
fn properties(schema: &mut Schema, class: &Class) -> Shape {
    let required = object_new(class.name())
        .ok()
        .and_then(|object| object.interface::<dyn UserCreatable>())
        .map_or(&[][..], |creatable| creatable.required());
    let settable = class.properties().into_iter().filter(|property| property.set.is_some());
    let members =
        settable.map(|property| member(schema, property, !required.contains(&property.name.as_str())));
    Shape { members: members.collect(), ..Shape::default() }
}

fn member(schema: &mut Schema, property: &PropertyInfo, optional: bool) -> Member {
    let name = property.name.as_str();
    match property.type_name.as_str() {
        kind if !property.values.is_empty() => schema.enum_member(name, kind, property.values, optional),
        _ if LISTS.contains(&name) => schema.member::<Vec<u16>>(name, optional, &[]),
        "bool" => schema.member::<bool>(name, optional, &[]),
        kind if kind.contains("int") || kind == "size" => schema.member::<i64>(name, optional, &[]),
        kind if kind == "string" || kind == "str" || kind.starts_with("link<") => {
            schema.member::<String>(name, optional, &[])
        }
        _ => schema.member::<Value>(name, optional, &[]),
    }
}
