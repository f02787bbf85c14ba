//! The type table and classes.
//!
//! A type is registered by [`TypeInfo`] and gets its [`Class`] on first use: the parent's class first, then
//! a copy of the parent's tables, then the type's own `class_init` upon it. Classes live as long as the
//! program. Source: QEMU `qom/object.c` (`type_initialize`, `object_class_*`).

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use crate::property::PropertyInput;
use crate::{Error, Object, Result, Value};

/// The data and method tables one level of the hierarchy adds to a class (QEMU's `struct DeviceClass`
/// without its parent). A subclass starts with a copy of its parent's.
pub trait ClassData: Any + Send + Sync + Clone {}
impl<T: Any + Send + Sync + Clone> ClassData for T {}

/// Reads a property of an object.
pub type Getter = Arc<dyn Fn(&dyn Object) -> Result<Value> + Send + Sync>;
/// Writes a property of an object.
pub type Setter = Arc<dyn Fn(&dyn Object, PropertyInput<'_>) -> Result<()> + Send + Sync>;

/// One property as `-device X,help`, `qom-list` and `device-list-properties` show it.
#[derive(Clone)]
pub struct PropertyInfo {
    /// Name, with dashes.
    pub name: String,
    /// QAPI's name of the type: `uint32`, `bool`, `str`, `size`, `link<T>`, an enum's name …
    pub type_name: String,
    /// An enum's values.
    pub values: &'static [&'static str],
    /// One line for people, may be empty.
    pub description: String,
    /// The value a new instance has, where it is a constant.
    pub default: Option<Value>,
    /// Reads it; write-only properties have none.
    pub get: Option<Getter>,
    /// Writes it; read-only properties have none.
    pub set: Option<Setter>,
    /// Whether it may be set after the object was frozen (a device: realized).
    pub live: bool,
}

impl PropertyInfo {
    /// A property without accessors; add them with the fields.
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> PropertyInfo {
        PropertyInfo {
            name: name.into(),
            type_name: type_name.into(),
            values: &[],
            description: String::new(),
            default: None,
            get: None,
            set: None,
            live: false,
        }
    }
}

/// An interface a class can implement: `impl Interface for dyn HotplugHandler { … }`.
pub trait Interface: Any {
    /// QOM's name of it, as in `qom-list-types implements=NAME`.
    const TYPE_NAME: &'static str;
}

/// How an object of a class becomes an `Arc<dyn Interface>`.
struct InterfaceCast<I: ?Sized>(fn(Arc<dyn Object>) -> Option<Arc<I>>);

type CloneData = fn(&(dyn Any + Send + Sync)) -> Box<dyn Any + Send + Sync>;

struct Data {
    value: Box<dyn Any + Send + Sync>,
    clone: CloneData,
}

/// Properties that are only made when somebody asks for one: a CPU has hundreds, of which a start needs none.
struct LateProperties {
    make: fn() -> Vec<PropertyInfo>,
    made: OnceLock<BTreeMap<String, PropertyInfo>>,
}

impl LateProperties {
    fn get(&self) -> &BTreeMap<String, PropertyInfo> {
        self.made.get_or_init(|| (self.make)().into_iter().map(|p| (p.name.clone(), p)).collect())
    }
}

/// What all instances of a type share.
pub struct Class {
    name: &'static str,
    parent: Option<&'static Class>,
    abstract_: bool,
    data: Vec<(TypeId, Data)>,
    interfaces: Vec<(TypeId, &'static str, Arc<dyn Any + Send + Sync>)>,
    /// With the number of those that were there before.
    properties: BTreeMap<String, (usize, PropertyInfo)>,
    late_properties: Option<LateProperties>,
    instance_new: Option<fn() -> Arc<dyn Object>>,
    instance_init: Option<Hook>,
    instance_post_init: Option<Hook>,
}

/// A function run on a new instance.
pub type Hook = Arc<dyn Fn(&Arc<dyn Object>) + Send + Sync>;

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Class({})", self.name)
    }
}

