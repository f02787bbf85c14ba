//! The SMBus host controller of Intel's chipsets: 82371AB (PIIX4) data sheet, 290562, section 7.3, and what later ones
//! add (82801EB, section 14.2), with the choices of QEMU's hw/i2c/pm_smbus.c.
//!
//! A transaction takes no time. Where interrupts are off it is carried out when the guest first reads the status, so
//! that the guest sees the controller busy once. Nothing here interrupts: PIIX4's SMBus has no line on a PC of QEMU's.

use serde::{Deserialize, Serialize};

/// Registers.
pub mod spec {
    /// Size of the block of ports.
    pub const SIZE: u64 = 64;
    /// Host status.
    pub const SMBHSTSTS: u64 = 0x00;
    /// Host control.
    pub const SMBHSTCNT: u64 = 0x02;
    /// Host command.
    pub const SMBHSTCMD: u64 = 0x03;
    /// Host address; bit 0 is read.
    pub const SMBHSTADD: u64 = 0x04;
    /// Data 0, or the length of a block.
    pub const SMBHSTDAT0: u64 = 0x05;
    /// Data 1.
    pub const SMBHSTDAT1: u64 = 0x06;
    /// Block data.
    pub const SMBBLKDAT: u64 = 0x07;
    /// Auxiliary control.
    pub const SMBAUXCTL: u64 = 0x0d;
    /// SMBHSTSTS: a transaction is under way.
    pub const HOST_BUSY: u8 = 1 << 0;
    /// SMBHSTSTS: a transaction has ended.
    pub const INTR: u8 = 1 << 1;
    /// SMBHSTSTS: nobody answered.
    pub const DEV_ERR: u8 = 1 << 2;
    /// SMBHSTSTS: a transaction was killed.
    pub const FAILED: u8 = 1 << 4;
    /// SMBHSTSTS: a byte of a block has come or gone.
    pub const BYTE_DONE: u8 = 1 << 7;
    /// SMBHSTCNT: interrupts are on.
    pub const INTREN: u8 = 1 << 0;
    /// SMBHSTCNT: end the transaction.
    pub const KILL: u8 = 1 << 1;
    /// SMBHSTCNT: the next byte is a block's last.
    pub const LAST_BYTE: u8 = 1 << 5;
    /// SMBHSTCNT: begin; reads 0.
    pub const START: u8 = 1 << 6;
    /// SMBHSTCNT: what it reads.
    pub const CONTROL_READ: u8 = 0x1f;
    /// SMBAUXCTL: blocks lie in a buffer of 32 bytes instead of coming byte by byte.
    pub const AUX_BLK: u8 = 1 << 1;
    /// SMBAUXCTL: its bits.
    pub const AUX_MASK: u8 = 0x3;
    /// The most bytes of a block.
    pub const BLOCK: usize = 32;
    /// SMBHSTCNT: protocols, from bit 2 on.
    pub const PROTOCOL_SHIFT: u8 = 2;
    /// Nothing but the address.
    pub const QUICK: u8 = 0;
    /// A byte without a command.
    pub const BYTE: u8 = 1;
    /// A command and a byte.
    pub const BYTE_DATA: u8 = 2;
    /// A command and two bytes.
    pub const WORD_DATA: u8 = 3;
    /// A command and a block with its length.
    pub const BLOCK_DATA: u8 = 5;
    /// An offset, then as many bytes as the host wants.
    pub const I2C_BLOCK_READ: u8 = 6;
}
use spec::*;

/// Who may answer. `None` means that nobody did.
pub trait Targets {
    /// Whether somebody answers at the address.
    fn is_present(&self, address: u8) -> bool;
    /// The host writes bytes, at least one.
    fn write(&self, address: u8, data: &[u8]) -> Option<()>;
    /// The host reads the next byte.
    fn read(&self, address: u8) -> Option<u8>;
}

/// The controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PmSmbus {
    status: u8,
    control: u8,
    command: u8,
    address: u8,
    data0: u8,
    data1: u8,
    aux_control: u8,
    block_data: u8,
    index: u8,
    buffer: [u8; BLOCK],
    /// No block is under way.
    done: bool,
    in_i2c_block_read: bool,
    start_on_status_read: bool,
}

