//! A bridge to another PCI bus: what it forwards, and the bus below it.
//!
//! Sources: PCI-to-PCI Bridge Architecture Specification 1.1, chapter 3; QEMU `hw/pci/pci_bridge.c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use hw_core::reset::cold_reset;
use memory::MemoryRegion;
use parking_lot::Mutex;
use qom::{Class, ClassInit, Object, Result};

use crate::bus::{FORWARDED, PciBus, PciIrqController, secondary_bus_new};
use crate::config::ConfigSpace;
use crate::device::{PciDevice, PciDeviceClass, PciDeviceImpl};
use crate::spec::*;

/// What a window lies between: the first and the last address, the first above the last when it is closed.
pub type Window = (u64, u64);

/// VGA's memory, first and last address.
const VGA_MEMORY: Window = (0xa_0000, 0xb_ffff);
/// VGA's ports.
const VGA_PORTS: [Window; 2] = [(0x3b0, 0x3bb), (0x3c0, 0x3df)];
/// Least size of the windows: the address bits that their registers lack.
const IO_LOW_BITS: u64 = 0xfff;
const MEMORY_LOW_BITS: u64 = 0xf_ffff;
/// Windows that forward nothing.
const CLOSED_IO: Window = (0xf000, 0);
const CLOSED_MEMORY: Window = (0xfff0_0000, 0);

/// What a bridge's window registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeWindows {
    /// Ports.
    pub io: Window,
    /// Memory.
    pub memory: Window,
    /// Prefetchable memory.
    pub prefetch: Window,
}

impl BridgeWindows {
    fn of(config: &ConfigSpace) -> BridgeWindows {
        let io = |at| u64::from(config.u8(at) & IO_RANGE_MASK) << 8;
        let memory = |at| u64::from(config.u16(at) & MEMORY_RANGE_MASK) << 16;
        let upper = |at| u64::from(config.u32(at)) << 32;
        let prefetch = (
            memory(PREF_MEMORY_BASE) | upper(PREF_BASE_UPPER32),
            memory(PREF_MEMORY_BASE + 2) | upper(PREF_BASE_UPPER32 + 4),
        );
        BridgeWindows {
            io: (io(IO_BASE), io(IO_BASE + 1) | IO_LOW_BITS),
            memory: (memory(MEMORY_BASE), memory(MEMORY_BASE + 2) | MEMORY_LOW_BITS),
            prefetch: (prefetch.0, prefetch.1 | MEMORY_LOW_BITS),
        }
    }

    /// Sets the registers. A window that is `None` is closed.
    pub fn set(device: &PciDevice, io: Option<Window>, memory: Option<Window>, prefetch: Option<Window>) {
        let (first, last) = io.unwrap_or(CLOSED_IO);
        device.config_write(IO_BASE, (first >> 8 & 0xf0 | last & 0xf000) as u32, 2);
        let bits = |window: Window| (window.0 >> 16 & 0xfff0 | (window.1 >> 16 & 0xfff0) << 16) as u32;
        device.config_write(MEMORY_BASE, bits(memory.unwrap_or(CLOSED_MEMORY)), 4);
        let prefetch = prefetch.unwrap_or(CLOSED_MEMORY);
        device.config_write(PREF_MEMORY_BASE, bits(prefetch), 4);
        device.config_write(PREF_BASE_UPPER32, (prefetch.0 >> 32) as u32, 4);
        device.config_write(PREF_BASE_UPPER32 + 4, (prefetch.1 >> 32) as u32, 4);
    }
}

/// A part of the secondary bus's memory or ports that shows on the primary bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forwarded {
    name: &'static str,
    is_io: bool,
    window: Window,
}

/// What `config` has a bridge forward.
fn forwarded(config: &ConfigSpace) -> Vec<Forwarded> {
    let windows = BridgeWindows::of(config);
    let command = config.u16(COMMAND);
    let vga = config.u16(BRIDGE_CONTROL) & BRIDGE_CTL_VGA != 0;
    let part = |name, is_io, window| Forwarded { name, is_io, window };
    let mut parts = Vec::new();
    if command & COMMAND_MEMORY != 0 {
        parts.push(part("pci_bridge_pref_mem", false, windows.prefetch));
        parts.push(part("pci_bridge_mem", false, windows.memory));
        parts.extend(vga.then(|| part("pci_bridge_vga_mem", false, VGA_MEMORY)));
    }
    if command & COMMAND_IO != 0 {
        parts.push(part("pci_bridge_io", true, windows.io));
        if vga {
            parts.push(part("pci_bridge_vga_io_lo", true, VGA_PORTS[0]));
            parts.push(part("pci_bridge_vga_io_hi", true, VGA_PORTS[1]));
        }
    }
    parts.retain(|part| part.window.0 <= part.window.1);
    parts
}

/// The root part of every bridge to another PCI bus. A bridge calls [`PciBridge::init`] when it is realized,
/// [`PciBridge::exit`] when it goes, and the methods called as those of [`PciDeviceImpl`] and reset from these.
#[derive(Object)]
#[object(name = "base-pci-bridge", parent = PciDevice, abstract)]
pub struct PciBridge {
    parent: PciDevice,
    secondary: OnceLock<Arc<dyn Object>>,
    /// What shows on the primary bus now.
    shown: Mutex<Vec<(Forwarded, MemoryRegion)>>,
    /// The bus below is held in reset.
    bus_reset: AtomicBool,
}
qom::type_init!(PciBridge);

