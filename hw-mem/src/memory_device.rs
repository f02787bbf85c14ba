//! What all devices are that bring memory, and the addresses there are for them.
//!
//! Source: QEMU `hw/mem/memory-device.c`.

use std::ops::Range;
use std::sync::Arc;

use hw_core::Device;
use hw_core::machine::{DeviceMemory, Machine, current_machine};
use memory::MemoryRegion;
use qapi::{QapiType, Wrapper};
use qom::{Interface, Object, Result, bail};

use crate::pc_dimm::PcDimmDeviceInfo;

/// Transparent huge pages want memory to begin at a multiple of this, in bytes.
const ANONYMOUS_ALIGN: u64 = 2 << 20;
const PAGE: u64 = 4096;

/// A device that brings memory.
pub trait MemoryDevice: Send + Sync {
    /// Guest physical address; 0 while it has none.
    fn addr(&self) -> u64;
    /// Gives it an address.
    fn set_addr(&self, addr: u64);
    /// The memory.
    ///
    /// # Errors
    /// When it has none, or memory that is in use.
    fn memory_region(&self) -> Result<MemoryRegion>;
    /// How much of it the guest can use, in bytes.
    fn plugged_size(&self) -> u64;
    /// What is told of it.
    fn info(&self) -> MemoryDeviceInfo;
}

impl Interface for dyn MemoryDevice {
    const TYPE_NAME: &'static str = "memory-device";
}
qom::type_init!(fn register);

fn register() {
    qom::type_register(qom::TypeInfo::interface::<dyn MemoryDevice>());
}

/// What is told of a memory device (QAPI's `MemoryDeviceInfo`).
#[derive(QapiType)]
#[qapi(tag = "type", tag_type = "MemoryDeviceInfoKind")]
pub enum MemoryDeviceInfo {
    /// A module.
    Dimm(Wrapper<PcDimmDeviceInfo>),
}

fn size_of(device: &dyn MemoryDevice) -> u64 {
    device.memory_region().map_or(0, |region| u64::try_from(region.size()).unwrap_or_default())
}

/// The memory devices of the machine, in order of address.
fn devices() -> Vec<(Arc<dyn Object>, Arc<dyn MemoryDevice>)> {
    let Some(machine) = current_machine() else { return Vec::new() };
    let places = ["peripheral", "peripheral-anon"].into_iter().filter_map(|place| machine.child(place));
    let children = places.flat_map(|place| place.children()).map(|(_, object)| object);
    let live = children.filter(|object| object.cast::<Device>().is_some_and(Device::is_realized));
    let mut found: Vec<_> = live
        .filter_map(|object| object.interface::<dyn MemoryDevice>().map(|device| (object, device)))
        .collect();
    found.sort_by_key(|(_, device)| device.addr());
    found
}

/// What is told of all memory devices, in order of address.
pub fn memory_device_list() -> Vec<MemoryDeviceInfo> {
    devices().iter().map(|(_, device)| device.info()).collect()
}

/// How much memory all memory devices bring that the guest can use, in bytes.
pub fn plugged_memory_size() -> u64 {
    devices().iter().map(|(_, device)| device.plugged_size()).sum()
}

/// Lists the memory devices.
#[qapi::command("query-memory-devices")]
fn query_memory_devices() -> Result<Vec<MemoryDeviceInfo>> {
    Ok(memory_device_list())
}

fn alignment(region: &MemoryRegion) -> u64 {
    let in_file = region.ram_block().is_some_and(|block| block.file().is_some());
    if in_file { PAGE } else { ANONYMOUS_ALIGN }
}

fn check_addable(machine: &Machine, size: u64) -> Result<()> {
    let config = machine.config();
    let used: u64 = devices().iter().map(|(_, device)| size_of(&**device)).sum();
    let room = config.maxram_size - config.ram_size;
    if used.checked_add(size).is_none_or(|sum| sum > room) {
        bail!("not enough space, currently {used:#x} in use of total space for memory devices {room:#x}");
    }
    Ok(())
}

/// An address for `size` bytes: the wanted one, or the first that fits (`memory_device_get_free_addr`).
fn free_addr(machine: &Machine, wanted: Option<u64>, align: u64, size: u64) -> Result<u64> {
    let Some(DeviceMemory { base, region }) = machine.device_memory() else {
        bail!("memory devices (e.g. for memory hotplug) are not enabled, please specify the maxmem option")
    };
    let room = u64::try_from(region.size()).unwrap_or_default();
    let all = *base..base.saturating_add(room);
    check_addable(machine, size)?;
    if wanted.is_some_and(|wanted| !wanted.is_multiple_of(align)) {
        bail!("address must be aligned to {align:#x} bytes");
    }
    if !size.is_multiple_of(align) {
        bail!("backend memory size must be multiple of {align:#x}");
    }
    let at = |start: u64| start.checked_add(size).map(|end| start..end);
    let inside = |range: &Range<u64>| range.start >= all.start && range.end <= all.end;
    let mut new = match wanted {
        Some(wanted) => match at(wanted).filter(inside) {
            Some(range) => range,
            None => bail!(
                "can't add memory device [{wanted:#x}:{size:#x}], usable range for memory devices \
                 [{base:#x}:{room:#x}]"
            ),
        },
        None => match at(base.next_multiple_of(align)) {
            Some(range) => range,
            None => bail!("can't add memory device, device too big"),
        },
    };
    for (object, device) in devices() {
        let taken = device.addr()..device.addr().saturating_add(size_of(&*device));
        if taken.start >= new.end {
            break;
        }
        if taken.end <= new.start {
            continue;
        }
        if wanted.is_some() {
            let id = object.cast::<Device>().and_then(Device::id).unwrap_or("(unnamed)").to_owned();
            bail!("address range conflicts with memory device id='{id}'");
        }
        match taken.end.checked_next_multiple_of(align).and_then(at) {
            Some(next) => new = next,
            None => break,
        }
    }
    if !inside(&new) {
        bail!(
            "could not find position in guest address space for memory device - memory fragmented due to alignments"
        );
    }
    Ok(new.start)
}

/// Before a memory device is realized: gives it an address.
///
/// # Errors
/// When there is no room for it, or it wants an address that it cannot have.
pub fn memory_device_pre_plug(device: &dyn MemoryDevice, machine: &Machine) -> Result<()> {
    let region = device.memory_region()?;
    let size = u64::try_from(region.size()).unwrap_or_default();
    let wanted = Some(device.addr()).filter(|addr| *addr != 0);
    device.set_addr(free_addr(machine, wanted, alignment(&region), size)?);
    Ok(())
}

/// Shows the memory of a device that [`memory_device_pre_plug`] gave an address.
///
/// # Errors
/// When it has no memory, or the machine no place for it.
pub fn memory_device_plug(device: &dyn MemoryDevice, machine: &Machine) -> Result<()> {
    let region = device.memory_region()?;
    let Some(place) = machine.device_memory() else { bail!("the machine has no room for memory devices") };
    let offset = device.addr().saturating_sub(place.base);
    place.region.add_subregion(offset, &region);
    Ok(())
}

/// Takes a device's memory away.
pub fn memory_device_unplug(device: &dyn MemoryDevice) {
    if let Ok(region) = device.memory_region() {
        region.unmap();
    }
}
