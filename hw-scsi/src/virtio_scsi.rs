//! `virtio-scsi`: a host adapter (virtio 1.2, section 5.6).
//!
//! Commands of a queue go to the devices as they come, any number at a time; whichever thread ends one gives it back.
//! Source followed besides: QEMU `hw/scsi/virtio-scsi.c`, `hw/virtio/virtio-scsi-pci.c`.

mod control;
mod request;
mod spec;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use backends::IoThread;
use hw_core::reset::cold_reset;
use hw_core::{DeviceCategory, DeviceClass, DeviceImpl, HotplugHandler, VmState, vmstate};
use hw_pci::spec::CLASS_STORAGE_SCSI;
use hw_virtio::pci::{VECTORS_UNSPECIFIED, Variants, VirtIOPciProxy, VirtioPciType, optimal_num_queues};
use hw_virtio::spec::{QUEUE_MAX, QUEUE_SIZE_MAX, Status, id, pci::DEVICE_ID_SCSI};
use hw_virtio::{QueueWork, VirtIODevice, VirtQueue, VirtioDeviceImpl};
use parking_lot::Mutex;
use qom::{Class, Link, Object, Property, Result, bail};
use serde::{Deserialize, Serialize};

use self::request::Bad;
use self::spec::*;
use crate::bus::{ScsiBus, ScsiBusLimits, ScsiHost};
use crate::device::ScsiDisk;
use crate::sense::Sense;

/// The number of queues that leaves it to the transport.
const QUEUES_AUTO: u32 = u32::MAX;
/// Segments of a request that do not count as data: request and response.
const OVERHEAD_SEGMENTS: u32 = 2;
/// Segments of a request, where the size of the queue has no say.
const SEGMENTS: u32 = 128;
/// Larger sizes of sense data, and of commands, are none.
const SENSE_SIZE_END: u32 = 65536;
const CDB_SIZE_END: u32 = 256;

/// The device.
#[derive(Object)]
#[object(name = "virtio-scsi-device", parent = VirtIODevice, class_init = class_init)]
pub struct VirtIOSCSI {
    parent: VirtIODevice,
    #[property(name = "num_queues", default = QUEUES_AUTO)]
    num_queues: Property<u32>,
    #[property(name = "virtqueue_size", default = 256)]
    virtqueue_size: Property<u32>,
    #[property(name = "seg_max_adjust", default = true)]
    seg_max_adjust: Property<bool>,
    #[property(name = "max_sectors", default = 0xffff)]
    max_sectors: Property<u32>,
    #[property(name = "cmd_per_lun", default = 128)]
    cmd_per_lun: Property<u32>,
    /// on/off
    #[property(default = true)]
    hotplug: Property<bool>,
    /// on/off
    #[property(name = "param_change", default = true)]
    param_change: Property<bool>,
    // The I/O thread that serves the queues.
    #[property]
    iothread: Property<Link<IoThread>>,
    /// What the bus is called, where the user named the device.
    bus_name: OnceLock<String>,
    bus: OnceLock<Arc<ScsiBus>>,
    thread: OnceLock<Arc<dyn Object>>,
    works: OnceLock<Vec<Arc<QueueWork>>>,
    /// Sizes of commands and of sense data.
    sizes: Mutex<Option<(u32, u32)>>,
    /// The driver had no buffer for an event.
    events_dropped: AtomicBool,
}
qom::type_init!(VirtIOSCSI);
qom::type_init!(fn register_pci);

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().category = Some(DeviceCategory::Storage);
    vmstate::register::<VirtIOSCSI>(class);
}

fn register_pci() {
    VirtioPciType {
        name: "virtio-scsi-pci",
        backend: "virtio-scsi-device",
        device_id: DEVICE_ID_SCSI,
        class_id: CLASS_STORAGE_SCSI,
        category: DeviceCategory::Storage,
        variants: Variants::All,
        ioeventfd: Some(true),
        vectors: Some(VECTORS_UNSPECIFIED),
        has_class: false,
        default_vectors: |backend| {
            let queues = backend.cast::<VirtIOSCSI>().map_or(1, |scsi| scsi.num_queues.get());
            queues.saturating_add(u32::from(FIXED_QUEUES) + 1)
        },
        prepare: Some(prepare),
    }
    .register();
}

/// What depends on the PCI function: the number of queues, and the bus's name.
fn prepare(proxy: &VirtIOPciProxy, backend: &Arc<dyn Object>) -> Result<()> {
    let Some(scsi) = backend.cast::<VirtIOSCSI>() else { return Ok(()) };
    if scsi.num_queues.get() == QUEUES_AUTO {
        scsi.num_queues.set(optimal_num_queues(FIXED_QUEUES).into());
    }
    if let Some(id) = proxy.id() {
        let _ = scsi.bus_name.set(format!("{id}.0"));
    }
    Ok(())
}

