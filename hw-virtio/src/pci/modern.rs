//! The modern interface: a memory BAR with the common configuration, interrupt status, the device's configuration and
//! notification, and capabilities that say where (virtio 1.2, sections 4.1.4 and 4.1.5).

use std::sync::{Arc, Weak};

use hw_pci::{BarKind, ConfigSpace};
use memory::{IoEventFd, MemoryRegion, RegionOps};
use qom::Result;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::{MODERN_BAR, MODERN_IO_BAR, VirtIOPciProxy};
use crate::device::VirtIODevice;
use crate::queue::{RingAddresses, VirtQueue};
use crate::spec::pci::*;
use crate::spec::{NO_VECTOR, QUEUE_MAX, Status, feature};

/// Bytes of each part of the BAR but the last.
const PART: u64 = 0x1000;
/// Bytes that a queue's notification takes, and with `page-per-vq`.
const NOTIFY_SIZE: u64 = 4;
const NOTIFY_PAGE: u64 = 0x1000;
/// Bytes of the BAR for notification by port.
const IO_SIZE: u64 = 4;

/// What a driver writes about a queue before it is enabled.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct QueueRegisters {
    enabled: bool,
    /// Descriptors, driver and device area, low half first.
    addresses: [u32; 6],
}

impl QueueRegisters {
    fn ring_addresses(&self) -> RingAddresses {
        let address = |n: usize| u64::from(self.addresses[n]) | u64::from(self.addresses[n + 1]) << 32;
        RingAddresses { descriptors: address(0), available: address(2), used: address(4) }
    }
}

/// Registers that are the transport's, not the device's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: [u32; 2],
    pub(super) queue_select: u16,
    queues: Vec<QueueRegisters>,
}

impl Registers {
    /// Whether they are of a device with as many queues.
    pub(super) fn is_like(&self, other: &Registers) -> bool {
        self.queues.len() == other.queues.len()
    }

    pub(super) fn init(&mut self, queues: usize) {
        self.queues = vec![QueueRegisters::default(); queues];
    }

    pub(super) fn reset(&mut self) {
        let queues = self.queues.len();
        *self = Registers::default();
        self.init(queues);
    }

    fn selected(&mut self) -> Option<&mut QueueRegisters> {
        self.queues.get_mut(usize::from(self.queue_select))
    }
}

/// The parts of the BAR.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Common,
    Isr,
    Device,
    /// Bytes a queue.
    Notify(u64),
    /// By port: the value says which queue.
    NotifyIo,
}

struct PartRegion {
    proxy: Weak<VirtIOPciProxy>,
    part: Part,
}

impl RegionOps for PartRegion {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let Some(proxy) = self.proxy.upgrade() else { return u64::MAX };
        let Some(device) = proxy.device() else { return u64::MAX };
        match self.part {
            Part::Common => proxy.common_read(device, offset).into(),
            Part::Isr => proxy.read_isr().into(),
            Part::Device => device.config_read(offset, size),
            Part::Notify(_) | Part::NotifyIo => 0,
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let Some(proxy) = self.proxy.upgrade() else { return };
        let Some(device) = proxy.device() else { return };
        match self.part {
            Part::Common => proxy.common_write(device, offset, value as u32),
            Part::Isr => {}
            Part::Device => device.config_write(offset, value, size),
            Part::Notify(size) => device.queue_notify((offset / size).try_into().unwrap_or(QUEUE_MAX)),
            Part::NotifyIo => device.queue_notify(value.try_into().unwrap_or(QUEUE_MAX)),
        }
    }
}

/// A part as it is mapped.
struct Mapped {
    bar: usize,
    offset: u64,
    ops: Arc<PartRegion>,
    region: MemoryRegion,
}

/// The interface of one function.
pub(super) struct ModernBar {
    parts: Vec<Mapped>,
    /// Where the capability for access through configuration space is.
    pci_cap: usize,
}

fn capability(kind: u8, len: usize, bar: usize, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![len as u8, kind, bar as u8, 0, 0, 0];
    bytes.extend((offset as u32).to_le_bytes());
    bytes.extend((length as u32).to_le_bytes());
    bytes
}

