//! Instances: what every object has, casts, properties, and its place in the composition tree.
//!
//! Source: QEMU `qom/object.c`.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::property::PropertyInput;
use crate::types::{ClassInit, Interface, TypeInfo, class_require};
use crate::{Class, Error, ErrorClass, ObjectType, PropertyInfo, Result, Value, bail};

/// An instance of a QOM type. `#[derive(Object)]` implements it.
pub trait Object: Any + Send + Sync {
    /// The part every object has.
    fn base(&self) -> &ObjectBase;
    /// The part of this object that is the Rust type `id`: itself or the struct of an ancestor.
    fn part(&self, id: TypeId) -> Option<&dyn Any>;
}

enum Member {
    /// A property that one instance has and its class has not.
    Value(PropertyInfo),
    /// A child in the composition tree; the tree keeps it alive.
    Child(Arc<dyn Object>),
    /// A reference elsewhere; keeps nothing alive.
    Link(Weak<dyn Object>),
}

/// Says that an object is past changing its property of that name.
pub type FrozenText = fn(&dyn Object, &str) -> String;

/// The root of every object: its class, its place in the tree, and its own properties.
#[derive(Default)]
pub struct ObjectBase {
    class: OnceLock<&'static Class>,
    this: OnceLock<Weak<dyn Object>>,
    parent: Mutex<Option<(Weak<dyn Object>, String)>>,
    members: Mutex<BTreeMap<String, Member>>,
    frozen: Mutex<Option<FrozenText>>,
}

impl Object for ObjectBase {
    fn base(&self) -> &ObjectBase {
        self
    }
    fn part(&self, id: TypeId) -> Option<&dyn Any> {
        (id == TypeId::of::<ObjectBase>()).then_some(self as &dyn Any)
    }
}

impl ObjectType for ObjectBase {
    const TYPE_NAME: &'static str = "object";
    fn construct() -> Self {
        ObjectBase::default()
    }
    fn type_info() -> TypeInfo {
        TypeInfo::of::<ObjectBase>(None, true, |_| {})
    }
}

impl<T> ClassInit<T> for ObjectBase {
    fn class_init(_: &mut Class) {}
}

/// A node of the composition tree that only holds children (`/machine/peripheral`, …).
#[derive(crate::Object)]
#[object(name = "container", parent = ObjectBase)]
pub struct Container {
    parent: ObjectBase,
}

impl ObjectBase {
    /// The object this is the root part of.
    ///
    /// # Panics
    /// For an object that was not made by [`object_new`].
    pub fn this(&self) -> Arc<dyn Object> {
        self.this.get().and_then(Weak::upgrade).expect("objects are made by object_new")
    }

    /// A reference that keeps the object from nothing.
    pub fn weak(&self) -> Weak<dyn Object> {
        Arc::downgrade(&self.this())
    }

    /// The class.
    ///
    /// # Panics
    /// For an object that was not made by [`object_new`].
    pub fn class(&self) -> &'static Class {
        self.class.get().expect("objects are made by object_new")
    }

    /// From now on only properties declared `live` can be set; a device does this when it is realized.
    /// `text` makes the error of an attempt at another.
    pub fn freeze(&self, text: FrozenText) {
        *self.frozen.lock() = Some(text);
    }

    /// Undoes [`ObjectBase::freeze`].
    pub fn thaw(&self) {
        *self.frozen.lock() = None;
    }

    /// The parent in the composition tree and this object's name there.
    pub fn parent(&self) -> Option<(Arc<dyn Object>, String)> {
        let parent = self.parent.lock();
        let (object, name) = parent.as_ref()?;
        Some((object.upgrade()?, name.clone()))
    }
}

/// Makes an instance of `type_name` (`object_new`): construction with defaults, then `instance_init` parent
/// first, then `instance_post_init` child first.
///
/// # Errors
/// When there is no such type or it is abstract.
pub fn object_new(type_name: &str) -> Result<Arc<dyn Object>> {
    object_new_with_class(class_require(type_name)?)
}