impl VirtIOSCSI {
    /// Checks the number and size of queues, and gives them.
    fn checked_queues(&self) -> Result<(u16, u16)> {
        if self.num_queues.get() == QUEUES_AUTO {
            self.num_queues.set(1);
        }
        let (number, size) = (self.num_queues.get(), self.virtqueue_size.get());
        let most = QUEUE_MAX - FIXED_QUEUES;
        if number == 0 || number > most.into() {
            bail!("Invalid number of queues (= {number}), must be a positive integer less than {most}.");
        }
        if size <= OVERHEAD_SEGMENTS {
            bail!("invalid virtqueue_size property (= {size}), must be > 2");
        }
        if !size.is_power_of_two() || size > QUEUE_SIZE_MAX.into() {
            bail!("invalid virtqueue_size property (= {size}), must be a power of 2 (max {QUEUE_SIZE_MAX})");
        }
        Ok((number as u16, size as u16))
    }

    /// Sizes of commands and of sense data, bytes.
    fn sizes(&self) -> (u32, u32) {
        self.sizes.lock().unwrap_or((CDB_SIZE, SENSE_SIZE))
    }

    fn scsi_bus(&self) -> Option<&Arc<ScsiBus>> {
        self.bus.get()
    }

    /// The device at an address, or another logical unit of its target's.
    fn device(&self, target: u32, lun: u32) -> Option<Arc<ScsiDisk>> {
        self.scsi_bus()?.find(0, target, lun)
    }

    fn work_of(&self, queue: &VirtQueue) -> Option<Arc<QueueWork>> {
        self.works.get()?.get(usize::from(queue.index())).cloned()
    }

    /// Takes what the driver has made available: a ring of it, then others of the loop have their turn, as a driver
    /// may add faster than the devices answer.
    fn handle(&self, work: &Arc<QueueWork>) {
        let mut share = self.virtqueue_size.get();
        let is_control = work.queue.index() == 0;
        work.begin();
        loop {
            work.queue.set_notification(false);
            while share > 0
                && let Some(element) = work.queue.pop()
            {
                share -= 1;
                let done = if is_control {
                    control::handle(self, work, element)
                } else {
                    request::handle(self, work, element)
                };
                if let Err(Bad) = done {
                    self.set_broken("wrong size for virtio-scsi headers");
                    break;
                }
            }
            if share == 0 || self.is_broken() || !work.queue.set_notification(true) {
                break;
            }
        }
        work.end();
        if share == 0 {
            self.queue_again(&work.queue);
        }
    }

    /// Tells the driver of an event, if it has a buffer for it (`virtio_scsi_push_event`).
    fn push_event(&self, device: Option<&ScsiDisk>, event: u32, reason: u32) {
        let Some(queue) = self.queue(1).filter(|_| self.status().contains(Status::DRIVER_OK)) else { return };
        let Some(element) = queue.pop() else {
            self.events_dropped.store(true, Ordering::Release);
            return;
        };
        if element.writable_len() < EVENT as u64 {
            self.set_broken("wrong size for virtio-scsi headers");
            return;
        }
        let missed = self.events_dropped.swap(false, Ordering::AcqRel);
        let event = if missed { event | event::MISSED } else { event };
        let address = device.map_or([0; 8], |device| address_bytes(device.target(), device.lun()));
        element.write(0, &[&event.to_le_bytes()[..], &address, &reason.to_le_bytes()].concat());
        queue.push(element, EVENT as u32);
        queue.notify();
    }

    /// A device came or went.
    fn plugged(&self, device: &Arc<dyn Object>, reason: u32) {
        if !self.has_feature(f::HOTPLUG) {
            return;
        }
        if let (Some(disk), Some(bus)) = (device.cast::<ScsiDisk>(), self.scsi_bus()) {
            self.push_event(Some(disk), event::TRANSPORT_RESET, reason);
            bus.attend(Sense::REPORTED_LUNS_CHANGED);
        }
    }

    fn use_thread(&self, works: &[Arc<QueueWork>]) {
        if let Some(object) = self.iothread.get().object()
            && let Some(thread) = object.cast::<IoThread>()
            && let Some(event_loop) = thread.event_loop()
        {
            works.iter().for_each(|work| work.queue.set_event_loop(&event_loop));
            thread.used(1);
            let _ = self.thread.set(object);
        }
    }
}

/// Devices come and go.
struct Plug(Weak<VirtIOSCSI>);

impl HotplugHandler for Plug {
    fn plug(&self, device: &Arc<dyn Object>) -> Result<()> {
        if let Some(scsi) = self.0.upgrade() {
            scsi.plugged(device, event::RESET_RESCAN);
        }
        Ok(())
    }

    fn unplug(&self, device: &Arc<dyn Object>) {
        if let Some(scsi) = self.0.upgrade() {
            scsi.plugged(device, event::RESET_REMOVED);
        }
    }
}

impl ScsiHost for VirtIOSCSI {
    fn changed(&self, device: &ScsiDisk, sense: Sense) {
        if self.has_feature(f::CHANGE) {
            let reason = u32::from(sense.asc) | u32::from(sense.ascq) << 8;
            self.push_event(Some(device), event::PARAM_CHANGE, reason);
        }
    }
}

