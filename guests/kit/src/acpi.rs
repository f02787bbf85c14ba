//! ACPI tables: found, summed and walked (ACPI 6.5, chapter 5).

use crate::io::{inw, outb, outw, read8, read16, read32, read64};

/// A table, by the address of its header.
#[derive(Clone, Copy)]
pub struct Table(pub u64);

impl Table {
    /// Its four letters.
    pub fn signature(self) -> [u8; 4] {
        read32(self.0).to_le_bytes()
    }

    /// Its length, header included.
    pub fn length(self) -> u64 {
        read32(self.0 + 4).into()
    }

    /// Its revision.
    pub fn revision(self) -> u8 {
        read8(self.0 + 8)
    }

    /// The sum of its bytes: 0 if it is whole.
    pub fn sum(self) -> u8 {
        sum(self.0, self.length())
    }
}

/// The sum of bytes in memory.
pub fn sum(address: u64, length: u64) -> u8 {
    (address..address + length).fold(0, |sum, at| sum.wrapping_add(read8(at)))
}

/// Finds an anchor on a 16-byte boundary in the BIOS area, as an operating system without a
/// loader's hint does.
pub fn find_anchor(anchor: &[u8]) -> Option<u64> {
    (0xe_0000..0x10_0000).step_by(16).find(|&at| matches(at, anchor))
}

/// Whether these bytes are in memory at this address.
pub fn matches(at: u64, bytes: &[u8]) -> bool {
    bytes.iter().zip(at..).all(|(&byte, at)| read8(at) == byte)
}

/// The RSDP's address.
pub fn rsdp() -> Option<u64> {
    find_anchor(b"RSD PTR ")
}

/// The tables the RSDT (or, if the RSDP has one, the XSDT) lists, then the FADT's DSDT.
pub fn tables() -> impl Iterator<Item = Table> {
    let (root, size) = match rsdp() {
        Some(at) if read8(at + 15) >= 2 && read64(at + 24) != 0 => (read64(at + 24), 8),
        Some(at) => (read32(at + 16).into(), 4),
        None => (0, 4),
    };
    let count = if root == 0 { 0 } else { (u64::from(read32(root + 4)) - 36) / size };
    (0..count).map(move |i| {
        let at = root + 36 + i * size;
        Table(if size == 8 { read64(at) } else { read32(at).into() })
    })
}

/// The first table with this signature.
pub fn find(signature: &[u8; 4]) -> Option<Table> {
    tables().find(|table| table.signature() == *signature)
}

/// What a guest needs of the FADT.
pub struct Fadt {
    /// The table.
    pub table: Table,
    /// Port of the PM1a event block: status, then enable.
    pub pm1a_event: u16,
    /// Port of the PM1a control register.
    pub pm1a_control: u16,
    /// Port of the PM timer.
    pub pm_timer: u16,
    /// The DSDT.
    pub dsdt: Table,
}

impl Fadt {
    /// Reads the FADT.
    pub fn find() -> Option<Fadt> {
        let table = find(b"FACP")?;
        Some(Fadt {
            table,
            pm1a_event: read32(table.0 + 56) as u16,
            pm1a_control: read32(table.0 + 64) as u16,
            pm_timer: read32(table.0 + 76) as u16,
            dsdt: Table(read32(table.0 + 40).into()),
        })
    }

    /// The reset register's port and value, if the FADT has one in I/O space.
    pub fn reset_register(&self) -> Option<(u16, u8)> {
        let at = self.table.0;
        let supported = self.table.length() > 128 && read32(at + 112) & 1 << 10 != 0;
        (supported && read8(at + 116) == 1).then(|| (read64(at + 120) as u16, read8(at + 128)))
    }

    /// Leaves legacy mode if the machine is in it; whether SCI_EN is set afterwards.
    pub fn enable(&self) -> bool {
        if inw(self.pm1a_control) & 1 == 0 {
            let (port, value) = (read32(self.table.0 + 48), read8(self.table.0 + 52));
            if port != 0 {
                outb(port as u16, value);
            }
        }
        inw(self.pm1a_control) & 1 != 0
    }

    /// SLP_TYPa of a sleep state from the DSDT's `Name (_Sx_, Package () { … })`.
    pub fn sleep_type(&self, name: &[u8; 4]) -> Option<u8> {
        let end = self.dsdt.0 + self.dsdt.length();
        // NameOp before, PackageOp, package length and element count behind.
        let at = (self.dsdt.0 + 37..end).find(|&at| read8(at - 1) == 0x08 && matches(at, name))?;
        if read8(at + 4) != 0x12 {
            return None;
        }
        let length_bytes = u64::from(read8(at + 5) >> 6);
        let element = at + 7 + length_bytes;
        match read8(element) {
            0x0a => Some(read8(element + 1)),
            small @ (0 | 1) => Some(small),
            _ => None,
        }
    }

    /// Enters a sleep state.
    pub fn sleep(&self, sleep_type: u8) {
        outw(self.pm1a_control, 1 << 13 | u16::from(sleep_type) << 10 | inw(self.pm1a_control) & 1);
    }
}

/// The enabled processors of the MADT, by APIC id.
pub fn processors() -> impl Iterator<Item = u8> {
    madt_entries().filter(|&at| read8(at) == 0 && read32(at + 4) & 1 != 0).map(|at| read8(at + 3))
}

/// The addresses of the MADT's entries.
pub fn madt_entries() -> impl Iterator<Item = u64> {
    let (mut at, end) = find(b"APIC").map_or((0, 0), |madt| (madt.0 + 44, madt.0 + madt.length()));
    core::iter::from_fn(move || {
        let entry = at;
        (entry < end && read8(entry + 1) != 0).then(|| {
            at += u64::from(read8(entry + 1));
            entry
        })
    })
}

/// The global system interrupt an ISA interrupt is connected to, by the MADT's overrides.
pub fn isa_gsi(irq: u8) -> u32 {
    madt_entries().find(|&at| read8(at) == 2 && read8(at + 3) == irq).map_or(irq.into(), |at| read32(at + 4))
}

/// The flags of an ISA interrupt's override, if it has one: 0xd is active high, level triggered.
pub fn isa_flags(irq: u8) -> Option<u16> {
    madt_entries().find(|&at| read8(at) == 2 && read8(at + 3) == irq).map(|at| read16(at + 8))
}
