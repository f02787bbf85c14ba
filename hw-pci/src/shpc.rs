//! The standard hot-plug controller of a bridge: a capability, registers in memory, and the devices that come and go by
//! them.
//!
//! Sources: PCI Standard Hot-Plug Controller and Subsystem Specification 1.0; QEMU `hw/pci/shpc.c`. Where QEMU sends a
//! message when the cause of an interrupt goes, too, and raises INTA# beside messages, this does not.

mod registers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use hw_core::qdev_monitor::qdev_unplugged;
use hw_core::{Device, DeviceClass, HotplugHandler};
use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qom::{Object, Result, bail};
use util::event_loop::EventLoop;

use crate::bridge::PciBridge;
use crate::bus::PciBus;
use crate::config::ConfigSpace;
use crate::device::{PciDevice, devfn};
use crate::spec::CAP_ID_SHPC;
use registers::Registers;
use registers::spec::{LEN, SLOTS};

/// The capability: which of the registers' words [`CAP_DATA`] is, 8 bits; and that word.
const CAP_SELECT: usize = 2;
const CAP_DATA: usize = 4;
const CAP_SIZE: usize = 8;
/// What the registers take of a base address register.
const BAR_SIZE: usize = LEN.next_power_of_two();

/// A bridge's controller.
pub struct ShpcController {
    bridge: Weak<dyn Object>,
    capability: usize,
    registers: Mutex<Registers>,
    /// The level that was signalled last; held while it is.
    signalled: Mutex<bool>,
    /// Slots whose devices go, a bit each, until the main loop comes to them.
    leaving: AtomicU32,
}

/// The registers as memory.
struct Region(Arc<ShpcController>);
/// Who is asked when devices are plugged into the bus below.
struct Handler(Weak<ShpcController>);

impl RegionOps for Region {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.registers.lock().read(offset as usize, size).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        self.0.write(offset as usize, value as u32, size);
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4)
    }
}

impl ShpcController {
    /// Gives `bridge`, whose bus below is there, a controller: the capability, and what its base address register is to
    /// decode (`shpc_init`).
    ///
    /// # Errors
    /// When there is no room for the capability.
    pub fn new(bridge: &PciBridge) -> Result<(Arc<ShpcController>, MemoryRegion)> {
        let capability = bridge.with_config(|config| -> Result<usize> {
            let at = config.add_capability(CAP_ID_SHPC, None, CAP_SIZE)?;
            config.set_writable_u8(at + CAP_SELECT, u8::MAX);
            config.set_writable_u32(at + CAP_DATA, u32::MAX);
            Ok(at)
        })?;
        let controller = Arc::new(ShpcController {
            bridge: bridge.weak(),
            capability,
            registers: Mutex::default(),
            signalled: Mutex::new(false),
            leaving: AtomicU32::new(0),
        });
        if let Some(bus) = bridge.secondary_bus() {
            bus.set_hotplug_handler(Arc::new(Handler(Arc::downgrade(&controller))));
        }
        let bar = MemoryRegion::container("shpc-bar", BAR_SIZE as u128);
        let region = MemoryRegion::io("shpc-mmio", LEN as u64, Arc::new(Region(controller.clone())));
        bar.add_subregion(0, &region);
        Ok((controller, bar))
    }

    fn with_bridge<R>(&self, f: impl FnOnce(&PciBridge) -> R) -> Option<R> {
        self.bridge.upgrade()?.cast::<PciBridge>().map(f)
    }

    fn bus(&self) -> Option<Arc<PciBus>> {
        self.with_bridge(PciBridge::secondary_bus).flatten()
    }

    /// As after power-on, with what is behind the bridge now.
    pub fn reset(&self) {
        let bus = self.bus();
        let is_here = |slot: &u8| bus.as_ref().is_some_and(|bus| bus.device(devfn(slot + 1, 0)).is_some());
        let occupied = (0..SLOTS).filter(is_here).fold(0, |slots, slot| slots | 1 << slot);
        self.registers.lock().reset(occupied);
        self.signal();
    }

    fn write(self: &Arc<Self>, at: usize, value: u32, size: u8) {
        let leaving = self.registers.lock().write(at, value, size);
        self.signal();
        self.free(leaving);
    }