impl DeviceImpl for VirtIOSCSI {
    fn realize(self: &Arc<Self>) -> Result<()> {
        let (number, size) = self.checked_queues()?;
        self.init(id::SCSI, config::LEN);
        let mut works = Vec::new();
        for _ in 0..number + FIXED_QUEUES {
            works.push(Arc::new(QueueWork::new(self.add_queue(size)?)));
        }
        let this: Arc<dyn Object> = self.clone();
        let host: Weak<dyn ScsiHost> = Arc::downgrade(self) as Weak<dyn ScsiHost>;
        let limits =
            ScsiBusLimits { max_channel: 0, max_target: MAX_TARGET, max_lun: MAX_LUN, queues_commands: true };
        let plug = Arc::new(Plug(Arc::downgrade(self)));
        let bus = ScsiBus::new(&this, self.bus_name.get().map(String::as_str), limits, host, plug)?;
        let _ = self.bus.set(bus);
        self.use_thread(&works);
        let _ = self.works.set(works);
        Ok(())
    }

    fn unrealize(self: &Arc<Self>) {
        if let Some(thread) = self.thread.get().and_then(|object| object.cast::<IoThread>()) {
            thread.used(-1);
        }
    }
}

impl VirtioDeviceImpl for VirtIOSCSI {
    fn queue_notified(self: &Arc<Self>, queue: &Arc<VirtQueue>) {
        if queue.index() == 1 {
            if self.events_dropped.load(Ordering::Acquire) {
                self.push_event(None, event::NONE, 0);
            }
        } else if let Some(work) = self.work_of(queue) {
            self.handle(&work);
        }
    }

    fn features(&self, offered: u64) -> Result<u64> {
        let of = |on: bool, bit: u64| if on { bit } else { 0 };
        Ok(offered | of(self.hotplug.get(), f::HOTPLUG) | of(self.param_change.get(), f::CHANGE))
    }

    fn read_config(&self, bytes: &mut [u8]) {
        let (cdb_size, sense_size) = self.sizes();
        let segments = if self.seg_max_adjust.get() { self.virtqueue_size.get() } else { SEGMENTS };
        let words = [
            (config::NUM_QUEUES, self.num_queues.get()),
            (config::SEG_MAX, segments - OVERHEAD_SEGMENTS),
            (config::MAX_SECTORS, self.max_sectors.get()),
            (config::CMD_PER_LUN, self.cmd_per_lun.get()),
            (config::EVENT_INFO_SIZE, EVENT as u32),
            (config::SENSE_SIZE, sense_size),
            (config::CDB_SIZE, cdb_size),
            // Two numbers of two bytes.
            (config::MAX_CHANNEL, MAX_TARGET << (8 * (config::MAX_TARGET - config::MAX_CHANNEL))),
            (config::MAX_LUN, MAX_LUN),
        ];
        for (at, word) in words {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
    }

    fn write_config(&self, offset: usize, data: &[u8]) {
        let mut bytes = vec![0; config::LEN];
        self.read_config(&mut bytes);
        if let Some(place) = bytes.get_mut(offset..offset + data.len()) {
            place.copy_from_slice(data);
        }
        let word =
            |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (cdb_size, sense_size) = (word(config::CDB_SIZE), word(config::SENSE_SIZE));
        if cdb_size >= CDB_SIZE_END || sense_size >= SENSE_SIZE_END {
            self.set_broken("bad data written to virtio-scsi configuration space");
            return;
        }
        *self.sizes.lock() = Some((cdb_size, sense_size));
    }

    fn device_reset(&self) {
        if let Some(bus) = self.scsi_bus() {
            let object: Arc<dyn Object> = bus.clone();
            cold_reset(&object);
        }
        *self.sizes.lock() = None;
        self.events_dropped.store(false, Ordering::Release);
    }

    fn queue_reset(&self, _queue: &Arc<VirtQueue>) {
        if let Some(bus) = self.scsi_bus() {
            bus.devices().for_each(|device| device.quiesce());
        }
    }
}

/// What a virtio-scsi device saves beside its queues.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirtIOSCSIState {
    cdb_size: u32,
    sense_size: u32,
    events_dropped: bool,
    unit_attention: Option<Sense>,
}

impl VmState for VirtIOSCSI {
    type State = VirtIOSCSIState;

    fn save(&self) -> Option<VirtIOSCSIState> {
        let (cdb_size, sense_size) = self.sizes();
        let events_dropped = self.events_dropped.load(Ordering::Acquire);
        let unit_attention = *self.scsi_bus()?.unit_attention().lock();
        Some(VirtIOSCSIState { cdb_size, sense_size, events_dropped, unit_attention })
    }

    fn load(&self, state: VirtIOSCSIState) -> Result<()> {
        if state.cdb_size >= CDB_SIZE_END || state.sense_size >= SENSE_SIZE_END {
            bail!("no commands have {} bytes and {} of sense data", state.cdb_size, state.sense_size);
        }
        *self.sizes.lock() = Some((state.cdb_size, state.sense_size));
        self.events_dropped.store(state.events_dropped, Ordering::Release);
        if let Some(bus) = self.scsi_bus() {
            // What is under way is of the life before: the queues have it again.
            bus.devices().for_each(|device| device.quiesce());
            *bus.unit_attention().lock() = state.unit_attention;
        }
        Ok(())
    }
}
