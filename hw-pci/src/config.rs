//! Configuration space as bytes with masks: what can be written, what a one clears.

use qom::{Result, bail};

use crate::spec::*;

/// 256 bytes of registers.
#[derive(Clone)]
pub struct ConfigSpace {
    data: [u8; CONFIG_SPACE_SIZE],
    /// Bits a guest can change.
    writable: [u8; CONFIG_SPACE_SIZE],
    /// Bits a guest clears by writing a one.
    write_one_clears: [u8; CONFIG_SPACE_SIZE],
    /// Bytes of capabilities.
    used: [bool; CONFIG_SPACE_SIZE],
}

impl Default for ConfigSpace {
    /// The header every function has.
    fn default() -> Self {
        let mut config = ConfigSpace {
            data: [0; CONFIG_SPACE_SIZE],
            writable: [0; CONFIG_SPACE_SIZE],
            write_one_clears: [0; CONFIG_SPACE_SIZE],
            used: [false; CONFIG_SPACE_SIZE],
        };
        config.writable[CACHE_LINE_SIZE] = 0xff;
        config.writable[INTERRUPT_LINE] = 0xff;
        let command = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_SERR | COMMAND_INTX_DISABLE;
        config.set_writable_u16(COMMAND, command);
        config.set_write_one_clears_u16(STATUS, STATUS_W1C);
        // Device-specific registers: QEMU lets a guest write them unless the device says otherwise.
        config.writable[CONFIG_HEADER_SIZE..].fill(0xff);
        config
    }
}

impl ConfigSpace {
    /// Makes the header a bridge's (`pci_init_mask_bridge`).
    pub fn make_bridge(&mut self) {
        self.set_u8(HEADER_TYPE, self.u8(HEADER_TYPE) & HEADER_MULTI_FUNCTION | HEADER_BRIDGE);
        self.set_writable_u32(PRIMARY_BUS, u32::MAX);
        self.set_writable_u16(IO_BASE, u16::from_le_bytes([IO_RANGE_MASK; 2]));
        let window = u32::from(MEMORY_RANGE_MASK) << 16 | u32::from(MEMORY_RANGE_MASK);
        self.set_writable_u32(MEMORY_BASE, window);
        self.set_writable_u32(PREF_MEMORY_BASE, window);
        self.set_writable_u32(PREF_BASE_UPPER32, u32::MAX);
        self.set_writable_u32(PREF_BASE_UPPER32 + 4, u32::MAX);
        self.set_u16(PREF_MEMORY_BASE, PREF_RANGE_64);
        self.set_u16(PREF_MEMORY_BASE + 2, PREF_RANGE_64);
        self.set_u16(STATUS, self.u16(STATUS) | STATUS_66MHZ | STATUS_FAST_BACK);
        self.set_u16(SEC_STATUS, STATUS_66MHZ | STATUS_FAST_BACK);
        self.set_writable_u16(BRIDGE_CONTROL, BRIDGE_CTL_WRITABLE);
        self.set_write_one_clears_u16(BRIDGE_CONTROL, BRIDGE_CTL_DISCARD_STATUS);
    }

    /// Whether the header is a bridge's.
    pub fn is_bridge(&self) -> bool {
        self.u8(HEADER_TYPE) & !HEADER_MULTI_FUNCTION == HEADER_BRIDGE
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// A byte; 0 beyond the end.
    pub fn u8(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or_default()
    }

    /// 16 bits.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at + 1)])
    }

    /// 32 bits.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Sets bytes from the device's side, masks do not matter.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.data.iter_mut().skip(at).zip(bytes).for_each(|(d, b)| *d = *b);
    }

    /// Sets a byte from the device's side.
    pub fn set_u8(&mut self, at: usize, value: u8) {
        self.set(at, &[value]);
    }

    /// Sets 16 bits from the device's side.
    pub fn set_u16(&mut self, at: usize, value: u16) {
        self.set(at, &value.to_le_bytes());
    }

    /// Sets 32 bits from the device's side.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_le_bytes());
    }

    /// Says which bits of a byte a guest can change.
    pub fn set_writable_u8(&mut self, at: usize, mask: u8) {
        self.writable.iter_mut().skip(at).take(1).for_each(|m| *m = mask);
    }

    /// Says which of 16 bits a guest can change.
    pub fn set_writable_u16(&mut self, at: usize, mask: u16) {
        self.writable.iter_mut().skip(at).zip(mask.to_le_bytes()).for_each(|(m, b)| *m = b);
    }

    /// Says which of 32 bits a guest can change.
    pub fn set_writable_u32(&mut self, at: usize, mask: u32) {
        self.writable.iter_mut().skip(at).zip(mask.to_le_bytes()).for_each(|(m, b)| *m = b);
    }

    /// Says which of 16 bits a guest clears by writing ones.
    pub fn set_write_one_clears_u16(&mut self, at: usize, mask: u16) {
        self.write_one_clears.iter_mut().skip(at).zip(mask.to_le_bytes()).for_each(|(m, b)| *m = b);
    }

    /// Adds a capability of `size` bytes at the head of the list, at `at` or where it fits first; gives where it
    /// is (`pci_add_capability`). None of its bytes can be written, unless the device says so afterwards.
    ///
    /// # Errors
    /// When there is no room.
    pub fn add_capability(&mut self, id: u8, at: Option<usize>, size: usize) -> Result<usize> {
        let fits = |at: usize| self.used.get(at..at + size).is_some_and(|used| !used.contains(&true));
        let mut places = (CONFIG_HEADER_SIZE..CONFIG_SPACE_SIZE).step_by(4);
        let place = at.filter(|at| fits(*at)).or_else(|| places.find(|place| at.is_none() && fits(*place)));
        let Some(place) = place else { bail!("out of PCI config space") };
        // As 32 bits words, which keeps the next capability aligned.
        self.used.iter_mut().skip(place).take(size.next_multiple_of(4)).for_each(|used| *used = true);
        self.writable.iter_mut().skip(place).take(size).for_each(|mask| *mask = 0);
        self.set(place, &[id, self.u8(CAPABILITY_LIST)]);
        self.set_u8(CAPABILITY_LIST, place as u8);
        self.set_u16(STATUS, self.u16(STATUS) | STATUS_CAP_LIST);
        Ok(place)
    }

    /// Where the capability `id` is, if there is one.
    pub fn find_capability(&self, id: u8) -> Option<usize> {
        let mut at = usize::from(self.u8(CAPABILITY_LIST));
        // Only the device makes the list: it has no loop.
        while at != 0 && self.u8(at) != id {
            at = self.u8(at + CAP_LIST_NEXT).into();
        }
        (at != 0).then_some(at)
    }

    /// A guest's read of `size` bytes (1, 2 or 4).
    pub fn read(&self, at: usize, size: u8) -> u32 {
        let keep = u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)));
        self.u32(at) & keep
    }

    /// A guest's write of `size` bytes (1, 2 or 4).
    pub fn write(&mut self, at: usize, value: u32, size: u8) {
        for (i, byte) in value.to_le_bytes().into_iter().enumerate().take(size.into()) {
            let (Some(data), Some(writable), Some(clears)) =
                (self.data.get_mut(at + i), self.writable.get(at + i), self.write_one_clears.get(at + i))
            else {
                return;
            };
            *data = (*data & !writable) | (byte & writable);
            *data &= !(byte & clears);
        }
    }

    /// Whether a write of `size` bytes at `at` touches one of the `len` bytes at `register`.
    pub fn touches(at: usize, size: u8, register: usize, len: usize) -> bool {
        at < register + len && register < at + usize::from(size)
    }
}
