//! Objects that users make with `-object`. Source: QEMU `qom/object_interfaces.c`.

use std::sync::Arc;

use crate::property::PropertyInput;
use crate::{
    Class, Interface, Object, Result, TypeInfo, Value, bail, class_by_name, container_get, object_get_root,
    object_new,
};

/// A type that `-object` can make.
pub trait UserCreatable: Send + Sync {
    /// All properties are set: check them and take the resources.
    ///
    /// # Errors
    /// For the user: what does not fit or cannot be had.
    fn complete(self: Arc<Self>) -> Result<()>;

    /// Properties that users must give.
    fn required(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether `object-del` may take it away now.
    fn can_be_deleted(&self) -> bool {
        true
    }

    /// It goes, by `object-del` or at the program's end.
    fn released(&self) {}
}

impl Interface for dyn UserCreatable {
    const TYPE_NAME: &'static str = "user-creatable";
}

crate::type_init!(fn register);

fn register() {
    crate::type_register(TypeInfo::interface::<dyn UserCreatable>());
}

/// The container of users' objects, `/objects`.
pub fn object_get_objects_root() -> Arc<dyn Object> {
    container_get(&object_get_root(), "/objects")
}

/// The class of a type that users may make.
fn user_creatable_class(type_name: &str) -> Result<&'static Class> {
    let class = class_by_name(type_name);
    match class.filter(|c| c.is_a(<dyn UserCreatable>::TYPE_NAME) && !c.is_abstract()) {
        Some(class) => Ok(class),
        None => bail!("Parameter 'qom-type' does not accept value '{type_name}'"),
    }
}

/// [`user_creatable_add`] as QMP has it: properties that the type does not have are found before anything is made.
///
/// # Errors
/// As [`user_creatable_add`].
pub fn object_add(
    type_name: &str,
    id: &str,
    properties: &serde_json::Map<String, Value>,
) -> Result<Arc<dyn Object>> {
    let class = user_creatable_class(type_name)?;
    let settable = |name: &&String| class.property(name).is_some_and(|property| property.set.is_some());
    if let Some(name) = properties.keys().find(|name| !settable(name)) {
        bail!("Parameter '{name}' is unexpected");
    }
    let properties = properties.iter().map(|(name, value)| (name.as_str(), PropertyInput::Json(value)));
    user_creatable_add(type_name, id, properties)
}

/// Makes an object of `type_name` and sets its properties: what can be said before anything is done.
///
/// # Errors
/// When there is no such type for users, a property does not exist, does not take its value, or is missing.
pub fn user_creatable_new<'a>(
    type_name: &str,
    properties: impl IntoIterator<Item = (&'a str, PropertyInput<'a>)>,
) -> Result<Arc<dyn Object>> {
    user_creatable_class(type_name)?;
    let object = object_new(type_name)?;
    let mut given = Vec::new();
    for (name, value) in properties {
        if object.class().property(name).is_none() {
            bail!("Invalid parameter '{name}'");
        }
        object.property_set(name, value)?;
        given.push(name);
    }
    let required = object.interface::<dyn UserCreatable>().map(|creatable| creatable.required());
    match required.unwrap_or_default().iter().find(|name| !given.contains(name)) {
        Some(missing) => bail!("Parameter '{missing}' is missing"),
        None => Ok(object),
    }
}

/// Gives an object of [`user_creatable_new`] its name and has it take its resources.
///
/// # Errors
/// When the id is taken, or the object refuses.
pub fn user_creatable_complete(id: &str, object: &Arc<dyn Object>) -> Result<()> {
    if object_get_objects_root().property_add_child(id, object).is_err() {
        bail!("attempt to add duplicate property '{id}' to object (type 'container')");
    }
    let result = match object.interface::<dyn UserCreatable>() {
        Some(creatable) => creatable.complete(),
        None => Ok(()),
    };
    if result.is_err() {
        object.unparent();
    }
    result
}

/// Makes an object of `type_name` called `id` (`user_creatable_add_type`).
///
/// # Errors
/// As [`user_creatable_new`] and [`user_creatable_complete`].
pub fn user_creatable_add<'a>(
    type_name: &str,
    id: &str,
    properties: impl IntoIterator<Item = (&'a str, PropertyInput<'a>)>,
) -> Result<Arc<dyn Object>> {
    let object = user_creatable_new(type_name, properties)?;
    user_creatable_complete(id, &object)?;
    Ok(object)
}

/// Takes a user's object away (`user_creatable_del`).
///
/// # Errors
/// When there is none of that name, or it is in use.
pub fn user_creatable_del(id: &str) -> Result<()> {
    let Some(object) = object_get_objects_root().child(id) else { bail!("object '{id}' not found") };
    if let Some(creatable) = object.interface::<dyn UserCreatable>() {
        if !creatable.can_be_deleted() {
            bail!("object '{id}' is in use, can not be deleted");
        }
        creatable.released();
    }
    object.unparent();
    Ok(())
}

/// The program ends, and with it all objects of users' (`user_creatable_cleanup`).
pub fn user_creatable_cleanup() {
    let objects = object_get_objects_root().children();
    let creatable = objects.iter().filter_map(|(_, object)| object.interface::<dyn UserCreatable>());
    creatable.for_each(|creatable| creatable.released());
}