impl<T: PciDeviceImpl> ClassInit<T> for PciBridge {
    fn class_init(class: &mut Class) {
        <PciDevice as ClassInit<T>>::class_init(class);
        let pci = class.get_mut::<PciDeviceClass>();
        (pci.is_bridge, pci.class_id) = (true, CLASS_BRIDGE_PCI);
    }
}

impl PciBridge {
    /// Makes the bus below.
    ///
    /// # Errors
    /// When its name is taken.
    pub fn init(&self) -> Result<()> {
        let memory = MemoryRegion::container("pci_bridge_pci", 1 << 64);
        let io = MemoryRegion::container("pci_bridge_io", 1 << 32);
        let _ = self.secondary.set(secondary_bus_new(self, &memory, &io)?);
        Ok(())
    }

    /// Takes back what it forwarded.
    pub fn exit(&self) {
        self.shown.lock().drain(..).for_each(|(_, region)| region.unmap());
    }

    /// The bus below it, once it is realized.
    pub fn secondary_bus(&self) -> Option<Arc<PciBus>> {
        self.secondary.get().cloned().and_then(qom::downcast)
    }

    /// What its window registers say.
    pub fn windows(&self) -> BridgeWindows {
        self.with_config(|config| BridgeWindows::of(config))
    }

    /// The registers after a reset: no bus numbers, closed windows.
    pub fn reset_hold(&self) {
        self.with_config(|config| {
            // The bits that say which kinds of windows there are cannot be written.
            config.write(PRIMARY_BUS, 0, 4);
            config.write(IO_BASE, 0, 2);
            for at in (MEMORY_BASE..=PREF_BASE_UPPER32 + 4).step_by(4) {
                config.write(at, 0, 4);
            }
            config.write(BRIDGE_CONTROL, 0, 2);
        });
        self.bus_reset.store(false, Ordering::Relaxed);
        self.update_windows();
    }

    /// The guest wrote `size` bytes of configuration space at `at`.
    pub fn config_written(&self, at: usize, size: u8) {
        let registers = [(COMMAND, 2), (IO_BASE, 2), (MEMORY_BASE, 20), (BRIDGE_CONTROL, 2)];
        if registers.iter().any(|(register, len)| ConfigSpace::touches(at, size, *register, *len)) {
            self.update_windows();
        }
        if ConfigSpace::touches(at, size, BRIDGE_CONTROL, 2)
            && self.enters_bus_reset()
            && let Some(bus) = self.secondary.get()
        {
            cold_reset(bus);
        }
    }

    /// All of configuration space was restored.
    pub fn config_loaded(&self) {
        self.enters_bus_reset();
        self.update_windows();
    }

    /// Notes what the register says of the secondary bus's reset; says whether that begins now.
    fn enters_bus_reset(&self) -> bool {
        let now = self.with_config(|config| config.u16(BRIDGE_CONTROL)) & BRIDGE_CTL_BUS_RESET != 0;
        let before = self.bus_reset.swap(now, Ordering::Relaxed);
        now && !before
    }

    /// Shows on the primary bus what the registers say.
    fn update_windows(&self) {
        let (Some(primary), Some(secondary)) = (self.bus::<PciBus>(), self.secondary_bus()) else { return };
        let _transaction = memory::transaction();
        // Under the lock on the topology, so that of two writers the last is right.
        let parts = self.with_config(|config| forwarded(config));
        let mut shown = self.shown.lock();
        if shown.iter().map(|(part, _)| part).eq(&parts) {
            return;
        }
        shown.drain(..).for_each(|(_, region)| region.unmap());
        shown.extend(parts.into_iter().filter_map(|part| {
            let (first, last) = part.window;
            let size = last.checked_sub(first)?.checked_add(1)?;
            let (from, to) = match part.is_io {
                true => (secondary.io(), primary.io()),
                false => (secondary.memory(), primary.memory()),
            };
            let region = MemoryRegion::alias(part.name, &from, first, size);
            to.add_subregion_overlap(first, &region, 1);
            Some((part, region))
        }));
    }
}

/// The bus below a bridge has four wires. Each leads to one of the bridge's own pins on the bus above, so that what sits
/// in neighbouring slots spreads (`pci_swizzle`).
pub(crate) struct BridgeWires(pub Weak<dyn Object>);

impl PciIrqController for BridgeWires {
    fn map_irq(&self, devfn: u8, pin: u8) -> usize {
        usize::from((devfn >> 3).wrapping_add(pin) & 3)
    }

    fn set_irq(&self, input: usize, level: bool) {
        let Some(object) = self.0.upgrade() else { return };
        if let Some(device) = object.cast::<PciDevice>()
            && let Some(bus) = device.bus::<PciBus>()
        {
            bus.change_irq(device.devfn(), input as u8 & 3 | FORWARDED, level);
        }
    }
}
