//! A driver of virtio devices on PCI, by the modern interface and split rings: enough to be a good driver, and with
//! all registers and rings at hand to be a bad one.

use std::thread;
use std::time::{Duration, Instant};

use crate::pci::PciFunction;
use crate::{QTest, TIMEOUT};

const CAP_VENDOR: u8 = 0x09;
const CAP_MSIX: u8 = 0x11;

/// Status bits.
pub const ACKNOWLEDGE: u8 = 1;
/// The driver knows how to drive the device.
pub const DRIVER: u8 = 2;
/// The driver drives it.
pub const DRIVER_OK: u8 = 4;
/// Features are agreed on.
pub const FEATURES_OK: u8 = 8;
/// The device is broken.
pub const NEEDS_RESET: u8 = 0x40;

/// Features, as masks: indirect descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Event indices.
pub const EVENT_IDX: u64 = 1 << 29;
/// Version 1 of the specification.
pub const VERSION_1: u64 = 1 << 32;
/// Reset of single queues.
pub const RING_RESET: u64 = 1 << 40;

/// Descriptor flags: another one follows.
pub const DESC_NEXT: u16 = 1;
/// The device writes the buffer.
pub const DESC_WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const DESC_INDIRECT: u16 = 4;

/// Offsets of the common configuration.
pub mod common {
    #![allow(missing_docs)]
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub const NUM_QUEUES: u64 = 0x12;
    pub const STATUS: u64 = 0x14;
    pub const CONFIG_GENERATION: u64 = 0x15;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub const QUEUE_DESC: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
    pub const QUEUE_RESET: u64 = 0x3a;
}

/// A device's modern interface.
#[derive(Clone, Copy, Debug)]
pub struct VirtioPci {
    /// Its function.
    pub function: PciFunction,
    /// Where the common configuration is.
    pub common: u64,
    /// Where the interrupt status is.
    pub isr: u64,
    /// Where the device's own configuration is.
    pub device: u64,
    /// Where queue 0 is notified.
    pub notify: u64,
    /// How far on the next queue's place is, as queues' offsets count it.
    pub notify_multiplier: u32,
}

/// A buffer of a chain: address, length, and whether the device writes it.
pub type Buffer = (u64, u32, bool);

/// A queue in guest memory.
#[derive(Clone, Debug)]
pub struct VirtQueue {
    /// Its number.
    pub index: u16,
    /// Entries.
    pub size: u16,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring.
    pub available: u64,
    /// Address of the used ring.
    pub used: u64,
    notify: u64,
    next_descriptor: u16,
    next_available: u16,
    next_used: u16,
}

impl VirtioPci {
    /// Maps the function's registers and resets the device.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when the function has no modern interface.
    #[track_caller]
    pub fn open(vm: &mut QTest, function: PciFunction) -> VirtioPci {
        let mut bars = [0; 5];
        for n in [0, 1, 2, 4] {
            bars[usize::from(n)] = function.map_bar(vm, n);
        }
        let mut device =
            VirtioPci { function, common: 0, isr: 0, device: 0, notify: 0, notify_multiplier: 0 };
        for at in function.capabilities(vm, CAP_VENDOR) {
            let kind = function.readb(vm, at + 3);
            let n = function.readb(vm, at + 4);
            let place =
                bars.get(usize::from(n)).copied().unwrap_or_default() + u64::from(function.readl(vm, at + 8));
            match kind {
                1 => device.common = place,
                // The one in memory.
                2 if n == 4 => {
                    device.notify = place;
                    device.notify_multiplier = function.readl(vm, at + 16);
                }
                3 => device.isr = place,
                4 => device.device = place,
                _ => {}
            }
        }
        assert!(device.common != 0, "no modern interface");
        device.set_status(vm, 0);
        device
    }

