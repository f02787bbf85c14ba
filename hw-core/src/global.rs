//! `-global` and the defaults that machines and accelerators set for devices.
//!
//! Source: QEMU `hw/core/qdev-properties.c` (`qdev_prop_set_globals`, `qdev_prop_check_globals`).

use std::sync::Arc;

use parking_lot::Mutex;
use qom::Object;

use crate::device::DeviceClass;
use crate::machine::CompatProperty;

/// Sets `property` of every device that is a `driver` to `value`.
#[derive(Clone, Debug)]
pub struct GlobalProperty {
    /// A type's name; also abstract types and interfaces.
    pub driver: String,
    /// The property.
    pub property: String,
    /// Its value as on the command line.
    pub value: String,
    /// Not the user's: a type without the property is fine.
    pub optional: bool,
}

#[derive(Default)]
struct Entry {
    global: Option<Arc<GlobalProperty>>,
    used: bool,
}

static GLOBALS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// What went wrong setting globals, reported when the machine is complete: construction cannot fail.
static ERRORS: Mutex<Vec<qom::Error>> = Mutex::new(Vec::new());

/// Adds a global; later ones win.
pub fn register(global: GlobalProperty) {
    GLOBALS.lock().push(Entry { global: Some(Arc::new(global)), used: false });
}

/// Adds what a machine's devices differ in from those of others, where they are there (`object_apply_compat_props`).
pub fn register_compat(properties: &'static [CompatProperty]) {
    for (driver, property, value) in properties {
        let (driver, property, value) = ((*driver).to_owned(), (*property).to_owned(), (*value).to_owned());
        register(GlobalProperty { driver, property, value, optional: true });
    }
}

/// Sets the globals of a new object.
pub(crate) fn apply(object: &dyn Object) {
    let fitting: Vec<Arc<GlobalProperty>> = {
        let mut globals = GLOBALS.lock();
        let mine = globals.iter_mut().filter(|e| e.global.as_ref().is_some_and(|g| object.is_a(&g.driver)));
        mine.filter_map(|e| {
            e.used = true;
            e.global.clone()
        })
        .collect()
    };
    for global in fitting {
        if global.optional && object.class().property(&global.property).is_none() {
            continue;
        }
        if let Err(error) = object.property_set_str(&global.property, &global.value) {
            let GlobalProperty { driver, property, value, .. } = &*global;
            ERRORS.lock().push(error.prepend(format!("can't apply global {driver}.{property}={value}: ")));
        }
    }
}

/// The first global that could not be set, if one could not.
pub fn take_error() -> Option<qom::Error> {
    let mut errors = ERRORS.lock();
    if errors.is_empty() { None } else { Some(errors.remove(0)) }
}

/// A warning for each of the user's globals that no device used and that none can use later, by being plugged
/// (`qdev_prop_check_globals`).
pub fn check() -> Vec<String> {
    let globals = GLOBALS.lock();
    let unused = globals.iter().filter(|e| !e.used).filter_map(|e| e.global.clone()).filter(|g| !g.optional);
    unused
        .filter_map(|g| match qom::class_by_name(&g.driver).and_then(|class| class.get::<DeviceClass>()) {
            None => Some(format!("global {}.{} has invalid class name", g.driver, g.property)),
            Some(device) if device.hotpluggable => None,
            Some(_) => Some(format!("global {}.{}={} not used", g.driver, g.property, g.value)),
        })
        .collect()
}
