//! What is told of virtio devices and their queues (QEMU `hw/virtio/virtio.c`, `qapi/virtio.json`).
//!
//! Of what another program or the kernel serves, no more is told than that it does.

mod names;

use std::sync::Arc;

use hw_core::Device;
use hw_core::machine::current_machine;
use memory::FlatView;
use memory::vm_memory::{Bytes, GuestAddress};
use qapi::QapiType;
use qom::{Object, Result, bail};

use crate::device::VirtIODevice;
use crate::queue::{VirtQueue, VirtQueueState};
use names::Name;

/// The alignment of a legacy ring's parts, in bytes (virtio 1.2, 2.7.2).
const LEGACY_ALIGN: u32 = 4096;
/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

#[derive(QapiType)]
struct VirtioInfo {
    path: String,
    name: String,
}

#[derive(QapiType)]
struct VirtioDeviceStatus {
    statuses: Vec<String>,
    unknown_statuses: Option<u8>,
}

#[derive(QapiType)]
struct VirtioDeviceFeatures {
    transports: Vec<String>,
    dev_features: Option<Vec<String>>,
    unknown_dev_features: Option<u64>,
}

#[derive(QapiType)]
struct VirtioStatus {
    name: String,
    device_id: u16,
    vhost_started: bool,
    device_endian: String,
    guest_features: VirtioDeviceFeatures,
    host_features: VirtioDeviceFeatures,
    /// What the kernel or another program offers that serves the queues.
    backend_features: VirtioDeviceFeatures,
    num_vqs: i64,
    status: VirtioDeviceStatus,
    isr: u8,
    queue_sel: u16,
    vm_running: bool,
    broken: bool,
    disabled: bool,
    use_started: bool,
    started: bool,
    start_on_kick: bool,
    disable_legacy_check: bool,
    bus_name: String,
    use_guest_notifier_mask: bool,
}

#[derive(QapiType)]
struct VirtQueueStatus {
    name: String,
    queue_index: u16,
    inuse: u32,
    vring_num: u32,
    vring_num_default: u32,
    vring_align: u32,
    vring_desc: u64,
    vring_avail: u64,
    vring_used: u64,
    last_avail_idx: Option<u16>,
    shadow_avail_idx: Option<u16>,
    used_idx: u16,
    signalled_used: u16,
    signalled_used_valid: bool,
}

#[derive(QapiType)]
struct VirtioRingDesc {
    addr: u64,
    len: u32,
    flags: Vec<String>,
}

#[derive(QapiType)]
struct VirtioRingAvail {
    flags: u16,
    idx: u16,
    ring: u16,
}

#[derive(QapiType)]
struct VirtioRingUsed {
    flags: u16,
    idx: u16,
}

#[derive(QapiType)]
struct VirtioQueueElement {
    name: String,
    index: u32,
    descs: Vec<VirtioRingDesc>,
    avail: VirtioRingAvail,
    used: VirtioRingUsed,
}

/// What QEMU calls the kind of device (`virtio_device_names`).
fn kind(device: &dyn Object) -> String {
    match device.is_a("virtio-input-hid-device") {
        true => "virtio-input".to_owned(),
        false => device.type_name().trim_end_matches("-device").to_owned(),
    }
}

fn collect(object: &Arc<dyn Object>, found: &mut Vec<VirtioInfo>) {
    if object.is_a("virtio-device") {
        let path = object.canonical_path().unwrap_or_default();
        found.push(VirtioInfo { path, name: kind(&**object) });
    }
    for (_, child) in object.children() {
        collect(&child, found);
    }
}

/// Lists the virtio devices, in the order of their paths.
#[qapi::command("x-query-virtio", features("unstable"))]
fn x_query_virtio() -> Result<Vec<VirtioInfo>> {
    let mut found = Vec::new();
    if let Some(machine) = current_machine() {
        collect(&machine, &mut found);
    }
    Ok(found)
}

/// The device of a path, which must be as `x-query-virtio` tells it.
fn find(path: &str) -> Result<Arc<dyn Object>> {
    match qom::object_resolve_path(path) {
        Ok(object) if object.is_a("virtio-device") && object.canonical_path().as_deref() == Some(path) => {
            Ok(object)
        }
        _ => bail!("Path {path} is not a VirtIODevice"),
    }
}

fn as_device(object: &Arc<dyn Object>) -> Result<&VirtIODevice> {
    match object.cast::<VirtIODevice>().filter(|device| Device::is_realized(device)) {
        Some(device) => Ok(device),
        None => bail!("Path {} is not a VirtIODevice", object.canonical_path().unwrap_or_default()),
    }
}

