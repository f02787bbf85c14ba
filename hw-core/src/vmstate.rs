//! What devices save and restore, and show of themselves while they live: one mechanism for all three.
//!
//! A device keeps what a guest can tell of it in a struct that serde knows. It implements [`VmState`] and says so in
//! its `class_init`:
//!
//! ```
//! use hw_core::{Device, DeviceImpl, VmState, vmstate};
//! use parking_lot::Mutex;
//!
//! /// A register.
//! #[derive(qom::Object)]
//! #[object(name = "test-register", parent = Device, class_init = vmstate::register::<Register>)]
//! pub struct Register {
//!     parent: Device,
//!     value: Mutex<u32>,
//! }
//! impl DeviceImpl for Register {}
//! impl VmState for Register {
//!     type State = u32;
//!     fn save(&self) -> Option<u32> {
//!         Some(*self.value.lock())
//!     }
//!     fn load(&self, state: u32) -> qom::Result<()> {
//!         *self.value.lock() = state;
//!         Ok(())
//!     }
//! }
//! qom::type_init!(Register);
//!
//! qom::module_call_init(qom::ModuleInitType::Qom);
//! let device = hw_core::qdev_create("test-register", None, &[]).unwrap();
//! let state = device.property_get("state").unwrap();
//! assert_eq!(state.to_string(), r#"{"test-register":{"state":0,"version":1}}"#);
//! ```
//!
//! Each type of a device's ancestry adds a section of its own under its name, parents first: a PCI device's
//! configuration space is `pci-device`'s.
//!
//! Source: QEMU `migration/vmstate.c`, `docs/devel/migration.rst`.

use std::sync::Arc;

use qom::property::PropertyInput;
use qom::{Class, Object, ObjectType, PropertyInfo, Result, Value, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, from_value, json, to_value};

use crate::device::Device;
use crate::runstate;

/// A part of a device whose state can be saved.
pub trait VmState: ObjectType {
    /// All that a guest can tell of it which its properties do not say.
    type State: Serialize + DeserializeOwned;
    /// To be raised when an older program could not read [`VmState::State`] any more, or would get it wrong.
    const VERSION: u32 = 1;
    /// The state now; `None` where there is none yet.
    fn save(&self) -> Option<Self::State>;
    /// Takes a state over, and has timers and lines follow it.
    ///
    /// # Errors
    /// When it is the state of another kind of device: of more timers than this one has, say.
    fn load(&self, state: Self::State) -> Result<()>;
}

type SaveFn = fn(&dyn Object) -> Result<Option<Value>>;
type LoadFn = fn(&dyn Object, Value) -> Result<()>;

#[derive(Clone)]
struct Section {
    name: &'static str,
    version: u32,
    save: SaveFn,
    load: LoadFn,
}

/// What a class saves: its ancestors' sections, then its own.
#[derive(Clone, Default)]
struct VmStateClass {
    sections: Vec<Section>,
}

fn save_section<T: VmState>(object: &dyn Object) -> Result<Option<Value>> {
    let Some(state) = object.cast::<T>().and_then(T::save) else { return Ok(None) };
    match to_value(state) {
        Ok(value) => Ok(Some(value)),
        Err(error) => bail!("the state of '{}' cannot be saved: {error}", T::TYPE_NAME),
    }
}

fn load_section<T: VmState>(object: &dyn Object, value: Value) -> Result<()> {
    match (object.cast::<T>(), from_value(value)) {
        (Some(device), Ok(state)) => device.load(state),
        (None, _) => bail!("'{}' is no '{}'", object.type_name(), T::TYPE_NAME),
        (_, Err(error)) => bail!("not a state of '{}': {error}", T::TYPE_NAME),
    }
}

/// Has every object of `class` save what `T` says; for the `class_init` of `T`.
pub fn register<T: VmState>(class: &mut Class) {
    let section =
        Section { name: T::TYPE_NAME, version: T::VERSION, save: save_section::<T>, load: load_section::<T> };
    class.get_mut::<VmStateClass>().sections.push(section);
    class.add_property(PropertyInfo {
        description: "what the device would save now".to_owned(),
        get: Some(Arc::new(save)),
        set: Some(Arc::new(|object, input| match input {
            PropertyInput::Json(value) => restore(object, value),
            PropertyInput::Text(_) => bail!("Invalid parameter type for 'state', expected: object"),
        })),
        live: true,
        ..PropertyInfo::new("state", "DeviceState")
    });
}

/// The state of a device: an object with a member for each section, which has `version` and `state`.
///
/// # Errors
/// When a state is nothing that JSON can say.
pub fn save(object: &dyn Object) -> Result<Value> {
    let mut sections = Map::new();
    for section in class_sections(object) {
        if let Some(state) = (section.save)(object)? {
            sections.insert(section.name.to_owned(), json!({"version": section.version, "state": state}));
        }
    }
    Ok(sections.into())
}

/// Gives a device the state that [`save`] made of it, or of another that was made alike.
///
/// # Errors
/// When a section is missing, of another version, or of another kind of device. Sections before it are taken over.
pub fn load(object: &dyn Object, state: &Value) -> Result<()> {
    let Some(saved) = state.as_object() else { bail!("a device's state is an object") };
    let sections = class_sections(object);
    if let Some(other) = saved.keys().find(|name| !sections.iter().any(|s| s.name == *name)) {
        bail!("'{}' has no state '{other}'", object.type_name());
    }
    for section in sections {
        let Some(found) = saved.get(section.name) else {
            bail!("'{}' needs the state '{}', too", object.type_name(), section.name)
        };
        let version = found.get("version").and_then(Value::as_u64);
        if version != Some(section.version.into()) {
            bail!("the state '{}' is not of version {}", section.name, section.version);
        }
        (section.load)(object, found.get("state").cloned().unwrap_or_default())?;
    }
    Ok(())
}

fn class_sections(object: &dyn Object) -> Vec<Section> {
    object.class().get::<VmStateClass>().map(|class| class.sections.clone()).unwrap_or_default()
}

/// What setting the property does: no guest may look on.
fn restore(object: &dyn Object, state: &Value) -> Result<()> {
    if !object.cast::<Device>().is_some_and(Device::is_realized) {
        bail!("only a device that is realized has a state");
    }
    if runstate::is_running() {
        bail!("the state of a device can only be set while the machine is stopped");
    }
    load(object, state)
}