impl ModernBar {
    /// Gives the function the BARs and capabilities.
    pub fn new(proxy: &Arc<VirtIOPciProxy>, page_per_vq: bool, pio_notify: bool) -> Result<ModernBar> {
        let multiplier = if page_per_vq { NOTIFY_PAGE } else { NOTIFY_SIZE };
        let notify_size = multiplier * u64::from(QUEUE_MAX);
        let memory_size = (3 * PART + notify_size).next_power_of_two();
        let memory = MemoryRegion::container("virtio-pci", memory_size.into());
        let mut modern = ModernBar { parts: Vec::new(), pci_cap: 0 };
        for (n, (part, kind)) in
            [(Part::Common, CAP_COMMON), (Part::Isr, CAP_ISR), (Part::Device, CAP_DEVICE)].iter().enumerate()
        {
            let offset = n as u64 * PART;
            modern.map(proxy, &memory, MODERN_BAR, (*part, offset, PART));
            proxy.add_virtio_cap(&capability(*kind, CAP_SIZE, MODERN_BAR, offset, PART))?;
        }
        modern.map(proxy, &memory, MODERN_BAR, (Part::Notify(multiplier), 3 * PART, notify_size));
        let notify = capability(CAP_NOTIFY, NOTIFY_CAP_SIZE, MODERN_BAR, 3 * PART, notify_size);
        proxy.add_virtio_cap(&[notify, (multiplier as u32).to_le_bytes().to_vec()].concat())?;
        if pio_notify {
            let ports = MemoryRegion::container("virtio-pci-io", IO_SIZE.into());
            proxy.register_bar(MODERN_IO_BAR, BarKind::Io, &ports);
            modern.map(proxy, &ports, MODERN_IO_BAR, (Part::NotifyIo, 0, IO_SIZE));
            let notify = capability(CAP_NOTIFY, NOTIFY_CAP_SIZE, MODERN_IO_BAR, 0, IO_SIZE);
            proxy.add_virtio_cap(&[notify, vec![0; 4]].concat())?;
        }
        proxy.register_bar(MODERN_BAR, BarKind::Memory64Prefetch, &memory);
        let access = [capability(CAP_PCI, PCI_CAP_SIZE, 0, 0, 0), vec![0; 4]].concat();
        modern.pci_cap = proxy.add_virtio_cap(&access)?;
        proxy.with_config(|config| {
            config.set_writable_u8(modern.pci_cap + CAP_BAR, 0xff);
            for at in [CAP_OFFSET, CAP_LENGTH, CAP_EXTRA] {
                config.set_writable_u32(modern.pci_cap + at, u32::MAX);
            }
        });
        Ok(modern)
    }

    fn map(
        &mut self,
        proxy: &Arc<VirtIOPciProxy>,
        container: &MemoryRegion,
        bar: usize,
        (part, offset, size): (Part, u64, u64),
    ) {
        let ops = Arc::new(PartRegion { proxy: Arc::downgrade(proxy), part });
        let name = match part {
            Part::Common => "common",
            Part::Isr => "isr",
            Part::Device => "device",
            Part::Notify(_) => "notify",
            Part::NotifyIo => "notify-pio",
        };
        let device = proxy.backend().map_or("", |backend| backend.class().name());
        let name = format!("virtio-pci-{name}-{}", device.trim_end_matches("-device"));
        let region = MemoryRegion::io(&name, size, ops.clone());
        container.add_subregion(offset, &region);
        self.parts.push(Mapped { bar, offset, ops, region });
    }

    /// Where drivers notify queue `index` that have `eventfd` signalled for it.
    pub fn eventfds(
        &self,
        index: u16,
        eventfd: &Arc<EventFd>,
    ) -> impl Iterator<Item = (MemoryRegion, IoEventFd)> {
        let at = |address, size, data| IoEventFd { address, size, data, eventfd: eventfd.clone() };
        self.parts.iter().filter_map(move |mapped| match mapped.ops.part {
            // Of any size and with any value: KVM then need not decode the instruction.
            Part::Notify(size) => Some((mapped.region.clone(), at(u64::from(index) * size, 0, None))),
            Part::NotifyIo => Some((mapped.region.clone(), at(0, 2, Some(index.into())))),
            _ => None,
        })
    }

    /// The part that the capability for access through configuration space names, the offset in it, and the size.
    fn window(&self, proxy: &VirtIOPciProxy) -> Option<(&PartRegion, u64, u8)> {
        let (bar, offset, length) = proxy.with_config(|config| {
            let at = self.pci_cap;
            (config.u8(at + CAP_BAR), config.u32(at + CAP_OFFSET), config.u32(at + CAP_LENGTH))
        });
        let size = u8::try_from(length).ok().filter(|size| matches!(size, 1 | 2 | 4))?;
        let offset = u64::from(offset) & !u64::from(size - 1);
        let part = self.parts.iter().find(|mapped| {
            let end = mapped.offset + mapped.region.size() as u64;
            mapped.bar == usize::from(bar) && mapped.offset <= offset && offset + u64::from(size) <= end
        })?;
        Some((&part.ops, offset - part.offset, size))
    }

    fn touches_window(&self, at: usize, size: u8) -> bool {
        ConfigSpace::touches(at, size, self.pci_cap + CAP_EXTRA, 4)
    }

    /// A read of the window's data is a read of what it shows.
    pub fn config_reading(&self, proxy: &VirtIOPciProxy, at: usize, size: u8) {
        if self.touches_window(at, size)
            && let Some((part, offset, size)) = self.window(proxy)
        {
            let bytes = part.read(offset, size).to_le_bytes();
            let data = bytes.get(..size.into()).unwrap_or_default();
            proxy.with_config(|config| config.set(self.pci_cap + CAP_EXTRA, data));
        }
    }