impl Class {
    /// The type's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The parent's class; the root `object` has none.
    pub fn parent(&self) -> Option<&'static Class> {
        self.parent
    }

    /// Whether instances cannot be made of it.
    pub fn is_abstract(&self) -> bool {
        self.abstract_
    }

    /// This class and its ancestors, nearest first.
    pub fn ancestry(&self) -> impl Iterator<Item = &Class> {
        std::iter::successors(Some(self), |c| c.parent)
    }

    /// Whether this is `type_name`, inherits from it or implements it (`object_class_dynamic_cast`).
    pub fn is_a(&self, type_name: &str) -> bool {
        // Every interface is an `interface`.
        self.ancestry().any(|c| c.name == type_name)
            || self.interfaces.iter().any(|(_, n, _)| *n == type_name || type_name == "interface")
    }

    /// The table `D`, as this class or its nearest ancestor with one has it.
    pub fn get<D: ClassData>(&self) -> Option<&D> {
        self.data.iter().find(|(id, _)| *id == TypeId::of::<D>())?.1.value.downcast_ref()
    }

    /// The table `D` to be changed by `class_init`; a default one is made where no ancestor has it.
    pub fn get_mut<D: ClassData + Default>(&mut self) -> &mut D {
        let id = TypeId::of::<D>();
        let at = self.data.iter().position(|(i, _)| *i == id).unwrap_or_else(|| {
            let clone: CloneData = |v| match v.downcast_ref::<D>() {
                Some(d) => Box::new(d.clone()),
                None => Box::new(D::default()),
            };
            self.data.push((id, Data { value: Box::new(D::default()), clone }));
            self.data.len() - 1
        });
        self.data[at].1.value.downcast_mut().expect("the entry found by D's id holds a D")
    }

    /// Adds a property of this class, or replaces an inherited one.
    pub fn add_property(&mut self, mut property: PropertyInfo) {
        // QEMU's devices and its other objects have their own names for these two.
        let other = match property.type_name.as_str() {
            "str" => "string",
            "int64" => "int",
            _ => "",
        };
        if !other.is_empty() && !self.is_a("device") {
            property.type_name = other.to_owned();
        }
        let before = self.properties.len();
        self.properties.insert(property.name.clone(), (before, property));
    }

    /// Changes the description of a property of this very class.
    pub fn set_property_description(&mut self, name: &str, text: &str) {
        if let Some((_, p)) = self.properties.get_mut(name) {
            p.description = text.to_owned();
        }
    }

    /// The property `name` of this class or an ancestor.
    pub fn property(&self, name: &str) -> Option<&PropertyInfo> {
        let late = || self.ancestry().find_map(|c| c.late_properties.as_ref()?.get().get(name));
        self.early_property(name).or_else(late)
    }

    /// The same, but for late ones, which it does not make.
    pub(crate) fn early_property(&self, name: &str) -> Option<&PropertyInfo> {
        self.ancestry().find_map(|c| Some(&c.properties.get(name)?.1))
    }

    /// Names the function that makes the rest of the properties, called when one is first looked for.
    pub fn set_late_properties(&mut self, make: fn() -> Vec<PropertyInfo>) {
        self.late_properties = Some(LateProperties { make, made: OnceLock::new() });
    }

    /// Every property, those of this class first; an overridden one is listed once.
    pub fn properties(&self) -> Vec<&PropertyInfo> {
        let mut all: Vec<&PropertyInfo> = Vec::new();
        let late = self.ancestry().filter_map(|c| c.late_properties.as_ref()).flat_map(|l| l.get().values());
        let early = self.ancestry().flat_map(|c| c.properties.values().map(|(_, property)| property));
        for property in early.chain(late) {
            if !all.iter().any(|p| p.name == property.name) {
                all.push(property);
            }
        }
        all
    }

    /// The properties that this very class adds or overrides, but for late ones, in the order that they were added.
    pub fn own_properties(&self) -> Vec<&PropertyInfo> {
        let mut own: Vec<_> = self.properties.values().collect();
        own.sort_by_key(|(before, _)| *before);
        own.into_iter().map(|(_, property)| property).collect()
    }

    /// Declares that instances implement `I`, and how they become one.
    pub fn add_interface<I: Interface + ?Sized>(&mut self, cast: fn(Arc<dyn Object>) -> Option<Arc<I>>) {
        let id = TypeId::of::<I>();
        self.interfaces.retain(|(i, ..)| *i != id);
        self.interfaces.push((id, I::TYPE_NAME, Arc::new(InterfaceCast(cast))));
    }

    /// Has `hook` run on every new instance, after the parent's (`instance_init`).
    pub fn set_instance_init(&mut self, hook: impl Fn(&Arc<dyn Object>) + Send + Sync + 'static) {
        self.instance_init = Some(Arc::new(hook));
    }

    /// Has `hook` run on every new instance once all `instance_init`s ran, child first.
    pub fn set_instance_post_init(&mut self, hook: impl Fn(&Arc<dyn Object>) + Send + Sync + 'static) {
        self.instance_post_init = Some(Arc::new(hook));
    }

    pub(crate) fn interface<I: Interface + ?Sized>(&self, object: Arc<dyn Object>) -> Option<Arc<I>> {
        let id = TypeId::of::<I>();
        let (.., cast) = self.interfaces.iter().find(|(i, ..)| *i == id)?;
        (cast.downcast_ref::<InterfaceCast<I>>()?.0)(object)
    }

    pub(crate) fn instantiate(&self) -> Option<Arc<dyn Object>> {
        self.instance_new.map(|new| new())
    }

    pub(crate) fn run_instance_hooks(&self, object: &Arc<dyn Object>) {
        let chain: Vec<&Class> = self.ancestry().collect();
        for hook in chain.iter().rev().filter_map(|c| c.instance_init.as_ref()) {
            hook(object);
        }
        for hook in chain.iter().filter_map(|c| c.instance_post_init.as_ref()) {
            hook(object);
        }
    }
}

