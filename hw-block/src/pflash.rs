//! `cfi.pflash01`: flash with Intel's command set, as PCs have their firmware in. Its memory is read as memory; any write
//! begins a sequence of commands, during which reads are answered by the chips.
//!
//! Source: QEMU `hw/block/pflash_cfi01.c`.

mod cfi;
mod chip;
mod spec;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use block::BlockBackend;
use block::backend::{BlockDevice, Op, Request, RequestMemory};
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, DriveProperty, SysBusDevice, VmState, vmstate};
use memory::vm_memory::VolatileSlice;
use memory::{MemoryRegion, RamBlock, RegionOps};
use parking_lot::Mutex;
use qom::{Class, Error, Object, Property, Result, bail};

use crate::conf::SECTOR;
use cfi::Bank;
use chip::{Pflash, State};

/// The device.
#[derive(Object)]
#[object(name = "cfi.pflash01", parent = SysBusDevice, class_init = class_init)]
pub struct PflashCfi01 {
    parent: SysBusDevice,
    /// Node name or ID of a block device to use as a backend
    #[property]
    drive: Property<DriveProperty>,
    /// Number of blocks that are erased at once
    #[property]
    num_blocks: Property<u32>,
    /// Size of such a block
    #[property]
    sector_length: Property<u64>,
    /// Width of the data bus in bytes
    #[property]
    width: Property<u8>,
    /// Width of each chip's data bus as it is used, in bytes; 0: not said
    #[property]
    device_width: Property<u8>,
    /// Width of each chip's data bus; 0: device-width
    #[property]
    max_device_width: Property<u8>,
    /// Byte order of accesses
    #[property]
    big_endian: Property<bool>,
    /// Commands are taken from system management mode only
    #[property]
    secure: Property<bool>,
    /// Manufacturer
    #[property]
    id0: Property<u16>,
    /// Device
    #[property]
    id1: Property<u16>,
    /// More of the device, where device-width is not said
    #[property]
    id2: Property<u16>,
    /// More of the device, where device-width is not said
    #[property]
    id3: Property<u16>,
    /// Name of the memory region
    #[property]
    name: Property<Option<String>>,
    /// Several chips make more blocks instead of larger ones
    #[property]
    old_multiple_chip_handling: Property<bool>,
    flash: OnceLock<Flash>,
    /// Held while what the region shows is made to follow the chips.
    showing: Mutex<()>,
}
qom::type_init!(PflashCfi01);

struct Flash {
    chip: Mutex<Pflash>,
    array: Arc<RamBlock>,
    region: MemoryRegion,
    backend: Option<Arc<BlockBackend>>,
}

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
    vmstate::register::<PflashCfi01>(class);
}

/// A part of the array on its way to the drive.
struct Part(Arc<RamBlock>, Range<u64>);

impl RequestMemory for Part {
    fn parts(&self) -> Vec<VolatileSlice<'_>> {
        self.0.slice(self.1.start, self.1.end - self.1.start).into_iter().collect()
    }
}

impl Flash {
    fn all(&self) -> Option<VolatileSlice<'_>> {
        self.array.slice(0, self.array.size())
    }

    /// Writes what changed to the drive, in whole sectors (`pflash_update`).
    fn update(&self, changed: Range<u64>) {
        let Some(backend) = &self.backend else { return };
        let range = changed.start / SECTOR * SECTOR..changed.end.next_multiple_of(SECTOR);
        let request = Request {
            op: Op::Write,
            offset: range.start,
            bytes: range.end - range.start,
            memory: Box::new(Part(self.array.clone(), range)),
        };
        if let Err(error) = backend.carry_out(&request) {
            util::error_report!("Could not update PFLASH: {}", util::log::OsError(error));
        }
    }
}

impl PflashCfi01 {
    /// The drive, if it has one (`pflash_cfi01_get_blk`).
    pub fn drive(&self) -> Option<Arc<BlockBackend>> {
        self.drive.get().backend()
    }

    /// What shows in the machine's memory, once it is realized (`pflash_cfi01_get_memory`).
    pub fn region(&self) -> Option<&MemoryRegion> {
        Some(&self.flash.get()?.region)
    }

    /// Has the region show the array, or not, as the chips have it now.
    fn show(&self, flash: &Flash) {
        let _guard = self.showing.lock();
        let shows_array = flash.chip.lock().shows_array();
        flash.region.set_romd_mode(shows_array);
    }

