//! The device framework: devices, buses, reset, interrupt lines, CPUs, machines and what an accelerator is.
//!
//! A device is a struct that derives [`qom::Object`] with one of the bus types' device structs as its parent
//! and implements [`DeviceImpl`]. It lives in one file, and nothing else needs an edit:
//!
//! ```
//! use std::sync::Arc;
//! use hw_core::{Device, DeviceImpl};
//! use qom::{Object, Property};
//!
//! /// A device without a bus.
//! #[derive(Object)]
//! #[object(name = "test-thing", parent = Device)]
//! pub struct Thing {
//!     parent: Device,
//!     #[property(default = 4)]
//!     lines: Property<u32>,
//! }
//! impl DeviceImpl for Thing {
//!     fn realize(self: &Arc<Self>) -> qom::Result<()> {
//!         if self.lines.get() > 8 { qom::bail!("lines must be at most 8") }
//!         Ok(())
//!     }
//! }
//! qom::type_init!(Thing);
//!
//! qom::module_call_init(qom::ModuleInitType::Qom);
//! let thing = hw_core::qdev_create("test-thing", None, &[("lines", 3.into())]).unwrap();
//! assert_eq!(thing.property_get("realized").unwrap(), true);
//! assert_eq!(thing.canonical_path().unwrap(), "/machine/unattached/device[0]");
//! ```
//!
//! Sources followed: QEMU `hw/core/`, `softmmu/cpus.c`, `softmmu/runstate.c`, `accel/accel.c`.
#![forbid(unsafe_code)]

pub mod accel;
pub mod balloon;
pub mod boot_order;
pub mod bootdevice;
pub mod bus;
mod char_property;
pub mod cpu;
pub mod datadir;
pub mod debug;
pub mod device;
mod drive_property;
pub mod global;
pub mod hotplug;
pub mod intc;
pub mod irq;
pub mod machine;
mod net_property;
mod null_machine;
pub mod numa;
pub mod option_rom;
pub mod qdev_monitor;
pub mod reset;
pub mod runstate;
mod runstate_events;
pub mod suspend;
pub mod sysbus;
pub mod vmstate;

pub use bus::{Bus, BusClass, qbus_new};
pub use char_property::CharProperty;
pub use cpu::{Cpu, CpuClass};
pub use device::{
    Device, DeviceCategory, DeviceClass, DeviceImpl, qdev_create, qdev_new, qdev_realize, qdev_unparent,
};
pub use drive_property::DriveProperty;
pub use hotplug::HotplugHandler;
pub use irq::{Irq, IrqHandler, IrqPin};
pub use machine::{Machine, MachineClass, MachineImpl};
pub use net_property::{MacProperty, NetdevProperty};
pub use sysbus::SysBusDevice;
pub use vmstate::VmState;