/// [`object_new`] for a class at hand.
pub fn object_new_with_class(class: &'static Class) -> Result<Arc<dyn Object>> {
    let object = match class.instantiate() {
        Some(object) if !class.is_abstract() => object,
        _ => bail!("object type '{}' is abstract", class.name()),
    };
    let base = object.base();
    // Fresh object: neither is set yet.
    let _ = base.class.set(class);
    let _ = base.this.set(Arc::downgrade(&object));
    class.run_instance_hooks(&object);
    Ok(object)
}

/// The object as an `Arc` of its own Rust type; `None` when it is another, or a subclass with a struct of
/// its own.
pub fn downcast<T: ObjectType>(object: Arc<dyn Object>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = object;
    any.downcast().ok()
}

impl dyn Object {
    /// The part of the object that is a `T`: the object itself, or an ancestor's struct in it.
    pub fn cast<T: Any>(&self) -> Option<&T> {
        self.part(TypeId::of::<T>())?.downcast_ref()
    }

    /// The class.
    pub fn class(&self) -> &'static Class {
        self.base().class()
    }

    /// The name of the type.
    pub fn type_name(&self) -> &'static str {
        self.class().name()
    }

    /// Whether it is a `type_name`, by inheritance or interface (`object_dynamic_cast`).
    pub fn is_a(&self, type_name: &str) -> bool {
        self.class().is_a(type_name)
    }

    /// The object as one of the interfaces its class declared.
    pub fn interface<I: Interface + ?Sized>(&self) -> Option<Arc<I>> {
        self.class().interface(self.base().this())
    }

    /// The instance's own or the class's property `name`.
    fn find_property(&self, name: &str) -> Result<PropertyInfo> {
        if let Some(Member::Value(property)) = self.base().members.lock().get(name) {
            return Ok(property.clone());
        }
        match self.class().property(name) {
            Some(property) => Ok(property.clone()),
            None => bail!("Property '{}.{}' not found", self.type_name(), name),
        }
    }

    /// Reads a property. Children and links read as the path of the object.
    ///
    /// # Errors
    /// When there is no such property, or it cannot be read.
    pub fn property_get(&self, name: &str) -> Result<Value> {
        let target = match self.base().members.lock().get(name) {
            Some(Member::Child(object)) => Some(object.clone()),
            Some(Member::Link(object)) => match object.upgrade() {
                Some(object) => Some(object),
                None => return Ok("".into()),
            },
            _ => None,
        };
        if let Some(object) = target {
            return Ok(object.canonical_path().unwrap_or_default().into());
        }
        match self.find_property(name)?.get {
            Some(get) => get(self),
            None => bail!("Property '{}.{}' is not readable", self.type_name(), name),
        }
    }

    /// Sets a property from a value of either dialect.
    ///
    /// # Errors
    /// When there is no such property, it is read-only, the object is past changing, or the value does not
    /// fit its type.
    pub fn property_set(&self, name: &str, input: PropertyInput<'_>) -> Result<()> {
        let property = self.find_property(name)?;
        let Some(set) = property.set else {
            bail!("Property '{}.{}' is not writable", self.type_name(), name)
        };
        let frozen = *self.base().frozen.lock();
        if let Some(text) = frozen.filter(|_| !property.live) {
            return Err(Error::new(text(self, name)));
        }
        set(self, input)
    }

    /// Sets a property from an option's text.
    pub fn property_set_str(&self, name: &str, text: &str) -> Result<()> {
        self.property_set(name, PropertyInput::Text(text))
    }

    /// Sets a property from a JSON value.
    pub fn property_set_value(&self, name: &str, value: impl Into<Value>) -> Result<()> {
        self.property_set(name, PropertyInput::Json(&value.into()))
    }

    /// Sets a property of each `name=value`, in order.
    pub fn property_set_all<'a>(&self, list: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        list.into_iter().try_for_each(|(name, text)| self.property_set_str(name, text))
    }

    /// Gives this one instance a property (`object_property_add`). A name that ends in `[*]` gets the first
    /// free number.
    pub fn property_add(&self, property: PropertyInfo) -> Result<()> {
        let name = property.name.clone();
        self.add_member(&name, Member::Value(property)).map(drop)
    }

    /// Adds a reference that keeps nothing alive (`object_property_add_const_link`).
    pub fn property_add_link(&self, name: &str, target: &Arc<dyn Object>) -> Result<()> {
        self.add_member(name, Member::Link(Arc::downgrade(target))).map(drop)
    }

    /// Puts `child` below this object (`object_property_add_child`); gives the name, which for `NAME[*]` has
    /// the first free number.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn property_add_child(&self, name: &str, child: &Arc<dyn Object>) -> Result<String> {
        let name = self.add_member(name, Member::Child(child.clone()))?;
        *child.base().parent.lock() = Some((self.base().weak(), name.clone()));
        Ok(name)
    }

    fn add_member(&self, name: &str, member: Member) -> Result<String> {
        let mut members = self.base().members.lock();
        let name = match name.strip_suffix("[*]") {
            Some(stem) => format!("{stem}[{}]", first_free(&members, stem)),
            None => name.to_owned(),
        };
        // Late properties are not worth making for this: no child or link has the name of one.
        if members.contains_key(&name) || self.class().early_property(&name).is_some() {
            bail!("attempt to add duplicate property '{}' to object (type '{}')", name, self.type_name());
        }
        members.insert(name.clone(), member);
        Ok(name)
    }

    /// Takes a property, child or link of this instance away.
    pub fn property_del(&self, name: &str) {
        // Dropped outside the lock: the last reference may go with it.
        let member = self.base().members.lock().remove(name);
        drop(member);
    }

    /// Takes the object out of the composition tree, which may have held the last reference.
    pub fn unparent(&self) {
        let place = self.base().parent.lock().take();
        if let Some((parent, name)) = place
            && let Some(parent) = parent.upgrade()
        {
            parent.property_del(&name);
        }
    }

    /// The child or link `name`.
    pub fn child(&self, name: &str) -> Option<Arc<dyn Object>> {
        match self.base().members.lock().get(name)? {
            Member::Child(object) => Some(object.clone()),
            Member::Link(object) => object.upgrade(),
            Member::Value(_) => None,
        }
    }

    /// All children with their names, in order of name.
    pub fn children(&self) -> Vec<(String, Arc<dyn Object>)> {
        let members = self.base().members.lock();
        members
            .iter()
            .filter_map(|(name, m)| match m {
                Member::Child(object) => Some((name.clone(), object.clone())),
                _ => None,
            })
            .collect()
    }

    /// Every property as `qom-list` shows it: name and type.
    pub fn property_list(&self) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, member) in self.base().members.lock().iter() {
            let type_name = match member {
                Member::Value(p) => p.type_name.clone(),
                Member::Child(o) => format!("child<{}>", o.type_name()),
                Member::Link(o) => match o.upgrade() {
                    Some(o) => format!("link<{}>", o.type_name()),
                    None => "link<object>".to_owned(),
                },
            };
            list.push((name.clone(), type_name));
        }
        list.extend(self.class().properties().into_iter().map(|p| (p.name.clone(), p.type_name.clone())));
        list
    }

    /// The path from the root, `None` for an object outside the tree.
    pub fn canonical_path(&self) -> Option<String> {
        let mut path = String::new();
        let mut at = self.base().this();
        let root = crate::object_get_root();
        while !Arc::ptr_eq(&at, &root) {
            let (parent, name) = at.base().parent()?;
            path = format!("/{name}{path}");
            at = parent;
        }
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }
}

/// The lowest number that `stem[NUMBER]` is not the name of a member with. Looked up without making a name for each
/// number: a machine has some dozens of them.
fn first_free(members: &BTreeMap<String, Member>, stem: &str) -> usize {
    let prefix = format!("{stem}[");
    let alike = members.range(prefix.clone()..).map_while(|(name, _)| name.strip_prefix(&prefix));
    let mut taken: Vec<usize> = alike.filter_map(|rest| rest.strip_suffix(']')?.parse().ok()).collect();
    taken.sort_unstable();
    taken.iter().enumerate().find(|(n, taken)| n != *taken).map_or(taken.len(), |(n, _)| n)
}

/// QEMU's error for an object that a path does not lead to.
pub fn device_not_found(path: &str) -> Error {
    Error::new(format!("Device '{path}' not found")).with_class(ErrorClass::DeviceNotFound)
}
