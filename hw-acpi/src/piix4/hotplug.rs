//! The three blocks of hotplug registers, and the devices that come and go by them.
//!
//! Devices go on the main loop, not on the thread of the CPU that ejects them: that thread may be the very one that
//! is to end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use hw_core::qdev_monitor::qdev_unplugged;
use hw_core::{Device, DeviceClass, HotplugHandler};
use hw_pci::{PciBus, PciDevice};
use memory::{AccessRules, MemoryRegion, RegionOps};
use parking_lot::Mutex;
use qapi::{QapiEvent, QapiType};
use qom::{Object, Result, bail};
use serde::{Deserialize, Serialize};
use util::event_loop::EventLoop;

use super::Piix4Pm;
use crate::cpu_hotplug::{self, CpuHotplug, CpuHotplugRequest};
use crate::memory_hotplug::{self, MemoryHotplug, MemoryHotplugRequest, MemoryModule};
use crate::pcihp::{self, PciHotplug, PciHotplugRequest};

/// Where the registers are.
const PCI_HOTPLUG_BASE: u64 = 0xae00;
const CPU_HOTPLUG_BASE: u64 = 0xaf00;
const MEMORY_HOTPLUG_BASE: u64 = 0xa00;
/// General-purpose events.
const GPE_PCI: u8 = 1;
const GPE_CPU: u8 = 2;
const GPE_MEMORY: u8 = 3;
const GPE_VMGENID: u8 = 5;
/// Highest `acpi-index` that guests take.
const ONBOARD_INDEX_MAX: u32 = 16 * 1024 - 1;

/// The devices that registers stand for, by index.
type Devices = Mutex<Vec<Option<Weak<dyn Object>>>>;

/// The registers and their devices.
#[derive(Default)]
pub(super) struct Hotplug {
    cpu: Mutex<CpuHotplug>,
    cpus: Devices,
    memory: Mutex<MemoryHotplug>,
    modules: Devices,
    pci: Mutex<PciHotplug>,
    /// PCI slots that the guest let go of, until the main loop comes to them.
    ejected: AtomicU32,
    eject_scheduled: AtomicBool,
}

/// What is saved of the registers.
#[derive(Debug, Serialize, Deserialize)]
pub struct HotplugState {
    cpu: CpuHotplug,
    memory: MemoryHotplug,
    pci: PciHotplug,
}

#[derive(QapiType, Clone, Copy)]
#[qapi(name = "ACPISlotType")]
enum AcpiSlotType {
    #[qapi(name = "DIMM")]
    Dimm,
    #[qapi(name = "CPU")]
    Cpu,
}

/// How far the guest is with a CPU or a module (QAPI's `ACPIOSTInfo`).
#[derive(QapiType)]
#[qapi(name = "ACPIOSTInfo")]
pub(super) struct AcpiOstInfo {
    device: Option<String>,
    slot: String,
    slot_type: AcpiSlotType,
    source: i64,
    status: i64,
}

/// The guest told how far it is.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_ACPI_DEVICE_OST-arg", event = "ACPI_DEVICE_OST")]
struct AcpiDeviceOst {
    info: AcpiOstInfo,
}

fn put(devices: &Devices, index: usize, device: &Arc<dyn Object>) {
    let mut devices = devices.lock();
    if devices.len() <= index {
        devices.resize(index + 1, None);
    }
    devices[index] = Some(Arc::downgrade(device));
}

fn get(devices: &Devices, index: usize) -> Option<Arc<dyn Object>> {
    devices.lock().get(index)?.as_ref()?.upgrade()
}

/// Has the device go that the guest let go of.
fn eject(devices: &Devices, index: usize) {
    let device = devices.lock().get_mut(index).and_then(Option::take).and_then(|device| device.upgrade());
    if let Some(device) = device {
        EventLoop::main().schedule(move || qdev_unplugged(&device));
    }
}

fn ost_info(slot_type: AcpiSlotType, slot: usize, ost: (u32, u32), devices: &Devices) -> AcpiOstInfo {
    let device = get(devices, slot);
    let id = device.as_ref().and_then(|device| device.cast::<Device>()).and_then(Device::id);
    AcpiOstInfo {
        device: id.map(str::to_owned),
        slot: slot.to_string(),
        slot_type,
        source: ost.0.into(),
        status: ost.1.into(),
    }
}