    fn bank(&self) -> Result<Bank> {
        for (name, unset) in
            [("sector-length", self.sector_length.get() == 0), ("num-blocks", self.num_blocks.get() == 0)]
        {
            if unset {
                bail!("attribute \"{name}\" not specified or zero.");
            }
        }
        let width = self.device_width.get();
        let max_width = if self.max_device_width.get() == 0 { width } else { self.max_device_width.get() };
        let widths = [("width", self.width.get()), ("device-width", width), ("max-device-width", max_width)];
        for (name, value) in widths {
            if !matches!(value, 0 | 1 | 2 | 4) || (name == "width" && value == 0) {
                bail!("attribute \"{name}\" must be 1, 2 or 4.");
            }
        }
        Ok(Bank {
            blocks: self.num_blocks.get(),
            sector_len: self.sector_length.get(),
            width: self.width.get(),
            device_width: width,
            max_device_width: max_width,
            big_endian: self.big_endian.get(),
            ident: [&self.id0, &self.id1, &self.id2, &self.id3].map(Property::get),
            old_multiple_chip_handling: self.old_multiple_chip_handling.get(),
        })
    }

    /// Takes the drive and reads all of it; gives it and whether it cannot be written.
    fn take_drive(self: &Arc<Self>, array: &RamBlock) -> Result<(Option<Arc<BlockBackend>>, bool)> {
        if self.drive().is_none() {
            return Ok((None, false));
        }
        let device: Weak<dyn BlockDevice> = Arc::downgrade(self) as Weak<dyn BlockDevice>;
        let backend = DriveProperty::attach(&self.drive, device)?;
        let read = || {
            let Some(node) = backend.node() else {
                bail!("can't get size of block backend: No medium found")
            };
            node.driver().keep_writers_out(false)?;
            let said = |what: &str, error| Error::new(format!("{what}: {}", util::log::OsError(error)));
            let (size, len) = (array.size(), node.length());
            let len = len.map_err(|error| said("can't get size of block backend", error))?;
            if len != size {
                bail!("device requires {size} bytes, block backend provides {len} bytes");
            }
            let all: Vec<_> = array.slice(0, size).into_iter().collect();
            node.preadv(0, &all).map_err(|error| said("can't read block backend", error))?;
            Ok(node.is_read_only())
        };
        let read_only = read().inspect_err(|_| backend.detach())?;
        Ok((Some(backend), read_only))
    }
}

impl DeviceImpl for PflashCfi01 {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let bank = self.bank()?;
        let Some(name) = self.name.get() else { bail!("attribute \"name\" not specified.") };
        let array = RamBlock::anonymous(&name, bank.size())
            .map_err(|error| Error::new(format!("cannot set up guest memory '{name}': {error}")))?;
        let (backend, read_only) = self.take_drive(&array)?;
        let array = Arc::new(array);
        let region = MemoryRegion::rom_device(&name, array.clone(), self.clone());
        let chip = Mutex::new(Pflash::new(bank, read_only));
        let _ = self.flash.set(Flash { chip, array, region, backend });
        Ok(())
    }

    fn reset_hold(&self) {
        if let Some(flash) = self.flash.get() {
            flash.chip.lock().reset();
            self.show(flash);
        }
    }
}

impl BlockDevice for PflashCfi01 {
    fn id(&self) -> String {
        self.this().canonical_path().unwrap_or_default()
    }
}

impl PflashCfi01 {
    /// Whether the access that is being answered is no business of whoever makes it.
    fn is_refused(&self) -> bool {
        self.secure.get() && !memory::access_is_secure()
    }
}

impl RegionOps for PflashCfi01 {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let Some(flash) = self.flash.get() else { return 0 };
        let Some(array) = flash.all() else { return 0 };
        let mut chip = flash.chip.lock();
        if self.is_refused() {
            return chip.read_array(&array, offset, size).into();
        }
        chip.read(&array, offset, size).into()
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let Some(flash) = self.flash.get().filter(|_| !self.is_refused()) else { return };
        let Some(array) = flash.all() else { return };
        let changed = flash.chip.lock().write(&array, offset, value as u32, size);
        if let Some(changed) = changed {
            flash.update(changed);
        }
        self.show(flash);
    }
}

impl VmState for PflashCfi01 {
    /// Where in a sequence of commands it is; its contents are memory and on the drive.
    type State = State;

    fn save(&self) -> Option<State> {
        Some(self.flash.get()?.chip.lock().state().clone())
    }

    fn load(&self, state: State) -> Result<()> {
        if let Some(flash) = self.flash.get() {
            flash.chip.lock().set_state(state);
            self.show(flash);
        }
        Ok(())
    }
}
