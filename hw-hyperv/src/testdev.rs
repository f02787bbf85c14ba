//! `hyperv-testdev`: sends what it is told to back to the guest, for kvm-unit-tests.
//!
//! Source: QEMU `hw/hyperv/hyperv_testdev.c`. Commands that are wrong, upon which QEMU ends, do nothing here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_isa::IsaDevice;
use memory::{AccessRules, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Object, Result};
use serde::{Deserialize, Serialize};

use crate::connection::MessageConnection;
use crate::hypercall::{set_event_handler, set_message_handler};
use crate::synic::SintRoute;

/// A command is a double word: source, processor, command, connection, from the lowest byte on.
const PORT: u32 = 0x3000;
const ROUTE_CREATE: u8 = 1;
const ROUTE_DESTROY: u8 = 2;
const ROUTE_SET_SINT: u8 = 3;
const MESSAGES_CREATE: u8 = 4;
const MESSAGES_DESTROY: u8 = 5;
const EVENTS_CREATE: u8 = 6;
const EVENTS_DESTROY: u8 = 7;

/// What there is, each with the processor and the source that it leads to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HypervTestdevState {
    routes: Vec<(u8, u8)>,
    messages: BTreeMap<u8, (u8, u8)>,
    events: BTreeMap<u8, (u8, u8)>,
}

/// The device.
#[derive(Object)]
#[object(name = "hyperv-testdev", parent = IsaDevice, class_init = class_init)]
pub struct HypervTestdev {
    parent: IsaDevice,
    state: Mutex<HypervTestdevState>,
    routes: Mutex<BTreeMap<(u8, u8), SintRoute>>,
}
qom::type_init!(HypervTestdev);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Misc);
    vmstate::register::<HypervTestdev>(class);
}

impl DeviceImpl for HypervTestdev {
    fn realize(self: &Arc<Self>) -> Result<()> {
        self.register_ioport(Arc::new(Control(self.clone())), "hyperv-testdev-ctl", PORT, 4)?;
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        self.unregister_regions();
        self.reset_hold();
    }

    fn reset_hold(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        state.messages.keys().for_each(|id| set_message_handler((*id).into(), None));
        state.events.keys().for_each(|id| set_event_handler((*id).into(), None));
        let routes = std::mem::take(&mut *self.routes.lock());
        drop(routes);
    }
}

impl HypervTestdev {
    fn create_route(&self, target @ (vp, sint): (u8, u8)) {
        let known = self.routes.lock().contains_key(&target);
        if let (false, Some(route)) = (known, SintRoute::new(vp.into(), sint, None)) {
            self.routes.lock().insert(target, route);
            self.state.lock().routes.push(target);
        }
    }

    fn destroy_route(&self, target: (u8, u8)) {
        let route = self.routes.lock().remove(&target);
        drop(route);
        self.state.lock().routes.retain(|known| *known != target);
    }

    fn create_messages(&self, target @ (vp, sint): (u8, u8), id: u8) {
        let known = self.state.lock().messages.contains_key(&id);
        if let (false, Some(connection)) = (known, MessageConnection::new(vp.into(), sint)) {
            set_message_handler(
                id.into(),
                Some(Arc::new(move |message| connection.post(message.kind, message.payload))),
            );
            self.state.lock().messages.insert(id, target);
        }
    }

    fn create_events(&self, target @ (vp, sint): (u8, u8), id: u8) {
        let known = self.state.lock().events.contains_key(&id);
        if let (false, Some(route)) = (known, SintRoute::new(vp.into(), sint, None)) {
            let route = Arc::new(route);
            set_event_handler(id.into(), Some(Arc::new(move || route.set_event_flag(id))));
            self.state.lock().events.insert(id, target);
        }
    }

    fn command(&self, value: u32) {
        let [sint, vp, command, id] = value.to_le_bytes();
        let target = (vp, sint);
        match command {
            ROUTE_CREATE => self.create_route(target),
            ROUTE_DESTROY => self.destroy_route(target),
            ROUTE_SET_SINT => {
                if let Some(route) = self.routes.lock().get(&target) {
                    route.set_sint();
                }
            }
            MESSAGES_CREATE => self.create_messages(target, id),
            MESSAGES_DESTROY if self.state.lock().messages.remove(&id).is_some() => {
                set_message_handler(id.into(), None);
            }
            EVENTS_CREATE => self.create_events(target, id),
            EVENTS_DESTROY if self.state.lock().events.remove(&id).is_some() => {
                set_event_handler(id.into(), None);
            }
            _ => {}
        }
    }
}

impl VmState for HypervTestdev {
    type State = HypervTestdevState;

    fn save(&self) -> Option<HypervTestdevState> {
        Some(self.state.lock().clone())
    }

    fn load(&self, state: HypervTestdevState) -> Result<()> {
        self.reset_hold();
        state.routes.into_iter().for_each(|target| self.create_route(target));
        state.messages.into_iter().for_each(|(id, target)| self.create_messages(target, id));
        state.events.into_iter().for_each(|(id, target)| self.create_events(target, id));
        Ok(())
    }
}

struct Control(Arc<HypervTestdev>);

impl RegionOps for Control {
    fn read(&self, _offset: u64, _size: u8) -> u64 {
        0
    }

    fn write(&self, _offset: u64, value: u64, _size: u8) {
        self.0.command(value as u32);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(4, 4)
    }
}
