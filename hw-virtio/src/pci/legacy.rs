//! The legacy interface: ports with all registers (virtio 1.2, section 4.1.4.10).

use std::sync::{Arc, Weak};

use hw_pci::spec::{COMMAND, COMMAND_MASTER};
use memory::{IoEventFd, MemoryRegion, RegionOps};
use vmm_sys_util::eventfd::EventFd;

use super::VirtIOPciProxy;
use crate::device::VirtIODevice;
use crate::queue::RingAddresses;
use crate::spec::pci::legacy::*;
use crate::spec::{NO_VECTOR, QUEUE_MAX, Status, feature};

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

pub(super) struct LegacyRegion(Weak<VirtIOPciProxy>);

impl LegacyRegion {
    /// The ports of a function whose device has `config_len` bytes of configuration.
    pub fn region(proxy: &Arc<VirtIOPciProxy>, config_len: usize) -> MemoryRegion {
        let registers = if proxy.vectors() > 0 { CONFIG_MSIX } else { CONFIG };
        let size = (registers + config_len as u64).next_power_of_two();
        MemoryRegion::io("virtio-pci", size, Arc::new(LegacyRegion(Arc::downgrade(proxy))))
    }
}

/// What drivers write to notify queue `index`.
pub(super) fn eventfd(
    region: &MemoryRegion,
    index: u16,
    eventfd: &Arc<EventFd>,
) -> (MemoryRegion, IoEventFd) {
    let fd = IoEventFd { address: QUEUE_NOTIFY, size: 2, data: Some(index.into()), eventfd: eventfd.clone() };
    (region.clone(), fd)
}

impl RegionOps for LegacyRegion {
    fn read(&self, offset: u64, size: u8) -> u64 {
        let Some(proxy) = self.0.upgrade() else { return u64::MAX };
        let Some(device) = proxy.device() else { return u64::MAX };
        match offset.checked_sub(proxy.legacy_config()) {
            Some(offset) => device.config_read(offset, size),
            None => proxy.legacy_read(device, offset).into(),
        }
    }

    fn write(&self, offset: u64, value: u64, size: u8) {
        let Some(proxy) = self.0.upgrade() else { return };
        let Some(device) = proxy.device() else { return };
        match offset.checked_sub(proxy.legacy_config()) {
            Some(offset) => device.config_write(offset, value, size),
            None => proxy.legacy_write(device, offset, value as u32),
        }
    }
}

/// Where a legacy driver's ring has its parts, which lie one behind the other (section 2.7.2).
fn ring_addresses(page: u32, size: u16) -> RingAddresses {
    let descriptors = u64::from(page) * PAGE;
    let available = descriptors + u64::from(size) * DESCRIPTOR;
    let used = (available + 2 * (3 + u64::from(size))).next_multiple_of(PAGE);
    RingAddresses { descriptors, available, used }
}

impl VirtIOPciProxy {
    /// Where the device's configuration begins now.
    fn legacy_config(&self) -> u64 {
        if self.msix().is_some_and(|msix| msix.is_enabled()) { CONFIG_MSIX } else { CONFIG }
    }

    fn legacy_read(&self, device: &VirtIODevice, offset: u64) -> u32 {
        let queue = device.queue(self.registers.lock().queue_select);
        match offset {
            DEVICE_FEATURES => device.core().host_features() as u32,
            DRIVER_FEATURES => device.core().guest_features() as u32,
            QUEUE_ADDRESS => queue.map_or(0, |queue| (queue.addresses().descriptors / PAGE) as u32),
            QUEUE_SIZE => queue.map_or(0, |queue| queue.size().into()),
            QUEUE_SELECT => self.registers.lock().queue_select.into(),
            DEVICE_STATUS => device.status().bits().into(),
            ISR_STATUS => self.read_isr().into(),
            CONFIG_MSIX_VECTOR => device.core().config_vector().into(),
            QUEUE_MSIX_VECTOR => queue.map_or(NO_VECTOR, |queue| queue.vector()).into(),
            _ => u32::MAX,
        }
    }

    fn legacy_write(&self, device: &VirtIODevice, offset: u64, value: u32) {
        let queue = || device.queue(self.registers.lock().queue_select);
        match offset {
            DRIVER_FEATURES => {
                let bad = u64::from(value) & feature::BAD_FEATURE != 0;
                let features = if bad { device.bad_features() } else { value };
                device.accept_features(features.into());
            }
            // No address is no ring, and what drivers without a reset do.
            QUEUE_ADDRESS if value == 0 => self.reset_device(),
            QUEUE_ADDRESS => {
                if let Some(queue) = queue() {
                    queue.enable(ring_addresses(value, queue.size()));
                }
            }
            QUEUE_SELECT if value < QUEUE_MAX.into() => self.registers.lock().queue_select = value as u16,
            QUEUE_NOTIFY => device.queue_notify(value.try_into().unwrap_or(QUEUE_MAX)),
            DEVICE_STATUS => {
                let status = Status::from_bits_retain(value as u8);
                self.write_status(status);
                // Old drivers do not let the device master the bus, and it should work all the same.
                if status == Status::ACKNOWLEDGE | Status::DRIVER {
                    let command = self.with_config(|config| config.u16(COMMAND));
                    self.config_write(COMMAND, u32::from(command | COMMAND_MASTER), 2);
                }
            }
            CONFIG_MSIX_VECTOR => device.core().set_config_vector(self.checked_vector(value as u16)),
            QUEUE_MSIX_VECTOR => {
                if let Some(queue) = queue() {
                    self.set_queue_vector(&queue, value as u16);
                }
            }
            _ => {}
        }
    }
}
