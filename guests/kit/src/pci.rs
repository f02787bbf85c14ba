//! PCI configuration space through ports 0xcf8 and 0xcfc (PCI Local Bus 3.0, section 3.2.2.3.2).

use crate::io::{inb, inl, inw, outb, outl, outw};

/// The address port.
pub const ADDRESS: u16 = 0xcf8;
/// The data port.
pub const DATA: u16 = 0xcfc;

/// A function on bus 0.
#[derive(Clone, Copy)]
pub struct Function {
    /// Device number.
    pub device: u8,
    /// Function number.
    pub function: u8,
}

impl Function {
    /// A function of a device on bus 0.
    pub const fn new(device: u8, function: u8) -> Function {
        Function { device, function }
    }

    fn select(self, register: u8) -> u16 {
        let function = u32::from(self.device) << 11 | u32::from(self.function) << 8;
        outl(ADDRESS, 1 << 31 | function | u32::from(register & 0xfc));
        DATA + u16::from(register & 3)
    }

    /// Reads a byte.
    pub fn read8(self, register: u8) -> u8 {
        inb(self.select(register))
    }

    /// Reads two bytes.
    pub fn read16(self, register: u8) -> u16 {
        inw(self.select(register))
    }

    /// Reads four bytes.
    pub fn read32(self, register: u8) -> u32 {
        inl(self.select(register))
    }

    /// Writes a byte.
    pub fn write8(self, register: u8, value: u8) {
        outb(self.select(register), value);
    }

    /// Writes two bytes.
    pub fn write16(self, register: u8, value: u16) {
        outw(self.select(register), value);
    }

    /// Writes four bytes.
    pub fn write32(self, register: u8, value: u32) {
        outl(self.select(register), value);
    }
}

/// Finds a function on bus 0 by vendor (low half) and device id (high half).
pub fn find(id: u32) -> Option<Function> {
    (0..=255u8).map(|n| Function::new(n >> 3, n & 7)).find(|f| f.read32(0) == id)
}