    /// Interrupts as the registers say: by a message when the level rises where the guest uses MSI, by INTA# otherwise.
    fn signal(&self) {
        let mut signalled = self.signalled.lock();
        let level = self.registers.lock().irq_level();
        self.with_bridge(|bridge| match bridge.msi_is_enabled() {
            false => bridge.set_irq(0, level),
            true if level && !*signalled => bridge.msi_notify(0),
            true => {}
        });
        *signalled = level;
    }

    /// Has the devices in these slots go, on the main loop: this may be the thread of a CPU.
    fn free(self: &Arc<Self>, slots: u32) {
        if slots == 0 || self.leaving.fetch_or(slots, Ordering::AcqRel) != 0 {
            return;
        }
        let this = Arc::downgrade(self);
        EventLoop::main().schedule(move || {
            if let Some(this) = this.upgrade() {
                let slots = this.leaving.swap(0, Ordering::AcqRel);
                let devices = this.bus().map(|bus| bus.devices()).unwrap_or_default();
                let leaves = |device: &&Arc<dyn Object>| {
                    let hotpluggable =
                        device.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable);
                    hotpluggable && slot_of(device).is_ok_and(|slot| slots & 1 << slot != 0)
                };
                devices.iter().filter(leaves).for_each(qdev_unplugged);
            }
        });
    }

    /// The word that the capability shows.
    fn selected(&self) -> usize {
        4 * self
            .with_bridge(|bridge| bridge.with_config(|config| config.u8(self.capability + CAP_SELECT)))
            .map_or(0, usize::from)
    }

    /// The guest is about to read `size` bytes of configuration space at `at`.
    pub fn config_reading(&self, at: usize, size: u8) {
        if ConfigSpace::touches(at, size, self.capability + CAP_DATA, 4) {
            let data = self.registers.lock().read(self.selected(), 4);
            self.with_bridge(|bridge| {
                bridge.with_config(|config| config.set_u32(self.capability + CAP_DATA, data));
            });
        }
    }

    /// The guest wrote `size` bytes of configuration space at `at`.
    pub fn config_written(self: &Arc<Self>, at: usize, size: u8) {
        if ConfigSpace::touches(at, size, self.capability + CAP_DATA, 4) {
            let register = self.capability + CAP_DATA;
            let data = self.with_bridge(|bridge| bridge.with_config(|config| config.u32(register)));
            self.write(self.selected(), data.unwrap_or_default(), 4);
        }
        // MSI may have been switched on or off.
        self.signal();
    }

    /// What is saved.
    pub fn save(&self) -> Vec<u8> {
        self.registers.lock().bytes().to_vec()
    }

    /// Goes on with what was saved.
    ///
    /// # Errors
    /// When it is of something else.
    pub fn load(&self, bytes: &[u8]) -> Result<()> {
        let Some(registers) = Registers::of(bytes) else {
            bail!("the state is of another hot-plug controller");
        };
        *self.registers.lock() = registers;
        // An interrupt too many does no harm.
        *self.signalled.lock() = false;
        self.signal();
        Ok(())
    }
}

/// The slot of a device, from 0 on.
fn slot_of(device: &Arc<dyn Object>) -> Result<u8> {
    let slot = device.cast::<PciDevice>().map_or(0, |device| device.devfn() >> 3);
    match slot.checked_sub(1).filter(|slot| *slot < SLOTS) {
        Some(slot) => Ok(slot),
        None => bail!(
            "Unsupported PCI slot {slot} for standard hotplug controller. Valid slots are between 1 and {SLOTS}."
        ),
    }
}

impl HotplugHandler for Handler {
    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let slot = slot_of(device)?;
        if let Some(controller) = self.0.upgrade() {
            let hotplugged = device.cast::<Device>().is_some_and(Device::is_hotplugged);
            controller.registers.lock().plug(slot, hotplugged);
            controller.signal();
        }
        Ok(())
    }

    fn unplug_request(&self, device: &Arc<dyn Object>) -> Result<()> {
        let slot = slot_of(device)?;
        // It can be asked for again until the guest answers.
        if let Some(device) = device.cast::<Device>() {
            device.set_unplug_pending(false);
        }
        if let Some(controller) = self.0.upgrade() {
            let goes = controller.registers.lock().unplug_request(slot);
            controller.signal();
            controller.free(u32::from(goes) << slot);
        }
        Ok(())
    }
}
