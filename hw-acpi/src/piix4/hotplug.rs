//! The three blocks of hotplug registers, and the devices that come and go by them.
//!
//! Devices go on the main loop, not on the thread of the CPU that ejects them: that thread may be the very one that
//! is to end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use hw_core::qdev_monitor::qdev_unplugged;
use hw_core::{Device, DeviceClass, HotplugHandler};
use hw_pci::{PciBridge, PciBus, PciDevice};
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
    /// PCI slots that the guest let go of, by bus, until the main loop comes to them.
    ejected: Mutex<BTreeMap<u8, u32>>,
    eject_scheduled: AtomicBool,
    /// PCI buses have their numbers.
    numbered: AtomicBool,
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

/// The number that ACPI knows the bus of a function by.
fn bus_number(device: &Arc<dyn Object>) -> Option<u8> {
    device.cast::<PciDevice>()?.bus::<PciBus>()?.hotplug_number()?.try_into().ok()
}

fn is_hotplugged(device: &Arc<dyn Object>) -> bool {
    device.cast::<Device>().is_some_and(Device::is_hotplugged)
}

/// Whether the function stays for good (`acpi_pcihp_pc_no_hotplug`): the tables describe a bridge that was there from
/// the start.
fn stays(device: &Arc<dyn Object>) -> bool {
    let hotpluggable = device.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable);
    !hotpluggable || device.cast::<PciBridge>().is_some() && !is_hotplugged(device)
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
        (*cpu, *memory) = (state.cpu, state.memory);
        self.pci.lock().load(state.pci);
        true
    }

    fn ost(&self) -> Vec<AcpiOstInfo> {
        let (memory, cpu) = (self.memory.lock().clone(), self.cpu.lock().clone());
        let modules =
            (0..memory.len()).map(|n| ost_info(AcpiSlotType::Dimm, n, memory.ost(n), &self.modules));
        // Only by the modern registers a guest can say anything of a CPU.
        let told = if cpu.is_modern() { cpu.len() } else { 0 };
        let cpus = (0..told).map(|n| ost_info(AcpiSlotType::Cpu, n, cpu.ost(n), &self.cpus));
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
        self.hotplug.pci.lock().set_legacy(!self.bridge_hotplug.get());
        bus.set_hotplug_handler(Arc::new(PciHotplugHandler(Arc::downgrade(self))));
    }

    /// Whether devices behind bridges that were there from the start can come and go.
    pub fn offers_bridge_hotplug(&self) -> bool {
        self.bridge_hotplug.get()
    }

    /// Gives the PCI buses that devices can come to and go from their numbers, once all devices that are there from the
    /// start are (`acpi_set_pci_info`).
    ///
    /// # Errors
    /// When a bus has a number that is not ours.
    pub fn number_pci_buses(&self) -> Result<()> {
        let Some(root) = self.bus::<PciBus>() else { return Ok(()) };
        if self.hotplug.numbered.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if !self.root_hotplug.get() {
            root.clear_hotplug_handler();
        }
        let mut buses = Vec::new();
        root.walk(&mut |bus| buses.push(bus.clone()));
        let numbered = buses.iter().filter(|bus| bus.hotplug_handler().is_some());
        (0..).zip(numbered).try_for_each(|(number, bus)| bus.set_hotplug_number(number))
    }

    /// The bus that ACPI knows by this number.
    fn pci_bus(&self, number: u8) -> Option<Arc<PciBus>> {
        let mut found = None;
        self.bus::<PciBus>()?.walk(&mut |bus| {
            if bus.hotplug_number() == Some(number.into()) {
                found = Some(bus.clone());
            }
        });
        found
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

    /// Of each bus's slots those whose devices can go; what was to go goes now (`acpi_pcihp_reset`).
    pub(super) fn reset_hotplug(self: &Arc<Self>) {
        let Some(root) = self.bus::<PciBus>() else { return };
        // The numbers were given when the tables were made, unless the board has none.
        let _ = self.number_pci_buses();
        let mut removable = Vec::new();
        root.walk(&mut |bus| {
            let Some(number) = bus.hotplug_number().and_then(|number| number.try_into().ok()) else { return };
            let devices = bus.devices();
            let staying = devices.iter().filter(|device| stays(device)).filter_map(slot_of);
            removable.push((number, staying.fold(u32::MAX, |slots, slot| slots & !(1 << slot))));
        });
        for (number, removable) in removable {
            let down = self.hotplug.pci.lock().reset(number, removable);
            self.eject_slots(number, down);
        }
    }

    fn eject_slots(self: &Arc<Self>, bus: u8, slots: u32) {
        if slots == 0 {
            return;
        }
        *self.hotplug.ejected.lock().entry(bus).or_default() |= slots;
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

    /// Takes out what was ejected, unless the main loop has done so already. After a reset, before anybody looks at what
    /// there is; on the main loop's thread.
    pub fn unplug_ejected(&self) {
        self.hotplug.eject_scheduled.store(false, Ordering::Release);
        let ejected = std::mem::take(&mut *self.hotplug.ejected.lock());
        for (number, slots) in ejected {
            for device in self.pci_bus(number).map(|bus| bus.devices()).unwrap_or_default() {
                if slot_of(&device).is_some_and(|slot| slots & 1 << slot != 0) && !stays(&device) {
                    qdev_unplugged(&device);
                }
            }
        }
    }

    fn pci_request(self: &Arc<Self>, request: PciHotplugRequest) {
        match request {
            PciHotplugRequest::Eject(bus, slot) => self.eject_slots(bus, 1 << slot),
            PciHotplugRequest::Index(bus, slot) => {
                let devices = self.pci_bus(bus).map(|bus| bus.devices()).unwrap_or_default();
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

/// What a device is told whose bus has no number.
fn unsupported_bus<T>() -> Result<T> {
    bail!("Unsupported bus. Bus doesn't have property 'acpi-pcihp-bsel' set")
}

/// Who is asked when devices are plugged into the root bus, or behind bridges that were there from the start.
struct PciHotplugHandler(Weak<Piix4Pm>);

impl PciHotplugHandler {
    fn has_index(&self, device: &Arc<dyn Object>, index: u32) -> bool {
        let Some(root) = self.0.upgrade().and_then(|pm| pm.bus::<PciBus>()) else { return false };
        let mut found = false;
        root.walk(&mut |bus| {
            let devices = bus.devices();
            let mut others = devices.iter().filter(|other| !Arc::ptr_eq(other, device));
            found |= others.any(|other| acpi_index(other) == index);
        });
        found
    }
}

impl HotplugHandler for PciHotplugHandler {
    fn pre_plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        if is_hotplugged(device) && bus_number(device).is_none() {
            return unsupported_bus();
        }
        let index = acpi_index(device);
        if index > ONBOARD_INDEX_MAX {
            bail!("acpi-index should be less or equal to {ONBOARD_INDEX_MAX}");
        }
        if index != 0 && self.has_index(device, index) {
            bail!("a PCI device with acpi-index = {index} already exist");
        }
        Ok(())
    }

    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        let Some(pm) = self.0.upgrade() else { return Ok(()) };
        if !is_hotplugged(device) {
            if let Some(below) = device.cast::<PciBridge>().and_then(PciBridge::secondary_bus)
                && pm.bridge_hotplug.get()
            {
                below.set_hotplug_handler(Arc::new(PciHotplugHandler(self.0.clone())));
            }
            return Ok(());
        }
        if let (Some(bus), Some(slot)) = (bus_number(device), slot_of(device)) {
            pm.hotplug.pci.lock().plug(bus, slot);
            let _ = pm.change(|regs| regs.raise_gpe(GPE_PCI));
        }
        Ok(())
    }

    fn unplug_request(&self, device: &Arc<dyn Object>) -> Result<()> {
        let (Some(pm), Some(slot)) = (self.0.upgrade(), slot_of(device)) else { return Ok(()) };
        let Some(bus) = bus_number(device) else { return unsupported_bus() };
        pm.hotplug.pci.lock().unplug_request(bus, slot);
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
        AccessRules::sizes(1, 4)
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
