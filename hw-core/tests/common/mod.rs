//! Devices and buses that say what is done to them.
#![allow(dead_code, reason = "each test uses its part")]

use std::cell::RefCell;
use std::sync::{Arc, Once};

use hw_core::{
    Bus, BusClass, Device, DeviceCategory, DeviceClass, DeviceImpl, HotplugHandler, SysBusDevice, qbus_new,
    qdev_new, qdev_realize,
};
use qom::{Class, Object, Property, Result, bail};

thread_local! {
    /// What happened on this thread: everything here is called by the test itself.
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub fn log(text: String) {
    LOG.with_borrow_mut(|log| log.push(text));
}

pub fn take_log() -> Vec<String> {
    LOG.take()
}

/// A bus without limits.
#[derive(Object)]
#[object(name = "Test-Bus", parent = Bus, class_init = bus_class_init)]
pub struct TestBus {
    parent: Bus,
}

fn bus_class_init(class: &mut Class) {
    let bus = class.get_mut::<BusClass>();
    bus.phases.enter = Some(|object| bus_phase(object, "enter"));
    bus.phases.hold = Some(|object| bus_phase(object, "hold"));
    bus.phases.exit = Some(|object| bus_phase(object, "exit"));
}

fn bus_phase(object: &Arc<dyn Object>, phase: &str) {
    let name = object.cast::<Bus>().map(|bus| bus.name().to_owned()).unwrap_or_default();
    log(format!("{phase} {name}"));
}

/// A bus with room for one.
#[derive(Object)]
#[object(name = "small-bus", parent = Bus, class_init = small_bus_class_init)]
pub struct SmallBus {
    parent: Bus,
}

fn small_bus_class_init(class: &mut Class) {
    class.get_mut::<BusClass>().max_dev = Some(1);
}

/// A device on a [`TestBus`] that may provide another one.
#[derive(Object)]
#[object(name = "node", parent = Device, class_init = node_class_init)]
pub struct Node {
    parent: Device,
    /// What the log calls it
    #[property]
    pub label: Property<String>,
    /// The name of a bus of its own
    #[property]
    pub provides: Property<Option<String>>,
    /// Whether realize fails
    #[property]
    pub fails: Property<bool>,
    /// Can be changed at any time
    #[property(live, default = 5)]
    pub volume: Property<u8>,
}

fn node_class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("Test-Bus");
    device.desc = "Node of a tree";
    device.category = Some(DeviceCategory::Input);
}

impl DeviceImpl for Node {
    fn realize(self: &Arc<Self>) -> Result<()> {
        log(format!("realize {}", self.label.get()));
        if self.fails.get() {
            bail!("{} does not want to", self.label.get());
        }
        if let Some(name) = self.provides.get() {
            let this: Arc<dyn Object> = self.clone();
            qbus_new("Test-Bus", Some(&this), Some(&name))?;
        }
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        log(format!("unrealize {}", self.label.get()));
    }

    fn reset_enter(&self) {
        log(format!("enter {}", self.label.get()));
    }

    fn reset_hold(&self) {
        log(format!("hold {}", self.label.get()));
    }

    fn reset_exit(&self) {
        log(format!("exit {}", self.label.get()));
    }
}

/// A device on a [`SmallBus`].
#[derive(Object)]
#[object(name = "small-node", parent = Device, class_init = small_node_class_init)]
pub struct SmallNode {
    parent: Device,
}

fn small_node_class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.bus_type = Some("small-bus");
    device.hotpluggable = false;
}

impl DeviceImpl for SmallNode {}

/// A device for boards only, which sits on the system bus and provides whatever bus it is given.
#[derive(Object)]
#[object(name = "test-controller", parent = SysBusDevice)]
pub struct Controller {
    parent: SysBusDevice,
    /// Base port
    #[property(default = 0x3f8)]
    pub iobase: Property<u32>,
}

impl DeviceImpl for Controller {}

/// An abstract device.
#[derive(Object)]
#[object(name = "abstract-node", parent = Device, abstract)]
pub struct AbstractNode {
    parent: Device,
}

qom::type_init!(TestBus, SmallBus, Node, SmallNode, Controller, AbstractNode);

pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        qom::module_call_init(qom::ModuleInitType::Qom);
    });
}

/// A controller on the system bus with a bus of `bus_type` called `name`.
pub fn bus(bus_type: &str, name: &str) -> Arc<dyn Object> {
    init();
    let controller = qdev_new("test-controller").unwrap();
    let bus = qbus_new(bus_type, Some(&controller), Some(name)).unwrap();
    qdev_realize(&controller, Some(&hw_core::sysbus::sysbus_get_default())).unwrap();
    bus
}

/// A node called `label` on `bus`, alive; it provides the bus `provides`.
pub fn node(label: &str, bus: &Arc<dyn Object>, provides: Option<&str>) -> Arc<dyn Object> {
    let object = qdev_new("node").unwrap();
    object.property_set_str("label", label).unwrap();
    if let Some(provides) = provides {
        object.property_set_str("provides", provides).unwrap();
    }
    qdev_realize(&object, Some(bus)).unwrap();
    object
}

/// The first bus that `device` provides.
pub fn bus_of(device: &Arc<dyn Object>) -> Arc<dyn Object> {
    device.cast::<Device>().unwrap().child_buses().remove(0)
}

/// Says what it is asked; refuses nodes whose label says so.
pub struct Warden;

impl HotplugHandler for Warden {
    fn pre_plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        self.decide("pre_plug", device)
    }

    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        self.decide("plug", device)
    }
}

impl Warden {
    fn decide(&self, step: &str, device: &Arc<dyn Object>) -> Result<()> {
        let label = device.cast::<Node>().map(|node| node.label.get()).unwrap_or_default();
        log(format!("{step} {label}"));
        if label == format!("no {step}") {
            bail!("{step} refused");
        }
        Ok(())
    }
}
