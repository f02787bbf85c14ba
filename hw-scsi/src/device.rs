//! `scsi-hd` and `scsi-cd`: a [`Disk`] with a drive behind it.
//!
//! Source: QEMU `hw/scsi/scsi-disk.c`, `hw/scsi/scsi-bus.c`.

mod run;
mod types;

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use block::BlockBackend;
use block::backend::BlockDevice;
use block::tray::DeviceTrayMoved;
use hw_block::conf::{self, BlockConf, MAX_GEOMETRY};
use hw_core::boot_order::{add_boot_device_lchs, del_boot_device_lchs};
use hw_core::{Device, DeviceImpl, DriveProperty, VmState, runstate, vmstate};
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Property, Result, bail};

use self::types::DiskClass;
use crate::bus::ScsiDevice;
use crate::cdb::Cdb;
use crate::disk::{Disk, DiskConf, DiskState, Medium, Quirks};
use crate::sense::Sense;
use crate::spec::op;
use crate::task::{Command, Kind, Outcome, Tasks};

/// Unit of unmapping where the user named none, bytes.
const DISCARD_GRANULARITY: u32 = 4096;
/// Bytes of a CD's sector.
const CD_BLOCK: u32 = 2048;
/// Most that is unmapped at once, where nothing is said, bytes.
const MAX_UNMAP: u64 = 1 << 30;
/// Most that is read or written at once, bytes.
const MAX_IO: u64 = i32::MAX as u64;
/// What INQUIRY gives as the version where nothing is said (`qemu_hw_version`).
const VERSION: &str = "2.5+";

/// A disk or CD-ROM drive.
#[derive(Object)]
#[object(name = "scsi-disk-base", parent = ScsiDevice, abstract, class_init = class_init)]
pub struct ScsiDisk {
    parent: ScsiDevice,
    pub(self) block: BlockConf,
    #[property]
    ver: Property<Option<String>>,
    #[property]
    serial: Property<Option<String>>,
    #[property]
    vendor: Property<Option<String>>,
    #[property]
    product: Property<Option<String>>,
    #[property(name = "device_id")]
    device_id: Property<Option<String>>,
    #[property]
    wwn: Property<u64>,
    #[property(name = "port_wwn")]
    port_wwn: Property<u64>,
    #[property(name = "port_index")]
    port_index: Property<u16>,
    #[property(name = "max_io_size", default = MAX_IO)]
    max_io_size: Property<u64>,
    #[property(name = "scsi_version", default = 5)]
    scsi_version: Property<i32>,
    // Properties of disks only.
    removable: Property<bool>,
    dpofua: Property<bool>,
    max_unmap_size: OnceLock<Property<u64>>,
    rotation_rate: Property<u16>,
    quirk_apple_vendor: Property<bool>,
    quirk_vendor_specific_apple: Property<bool>,
    quirk_rom_use_dbd: Property<bool>,
    quirk_truncated: Property<bool>,

    backend: OnceLock<Arc<BlockBackend>>,
    disk: OnceLock<Mutex<Disk>>,
    tasks: Mutex<Tasks>,
    state_handler: Mutex<Option<u64>>,
}
qom::type_init!(ScsiDisk);

fn class_init(class: &mut Class) {
    <ScsiDevice as ClassInit<ScsiDisk>>::class_init(class);
    BlockConf::add_properties(class, |disk: &ScsiDisk| &disk.block);
    BlockConf::add_error_properties(class, |disk: &ScsiDisk| &disk.block);
    vmstate::register::<ScsiDisk>(class);
}

impl ScsiDisk {
    fn is_rom(&self) -> bool {
        self.class().get::<DiskClass>().is_some_and(|class| class.is_rom)
    }

    fn is_removable_disk(&self) -> bool {
        self.is_rom() || self.removable.get()
    }

    fn backend(&self) -> Option<&Arc<BlockBackend>> {
        self.backend.get()
    }

    /// Calls `f` with the disk, which is there from when the device is realized.
    fn with_disk<R: Default>(&self, f: impl FnOnce(&mut Disk) -> R) -> R {
        self.disk.get().map(|disk| f(&mut disk.lock())).unwrap_or_default()
    }

    /// What there is to read and write now.
    fn medium(&self) -> Medium {
        let Some(backend) = self.backend() else { return Medium::default() };
        let node = backend.node();
        Medium {
            is_inserted: node.is_some(),
            sectors: node.as_ref().and_then(|node| node.length().ok()).unwrap_or(0) / conf::SECTOR,
            is_writable: node.is_some_and(|node| !node.is_read_only()),
            write_cache: backend.write_cache(),
        }
    }

