//! QEMU's object model in Rust: types, classes, instances, properties and the composition tree.
//!
//! A type is a struct with its parent's struct as the field `parent`, so that a method of the parent is
//! a method of the child, and `#[derive(Object)]` writes what is regular about it:
//!
//! ```
//! use std::sync::Arc;
//! use qom::{Object, ObjectBase, Property};
//!
//! #[derive(Object)]
//! #[object(name = "test-lamp", parent = ObjectBase)]
//! pub struct Lamp {
//!     parent: ObjectBase,
//!     /// Brightness in percent.
//!     #[property(default = 60)]
//!     level: Property<u8>,
//! }
//! qom::type_init!(Lamp);
//!
//! qom::module_call_init(qom::ModuleInitType::Qom);
//! let lamp = qom::object_new("test-lamp").unwrap();
//! lamp.property_set_str("level", "80").unwrap();
//! assert_eq!(lamp.property_get("level").unwrap(), 80);
//! assert_eq!(lamp.cast::<Lamp>().unwrap().level.get(), 80);
//! ```
//!
//! - [`module`]: the registration phases (`module_call_init`), filled before `main` runs.
//! - [`types`]: the type table and [`Class`], initialised on first use, parent first.
//! - [`object`]: instances, casts, the composition tree.
//! - [`property`]: property kinds and the [`Property`] cell.
//!
//! Sources followed: QEMU `qom/object.c`, `util/module.c`, `include/qemu/module.h`.
#![forbid(unsafe_code)]

// The derive macro names this crate by its own name, also inside it.
extern crate self as qom;

mod error;
pub mod module;
pub mod object;
pub mod path;
pub mod property;
pub mod types;
mod user_creatable;

pub use error::{Error, ErrorClass, Result};
pub use inventory;
pub use module::{ModuleInitType, module_call_init};
pub use object::{Container, Object, ObjectBase, downcast, object_new};
pub use path::{container_get, object_get_root, object_resolve_path};
pub use property::{Link, Property, PropertyType, Size};
pub use qom_derive::Object;
pub use serde_json::Value;
pub use types::{
    Class, ClassData, ClassInit, Interface, ObjectType, PropertyInfo, TypeInfo, class_by_name, class_list,
    type_register,
};
pub use user_creatable::{
    UserCreatable, object_add, object_get_objects_root, user_creatable_add, user_creatable_cleanup,
    user_creatable_complete, user_creatable_del, user_creatable_new,
};
