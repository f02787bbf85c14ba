//! Looking at and changing objects: properties, types, and making and deleting the users' own.
//!
//! Source: QEMU `qom/qom-qmp-cmds.c`, `qom/object_interfaces.c`, `qapi/qom.json`.

use std::sync::Arc;

use hw_core::Device;
use qapi::QapiType;
use qom::path::ResolveError;
use qom::property::PropertyInput;
use qom::{Class, Error, ErrorClass, Object, PropertyInfo, Result, Value, bail};
use util::option::id_wellformed;

use super::object_options::ObjectOptions;

/// A property.
#[derive(QapiType)]
struct ObjectPropertyInfo {
    name: String,
    #[qapi(name = "type")]
    type_name: String,
    description: Option<String>,
    default_value: Option<Value>,
}

impl ObjectPropertyInfo {
    fn named(name: String, type_name: String) -> Self {
        Self { name, type_name, description: None, default_value: None }
    }

    fn of(property: &PropertyInfo) -> Self {
        let description = Some(property.description.clone()).filter(|text| !text.is_empty());
        Self { description, ..Self::named(property.name.clone(), property.type_name.clone()) }
    }
}

fn resolve(path: &str) -> Result<Arc<dyn Object>> {
    crate::regions::resolve(path).map_err(|reason| match reason {
        ResolveError::NotFound => qom::object::device_not_found(path),
        ResolveError::Ambiguous => Error::new(format!("Path '{path}' is ambiguous")),
    })
}

/// Lists the properties of an object.
#[qapi::command("qom-list", preconfig)]
fn qom_list(
    /// The object: an absolute path, or the last parts of one.
    path: String,
) -> Result<Vec<ObjectPropertyInfo>> {
    crate::regions::complete_tree();
    let list = resolve(&path)?.property_list();
    Ok(list.into_iter().map(|(name, type_name)| ObjectPropertyInfo::named(name, type_name)).collect())
}

/// Reads a property.
#[qapi::command("qom-get", preconfig)]
fn qom_get(path: String, property: String) -> Result<Value> {
    resolve(&path)?.property_get(&property)
}

/// Sets a property.
#[qapi::command("qom-set", preconfig)]
fn qom_set(path: String, property: String, value: Value) -> Result<()> {
    resolve(&path)?.property_set(&property, PropertyInput::Json(&value))
}

/// A type.
#[derive(QapiType)]
struct ObjectTypeInfo {
    name: String,
    #[qapi(name = "abstract")]
    is_abstract: Option<bool>,
    parent: Option<String>,
}

/// Lists types.
#[qapi::command("qom-list-types", preconfig)]
fn qom_list_types(
    /// Only those that are of this type or implement this interface.
    implements: Option<String>,
    /// Also those of which no object can be made.
    #[qapi(name = "abstract")]
    with_abstract: Option<bool>,
) -> Result<Vec<ObjectTypeInfo>> {
    let with_abstract = with_abstract.unwrap_or_default();
    let classes = match implements {
        Some(implements) => qom::class_list(&implements, with_abstract),
        None => {
            let roots = ["interface", "object"];
            let mut classes: Vec<_> =
                roots.into_iter().flat_map(|root| qom::class_list(root, with_abstract)).collect();
            // What has an interface is in both.
            classes.sort_by_key(|class| class.name());
            classes.dedup_by_key(|class| class.name());
            classes
        }
    };
    let info = |class: &'static Class| ObjectTypeInfo {
        name: class.name().to_owned(),
        is_abstract: class.is_abstract().then_some(true),
        parent: class.parent().map(|parent| parent.name().to_owned()),
    };
    Ok(classes.into_iter().map(info).collect())
}

/// Lists the properties that objects of a type have.
#[qapi::command("qom-list-properties", preconfig)]
fn qom_list_properties(typename: String) -> Result<Vec<ObjectPropertyInfo>> {
    let Some(class) = qom::class_by_name(&typename) else {
        let error = Error::new(format!("Class '{typename}' not found"));
        return Err(error.with_class(ErrorClass::DeviceNotFound));
    };
    if class.ancestry().all(|ancestor| ancestor.name() != "object") {
        bail!("Parameter 'typename' expects a QOM type");
    }
    Ok(class.properties().into_iter().map(ObjectPropertyInfo::of).collect())
}

/// What every device has and nobody sets.
const FRAMEWORK: [&str; 5] = ["type", "realized", "hotpluggable", "hotplugged", "parent_bus"];

/// Lists the properties that devices of a type have, with their defaults.
#[qapi::command("device-list-properties")]
fn device_list_properties(typename: String) -> Result<Vec<ObjectPropertyInfo>> {
    let Some(class) = qom::class_by_name(&typename) else {
        return Err(qom::object::device_not_found(&typename));
    };
    if !class.is_a(<Device as qom::ObjectType>::TYPE_NAME) || class.is_abstract() {
        bail!("Parameter 'typename' expects a non-abstract device type");
    }
    // QEMU has names of this kind for older forms of others, and leaves them out.
    let is_told = |p: &&PropertyInfo| !FRAMEWORK.contains(&p.name.as_str()) && !p.name.starts_with("legacy-");
    let properties = class.properties().into_iter().filter(is_told);
    let with_default = |p: &PropertyInfo| {
        let default_value = p.default.clone().filter(|value| p.type_name != "str" || *value != "");
        ObjectPropertyInfo { default_value, ..ObjectPropertyInfo::of(p) }
    };
    Ok(properties.map(with_default).collect())
}

/// Makes an object of a user's.
#[qapi::command("object-add", preconfig)]
fn object_add(#[qapi(flatten)] options: ObjectOptions) -> Result<()> {
    if !id_wellformed(&options.id) {
        bail!("Parameter 'id' expects an identifier");
    }
    qom::object_add(&options.qom_type, &options.id, &options.properties).map(drop)
}

/// Deletes an object of a user's.
#[qapi::command("object-del", preconfig)]
fn object_del(id: String) -> Result<()> {
    qom::user_creatable_del(&id)
}
