//! The 8237A DMA controller with the page registers that a PC has beside it: Intel 8237A data sheet, 231466, with the
//! choices of QEMU's hw/dma/i8257.c, whose name it has here.
//!
//! The second controller of a PC moves words: its addresses and counts are in units of two bytes, and its registers
//! are at every other port.

use serde::{Deserialize, Serialize};
use util::log::{Mask, log_mask};

/// Registers (231466, "Register description"; QEMU for the page registers).
pub mod spec {
    /// Channels of a controller.
    pub const CHANNELS: usize = 4;
    /// Write: command; read: status.
    pub const COMMAND: u64 = 0;
    /// Write: request; read: mask, as QEMU has it.
    pub const REQUEST: u64 = 1;
    /// Write: a bit of the mask.
    pub const SINGLE_MASK: u64 = 2;
    /// Write: mode.
    pub const MODE: u64 = 3;
    /// Write: the low byte comes next.
    pub const CLEAR_FLIP_FLOP: u64 = 4;
    /// Write: master clear.
    pub const MASTER_CLEAR: u64 = 5;
    /// Write: no channel is masked.
    pub const CLEAR_MASK: u64 = 6;
    /// Write: all of the mask.
    pub const WRITE_MASK: u64 = 7;
    /// COMMAND: what QEMU has; all else, such as memory to memory, is refused.
    pub const COMMAND_SUPPORTED: u8 = 0x04;
    /// REQUEST and SINGLE_MASK: set instead of clear.
    pub const SET: u8 = 1 << 2;
    /// REQUEST, SINGLE_MASK and MODE: which channel.
    pub const CHANNEL: u8 = 3;
    /// MODE: the transfer's direction; zero moves nothing (verify).
    pub const MODE_DIRECTION: u8 = 0x0c;
    /// MODE: the channel starts over at its end.
    pub const MODE_AUTOINIT: u8 = 1 << 4;
    /// MODE: addresses go down.
    pub const MODE_DECREMENT: u8 = 1 << 5;
    /// STATUS: the requests; the other half says which channels came to their end.
    pub const STATUS_REQUESTS: u8 = 0xf0;
    /// STATUS: where the requests begin.
    pub const STATUS_REQUEST_SHIFT: u8 = 4;
    /// Which channel a page register belongs to, by its port's low three bits.
    pub const PAGE_CHANNELS: [Option<usize>; 8] =
        [None, Some(2), Some(3), Some(1), None, None, None, Some(0)];
    /// Bits of the high page register.
    pub const PAGE_HIGH: u8 = 0x7f;
}
use spec::*;

/// One channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Channel {
    base_address: u16,
    base_count: u16,
    /// Where it started, in bytes below the page.
    address: u32,
    /// Bytes moved.
    position: u32,
    mode: u8,
    page: u8,
    page_high: u8,
}

/// A transfer that a device may make now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which of the controller's channels.
    pub channel: usize,
    /// Bytes moved before.
    pub position: u32,
    /// Bytes to move in all.
    pub length: u32,
}

/// A controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct I8257 {
    channels: [Channel; CHANNELS],
    command: u8,
    status: u8,
    mask: u8,
    flip_flop: bool,
    /// 1 where it moves words.
    shift: u8,
}

impl I8257 {
    /// The state after power-on; `words` is the second controller's.
    pub fn new(words: bool) -> Self {
        let shift = words.into();
        I8257 { channels: Default::default(), command: 0, status: 0, mask: u8::MAX, flip_flop: false, shift }
    }