fn find_queue(device: &VirtIODevice, number: u16) -> Result<Arc<VirtQueue>> {
    match device.queue(number) {
        Some(queue) => Ok(queue),
        None => bail!("Invalid virtqueue number {number}"),
    }
}

/// The names of the bits that are set, and the bits that have none.
fn decode(names: &[Name], bits: &mut u64) -> Vec<String> {
    let is_set = |(bit, _): &&Name| *bits & 1 << bit != 0;
    let found: Vec<_> = names.iter().filter(is_set).collect();
    for (bit, _) in &found {
        *bits &= !(1 << bit);
    }
    found.into_iter().map(|(_, name)| (*name).to_owned()).collect()
}

fn features(device: &VirtIODevice, mut bits: u64) -> VirtioDeviceFeatures {
    let transports = decode(names::TRANSPORT, &mut bits);
    let own = decode(names::device(device.device_id()), &mut bits);
    let unknown_dev_features = (bits != 0).then_some(bits);
    VirtioDeviceFeatures { transports, dev_features: Some(own), unknown_dev_features }
}

fn status_of(device: &VirtIODevice) -> VirtioDeviceStatus {
    let mut bits = device.status().bits().into();
    let statuses = decode(names::STATUS, &mut bits);
    VirtioDeviceStatus { statuses, unknown_statuses: (bits != 0).then_some(bits as u8) }
}

/// Tells the state of a device.
#[qapi::command("x-query-virtio-status", features("unstable"))]
fn x_query_virtio_status(path: String) -> Result<VirtioStatus> {
    let object = find(&path)?;
    let device = as_device(&object)?;
    let core = device.core();
    let vhost = device.vhost_features();
    Ok(VirtioStatus {
        name: kind(&*object),
        device_id: device.device_id(),
        vhost_started: vhost.is_some(),
        device_endian: "little".to_owned(),
        guest_features: features(device, core.guest_features()),
        host_features: features(device, core.host_features()),
        backend_features: features(device, vhost.unwrap_or_default()),
        num_vqs: device.queues().len() as i64,
        status: status_of(device),
        isr: core.isr(),
        queue_sel: core.transport().map_or(0, |transport| transport.queue_select()),
        vm_running: device.vm_runs(),
        broken: device.is_broken(),
        disabled: core.memory().is_none() && !device.status().is_empty(),
        use_started: device.use_started.get(),
        started: device.status().contains(crate::spec::Status::DRIVER_OK),
        // A legacy driver that notifies too early is not served here.
        start_on_kick: false,
        disable_legacy_check: device.disable_legacy_check.get(),
        bus_name: device
            .parent_bus()
            .and_then(|bus| Some(bus.cast::<hw_core::Bus>()?.name().to_owned()))
            .unwrap_or_default(),
        use_guest_notifier_mask: true,
    })
}

/// Tells the state of a queue.
#[qapi::command("x-query-virtio-queue-status", features("unstable"))]
fn x_query_virtio_queue_status(path: String, queue: u16) -> Result<VirtQueueStatus> {
    let object = find(&path)?;
    let device = as_device(&object)?;
    let queue = find_queue(device, queue)?;
    let state = queue.save();
    let available = device.core().memory().and_then(|memory| ring_word(&memory, state.available, 2));
    // What somebody else serves, only that knows.
    let ours = device.vhost_features().is_none();
    Ok(VirtQueueStatus {
        name: kind(&*object),
        queue_index: queue.index(),
        inuse: queue.in_use().into(),
        vring_num: state.size.into(),
        vring_num_default: queue.max_size().into(),
        vring_align: LEGACY_ALIGN,
        vring_desc: state.descriptors,
        vring_avail: state.available,
        vring_used: state.used,
        last_avail_idx: ours.then_some(state.next_available),
        shadow_avail_idx: ours.then(|| available.filter(|_| state.ready).unwrap_or(state.next_available)),
        used_idx: state.next_used,
        signalled_used: state.signalled.unwrap_or_default(),
        signalled_used_valid: state.signalled.is_some(),
    })
}

#[derive(QapiType)]
struct VirtVhostQueueStatus {
    name: String,
    kick: i64,
    call: i64,
    desc: u64,
    avail: u64,
    used: u64,
    num: i64,
    desc_phys: u64,
    desc_size: u32,
    avail_phys: u64,
    avail_size: u32,
    used_phys: u64,
    used_size: u32,
}