    /// Looks at a command for the logical unit `lun`, which may be another than the device's: what the host adapter
    /// must know before [`run`](ScsiDisk::run) (`scsi_req_new`).
    pub fn command(&self, tag: u64, lun: u32, bytes: &[u8]) -> Command {
        let target = self.with_disk(|disk| Some(disk.target()));
        let cdb = target.and_then(|target| Cdb::parse(bytes, target));
        let kind = match &cdb {
            None => Kind::InvalidOpcode,
            Some(cdb) if cdb.transfer > i32::MAX as u64 => Kind::InvalidField,
            Some(cdb) => self.kind(cdb, lun),
        };
        Command { kind, cdb, lun, tag }
    }

    fn kind(&self, cdb: &Cdb, lun: u32) -> Kind {
        let opcode = cdb.opcode();
        let hides_attention = matches!(
            opcode,
            op::INQUIRY | op::REPORT_LUNS | op::GET_CONFIGURATION | op::GET_EVENT_STATUS_NOTIFICATION
        );
        if !hides_attention && let Some(sense) = self.take_attention() {
            return Kind::Attention(sense);
        }
        let has_sense = self.with_disk(|disk| disk.state.sense.is_some());
        if lun != self.lun() || opcode == op::REPORT_LUNS || opcode == op::REQUEST_SENSE && has_sense {
            return Kind::Target;
        }
        Kind::Device
    }

    /// Takes what the guest must hear of first: the device's own, then the bus's.
    fn take_attention(&self) -> Option<Sense> {
        let own = self.with_disk(|disk| disk.state.unit_attention.take());
        own.or_else(|| self.scsi_bus()?.unit_attention().lock().take())
    }

    /// Something changed that the guest must hear of (`scsi_device_report_change`).
    fn report_change(&self, sense: Sense) {
        self.with_disk(|disk| sense.attend(&mut disk.state.unit_attention));
        if let Some(host) = self.scsi_bus().and_then(|bus| bus.host()) {
            host.changed(self, sense);
        }
    }

    /// Whether a command with this tag, or any, is under way.
    pub fn has_task(&self, tag: Option<u64>) -> bool {
        self.tasks.lock().has(tag)
    }

    /// Calls off commands: the one with this tag, or all. They may go on for a while; `waiter` is dropped when all are
    /// over.
    pub fn cancel(&self, tag: Option<u64>, how: Outcome, waiter: Option<&Arc<dyn Any + Send + Sync>>) {
        let waiting = self.tasks.lock().cancel(tag, how, waiter);
        waiting.into_iter().for_each(|task| self.end(task, how));
    }

    /// Calls off all commands and waits for their end (`scsi_device_purge_requests`).
    fn purge(&self, how: Outcome) {
        self.cancel(None, how, None);
        if let Some(backend) = self.backend() {
            backend.drain();
        }
        // What failed meanwhile may have stopped the machine.
        self.cancel(None, how, None);
    }

    /// On return no command under way reads or writes guest memory any more. Those that an error stopped the machine at
    /// are called off.
    pub fn quiesce(&self) {
        if let Some(backend) = self.backend() {
            backend.drain();
        }
        let stopped = self.tasks.lock().take_stopped();
        stopped.into_iter().for_each(|task| self.end(task, Outcome::Aborted));
    }

    fn take_backend(self: &Arc<Self>) -> Result<Arc<BlockBackend>> {
        if self.is_rom() && self.block.drive.get().backend().is_none() {
            self.block.drive.set(DriveProperty::empty());
        }
        let device: Weak<dyn BlockDevice> = Arc::downgrade(self) as Weak<dyn BlockDevice>;
        let backend = DriveProperty::attach(&self.block.drive, device)?;
        let needs_media = !self.is_removable_disk();
        self.block.apply(&backend, needs_media).inspect_err(|_| backend.detach())?;
        Ok(backend)
    }