/// A Rust type that is a QOM type; implemented by `#[derive(Object)]`.
pub trait ObjectType: Object + Sized {
    /// QOM's name of the type.
    const TYPE_NAME: &'static str;
    /// An instance with its properties at their defaults.
    fn construct() -> Self;
    /// What [`type_register`] takes.
    fn type_info() -> TypeInfo;
}

/// How a base type fills its method tables from what a derived type `T` implements: `Device` implements
/// this for every `T: DeviceImpl`, so that deriving from `Device` without implementing `DeviceImpl` does
/// not compile.
pub trait ClassInit<T> {
    /// Fills the tables of the class of `T`.
    fn class_init(class: &mut Class);
}

/// QEMU's `TypeInfo`: what registers a type.
pub struct TypeInfo {
    name: &'static str,
    parent: Option<&'static str>,
    abstract_: bool,
    class_init: Arc<dyn Fn(&mut Class) + Send + Sync>,
    instance_new: Option<fn() -> Arc<dyn Object>>,
}

impl TypeInfo {
    /// A type that inherits everything from `parent`; used for types made at run time, such as one a CPU
    /// model. `class_init` sets it apart.
    pub fn new(
        name: impl Into<String>,
        parent: &'static str,
        class_init: impl Fn(&mut Class) + Send + Sync + 'static,
    ) -> TypeInfo {
        TypeInfo {
            name: name.into().leak(),
            parent: Some(parent),
            abstract_: false,
            class_init: Arc::new(class_init),
            instance_new: None,
        }
    }

    /// A type with a Rust struct of its own; `#[derive(Object)]` calls this.
    pub fn of<T: ObjectType>(
        parent: Option<&'static str>,
        abstract_: bool,
        class_init: fn(&mut Class),
    ) -> TypeInfo {
        TypeInfo {
            name: T::TYPE_NAME,
            parent,
            abstract_,
            class_init: Arc::new(class_init),
            instance_new: Some(|| Arc::new(T::construct())),
        }
    }

    /// An interface, so that it has a name in the type table.
    pub fn interface<I: Interface + ?Sized>() -> TypeInfo {
        TypeInfo {
            name: I::TYPE_NAME,
            parent: Some("interface"),
            abstract_: true,
            class_init: Arc::new(|_| {}),
            instance_new: None,
        }
    }

    /// The same type, abstract.
    pub fn with_abstract(mut self) -> TypeInfo {
        self.abstract_ = true;
        self
    }
}

