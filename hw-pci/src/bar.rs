//! Base address registers and the expansion ROM's: what they decode, and where.
//!
//! Source: QEMU `hw/pci/pci.c` (`pci_register_bar`, `pci_bar_address`).

use memory::MemoryRegion;

use crate::config::ConfigSpace;
use crate::spec::*;

/// The number of the expansion ROM's base address register.
pub const ROM_SLOT: usize = 6;

/// What a base address register decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64,
    /// Memory anywhere, prefetchable; takes two registers.
    Memory64Prefetch,
    /// An expansion ROM.
    Rom,
}

impl BarKind {
    fn is_64bit(self) -> bool {
        matches!(self, BarKind::Memory64 | BarKind::Memory64Prefetch)
    }

    /// The bits of the register that say what it is.
    fn flags(self) -> u32 {
        match self {
            BarKind::Io => BAR_IO,
            BarKind::Memory32 | BarKind::Rom => 0,
            BarKind::Memory64 => BAR_MEM_64,
            BarKind::Memory64Prefetch => BAR_MEM_64 | BAR_PREFETCH,
        }
    }

    /// The bits of the register that are no address.
    fn fixed(self) -> u32 {
        match self {
            BarKind::Io => 0x3,
            BarKind::Rom => ROM_FLAGS,
            _ => 0xf,
        }
    }
}

/// A register as its device has it.
pub(crate) struct Bar {
    pub number: usize,
    pub kind: BarKind,
    pub region: MemoryRegion,
    /// Where it shows now.
    pub mapped: Option<u64>,
}

/// A base address register as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarInfo {
    /// Its number; the expansion ROM's is [`ROM_SLOT`].
    pub number: usize,
    /// What it decodes.
    pub kind: BarKind,
    /// How much, in bytes.
    pub size: u64,
    /// Where it shows now.
    pub address: Option<u64>,
}

impl Bar {
    /// Where its register is in configuration space.
    fn register(&self, config: &ConfigSpace) -> usize {
        match self.kind {
            BarKind::Rom if config.is_bridge() => ROM_ADDRESS_BRIDGE,
            BarKind::Rom => ROM_ADDRESS,
            _ => BASE_ADDRESS_0 + 4 * self.number,
        }
    }

    fn size(&self) -> u64 {
        u64::try_from(self.region.size()).unwrap_or_default()
    }

    pub fn info(&self) -> BarInfo {
        BarInfo { number: self.number, kind: self.kind, size: self.size(), address: self.mapped }
    }

    /// Gives the register its bits, and says which of them a guest can change.
    pub fn init(&self, config: &mut ConfigSpace) {
        let mask = !(self.size().wrapping_sub(1));
        let enable = if self.kind == BarKind::Rom { ROM_ENABLE } else { 0 };
        let register = self.register(config);
        config.set_writable_u32(register, mask as u32 & !self.kind.fixed() | enable);
        if self.kind.is_64bit() {
            config.set_writable_u32(register + 4, (mask >> 32) as u32);
        }
        self.reset(config);
    }

    /// No address.
    pub fn reset(&self, config: &mut ConfigSpace) {
        let register = self.register(config);
        config.set_u32(register, self.kind.flags());
        if self.kind.is_64bit() {
            config.set_u32(register + 4, 0);
        }
    }

    /// Where it shows by what its registers say; nowhere while its decoder is off, at address 0 and where it would
    /// reach the end of its space, as happens while a guest asks for its size.
    pub fn address(&self, config: &ConfigSpace) -> Option<u64> {
        let command = config.u16(COMMAND);
        let register = self.register(config);
        let low = config.u32(register);
        let enabled = match self.kind {
            BarKind::Io => command & COMMAND_IO != 0,
            BarKind::Rom => command & COMMAND_MEMORY != 0 && low & ROM_ENABLE != 0,
            _ => command & COMMAND_MEMORY != 0,
        };
        let mut address = u64::from(low & !self.kind.fixed());
        let mut limit = u64::from(u32::MAX);
        if self.kind.is_64bit() {
            address |= u64::from(config.u32(register + 4)) << 32;
            limit = u64::MAX;
        }
        let last = address.checked_add(self.size().checked_sub(1)?)?;
        (enabled && address != 0 && last < limit).then_some(address)
    }
}
