//! A driver's side of virtio over PCI, modern interface: one function, split rings in direct descriptors, event
//! index, one MSI-X vector for all queues (virtio 1.2, sections 2.7 and 4.1).

use core::sync::atomic::{Ordering, fence};

use crate::io::{read8, read16, read32, sti_hlt_cli, write8, write16, write32, write64};
use crate::pci::{self, Function};
use crate::{apic, interrupts};

/// The interrupt vector of all queues.
pub const VECTOR: u8 = 0x60;
/// Feature: notifications and interrupts only past an index.
const EVENT_IDX: u32 = 1 << 29;
/// Feature, in the upper word: this interface.
const VERSION_1: u32 = 1;
const VENDOR: u32 = 0x1af4;
/// Where base registers are put if nobody has done so.
const BARS: u32 = 0xe000_0000;

/// A descriptor's flags.
pub mod flag {
    /// Another follows.
    pub const NEXT: u16 = 1;
    /// The device writes.
    pub const WRITE: u16 = 2;
}

/// Capabilities of the function (section 4.1.4).
mod cap {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const DEVICE: u8 = 4;
}

/// The common configuration (section 4.1.4.3).
mod common {
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    pub const DRIVER_FEATURE: u64 = 12;
    pub const STATUS: u64 = 20;
    pub const QUEUE_SELECT: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_NOTIFY_OFF: u64 = 30;
    pub const QUEUE_DESC: u64 = 32;
    pub const QUEUE_DRIVER: u64 = 40;
    pub const QUEUE_DEVICE: u64 = 48;
}

/// A device that was found and reset.
pub struct Device {
    function: Function,
    common: u64,
    notify: u64,
    multiplier: u64,
    /// Address of the device's own configuration.
    pub config: u64,
}

impl Device {
    /// Finds the device of this id (its PCI ids follow from it, section 4.1.2) and begins to set it up, with
    /// features of its own beside those of the rings.
    pub fn find(id: u16, transitional_id: u16, features: u32) -> Option<Device> {
        let modern = (0x1040 + u32::from(id)) << 16 | VENDOR;
        let function = pci::find(modern).or_else(|| pci::find(u32::from(transitional_id) << 16 | VENDOR))?;
        for bar in [0x14u8, 0x20] {
            if function.read32(bar) & !0xf == 0 {
                let place = BARS + u32::from(function.device) * 0x10_0000 + u32::from(bar - 0x10) * 0x2000;
                function.write32(bar, place);
            }
        }
        function.write16(4, function.read16(4) | 6);
        let mut device = Device { function, common: 0, notify: 0, multiplier: 0, config: 0 };
        device.walk_capabilities();
        write8(device.common + common::STATUS, 0);
        while read8(device.common + common::STATUS) != 0 {}
        device.add_status(1 | 2);
        for (select, word) in [(0, features | EVENT_IDX), (1, VERSION_1)] {
            write32(device.common + common::DRIVER_FEATURE_SELECT, select);
            write32(device.common + common::DRIVER_FEATURE, word);
        }
        device.add_status(8);
        (read8(device.common + common::STATUS) & 8 != 0).then_some(device)
    }

    fn add_status(&self, bits: u8) {
        let at = self.common + common::STATUS;
        write8(at, read8(at) | bits);
    }

    fn bar(&self, number: u8) -> u64 {
        let register = 0x10 + number * 4;
        let low = self.function.read32(register);
        let high = if low & 4 != 0 { self.function.read32(register + 4) } else { 0 };
        u64::from(high) << 32 | u64::from(low & !0xf)
    }

    fn walk_capabilities(&mut self) {
        let f = self.function;
        let mut at = f.read8(0x34);
        while at != 0 {
            match f.read8(at) {
                0x09 => {
                    let place = self.bar(f.read8(at + 4)) + u64::from(f.read32(at + 8));
                    match f.read8(at + 3) {
                        cap::COMMON => self.common = place,
                        cap::DEVICE => self.config = place,
                        cap::NOTIFY => {
                            self.notify = place;
                            self.multiplier = f.read32(at + 16).into();
                        }
                        _ => {}
                    }
                }
                0x11 => self.enable_msix(at),
                _ => {}
            }
            at = f.read8(at + 1);
        }
    }