    /// A write of the window's data is a write of what it shows.
    pub fn config_written(&self, proxy: &VirtIOPciProxy, at: usize, size: u8) {
        if self.touches_window(at, size)
            && let Some((part, offset, size)) = self.window(proxy)
        {
            let data = proxy.with_config(|config| config.u32(self.pci_cap + CAP_EXTRA));
            let keep = u32::MAX >> (32 - 8 * u32::from(size));
            part.write(offset, (data & keep).into(), size);
        }
    }
}

impl VirtIOPciProxy {
    fn selected_queue(&self, device: &VirtIODevice) -> Option<Arc<VirtQueue>> {
        let index = self.registers.lock().queue_select;
        device.queue(index)
    }

    fn common_read(&self, device: &VirtIODevice, offset: u64) -> u32 {
        let queue = self.selected_queue(device);
        let mut registers = self.registers.lock();
        let half = |features: u64, select: u32| (features >> (32 * select)) as u32;
        match offset {
            common::DEVICE_FEATURE_SELECT => registers.device_feature_select,
            common::DEVICE_FEATURE => match registers.device_feature_select {
                select @ 0..=1 => half(device.modern_features(), select),
                _ => 0,
            },
            common::DRIVER_FEATURE_SELECT => registers.driver_feature_select,
            common::DRIVER_FEATURE => {
                let select = registers.driver_feature_select as usize;
                registers.driver_features.get(select).copied().unwrap_or_default()
            }
            common::CONFIG_MSIX_VECTOR => device.core().config_vector().into(),
            common::NUM_QUEUES => device.queues().len() as u32,
            common::DEVICE_STATUS => device.status().bits().into(),
            common::CONFIG_GENERATION => device.core().config_generation().into(),
            common::QUEUE_SELECT => registers.queue_select.into(),
            common::QUEUE_SIZE => queue.map_or(0, |queue| queue.size().into()),
            common::QUEUE_MSIX_VECTOR => queue.map_or(NO_VECTOR, |queue| queue.vector()).into(),
            common::QUEUE_ENABLE => registers.selected().is_some_and(|queue| queue.enabled).into(),
            common::QUEUE_NOTIFY_OFF => registers.queue_select.into(),
            common::QUEUE_DESC_LOW..=common::QUEUE_DEVICE_HIGH if offset.is_multiple_of(4) => {
                let n = (offset - common::QUEUE_DESC_LOW) as usize / 4;
                registers.selected().and_then(|queue| queue.addresses.get(n).copied()).unwrap_or_default()
            }
            // A queue is reset when the write that asks for it returns.
            _ => 0,
        }
    }

    fn common_write(&self, device: &VirtIODevice, offset: u64, value: u32) {
        let mut registers = self.registers.lock();
        match offset {
            common::DEVICE_FEATURE_SELECT => registers.device_feature_select = value,
            common::DRIVER_FEATURE_SELECT => registers.driver_feature_select = value,
            common::DRIVER_FEATURE => {
                let select = registers.driver_feature_select as usize;
                let Some(half) = registers.driver_features.get_mut(select) else { return };
                *half = value;
                let [low, high] = registers.driver_features.map(u64::from);
                drop(registers);
                device.accept_features(high << 32 | low);
            }
            common::CONFIG_MSIX_VECTOR => {
                device.core().set_config_vector(self.checked_vector(value as u16));
            }
            common::DEVICE_STATUS => {
                drop(registers);
                self.write_status(Status::from_bits_retain(value as u8));
            }
            common::QUEUE_SELECT => {
                if value < QUEUE_MAX.into() {
                    registers.queue_select = value as u16;
                }
            }
            common::QUEUE_DESC_LOW..=common::QUEUE_DEVICE_HIGH if offset.is_multiple_of(4) => {
                let n = (offset - common::QUEUE_DESC_LOW) as usize / 4;
                if let Some(register) = registers.selected().and_then(|queue| queue.addresses.get_mut(n)) {
                    *register = value;
                }
            }
            _ => {
                drop(registers);
                self.queue_write(device, offset, value);
            }
        }
    }

    /// A write that concerns the selected queue itself.
    fn queue_write(&self, device: &VirtIODevice, offset: u64, value: u32) {
        let Some(queue) = self.selected_queue(device) else { return };
        match offset {
            common::QUEUE_SIZE if !queue.is_ready() => {
                queue.set_size(value.try_into().unwrap_or_default());
            }
            common::QUEUE_MSIX_VECTOR => self.set_queue_vector(&queue, value as u16),
            common::QUEUE_ENABLE if value == 1 => {
                let mut registers = self.registers.lock();
                let Some(selected) = registers.selected() else { return };
                let again = std::mem::replace(&mut selected.enabled, true);
                let addresses = selected.ring_addresses();
                drop(registers);
                if !again {
                    queue.enable(addresses);
                }
            }
            common::QUEUE_ENABLE => device.set_broken(&format!("wrong value for queue_enable {value:x}")),
            common::QUEUE_RESET if value == 1 && device.offers(feature::RING_RESET) => {
                device.reset_queue(&queue);
                if let Some(selected) = self.registers.lock().selected() {
                    selected.enabled = false;
                }
            }
            _ => {}
        }
    }
}
