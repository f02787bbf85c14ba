//! `query-pci`.
//!
//! Source: QEMU `hw/pci/pci-qmp-cmds.c`, `qapi/pci.json`.

use std::sync::Arc;

use hw_core::Device;
use hw_core::bus::walk_buses;
use hw_core::sysbus::sysbus_get_default;
use hw_pci::spec::{
    CLASS_DEVICE, DEVICE_ID, INTERRUPT_LINE, INTERRUPT_PIN, PRIMARY_BUS, SECONDARY_BUS, SUBORDINATE_BUS,
    SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use hw_pci::{BarKind, PciBridge, PciBus, PciDevice, class_desc};
use qapi::QapiType;
use qom::{Object, Result};

#[derive(QapiType)]
struct PciDeviceClass {
    desc: Option<String>,
    class: i64,
}

#[derive(QapiType)]
struct PciDeviceId {
    device: i64,
    vendor: i64,
    subsystem: Option<i64>,
    subsystem_vendor: Option<i64>,
}

#[derive(QapiType)]
struct PciMemoryRegion {
    bar: i64,
    #[qapi(name = "type")]
    kind: String,
    /// -1 while it shows nowhere.
    address: i64,
    size: i64,
    prefetch: Option<bool>,
    #[qapi(name = "mem_type_64")]
    mem_type_64: Option<bool>,
}

#[derive(QapiType)]
struct PciMemoryRange {
    base: i64,
    limit: i64,
}

#[derive(QapiType)]
struct PciBusInfo {
    number: i64,
    secondary: i64,
    subordinate: i64,
    #[qapi(name = "io_range")]
    io_range: PciMemoryRange,
    #[qapi(name = "memory_range")]
    memory_range: PciMemoryRange,
    #[qapi(name = "prefetchable_range")]
    prefetchable_range: PciMemoryRange,
}

#[derive(QapiType)]
struct PciBridgeInfo {
    bus: PciBusInfo,
    devices: Option<Vec<PciDeviceInfo>>,
}

#[derive(QapiType)]
struct PciDeviceInfo {
    bus: i64,
    slot: i64,
    function: i64,
    #[qapi(name = "class_info")]
    class_info: PciDeviceClass,
    id: PciDeviceId,
    irq: Option<i64>,
    #[qapi(name = "irq_pin")]
    irq_pin: i64,
    #[qapi(name = "qdev_id")]
    qdev_id: String,
    #[qapi(name = "pci_bridge")]
    pci_bridge: Option<PciBridgeInfo>,
    regions: Vec<PciMemoryRegion>,
}

#[derive(QapiType)]
struct PciInfo {
    bus: i64,
    devices: Vec<PciDeviceInfo>,
}

fn regions(function: &PciDevice) -> Vec<PciMemoryRegion> {
    let bars = function.bars().into_iter();
    bars.map(|bar| {
        let memory = bar.kind != BarKind::Io;
        let prefetch = bar.kind == BarKind::Memory64Prefetch;
        let wide = prefetch || bar.kind == BarKind::Memory64;
        PciMemoryRegion {
            bar: bar.number as i64,
            kind: if memory { "memory" } else { "io" }.to_owned(),
            address: bar.address.map_or(-1, |address| address as i64),
            size: bar.size as i64,
            prefetch: memory.then_some(prefetch),
            mem_type_64: memory.then_some(wide),
        }
    })
    .collect()
}

fn bridge_info(root: &Arc<PciBus>, bridge: &PciBridge) -> PciBridgeInfo {
    let windows = bridge.windows();
    let range = |window: (u64, u64)| PciMemoryRange { base: window.0 as i64, limit: window.1 as i64 };
    let number = |at| bridge.with_config(|config| config.u8(at));
    let secondary = number(SECONDARY_BUS);
    // Its devices show once the guest gave the bus a number.
    let below = (secondary != 0).then(|| root.clone().find_bus(secondary)).flatten();
    PciBridgeInfo {
        bus: PciBusInfo {
            number: number(PRIMARY_BUS).into(),
            secondary: secondary.into(),
            subordinate: number(SUBORDINATE_BUS).into(),
            io_range: range(windows.io),
            memory_range: range(windows.memory),
            prefetchable_range: range(windows.prefetch),
        },
        devices: below.map(|below| bus_devices(root, &below, secondary.into())),
    }
}

fn info(root: &Arc<PciBus>, bus: i64, device: &Arc<dyn Object>) -> Option<PciDeviceInfo> {
    let function = device.cast::<PciDevice>()?;
    let devfn = function.devfn();
    let regions = regions(function);
    let pci_bridge = device.cast::<PciBridge>().map(|bridge| bridge_info(root, bridge));
    Some(function.with_config(|config| {
        let class = config.u16(CLASS_DEVICE);
        let pin = config.u8(INTERRUPT_PIN);
        let subsystem = |at| (!config.is_bridge()).then(|| config.u16(at).into());
        PciDeviceInfo {
            bus,
            slot: (devfn >> 3).into(),
            function: (devfn & 7).into(),
            class_info: PciDeviceClass { desc: class_desc(class).map(str::to_owned), class: class.into() },
            id: PciDeviceId {
                device: config.u16(DEVICE_ID).into(),
                vendor: config.u16(VENDOR_ID).into(),
                subsystem: subsystem(SUBSYSTEM_ID),
                subsystem_vendor: subsystem(SUBSYSTEM_VENDOR_ID),
            },
            irq: (pin != 0).then(|| config.u8(INTERRUPT_LINE).into()),
            irq_pin: pin.into(),
            qdev_id: Device::id(function).unwrap_or_default().to_owned(),
            pci_bridge,
            regions,
        }
    }))
}

fn bus_devices(root: &Arc<PciBus>, bus: &PciBus, number: i64) -> Vec<PciDeviceInfo> {
    bus.devices().iter().filter_map(|device| info(root, number, device)).collect()
}

/// The root buses of the machine.
pub(crate) fn root_buses() -> Vec<Arc<PciBus>> {
    let mut buses = Vec::new();
    walk_buses(&sysbus_get_default(), &mut |bus| buses.push(bus.clone()));
    let buses = buses.into_iter().filter_map(qom::downcast::<PciBus>);
    buses.filter(|bus| bus.bridge().is_none()).collect()
}

/// Lists the functions on the PCI buses.
#[qapi::command("query-pci")]
fn query_pci() -> Result<Vec<PciInfo>> {
    let buses = (0..).zip(root_buses());
    Ok(buses.map(|(number, bus)| PciInfo { bus: number, devices: bus_devices(&bus, &bus, number) }).collect())
}