impl Default for PmSmbus {
    fn default() -> Self {
        PmSmbus {
            status: 0,
            control: 0,
            command: 0,
            address: 0,
            data0: 0,
            data1: 0,
            // PIIX4 has nothing else.
            aux_control: AUX_BLK,
            block_data: 0,
            index: 0,
            buffer: [0; BLOCK],
            done: true,
            in_i2c_block_read: false,
            start_on_status_read: false,
        }
    }
}

impl PmSmbus {
    /// Ends what is under way, as reset does; the other registers stay.
    pub fn reset(&mut self) {
        (self.done, self.index, self.status) = (true, 0, 0);
    }

    fn target(&self) -> u8 {
        self.address >> 1
    }

    fn is_read(&self) -> bool {
        self.address & 1 != 0
    }

    fn protocol(&self) -> u8 {
        self.control >> PROTOCOL_SHIFT & 7
    }

    fn buffered(&self) -> bool {
        self.aux_control & AUX_BLK != 0
    }

    fn byte(&self) -> u8 {
        self.buffer.get(usize::from(self.index)).copied().unwrap_or(0)
    }

    /// Stores a byte of a block.
    fn put(&mut self, value: u8) {
        if let Some(place) = self.buffer.get_mut(usize::from(self.index)) {
            *place = value;
        }
    }

    fn wrap_index(&mut self) {
        if usize::from(self.index) >= BLOCK {
            self.index = 0;
        }
    }

    fn transaction(&mut self, bus: &dyn Targets) {
        let result = match self.status & DEV_ERR != 0 {
            true => None,
            false => self.carry_out(bus),
        };
        self.status |= result.unwrap_or(DEV_ERR);
    }

    /// Gives the status bits that follow.
    fn carry_out(&mut self, bus: &dyn Targets) -> Option<u8> {
        let (target, command) = (self.target(), self.command);
        match (self.protocol(), self.is_read()) {
            (QUICK, _) => bus.is_present(target).then_some(INTR),
            (BYTE, true) => {
                self.data0 = bus.read(target)?;
                Some(INTR)
            }
            (BYTE, false) => bus.write(target, &[command]).map(|()| INTR),
            (BYTE_DATA, true) => {
                bus.write(target, &[command])?;
                self.data0 = bus.read(target)?;
                Some(INTR)
            }
            (BYTE_DATA, false) => bus.write(target, &[command, self.data0]).map(|()| INTR),
            (WORD_DATA, true) => {
                bus.write(target, &[command])?;
                (self.data0, self.data1) = (bus.read(target)?, bus.read(target)?);
                Some(INTR)
            }
            (WORD_DATA, false) => bus.write(target, &[command, self.data0, self.data1]).map(|()| INTR),
            (BLOCK_DATA, true) => self.read_block(bus),
            (BLOCK_DATA, false) => self.begin_block_write(bus),
            // Linux may or may not say that it reads (82801EB, 5.21.1).
            (I2C_BLOCK_READ, _) => {
                bus.write(target, &[self.data1])?;
                self.block_data = bus.read(target)?;
                (self.in_i2c_block_read, self.done) = (true, false);
                Some(HOST_BUSY | BYTE_DONE)
            }
            _ => None,
        }
    }

    fn read_block(&mut self, bus: &dyn Targets) -> Option<u8> {
        bus.write(self.target(), &[self.command])?;
        let length = usize::from(bus.read(self.target())?);
        // More than a block can be is none.
        let length = if length > BLOCK { 0 } else { length };
        for place in self.buffer.iter_mut().take(length) {
            *place = bus.read(self.address >> 1)?;
        }
        (self.index, self.done, self.data0) = (0, false, length as u8);
        if self.buffered() {
            return Some(INTR);
        }
        self.block_data = self.buffer[0];
        Some(HOST_BUSY | BYTE_DONE)
    }