/// A request that can be repeated until the guest answers.
fn repeatable(device: &Arc<dyn Object>) {
    if let Some(device) = device.cast::<Device>() {
        device.set_unplug_pending(false);
    }
}

fn slot_of(device: &Arc<dyn Object>) -> Option<u8> {
    device.cast::<PciDevice>().map(|device| device.devfn() >> 3)
}

/// Whether the function stays for good (`acpi_pcihp_pc_no_hotplug`).
fn stays(device: &Arc<dyn Object>) -> bool {
    !device.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable)
}

impl Hotplug {
    pub(super) fn state(&self) -> HotplugState {
        HotplugState {
            cpu: self.cpu.lock().clone(),
            memory: self.memory.lock().clone(),
            pci: self.pci.lock().clone(),
        }
    }

    /// Takes a state over; `false` when it is of a machine with other places for CPUs or modules.
    pub(super) fn load(&self, state: HotplugState) -> bool {
        let (mut cpu, mut memory) = (self.cpu.lock(), self.memory.lock());
        if cpu.len() != state.cpu.len() || memory.len() != state.memory.len() {
            return false;
        }
        (*cpu, *memory, *self.pci.lock()) = (state.cpu, state.memory, state.pci);
        true
    }

    fn ost(&self) -> Vec<AcpiOstInfo> {
        let (memory, cpu) = (self.memory.lock().clone(), self.cpu.lock().clone());
        let modules =
            (0..memory.len()).map(|n| ost_info(AcpiSlotType::Dimm, n, memory.ost(n), &self.modules));
        let cpus = (0..cpu.len()).map(|n| ost_info(AcpiSlotType::Cpu, n, cpu.ost(n), &self.cpus));
        modules.chain(cpus).collect()
    }

    fn cpu_request(&self, request: CpuHotplugRequest) {
        match request {
            CpuHotplugRequest::Eject(index) => eject(&self.cpus, index),
            CpuHotplugRequest::Ost(index) => {
                let ost = self.cpu.lock().ost(index);
                qapi::emit(&AcpiDeviceOst { info: ost_info(AcpiSlotType::Cpu, index, ost, &self.cpus) });
            }
        }
    }

    fn memory_request(&self, request: MemoryHotplugRequest) {
        match request {
            MemoryHotplugRequest::Eject(index) => eject(&self.modules, index),
            MemoryHotplugRequest::Ost(index) => {
                let ost = self.memory.lock().ost(index);
                qapi::emit(&AcpiDeviceOst { info: ost_info(AcpiSlotType::Dimm, index, ost, &self.modules) });
            }
        }
    }
}

impl Piix4Pm {
    /// Shows the registers; the blocks of CPUs and modules where there can be any.
    pub(super) fn map_hotplug(self: &Arc<Self>, bus: &PciBus) {
        let region =
            MemoryRegion::io("acpi-pci-hotplug", pcihp::spec::SIZE, Arc::new(PciPorts(self.clone())));
        bus.io().add_subregion(PCI_HOTPLUG_BASE, &region);
        if self.root_hotplug.get() {
            let handler = Arc::new(PciHotplugHandler(Arc::downgrade(self)));
            bus.set_hotplug_handler(handler);
        }
    }

    fn this_pm(&self) -> Option<Arc<Piix4Pm>> {
        qom::downcast(self.this())
    }

    /// The board says which CPUs there can be, by APIC id, and which of them are there.
    pub fn init_cpu_hotplug(&self, cpus: &[(u32, Option<Arc<dyn Object>>)]) {
        let (Some(this), Some(bus)) = (self.this_pm(), self.bus::<PciBus>()) else { return };
        *self.hotplug.cpu.lock() = CpuHotplug::new(cpus.iter().map(|(id, cpu)| (*id, cpu.is_some())));
        for (index, (_, cpu)) in cpus.iter().enumerate() {
            if let Some(cpu) = cpu {
                put(&self.hotplug.cpus, index, cpu);
            }
        }
        let size = cpu_hotplug::spec::BITMAP_LEN;
        let region = MemoryRegion::io("acpi-cpu-hotplug", size, Arc::new(CpuPorts(this)));
        bus.io().add_subregion(CPU_HOTPLUG_BASE, &region);
    }