    /// Vector 0 of the function becomes [`VECTOR`] of this processor.
    fn enable_msix(&self, at: u8) {
        apic::enable();
        interrupts::set_handler(VECTOR, apic::eoi_handler);
        let table = self.function.read32(at + 4);
        let entry = self.bar(table as u8 & 7) + u64::from(table & !7);
        write32(entry, apic::BASE as u32);
        write32(entry + 4, 0);
        write32(entry + 8, VECTOR.into());
        write32(entry + 12, 0);
        self.function.write16(at + 2, 1 << 15);
    }

    /// Sets up a queue of `size` entries at `memory`, a page boundary with 64 KiB of free memory behind it.
    pub fn queue(&self, index: u16, size: u16, memory: u64) -> Queue {
        let (available, used) = (memory + 0x8000, memory + 0xc000);
        (memory..memory + 0x1_0000).step_by(8).for_each(|at| write64(at, 0));
        let c = self.common;
        write16(c + common::QUEUE_SELECT, index);
        write16(c + common::QUEUE_SIZE, size);
        write16(c + common::QUEUE_VECTOR, 0);
        for (register, address) in
            [(common::QUEUE_DESC, memory), (common::QUEUE_DRIVER, available), (common::QUEUE_DEVICE, used)]
        {
            write32(c + register, address as u32);
            write32(c + register + 4, (address >> 32) as u32);
        }
        let doorbell = self.notify + u64::from(read16(c + common::QUEUE_NOTIFY_OFF)) * self.multiplier;
        write16(c + common::QUEUE_ENABLE, 1);
        Queue { index, size, descriptors: memory, available, used, doorbell, next: 0, told: 0, seen: 0 }
    }

    /// The driver is ready.
    pub fn start(&self) {
        self.add_status(4);
    }
}

/// A queue.
pub struct Queue {
    index: u16,
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    doorbell: u64,
    next: u16,
    told: u16,
    seen: u16,
}

impl Queue {
    /// Writes a descriptor.
    pub fn describe(&self, index: u16, address: u64, length: u32, flags: u16) {
        let at = self.descriptors + u64::from(index) * 16;
        write64(at, address);
        write32(at + 8, length);
        write16(at + 12, flags);
        write16(at + 14, index + 1);
    }

    /// Makes a chain available; [`kick`](Self::kick) tells the device.
    pub fn add(&mut self, head: u16) {
        write16(self.available + 4 + u64::from(self.next % self.size) * 2, head);
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the device what was added, and notifies it if it wants to hear of that.
    pub fn kick(&mut self) {
        fence(Ordering::SeqCst);
        write16(self.available + 2, self.next);
        fence(Ordering::SeqCst);
        let event = read16(self.used + 4 + u64::from(self.size) * 8);
        let news = self.next.wrapping_sub(self.told);
        if self.next.wrapping_sub(event).wrapping_sub(1) < news {
            write16(self.doorbell, self.index);
        }
        self.told = self.next;
    }

    /// The head of a chain that the device is done with.
    pub fn take(&mut self) -> Option<u16> {
        if read16(self.used + 2) == self.seen {
            return None;
        }
        fence(Ordering::SeqCst);
        let head = read32(self.used + 4 + u64::from(self.seen % self.size) * 8) as u16;
        self.seen = self.seen.wrapping_add(1);
        Some(head)
    }

    /// Halts until the device is done with something.
    pub fn wait(&mut self) {
        write16(self.available + 4 + u64::from(self.size) * 2, self.seen);
        fence(Ordering::SeqCst);
        while read16(self.used + 2) == self.seen {
            sti_hlt_cli();
        }
    }
}