    fn begin_block_write(&mut self, bus: &dyn Targets) -> Option<u8> {
        let index = std::mem::take(&mut self.index);
        if !self.buffered() {
            self.done = false;
            self.put(self.block_data);
            return Some(HOST_BUSY | BYTE_DONE);
        }
        // All of it has to be in the buffer.
        (index == self.data0).then_some(())?;
        self.write_block(bus)
    }

    fn write_block(&mut self, bus: &dyn Targets) -> Option<u8> {
        let length = self.data0.min(BLOCK as u8);
        let mut data = vec![self.command, length];
        data.extend(self.buffer.iter().take(length.into()));
        bus.write(self.target(), &data)?;
        self.done = true;
        self.status &= !HOST_BUSY;
        Some(INTR)
    }

    /// The guest has seen that a byte of a block came or went: the next.
    fn next_byte(&mut self, bus: &dyn Targets) {
        let read = self.in_i2c_block_read || self.is_read();
        self.index += 1;
        self.wrap_index();
        if !read && self.index == self.data0 {
            let result = if self.protocol() == I2C_BLOCK_READ { None } else { self.write_block(bus) };
            self.status |= result.unwrap_or(DEV_ERR);
        } else if !read {
            self.put(self.block_data);
            self.status |= BYTE_DONE;
        } else {
            self.block_data = match self.in_i2c_block_read {
                true => bus.read(self.target()).unwrap_or(u8::MAX),
                false => self.byte(),
            };
            if self.control & LAST_BYTE != 0 {
                (self.done, self.in_i2c_block_read, self.index) = (true, false, 0);
                self.status = self.status & !HOST_BUSY | INTR;
            } else {
                self.status |= BYTE_DONE;
            }
        }
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, offset: u64, bus: &dyn Targets) -> u8 {
        match offset {
            SMBHSTSTS => {
                let status = self.status;
                if std::mem::take(&mut self.start_on_status_read) {
                    self.status &= !HOST_BUSY;
                    self.transaction(bus);
                }
                status
            }
            SMBHSTCNT => self.control & CONTROL_READ,
            SMBHSTCMD => self.command,
            SMBHSTADD => self.address,
            SMBHSTDAT0 => self.data0,
            SMBHSTDAT1 => self.data1,
            SMBBLKDAT if self.buffered() && !self.in_i2c_block_read => {
                self.wrap_index();
                let value = self.byte();
                self.index += 1;
                if !self.done && self.index == self.data0 {
                    (self.done, self.index) = (true, 0);
                    self.status &= !HOST_BUSY;
                }
                value
            }
            SMBBLKDAT => self.block_data,
            SMBAUXCTL => self.aux_control,
            _ => 0,
        }
    }

    /// Writes the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u8, bus: &dyn Targets) {
        match offset {
            SMBHSTSTS => {
                let byte_done = self.status & value & BYTE_DONE != 0;
                self.status &= !(value & !HOST_BUSY);
                if byte_done && !self.done && (self.in_i2c_block_read || !self.buffered()) {
                    self.next_byte(bus);
                }
            }
            SMBHSTCNT => self.write_control(value, bus),
            SMBHSTCMD => self.command = value,
            SMBHSTADD => self.address = value,
            SMBHSTDAT0 => self.data0 = value,
            SMBHSTDAT1 => self.data1 = value,
            SMBBLKDAT => {
                self.wrap_index();
                if self.buffered() {
                    self.put(value);
                    self.index += 1;
                } else {
                    self.block_data = value;
                }
            }
            SMBAUXCTL => self.aux_control = value & AUX_MASK,
            _ => {}
        }
    }

    fn write_control(&mut self, value: u8, bus: &dyn Targets) {
        self.control = value & !START;
        if value & START != 0 {
            if !self.done {
                (self.index, self.done, self.in_i2c_block_read) = (0, true, false);
            }
            self.start_on_status_read = value & INTREN == 0;
            match self.start_on_status_read {
                true => self.status |= HOST_BUSY,
                false => self.transaction(bus),
            }
        }
        if value & KILL != 0 {
            (self.done, self.index) = (true, 0);
            self.status = self.status & !HOST_BUSY | FAILED;
        }
    }
}