    /// Whether `other` moves units of the same size.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.shift == other.shift
    }

    /// Master clear, which reset is, too: addresses, counts and modes stay.
    pub fn reset(&mut self) {
        (self.command, self.status, self.mask, self.flip_flop) = (0, 0, u8::MAX, false);
    }

    fn take_flip_flop(&mut self) -> bool {
        self.flip_flop = !self.flip_flop;
        !self.flip_flop
    }

    /// Reads the address (even `register`) or the count (odd) of a channel, low byte first.
    pub fn read_channel(&mut self, register: u64) -> u8 {
        let high = self.take_flip_flop();
        let Some(channel) = self.channels.get((register >> 1) as usize) else { return 0 };
        let value = match (register & 1 != 0, channel.mode & MODE_DECREMENT != 0) {
            (true, _) => (u32::from(channel.base_count) << self.shift).wrapping_sub(channel.position),
            (false, false) => channel.address.wrapping_add(channel.position),
            (false, true) => channel.address.wrapping_sub(channel.position),
        };
        (value >> self.shift >> if high { 8 } else { 0 }) as u8
    }

    /// Writes the address (even `register`) or the count (odd) of a channel, low byte first. With the high byte it
    /// starts over.
    pub fn write_channel(&mut self, register: u64, value: u8) {
        let high = self.take_flip_flop();
        let Some(channel) = self.channels.get_mut((register >> 1) as usize) else { return };
        let base = if register & 1 != 0 { &mut channel.base_count } else { &mut channel.base_address };
        if high {
            *base = *base & 0xff | u16::from(value) << 8;
            channel.address = u32::from(channel.base_address) << self.shift;
            channel.position = 0;
        } else {
            *base = *base & 0xff00 | u16::from(value);
        }
    }

    /// Reads status, which forgets what came to its end, or the mask.
    pub fn read_control(&mut self, register: u64) -> u8 {
        match register {
            COMMAND => {
                let status = self.status;
                self.status &= STATUS_REQUESTS;
                status
            }
            REQUEST => self.mask,
            _ => 0,
        }
    }

    /// Writes a control register. Channels may be ready now: see [`I8257::ready`].
    pub fn write_control(&mut self, register: u64, value: u8) {
        let bit = 1 << (value & CHANNEL);
        match register {
            COMMAND if value & !COMMAND_SUPPORTED != 0 => {
                log_mask(Mask::UNIMP, || format!("i8257_write_cont: cmd {value:#04x} not supported"));
            }
            COMMAND => self.command = value,
            REQUEST => {
                self.set_request((value & CHANNEL).into(), value & SET != 0);
                self.status &= !bit;
            }
            SINGLE_MASK if value & SET != 0 => self.mask |= bit,
            SINGLE_MASK => self.mask &= !bit,
            MODE => {
                if let Some(channel) = self.channels.get_mut(usize::from(value & CHANNEL)) {
                    channel.mode = value;
                }
            }
            CLEAR_FLIP_FLOP => self.flip_flop = false,
            MASTER_CLEAR => self.reset(),
            CLEAR_MASK => self.mask = 0,
            WRITE_MASK => self.mask = value,
            _ => {}
        }
    }

    fn page_mut(&mut self, port: u64, high: bool) -> Option<&mut u8> {
        let channel = (*PAGE_CHANNELS.get((port & 7) as usize)?)?;
        let channel = self.channels.get_mut(channel)?;
        Some(if high { &mut channel.page_high } else { &mut channel.page })
    }

    /// Reads the page register at `port`, or its high half; 0 where there is none.
    pub fn read_page(&mut self, port: u64, high: bool) -> u8 {
        self.page_mut(port, high).map_or(0, |page| *page)
    }

    /// Writes the page register at `port`, or its high half.
    pub fn write_page(&mut self, port: u64, high: bool, value: u8) {
        if let Some(page) = self.page_mut(port, high) {
            *page = value;
        }
    }

    /// A device asks for transfers on a channel, or no longer (DREQ).
    pub fn set_request(&mut self, channel: usize, level: bool) {
        let bit = 1u8 << (channel & 3) << STATUS_REQUEST_SHIFT;
        self.status = if level { self.status | bit } else { self.status & !bit };
    }

    /// The channels that are asked for and not masked.
    pub fn ready(&self) -> impl Iterator<Item = usize> + use<> {
        let ready = self.status >> STATUS_REQUEST_SHIFT & !self.mask;
        (0..CHANNELS).filter(move |channel| ready & 1 << channel != 0)
    }

    /// What a channel is to move.
    pub fn transfer(&self, channel: usize) -> Option<Transfer> {
        let found = self.channels.get(channel)?;
        let length = (u32::from(found.base_count) + 1) << self.shift;
        // Half of a new count may have been written.
        Some(Transfer { channel, position: found.position.min(length), length })
    }

    /// A device moved bytes on a channel, up to `position`.
    pub fn moved(&mut self, channel: usize, position: u32) {
        let length = self.transfer(channel).map_or(0, |transfer| transfer.length);
        let Some(found) = self.channels.get_mut(channel) else { return };
        found.position = position.min(length);
        if position >= length {
            self.status |= 1 << channel;
        }
    }

    /// Whether a channel starts over at its end.
    pub fn has_autoinitialization(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|channel| channel.mode & MODE_AUTOINIT != 0)
    }

    /// Where in memory the `length` bytes from `position` of a channel's transfer lie, and whether they lie there from
    /// the last to the first; nowhere while the channel only verifies.
    pub fn place(&self, channel: usize, position: u32, length: u32) -> Option<(u64, bool)> {
        let found = self.channels.get(channel).filter(|found| found.mode & MODE_DIRECTION != 0)?;
        let page = u64::from(found.page_high & PAGE_HIGH) << 24 | u64::from(found.page) << 16;
        let start = page | u64::from(found.address);
        match found.mode & MODE_DECREMENT != 0 {
            true => Some((start.checked_sub(u64::from(position) + u64::from(length))?, true)),
            false => Some((start + u64::from(position), false)),
        }
    }
}