/// Tells the state of a queue that the kernel or another program serves.
#[qapi::command("x-query-virtio-vhost-queue-status", features("unstable"))]
fn x_query_virtio_vhost_queue_status(path: String, queue: u16) -> Result<VirtVhostQueueStatus> {
    let object = find(&path)?;
    let Some(rings) = as_device(&object)?.vhost_rings() else {
        bail!("Error: vhost device has not started yet")
    };
    let Some(ring) = rings.iter().find(|ring| ring.queue == queue) else {
        bail!("Invalid vhost virtqueue number {queue}")
    };
    let [desc, avail, used] = ring.parts;
    Ok(VirtVhostQueueStatus {
        name: kind(&*object),
        // QEMU has members for these, and never sets them.
        kick: 0,
        call: 0,
        desc: desc.host,
        avail: avail.host,
        used: used.host,
        num: ring.entries.into(),
        desc_phys: desc.guest,
        desc_size: desc.size,
        avail_phys: avail.guest,
        avail_size: avail.size,
        used_phys: used.guest,
        used_size: used.size,
    })
}

fn read<const N: usize>(memory: &FlatView, base: u64, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(base.checked_add(offset)?)).ok()?;
    Some(bytes)
}

fn ring_word(memory: &FlatView, ring: u64, offset: u64) -> Option<u16> {
    read(memory, ring, offset).map(u16::from_le_bytes)
}

/// Where the chain goes on; descriptors of one table.
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    const NEXT: u16 = 1;
    const WRITE: u16 = 2;
    const INDIRECT: u16 = 4;

    fn read(memory: &FlatView, table: u64, index: u64) -> Option<Descriptor> {
        let bytes: [u8; DESCRIPTOR as usize] = read(memory, table, index * DESCRIPTOR)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Some(Descriptor {
            addr: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }

    fn told(&self) -> VirtioRingDesc {
        let names = [(Self::INDIRECT, "indirect"), (Self::WRITE, "write"), (Self::NEXT, "next")];
        let set = names.into_iter().filter(|(flag, _)| self.flags & flag != 0);
        let flags = set.map(|(_, name)| name.to_owned()).collect();
        VirtioRingDesc { addr: self.addr, len: self.len, flags }
    }
}

/// A chain's descriptors, the last first, as QEMU tells them; a loop ends when there are as many as a table has.
fn chain(memory: &FlatView, state: &VirtQueueState, head: u16) -> Option<Vec<VirtioRingDesc>> {
    let (mut table, mut entries) = (state.descriptors, u64::from(state.size));
    let mut at = Descriptor::read(memory, table, head.into()).filter(|_| u64::from(head) < entries)?;
    if at.flags & Descriptor::INDIRECT != 0 {
        // No more than the specification lets a chain have.
        (table, entries) =
            (at.addr, (u64::from(at.len) / DESCRIPTOR).min(crate::spec::QUEUE_SIZE_MAX.into()));
        at = Descriptor::read(memory, table, 0).filter(|_| entries > 0)?;
    }
    let mut found = vec![at.told()];
    while at.flags & Descriptor::NEXT != 0 && u64::from(at.next) < entries && (found.len() as u64) < entries {
        at = Descriptor::read(memory, table, at.next.into())?;
        found.push(at.told());
    }
    found.reverse();
    Some(found)
}

/// Tells a chain of descriptors, the next to be taken without an index.
#[qapi::command("x-query-virtio-queue-element", features("unstable"))]
fn x_query_virtio_queue_element(path: String, queue: u16, index: Option<u16>) -> Result<VirtioQueueElement> {
    let object = find(&path)?;
    let device = as_device(&object)?;
    let state = find_queue(device, queue)?.save();
    let Some(memory) = device.core().memory().filter(|_| state.ready) else {
        bail!("Region caches not initialized");
    };
    let size = state.size.max(1);
    let entry = u64::from(index.unwrap_or(state.next_available) % size);
    let told = || {
        let head = ring_word(&memory, state.available, 4 + 2 * entry)?;
        let word = |ring, offset| ring_word(&memory, ring, offset);
        Some(VirtioQueueElement {
            name: kind(&*object),
            index: head.into(),
            descs: chain(&memory, &state, head)?,
            avail: VirtioRingAvail {
                flags: word(state.available, 0)?,
                idx: word(state.available, 2)?,
                ring: head,
            },
            used: VirtioRingUsed { flags: word(state.used, 0)?, idx: word(state.used, 2)? },
        })
    };
    told().map_or_else(|| bail!("Cannot map descriptor ring"), Ok)
}