struct TypeImpl {
    info: TypeInfo,
    class: OnceLock<&'static Class>,
}

fn table() -> &'static RwLock<Types> {
    static TABLE: OnceLock<RwLock<Types>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let root = |name| TypeInfo {
            name,
            parent: None,
            abstract_: true,
            class_init: Arc::new(|_| {}),
            instance_new: None,
        };
        let mut types = BTreeMap::new();
        let mut object = root("object");
        object.class_init = Arc::new(object_class_init);
        for info in [object, root("interface"), crate::Container::type_info()] {
            types.insert(info.name, Arc::new(TypeImpl { info, class: OnceLock::new() }));
        }
        RwLock::new(types)
    })
}

fn object_class_init(class: &mut Class) {
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|object| Ok(object.type_name().into()))),
        ..PropertyInfo::new("type", "string")
    });
}

/// Adds a type to the table (`type_register_static`).
///
/// # Panics
/// When the name is taken: two files claim one type, a mistake of the program.
pub fn type_register(info: TypeInfo) {
    let name = info.name;
    let before = table().write().insert(name, Arc::new(TypeImpl { info, class: OnceLock::new() }));
    assert!(before.is_none(), "type '{name}' registered twice");
}

/// The class of `name`, initialised, parents first, if it was not yet (`object_class_by_name`).
pub fn class_by_name(name: &str) -> Option<&'static Class> {
    let entry = table().read().get(name).cloned()?;
    if let Some(class) = entry.class.get() {
        return Some(class);
    }
    let parent = match entry.info.parent {
        // A type whose parent was not linked in is as good as absent.
        Some(parent) => Some(class_by_name(parent)?),
        None => None,
    };
    Some(entry.class.get_or_init(|| Box::leak(Box::new(type_initialize(&entry.info, parent)))))
}

fn type_initialize(info: &TypeInfo, parent: Option<&'static Class>) -> Class {
    let mut class = Class {
        name: info.name,
        parent,
        abstract_: info.abstract_,
        data: Vec::new(),
        interfaces: Vec::new(),
        properties: BTreeMap::new(),
        late_properties: None,
        instance_new: info.instance_new,
        instance_init: None,
        instance_post_init: None,
    };
    if let Some(parent) = parent {
        // class_base_init: start with the parent's tables.
        class.data = parent
            .data
            .iter()
            .map(|(id, d)| (*id, Data { value: (d.clone)(d.value.as_ref()), clone: d.clone }))
            .collect();
        class.interfaces = parent.interfaces.clone();
        class.instance_new = info.instance_new.or(parent.instance_new);
    }
    (info.class_init)(&mut class);
    class
}

type Types = BTreeMap<&'static str, Arc<TypeImpl>>;

fn inherits(types: &Types, name: &str, ancestor: &str) -> bool {
    let parent = |name: &&str| types.get(*name)?.info.parent;
    std::iter::successors(Some(name), |name| parent(name)).any(|name| name == ancestor)
}

/// Every class that is `implements`, in order of name (`object_class_get_list_sorted`).
pub fn class_list(implements: &str, include_abstract: bool) -> Vec<&'static Class> {
    let names: Vec<&'static str> = {
        let types = table().read();
        // What inherits is known without initialising a class; what implements an interface is not.
        let by_class = inherits(&types, implements, "interface");
        let mut known = BTreeMap::new();
        let mut inherits_from = |parent: Option<&'static str>| match parent {
            Some(parent) => *known.entry(parent).or_insert_with(|| inherits(&types, parent, implements)),
            None => false,
        };
        let mut fits = |name, parent| by_class || name == implements || inherits_from(parent);
        types.iter().filter(|(name, t)| fits(**name, t.info.parent)).map(|(name, _)| *name).collect()
    };
    names
        .into_iter()
        .filter_map(class_by_name)
        .filter(|c| c.is_a(implements) && (include_abstract || !c.abstract_))
        .collect()
}

/// The class of `name`, or QEMU's error for a type that is not there.
pub fn class_require(name: &str) -> Result<&'static Class> {
    class_by_name(name).ok_or_else(|| Error::new(format!("invalid object type: {name}")))
}
