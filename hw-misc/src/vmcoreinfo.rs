//! `vmcoreinfo`: the guest says where its kernel keeps what a dump's reader needs.
//!
//! Sources: QEMU `docs/specs/vmcoreinfo.txt`, `hw/misc/vmcoreinfo.c`.

use std::sync::Arc;

use hw_core::machine::current_machine;
use hw_core::reset::qemu_register_reset;
use hw_core::{Device, DeviceCategory, DeviceClass, DeviceImpl, VmState, vmstate};
use hw_nvram::fw_cfg::Item;
use hw_nvram::fw_cfg_find;
use parking_lot::Mutex;
use qom::{Class, Error, Object, Result, bail};

const FILE: &str = "etc/vmcoreinfo";
/// The file: format of the host and the guest (16 bits each), size (32), physical address (64).
type VmCoreInfoFile = [u8; 16];
/// The host reads ELF notes, the guest has said nothing.
const INITIAL: VmCoreInfoFile = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The device.
#[derive(Object)]
#[object(name = "vmcoreinfo", parent = Device, class_init = class_init)]
pub struct VmCoreInfo {
    parent: Device,
    file: Arc<Mutex<VmCoreInfoFile>>,
}
qom::type_init!(VmCoreInfo);

fn class_init(class: &mut Class) {
    let device = class.get_mut::<DeviceClass>();
    device.category = Some(DeviceCategory::Misc);
    device.hotpluggable = false;
    vmstate::register::<VmCoreInfo>(class);
}

/// The machine's device, if it has one (`vmcoreinfo_find`).
pub fn find() -> Option<Arc<VmCoreInfo>> {
    devices().find_map(qom::downcast)
}

impl VmCoreInfo {
    /// What the guest has said: the format of its note, and its size and physical address in bytes.
    pub fn guest_info(&self) -> Option<(u16, u32, u64)> {
        let [_, _, f0, f1, s0, s1, s2, s3, address @ ..] = *self.file.lock();
        let format = u16::from_le_bytes([f0, f1]);
        (format != 0).then(|| (format, u32::from_le_bytes([s0, s1, s2, s3]), u64::from_le_bytes(address)))
    }
}

fn devices() -> impl Iterator<Item = Arc<dyn Object>> {
    let places = ["peripheral", "peripheral-anon"].into_iter();
    let places = places.filter_map(|place| current_machine()?.child(place));
    let objects = places.flat_map(|place| place.children()).map(|(_, object)| object);
    objects.filter(|object| object.is_a("vmcoreinfo"))
}

fn others(this: &Arc<dyn Object>) -> bool {
    devices().any(|object| !Arc::ptr_eq(&object, this))
}

impl DeviceImpl for VmCoreInfo {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let this: Arc<dyn Object> = self.clone();
        if others(&this) {
            bail!("at most one vmcoreinfo device is permitted");
        }
        let Some(fw_cfg) = fw_cfg_find().filter(|fw_cfg| fw_cfg.has_dma()) else {
            bail!("vmcoreinfo device requires fw_cfg with DMA")
        };
        *self.file.lock() = INITIAL;
        let file = self.file.clone();
        let item = Item::from(INITIAL).on_write(move |bytes| {
            file.lock().iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        });
        fw_cfg.add_file(FILE, item).map_err(|error| Error::new(error.to_string()))?;
        let file = self.file.clone();
        // It sits on no bus that would reset it.
        qemu_register_reset(Arc::new(move || {
            *file.lock() = INITIAL;
            // The file is there since the device is.
            let _ = fw_cfg.modify_file(FILE, INITIAL);
        }));
        Ok(())
    }
}

impl VmState for VmCoreInfo {
    type State = VmCoreInfoFile;

    fn save(&self) -> Option<VmCoreInfoFile> {
        Some(*self.file.lock())
    }

    fn load(&self, state: VmCoreInfoFile) -> Result<()> {
        *self.file.lock() = state;
        if let Some(fw_cfg) = fw_cfg_find() {
            fw_cfg.modify_file(FILE, state).map_err(|error| Error::new(error.to_string()))?;
        }
        Ok(())
    }
}
