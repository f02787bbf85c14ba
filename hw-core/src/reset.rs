//! Three-phase reset of the tree of devices and buses, and the list of what a machine reset calls.
//!
//! Source: QEMU `hw/core/resettable.c`, `hw/core/reset.c`, `docs/devel/reset.rst`. Each phase runs over the
//! whole tree below before the next begins; within a phase children come before parents.

use std::sync::Arc;

use parking_lot::Mutex;
use qom::Object;

use crate::bus::{Bus, BusClass};
use crate::device::{Device, DeviceClass, DeviceImpl};

/// One phase of one object.
pub type PhaseFn = fn(&Arc<dyn Object>);

/// The three phases of a class. A base type sets its own to call the type's.
#[derive(Clone, Copy, Default)]
pub struct Phases {
    /// Own state, no side effects.
    pub enter: Option<PhaseFn>,
    /// Side effects: lines, backends.
    pub hold: Option<PhaseFn>,
    /// Leaving reset.
    pub exit: Option<PhaseFn>,
}

impl Phases {
    /// The phases that `T` implements.
    pub fn of<T: DeviceImpl>() -> Phases {
        fn with<T: DeviceImpl>(object: &Arc<dyn Object>, f: fn(&T)) {
            if let Some(device) = object.cast::<T>() {
                f(device);
            }
        }
        Phases {
            enter: Some(|o| with::<T>(o, T::reset_enter)),
            hold: Some(|o| with::<T>(o, T::reset_hold)),
            exit: Some(|o| with::<T>(o, T::reset_exit)),
        }
    }

    /// Takes the phases that `T` implements.
    pub fn set<T: DeviceImpl>(&mut self) {
        *self = Phases::of::<T>();
    }
}

fn phases(object: &dyn Object) -> Phases {
    let class = object.class();
    match (class.get::<DeviceClass>(), class.get::<BusClass>()) {
        (Some(device), _) => device.phases,
        (None, Some(bus)) => bus.phases,
        (None, None) => Phases::default(),
    }
}

fn children(object: &dyn Object) -> Vec<Arc<dyn Object>> {
    match (object.cast::<Device>(), object.cast::<Bus>()) {
        (Some(device), _) => device.child_buses(),
        (None, Some(bus)) => bus.children(),
        (None, None) => Vec::new(),
    }
}

fn run(object: &Arc<dyn Object>, phase: fn(Phases) -> Option<PhaseFn>) {
    for child in children(&**object) {
        run(&child, phase);
    }
    if let Some(f) = phase(phases(&**object)) {
        f(object);
    }
}

/// Resets `object` and everything below it (`resettable_cold_reset`).
pub fn cold_reset(object: &Arc<dyn Object>) {
    run(object, |p| p.enter);
    run(object, |p| p.hold);
    run(object, |p| p.exit);
}

/// What a machine reset calls.
pub type ResetHandler = Arc<dyn Fn() + Send + Sync>;

static HANDLERS: Mutex<Vec<ResetHandler>> = Mutex::new(Vec::new());

/// Has every machine reset call `handler`, after those registered before (`qemu_register_reset`).
pub fn qemu_register_reset(handler: ResetHandler) {
    HANDLERS.lock().push(handler);
}

/// Takes a handler back.
pub fn qemu_unregister_reset(handler: &ResetHandler) {
    HANDLERS.lock().retain(|h| !Arc::ptr_eq(h, handler));
}

/// Calls all handlers in order (`qemu_devices_reset`).
pub fn qemu_devices_reset() {
    let handlers = HANDLERS.lock().clone();
    for handler in handlers {
        handler();
    }
}