    /// The board says how many slots for modules there are.
    pub fn init_memory_hotplug(&self, slots: u32) {
        let (Some(this), Some(bus)) = (self.this_pm(), self.bus::<PciBus>()) else { return };
        if slots == 0 {
            return;
        }
        *self.hotplug.memory.lock() = MemoryHotplug::new(slots as usize);
        let size = memory_hotplug::spec::IO_LEN;
        let region = MemoryRegion::io("acpi-mem-hotplug", size, Arc::new(MemoryPorts(this)));
        bus.io().add_subregion(MEMORY_HOTPLUG_BASE, &region);
    }

    /// The VM generation ID changed.
    pub fn send_vmgenid_event(&self) {
        let _ = self.change(|regs| regs.raise_gpe(GPE_VMGENID));
    }

    /// A CPU came.
    pub fn cpu_plug(&self, apic_id: u32, cpu: &Arc<dyn Object>, hotplugged: bool) {
        let Some(index) = self.hotplug.cpu.lock().index_of(apic_id) else { return };
        put(&self.hotplug.cpus, index, cpu);
        self.hotplug.cpu.lock().plug(index, hotplugged);
        if hotplugged {
            let _ = self.change(|regs| regs.raise_gpe(GPE_CPU));
        }
    }

    /// A CPU is to go: the guest is asked.
    pub fn cpu_unplug_request(&self, apic_id: u32, cpu: &Arc<dyn Object>) {
        let Some(index) = self.hotplug.cpu.lock().index_of(apic_id) else { return };
        self.hotplug.cpu.lock().unplug_request(index);
        repeatable(cpu);
        let _ = self.change(|regs| regs.raise_gpe(GPE_CPU));
    }

    /// A module came to a slot.
    pub fn memory_plug(&self, slot: usize, module: MemoryModule, device: &Arc<dyn Object>, hotplugged: bool) {
        put(&self.hotplug.modules, slot, device);
        self.hotplug.memory.lock().plug(slot, module, hotplugged);
        if hotplugged {
            let _ = self.change(|regs| regs.raise_gpe(GPE_MEMORY));
        }
    }

    /// The module in a slot is to go: the guest is asked.
    pub fn memory_unplug_request(&self, slot: usize, device: &Arc<dyn Object>) {
        self.hotplug.memory.lock().unplug_request(slot);
        repeatable(device);
        let _ = self.change(|regs| regs.raise_gpe(GPE_MEMORY));
    }

    /// Of the root bus's slots those whose devices can go; what was to go goes now (`acpi_pcihp_reset`).
    pub(super) fn reset_hotplug(self: &Arc<Self>) {
        let Some(bus) = self.bus::<PciBus>() else { return };
        let devices = bus.devices();
        let staying = devices.iter().filter(|device| stays(device)).filter_map(slot_of);
        let removable = staying.fold(u32::MAX, |slots, slot| slots & !(1 << slot));
        let down = self.hotplug.pci.lock().reset(removable);
        self.eject_slots(down);
    }

    fn eject_slots(self: &Arc<Self>, slots: u32) {
        if slots == 0 {
            return;
        }
        self.hotplug.ejected.fetch_or(slots, Ordering::AcqRel);
        // What the guest asks for while this waits is carried out with it.
        if !self.hotplug.eject_scheduled.swap(true, Ordering::AcqRel) {
            let this = Arc::downgrade(self);
            EventLoop::main().schedule(move || {
                if let Some(this) = this.upgrade() {
                    this.unplug_ejected();
                }
            });
        }
    }

    fn unplug_ejected(&self) {
        self.hotplug.eject_scheduled.store(false, Ordering::Release);
        let slots = self.hotplug.ejected.swap(0, Ordering::AcqRel);
        let Some(bus) = self.bus::<PciBus>().filter(|_| self.root_hotplug.get()) else { return };
        for device in bus.devices() {
            if slot_of(&device).is_some_and(|slot| slots & 1 << slot != 0) && !stays(&device) {
                qdev_unplugged(&device);
            }
        }
    }

