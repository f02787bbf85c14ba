//! `query-pci`.
//!
//! Source: QEMU `hw/pci/pci-qmp-cmds.c`, `qapi/pci.json`.

use hw_core::Device;
use hw_core::bus::walk_buses;
use hw_core::sysbus::sysbus_get_default;
use hw_pci::spec::{
    CLASS_DEVICE, DEVICE_ID, INTERRUPT_LINE, INTERRUPT_PIN, SUBSYSTEM_ID, SUBSYSTEM_VENDOR_ID, VENDOR_ID,
};
use hw_pci::{BarKind, PciBus, PciDevice, class_desc};
use qapi::QapiType;
use qom::Result;

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
        let wide = bar.kind == BarKind::Memory64Prefetch;
        PciMemoryRegion {
            bar: bar.number as i64,
            kind: if memory { "memory" } else { "io" }.to_owned(),
            address: bar.address.map_or(-1, |address| address as i64),
            size: bar.size as i64,
            prefetch: memory.then_some(wide),
            mem_type_64: memory.then_some(wide),
        }
    })
    .collect()
}

fn info(bus: i64, function: &PciDevice) -> PciDeviceInfo {
    let devfn = function.devfn();
    let regions = regions(function);
    function.with_config(|config| {
        let class = config.u16(CLASS_DEVICE);
        let pin = config.u8(INTERRUPT_PIN);
        PciDeviceInfo {
            bus,
            slot: (devfn >> 3).into(),
            function: (devfn & 7).into(),
            class_info: PciDeviceClass { desc: class_desc(class).map(str::to_owned), class: class.into() },
            id: PciDeviceId {
                device: config.u16(DEVICE_ID).into(),
                vendor: config.u16(VENDOR_ID).into(),
                subsystem: Some(config.u16(SUBSYSTEM_ID).into()),
                subsystem_vendor: Some(config.u16(SUBSYSTEM_VENDOR_ID).into()),
            },
            irq: (pin != 0).then(|| config.u8(INTERRUPT_LINE).into()),
            irq_pin: pin.into(),
            qdev_id: Device::id(function).unwrap_or_default().to_owned(),
            regions,
        }
    })
}

/// Lists the functions on the PCI buses.
#[qapi::command("query-pci")]
fn query_pci() -> Result<Vec<PciInfo>> {
    let mut buses = Vec::new();
    walk_buses(&sysbus_get_default(), &mut |bus| buses.push(bus.clone()));
    let buses = buses.iter().filter_map(|bus| bus.cast::<PciBus>());
    Ok((0..)
        .zip(buses)
        .map(|(number, bus)| {
            let devices = bus.devices();
            let functions = devices.iter().filter_map(|device| device.cast::<PciDevice>());
            PciInfo { bus: number, devices: functions.map(|function| info(number, function)).collect() }
        })
        .collect())
}