    /// The status.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn status(&self, vm: &mut QTest) -> u8 {
        vm.readb(self.common + common::STATUS)
    }

    /// Waits until the device is broken.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when it does not break.
    #[track_caller]
    pub fn wait_broken(&self, vm: &mut QTest) {
        let start = Instant::now();
        while self.status(vm) & NEEDS_RESET == 0 {
            assert!(start.elapsed() < TIMEOUT, "the device does not break");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes the status.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn set_status(&self, vm: &mut QTest, status: u8) {
        vm.writeb(self.common + common::STATUS, status);
    }

    /// The features that are offered.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn features(&self, vm: &mut QTest) -> u64 {
        let mut half = |n| {
            vm.writel(self.common + common::DEVICE_FEATURE_SELECT, n);
            u64::from(vm.readl(self.common + common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// Accepts features and says so; gives whether the device agrees.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn negotiate(&self, vm: &mut QTest, features: u64) -> bool {
        self.set_status(vm, ACKNOWLEDGE);
        self.set_status(vm, ACKNOWLEDGE | DRIVER);
        for (n, half) in [features as u32, (features >> 32) as u32].into_iter().enumerate() {
            vm.writel(self.common + common::DRIVER_FEATURE_SELECT, n as u32);
            vm.writel(self.common + common::DRIVER_FEATURE, half);
        }
        self.set_status(vm, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.status(vm) & FEATURES_OK != 0
    }

    /// Begins to drive the device, whose features are agreed on and whose queues are set up.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn driver_ok(&self, vm: &mut QTest) {
        self.set_status(vm, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// Sets up queue `index` in the 64 KiB of guest memory from `memory`, which it clears.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when there is no such queue.
    #[track_caller]
    pub fn queue(&self, vm: &mut QTest, index: u16, memory: u64) -> VirtQueue {
        vm.memset(memory, 0, 0x10000);
        vm.writew(self.common + common::QUEUE_SELECT, index);
        let size = vm.readw(self.common + common::QUEUE_SIZE);
        assert!(size > 0, "no queue {index}");
        let notify_offset = vm.readw(self.common + common::QUEUE_NOTIFY_OFF);
        let notify = self.notify + u64::from(notify_offset) * u64::from(self.notify_multiplier);
        let (descriptors, available, used) = (memory, memory + 0x8000, memory + 0xc000);
        for (register, address) in [
            (common::QUEUE_DESC, descriptors),
            (common::QUEUE_DRIVER, available),
            (common::QUEUE_DEVICE, used),
        ] {
            vm.writeq(self.common + register, address);
        }
        vm.writew(self.common + common::QUEUE_ENABLE, 1);
        VirtQueue {
            index,
            size,
            descriptors,
            available,
            used,
            notify,
            next_descriptor: 0,
            next_available: 0,
            next_used: 0,
        }
    }

    /// Chooses the interrupt vector of queue `index`, which must be taken.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when there is no such vector.
    #[track_caller]
    pub fn set_queue_vector(&self, vm: &mut QTest, index: u16, vector: u16) {
        vm.writew(self.common + common::QUEUE_SELECT, index);
        vm.writew(self.common + common::QUEUE_MSIX_VECTOR, vector);
        assert_eq!(vm.readw(self.common + common::QUEUE_MSIX_VECTOR), vector, "no vector {vector}");
    }

    /// The interrupt status, which reading clears.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn read_isr(&self, vm: &mut QTest) -> u8 {
        vm.readb(self.isr)
    }

    /// Switches MSI-X on, with each vector writing its number plus one to an address of its own, which begin at
    /// `memory`, 4 bytes apart. Gives where the table is.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when the function has no MSI-X.
    #[track_caller]
    pub fn enable_msix(&self, vm: &mut QTest, memory: u64) -> u64 {
        let cap = self.function.capabilities(vm, CAP_MSIX)[0];
        let control = self.function.readw(vm, cap + 2);
        let bar = self.function.readb(vm, cap + 4) & 7;
        let table = self.function.map_bar(vm, bar);
        for vector in 0..=u64::from(control & 0x7ff) {
            let entry = table + 16 * vector;
            vm.writeq(entry, memory + 4 * vector);
            vm.writel(entry + 8, vector as u32 + 1);
            vm.writel(entry + 12, 0);
        }
        self.function.writew(vm, cap + 2, control | 1 << 15);
        table
    }
}

impl VirtQueue {
    /// Writes a descriptor.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn set_descriptor(&self, vm: &mut QTest, n: u16, (address, len): (u64, u32), flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        vm.memwrite(self.descriptors + 16 * u64::from(n), &bytes);
    }

    /// Makes the chain that begins at descriptor `head` available, without telling the device.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn make_available(&mut self, vm: &mut QTest, head: u16) {
        vm.writew(self.available + 4 + 2 * u64::from(self.next_available % self.size), head);
        self.next_available = self.next_available.wrapping_add(1);
        vm.writew(self.available + 2, self.next_available);
    }

    /// Makes a chain of buffers available, without telling the device; gives the number of its first descriptor.
    /// Descriptors are used in turn: no more than the queue has may be under way.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn add(&mut self, vm: &mut QTest, buffers: &[Buffer]) -> u16 {
        let head = self.next_descriptor;
        for (n, (address, len, is_written)) in buffers.iter().enumerate() {
            let this = self.next_descriptor;
            let next = (this + 1) % self.size;
            let mut flags = if *is_written { DESC_WRITE } else { 0 };
            if n + 1 < buffers.len() {
                flags |= DESC_NEXT;
            }
            self.set_descriptor(vm, this, (*address, *len), flags, next);
            self.next_descriptor = next;
        }
        self.make_available(vm, head);
        head
    }

    /// Tells the device.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn kick(&self, vm: &mut QTest) {
        vm.writew(self.notify, self.index);
    }

    /// What the device has given back since, if it has: the chain's first descriptor, and how much it wrote.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn used(&mut self, vm: &mut QTest) -> Option<(u32, u32)> {
        if vm.readw(self.used + 2) == self.next_used {
            return None;
        }
        let entry = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        Some((vm.readl(entry), vm.readl(entry + 4)))
    }

    /// Waits for the device to give something back.
    ///
    /// # Panics
    /// As [`QTest::memread`], and when it does not.
    #[track_caller]
    pub fn wait_used(&mut self, vm: &mut QTest) -> (u32, u32) {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            if let Some(used) = self.used(vm) {
                return used;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("the device gives nothing back");
    }
}