    fn pci_request(self: &Arc<Self>, request: PciHotplugRequest) {
        match request {
            PciHotplugRequest::Eject(slot) => self.eject_slots(1 << slot),
            PciHotplugRequest::Index(slot) => {
                let devices = self.bus::<PciBus>().map(|bus| bus.devices()).unwrap_or_default();
                let device = devices.iter().find(|device| slot_of(device) == Some(slot));
                let index = device.map_or(0, acpi_index);
                self.hotplug.pci.lock().set_index(index);
            }
        }
    }
}

fn acpi_index(device: &Arc<dyn Object>) -> u32 {
    device.property_get("acpi-index").ok().and_then(|index| index.as_u64()).unwrap_or_default() as u32
}

/// Who is asked when devices are plugged into the root bus.
struct PciHotplugHandler(Weak<Piix4Pm>);

impl HotplugHandler for PciHotplugHandler {
    fn pre_plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let index = acpi_index(device);
        if index > ONBOARD_INDEX_MAX {
            bail!("acpi-index should be less or equal to {ONBOARD_INDEX_MAX}");
        }
        let bus = self.0.upgrade().and_then(|pm| pm.bus::<PciBus>());
        let others = bus.map(|bus| bus.devices()).unwrap_or_default();
        if index != 0 && others.iter().any(|other| !Arc::ptr_eq(other, device) && acpi_index(other) == index)
        {
            bail!("a PCI device with acpi-index = {index} already exist");
        }
        Ok(())
    }

    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let (Some(pm), Some(slot)) = (self.0.upgrade(), slot_of(device)) else { return Ok(()) };
        if device.cast::<Device>().is_some_and(Device::is_hotplugged) {
            pm.hotplug.pci.lock().plug(slot);
            let _ = pm.change(|regs| regs.raise_gpe(GPE_PCI));
        }
        Ok(())
    }

    fn unplug_request(&self, device: &Arc<dyn Object>) -> Result<()> {
        let (Some(pm), Some(slot)) = (self.0.upgrade(), slot_of(device)) else { return Ok(()) };
        pm.hotplug.pci.lock().unplug_request(slot);
        repeatable(device);
        let _ = pm.change(|regs| regs.raise_gpe(GPE_PCI));
        Ok(())
    }
}

/// Lists what the guest said last about CPUs and modules.
#[qapi::command("query-acpi-ospm-status")]
fn query_acpi_ospm_status() -> Result<Vec<AcpiOstInfo>> {
    let device = hw_core::machine::current_machine().and_then(|machine| machine.child("acpi-device"));
    match device.as_ref().and_then(|device| device.cast::<Piix4Pm>()) {
        Some(pm) => Ok(pm.hotplug.ost()),
        None => bail!("command is not supported, missing ACPI device"),
    }
}

struct CpuPorts(Arc<Piix4Pm>);

impl RegionOps for CpuPorts {
    fn read(&self, offset: u64, size: u8) -> u64 {
        self.0.hotplug.cpu.lock().read(offset, size)
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let request = self.0.hotplug.cpu.lock().write(offset, value);
        if let Some(request) = request {
            self.0.hotplug.cpu_request(request);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4).asking()
    }

    fn accepts(&self, offset: u64, _size: u8, _is_write: bool) -> bool {
        self.0.hotplug.cpu.lock().accepts(offset)
    }
}

struct MemoryPorts(Arc<Piix4Pm>);

impl RegionOps for MemoryPorts {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.0.hotplug.memory.lock().read(offset)
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let request = self.0.hotplug.memory.lock().write(offset, value);
        if let Some(request) = request {
            self.0.hotplug.memory_request(request);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(1, 4)
    }
}

struct PciPorts(Arc<Piix4Pm>);

impl RegionOps for PciPorts {
    fn read(&self, offset: u64, _size: u8) -> u64 {
        self.0.hotplug.pci.lock().read(offset)
    }

    fn write(&self, offset: u64, value: u64, _size: u8) {
        let request = self.0.hotplug.pci.lock().write(offset, value);
        if let Some(request) = request {
            self.0.pci_request(request);
        }
    }

    fn rules(&self) -> AccessRules {
        AccessRules::sizes(4, 4)
    }
}
