//! How chips make up a bank, and what they say of themselves.

use super::spec::{CFI_BUFFER_SIZE, CFI_EXTENDED, CFI_EXTENDED_AT, CFI_START, CFI_START_AT, CFI_TABLE};

/// Chips side by side that answer as one.
#[derive(Clone, Debug)]
pub struct Bank {
    /// Blocks that are erased at once.
    pub blocks: u32,
    /// Bytes of a block.
    pub sector_len: u64,
    /// Bytes of the bank's data bus: 1, 2 or 4.
    pub width: u8,
    /// Bytes of each chip's data bus, as it is used: 1, 2 or 4; 0: nothing is said, which stands for QEMU's behaviour
    /// before it knew.
    pub device_width: u8,
    /// Bytes of each chip's data bus, as wide as it could be.
    pub max_device_width: u8,
    /// Byte order of wider accesses.
    pub big_endian: bool,
    /// Manufacturer, device, and two more words where no width is said.
    pub ident: [u16; 4],
    /// Chips make more blocks instead of larger ones.
    pub old_multiple_chip_handling: bool,
}

impl Bank {
    /// Bytes of the array.
    pub fn size(&self) -> u64 {
        u64::from(self.blocks).saturating_mul(self.sector_len)
    }

    fn devices(&self) -> u64 {
        self.width.checked_div(self.device_width).map_or(1, |chips| u64::from(chips).max(1))
    }

    /// A count for the write buffer, as wide as a chip.
    pub fn count(&self, value: u32) -> u32 {
        let width = if self.device_width == 0 { self.width } else { self.device_width };
        value & low_bits(width)
    }

    /// The status of all chips in an access of `size` bytes.
    pub fn each_status(&self, status: u8, size: u8) -> u32 {
        let status = u32::from(status);
        match self.device_width {
            0 if size > 2 => status | status << 16,
            0 => status,
            width => (0..size.max(1)).step_by(width.into()).fold(0, |all, at| all | status << (8 * at)),
        }
    }

    /// The word of a chip's own address space that an offset is, where a width is said.
    fn word(&self, offset: u64) -> u64 {
        let log = |width: u8| width.max(1).trailing_zeros();
        offset >> (log(self.width) + log(self.max_device_width)).saturating_sub(log(self.device_width))
    }

    /// The same where no width is said.
    fn old_word(&self, offset: u64) -> u64 {
        (offset & 0xff) >> self.width.max(1).trailing_zeros().min(2)
    }

    /// What one chip answers, from all chips of the bank.
    fn each(&self, answer: u32) -> u32 {
        (0..self.width).step_by(self.device_width.max(1).into()).fold(0, |all, at| all | answer << (8 * at))
    }

    /// An access that may be wider than the bank, of answers at offsets.
    fn wide(&self, size: u8, answer: impl Fn(u64) -> u32) -> u32 {
        (0..size)
            .step_by(self.width.max(1).into())
            .fold(0, |all, at| all | (answer(at.into()) & low_bits(self.width)) << (8 * at))
    }
}

fn low_bits(bytes: u8) -> u32 {
    if bytes >= 4 { u32::MAX } else { (1 << (8 * u32::from(bytes))) - 1 }
}

/// The query table.
#[derive(Clone, Debug)]
pub struct CfiTable {
    bytes: [u8; CFI_TABLE],
    buffer_size: u64,
}

impl CfiTable {
    /// The table of the chips of `bank` (`pflash_cfi01_fill_cfi_table`).
    pub fn new(bank: &Bank) -> Self {
        let devices = bank.devices();
        let (blocks, sector_len) = match bank.old_multiple_chip_handling {
            true => (u64::from(bank.blocks) / devices, bank.sector_len),
            false => (bank.blocks.into(), bank.sector_len / devices),
        };
        let mut bytes = [0; CFI_TABLE];
        bytes[CFI_START_AT..][..CFI_START.len()].copy_from_slice(&CFI_START);
        // Size as a power of 2; both widths of x8/x16 chips; one region of blocks.
        bytes[0x27] = blocks.saturating_mul(sector_len).trailing_zeros() as u8;
        bytes[0x28] = 0x02;
        bytes[CFI_BUFFER_SIZE] = if bank.width == 1 { 0x08 } else { 0x0b };
        bytes[0x2c] = 1;
        let [low, high, ..] = blocks.wrapping_sub(1).to_le_bytes();
        let [_, len_low, len_high, ..] = sector_len.to_le_bytes();
        bytes[0x2d..=0x30].copy_from_slice(&[low, high, len_low, len_high]);
        bytes[CFI_EXTENDED_AT..][..CFI_EXTENDED.len()].copy_from_slice(&CFI_EXTENDED);
        // Number of protection fields.
        bytes[0x3f] = 1;
        let one = 1 << bytes[CFI_BUFFER_SIZE];
        let buffer_size = if bank.old_multiple_chip_handling { one } else { one * devices };
        CfiTable { bytes, buffer_size }
    }

    /// Bytes of the write buffer.
    pub fn buffer_size(&self) -> u64 {
        self.buffer_size
    }

    fn byte(&self, at: u64) -> u32 {
        usize::try_from(at).ok().and_then(|at| self.bytes.get(at)).copied().unwrap_or(0).into()
    }

    /// A read of the table.
    pub fn query(&self, bank: &Bank, offset: u64, size: u8) -> u32 {
        if bank.device_width == 0 {
            return self.byte(bank.old_word(offset));
        }
        bank.wide(size, |at| {
            let byte = self.byte(bank.word(offset + at));
            if bank.device_width == bank.max_device_width {
                return bank.each(byte);
            }
            // A wider chip with 8 bits in use says each byte as often as it is wide; no other case is known.
            if bank.device_width != 1 {
                return 0;
            }
            let wide = (0..bank.max_device_width.min(4)).fold(0, |all, at| all | byte << (8 * at));
            if bank.width > 1 { bank.each(byte) } else { wide }
        })
    }

    /// A read of manufacturer and device.
    pub fn id(&self, bank: &Bank, offset: u64, size: u8) -> u32 {
        let ident = bank.ident.map(u32::from);
        if bank.device_width == 0 {
            return match bank.old_word(offset) {
                0 => ident[0] << 8 | ident[1],
                1 => ident[2] << 8 | ident[3],
                _ => 0,
            };
        }
        bank.wide(size, |at| match bank.word(offset + at) & 0xff {
            0 => bank.each(ident[0]),
            1 => bank.each(ident[1]),
            _ => 0,
        })
    }
}