    /// What of the drive never changes, as the properties have it.
    fn conf(&self, backend: &BlockBackend) -> Result<DiskConf> {
        let is_rom = self.is_rom();
        let given_physical_size = self.block.given_physical_size();
        let sizes = self.block.sizes(Some(backend))?;
        let discard_granularity = sizes.discard.unwrap_or(DISCARD_GRANULARITY.max(sizes.logical));
        self.block.show_discard(discard_granularity);
        let serial = self.serial.get();
        let or = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.to_owned());
        let name = Some(backend.name().to_owned()).filter(|name| !name.is_empty());
        let of_serial = serial.as_ref().map(|serial| serial.chars().take(20).collect());
        Ok(DiskConf {
            is_rom,
            removable: self.is_removable_disk(),
            dpofua: self.dpofua.get(),
            vendor: or(self.vendor.get(), "QEMU"),
            product: or(self.product.get(), if is_rom { "QEMU CD-ROM" } else { "QEMU HARDDISK" }),
            version: or(self.ver.get(), VERSION),
            device_id: self.device_id.get().or(of_serial).or(name),
            serial,
            wwn: self.wwn.get(),
            port_wwn: self.port_wwn.get(),
            port_index: self.port_index.get(),
            max_unmap_size: self.max_unmap_size.get().map_or(MAX_UNMAP, Property::get),
            max_io_size: self.max_io_size.get(),
            rotation_rate: self.rotation_rate.get(),
            scsi_version: self.scsi_version.get(),
            discard_granularity,
            geometry: self.chosen_geometry(backend)?,
            block_size: match (is_rom, given_physical_size) {
                (false, _) => sizes.logical,
                (true, 0) => CD_BLOCK,
                (true, _) => sizes.physical,
            },
            sizes,
            quirks: Quirks {
                apple_vendor_page: self.quirk_apple_vendor.get(),
                vendor_specific_page: self.quirk_vendor_specific_apple.get(),
                rom_has_descriptor: self.quirk_rom_use_dbd.get(),
                truncated_pages: self.quirk_truncated.get(),
            },
            queues_commands: self.scsi_bus().is_some_and(|bus| bus.limits().queues_commands),
        })
    }

    fn chosen_geometry(&self, backend: &BlockBackend) -> Result<(u32, u32, u32)> {
        if self.is_rom() {
            return Ok((0, 0, 0));
        }
        let geometry = self.block.geometry(backend, MAX_GEOMETRY)?;
        Ok((geometry.cylinders, geometry.heads, geometry.sectors))
    }

    /// The tray opened or closed, which clients hear of.
    fn tray_moved(&self, open: bool) {
        if let Some(backend) = self.backend() {
            qapi::emit(&DeviceTrayMoved::of(backend, &self.id_or_path(), open));
        }
    }

    fn id_or_path(&self) -> String {
        match Device::id(self) {
            Some(id) => id.to_owned(),
            None => self.this().canonical_path().unwrap_or_default(),
        }
    }
}

impl DeviceImpl for ScsiDisk {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let Some(bus) = self.scsi_bus() else { bail!("a SCSI device needs a SCSI bus") };
        self.take_address(&bus)?;
        let backend = self.take_backend()?;
        let conf = self.conf(&backend).inspect_err(|_| backend.detach())?;
        let _ = self.disk.set(Mutex::new(Disk::new(conf)));
        let _ = self.backend.set(backend);
        let weak = Arc::downgrade(self);
        let handler = runstate::add_state_handler(Arc::new(move |running, _| {
            if let Some(this) = weak.upgrade().filter(|_| running) {
                this.try_again();
            }
        }));
        *self.state_handler.lock() = Some(handler);
        add_boot_device_lchs(&self.this(), "", self.block.logical_geometry());
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        del_boot_device_lchs(&**self);
        if let Some(handler) = self.state_handler.lock().take() {
            runstate::remove_state_handler(handler);
        }
        self.tasks.lock().close();
        self.purge(Outcome::Aborted);
        let Some(backend) = self.backend() else { return };
        backend.detach();
        // A drive of the command line's goes with the device that had it.
        if block::drive::drive_of(backend).is_some() {
            block::drive::drive_forget(backend);
        }
    }

    fn reset_hold(&self) {
        self.purge(Outcome::Reset);
        let medium = self.medium();
        self.with_disk(|disk| disk.reset(&medium));
    }
}

impl BlockDevice for ScsiDisk {
    fn id(&self) -> String {
        self.id_or_path()
    }

    fn is_removable(&self) -> bool {
        self.is_removable_disk()
    }

    fn change_media(&self, load: bool) {
        self.with_disk(|disk| disk.change_media(load));
    }

    fn is_tray_open(&self) -> Option<bool> {
        self.is_removable_disk().then(|| self.with_disk(|disk| disk.state.tray_open))
    }

    fn is_medium_locked(&self) -> bool {
        self.with_disk(|disk| disk.state.tray_locked)
    }

    fn eject_request(&self, force: bool) {
        self.with_disk(|disk| disk.eject_request(force));
    }

    fn resized(&self) {
        if !self.is_rom() {
            self.report_change(Sense::CAPACITY_CHANGED);
        }
    }
}

impl VmState for ScsiDisk {
    type State = DiskState;

    fn save(&self) -> Option<DiskState> {
        Some(self.disk.get()?.lock().state.clone())
    }

    fn load(&self, state: DiskState) -> Result<()> {
        state.check()?;
        // They are of the life before; the host adapter's queues have those of this one.
        self.purge(Outcome::Reset);
        self.with_disk(|disk| disk.state = state);
        Ok(())
    }
}
