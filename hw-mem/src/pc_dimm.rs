//! `pc-dimm`: a memory module.
//!
//! Source: QEMU `hw/mem/pc-dimm.c`.

use std::sync::Arc;

use backends::HostMemory;
use hw_core::machine::{Machine, current_machine};
use hw_core::{Device, DeviceClass, DeviceImpl};
use memory::MemoryRegion;
use qapi::{QapiType, Wrapper};
use qom::property::Link;
use qom::{Class, Object, Property, PropertyInfo, Result, bail};

use crate::memory_device::{MemoryDevice, MemoryDeviceInfo, memory_device_pre_plug};

/// What is told of a module (QAPI's `PCDIMMDeviceInfo`).
#[derive(QapiType)]
#[qapi(name = "PCDIMMDeviceInfo")]
pub struct PcDimmDeviceInfo {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Guest physical address.
    pub addr: i64,
    /// Bytes.
    pub size: i64,
    /// Its slot.
    pub slot: i64,
    /// NUMA node.
    pub node: i64,
    /// The memory backend's path.
    pub memdev: String,
    /// It came while the machine ran.
    pub hotplugged: bool,
    /// It can go while the machine runs.
    pub hotpluggable: bool,
}

/// The module.
#[derive(Object)]
#[object(name = "pc-dimm", parent = Device, interfaces(dyn MemoryDevice), class_init = class_init)]
pub struct PcDimm {
    parent: Device,
    /// Guest physical address
    #[property]
    addr: Property<u64>,
    /// NUMA node
    #[property]
    node: Property<u32>,
    /// Slot
    #[property(default = -1)]
    slot: Property<i32>,
    /// Memory backend
    #[property]
    memdev: Property<Link<HostMemory>>,
}
qom::type_init!(PcDimm);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().desc = "DIMM memory module";
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|object| Ok(object.cast::<PcDimm>().map_or(0, PcDimm::size).into()))),
        ..PropertyInfo::new("size", "uint64")
    });
}

impl PcDimm {
    /// Bytes of memory.
    pub fn size(&self) -> u64 {
        self.memory_region().map_or(0, |region| u64::try_from(region.size()).unwrap_or_default())
    }

    /// NUMA node.
    pub fn node(&self) -> u32 {
        self.node.get()
    }

    /// Its slot; `None` before it is plugged.
    pub fn slot(&self) -> Option<usize> {
        usize::try_from(self.slot.get()).ok()
    }

    /// The slots that other modules are in.
    fn taken(machine: &Arc<dyn Object>) -> Vec<i32> {
        let places = ["peripheral", "peripheral-anon"].into_iter().filter_map(|place| machine.child(place));
        let all = places.flat_map(|place| place.children()).map(|(_, object)| object);
        let modules = all.filter(|object| object.cast::<Device>().is_some_and(Device::is_realized));
        modules.filter_map(|object| object.cast::<PcDimm>().map(|dimm| dimm.slot.get())).collect()
    }

    fn free_slot(&self, machine: &Arc<dyn Object>, slots: u32) -> Result<i32> {
        let (wanted, slots) = (self.slot.get(), i32::try_from(slots).unwrap_or(i32::MAX));
        if wanted != -1 && !(0..slots).contains(&wanted) {
            bail!("invalid slot number {wanted}, valid range is [0-{}]", i64::from(slots) - 1);
        }
        if slots == 0 {
            bail!("no slots where allocated, please specify the 'slots' option");
        }
        let taken = Self::taken(machine);
        if wanted != -1 {
            return if taken.contains(&wanted) { bail!("slot {wanted} is busy") } else { Ok(wanted) };
        }
        match (0..slots).find(|slot| !taken.contains(slot)) {
            Some(slot) => Ok(slot),
            None => bail!("no free slots available"),
        }
    }
}

/// Before a module is realized: gives it a slot and an address.
///
/// # Errors
/// In QEMU's words, when it cannot have what it wants, or there is no room.
pub fn pc_dimm_pre_plug(dimm: &PcDimm, object: &Arc<dyn Object>, machine: &Machine) -> Result<()> {
    dimm.slot.set(dimm.free_slot(object, machine.config().ram_slots)?);
    memory_device_pre_plug(dimm, machine)
}

impl DeviceImpl for PcDimm {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let machine = current_machine();
        let nodes =
            machine.as_ref().and_then(|m| m.cast::<Machine>()).map_or(0, |m| m.numa().lock().num_nodes());
        let node = self.node.get();
        if node as usize >= nodes.max(1) {
            bail!(
                "'DIMM property node has value {node}' which exceeds the number of numa nodes: {}",
                nodes.max(1)
            );
        }
        let Some(memdev) = self.memdev.get().object() else { bail!("'memdev' property is not set") };
        if memdev.cast::<HostMemory>().is_some_and(HostMemory::is_mapped) {
            let name = memdev.base().parent().map(|(_, name)| name).unwrap_or_default();
            bail!("can't use already busy memdev: {name}");
        }
        Ok(())
    }
}

impl MemoryDevice for PcDimm {
    fn addr(&self) -> u64 {
        self.addr.get()
    }

    fn set_addr(&self, addr: u64) {
        self.addr.set(addr);
    }

    fn memory_region(&self) -> Result<MemoryRegion> {
        let memdev = self.memdev.get().object();
        match memdev.as_ref().and_then(|memdev| memdev.cast::<HostMemory>()).and_then(HostMemory::region) {
            Some(region) => Ok(region),
            None => bail!("'memdev' property must be set"),
        }
    }

    fn plugged_size(&self) -> u64 {
        self.size()
    }

    fn info(&self) -> MemoryDeviceInfo {
        let memdev = self.memdev.get().object();
        MemoryDeviceInfo::Dimm(Wrapper {
            data: PcDimmDeviceInfo {
                id: self.id().map(str::to_owned),
                addr: self.addr.get() as i64,
                size: self.size() as i64,
                slot: self.slot.get().into(),
                node: self.node.get().into(),
                memdev: memdev.and_then(|memdev| memdev.canonical_path()).unwrap_or_default(),
                hotplugged: self.is_hotplugged(),
                hotpluggable: self.class().get::<DeviceClass>().is_some_and(|class| class.hotpluggable),
            },
        })
    }
}
