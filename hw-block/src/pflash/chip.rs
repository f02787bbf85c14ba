//! The flash chips, without their memory's place in the machine.

use std::ops::Range;

use memory::vm_memory::{Bytes, VolatileMemory, VolatileSlice};
use serde::{Deserialize, Serialize};

use super::cfi::{Bank, CfiTable};
use super::spec::{command, status};

/// Bytes of the array that a write changed.
pub type Changed = Option<Range<u64>>;

/// Where in a sequence of commands the chips are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// How many writes of the sequence there were; 0: none is under way.
    wcycle: u8,
    cmd: u8,
    status: u8,
    /// Writes that are still to come into the buffer, less one.
    counter: u64,
    /// What is to be programmed at once, and where.
    buffer: Option<(u64, Vec<u8>)>,
}

impl Default for State {
    fn default() -> Self {
        State { wcycle: 0, cmd: command::READ_ARRAY_RESET, status: status::READY, counter: 0, buffer: None }
    }
}

/// A bank of flash chips with Intel's command set (`PFlashCFI01`).
#[derive(Clone, Debug)]
pub struct Pflash {
    bank: Bank,
    read_only: bool,
    table: CfiTable,
    state: State,
}

/// What ends a sequence.
enum Next {
    /// The chips show what the state says.
    Stay,
    /// They show their array again.
    Array,
}

impl Pflash {
    /// Chips after power-on. Of `read_only` ones nothing can be changed.
    pub fn new(bank: Bank, read_only: bool) -> Self {
        let table = CfiTable::new(&bank);
        Pflash { bank, read_only, table, state: State::default() }
    }

    /// Reset.
    pub fn reset(&mut self) {
        self.state = State::default();
    }

    /// What there is to save.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes on from a state. One that no chip of this kind could have is taken as far as it makes sense.
    pub fn set_state(&mut self, state: State) {
        self.state = state;
        let (size, len) = (self.bank.size(), self.table.buffer_size());
        let fits = |(at, bytes): &(u64, Vec<u8>)| {
            bytes.len() as u64 == len && at.checked_add(len).is_some_and(|end| end <= size)
        };
        if !self.state.buffer.as_ref().is_some_and(fits) {
            self.state.buffer = None;
        }
    }

    /// Whether the array shows, so that reads need not ask.
    pub fn shows_array(&self) -> bool {
        self.state.wcycle == 0 && self.state.cmd == command::READ_ARRAY_RESET
    }

    /// A read of `size` bytes (1, 2 or 4).
    pub fn read(&mut self, array: &VolatileSlice<'_>, offset: u64, size: u8) -> u32 {
        match self.state.cmd {
            command::READ_ID => self.table.id(&self.bank, offset, size),
            command::CFI_QUERY => self.table.query(&self.bank, offset, size),
            command::PROGRAM
            | command::BLOCK_ERASE
            | command::BLOCK_ERASE_ALT
            | command::PROGRAM_ALT
            | command::CLEAR_STATUS
            | command::LOCK
            | command::READ_STATUS
            | command::WRITE_BUFFER => self.bank.each_status(self.state.status, size),
            command::READ_ARRAY_RESET => self.read_array(array, offset, size),
            _ => {
                self.state.wcycle = 0;
                self.state.cmd = command::READ_ARRAY_RESET;
                self.read_array(array, offset, size)
            }
        }
    }

    /// What the array has, whatever command the chip is at.
    pub fn read_array(&self, array: &VolatileSlice<'_>, offset: u64, size: u8) -> u32 {
        let mut bytes = [0; 4];
        let Some(part) = bytes.get_mut(..size.into()) else { return 0 };
        // Outside there is nothing, and nobody reads there.
        let _ = array.read_slice(part, offset as usize);
        if self.bank.big_endian {
            part.reverse();
        }
        u32::from_le_bytes(bytes)
    }

    /// A write of `size` bytes (1, 2 or 4).
    pub fn write(&mut self, array: &VolatileSlice<'_>, offset: u64, value: u32, size: u8) -> Changed {
        let mut changed = None;
        let next = match self.state.wcycle {
            0 => self.first_cycle(array, offset, value as u8, &mut changed),
            1 => self.second_cycle(array, offset, value, size, &mut changed),
            2 if self.state.cmd == command::WRITE_BUFFER => self.fill_buffer(array, offset, value, size),
            3 if self.state.cmd == command::WRITE_BUFFER => {
                self.confirm_buffer(array, value as u8, &mut changed)
            }
            _ => {
                self.state.buffer = None;
                Next::Array
            }
        };
        if matches!(next, Next::Array) {
            self.state.wcycle = 0;
            self.state.cmd = command::READ_ARRAY_RESET;
        }
        changed
    }

    fn first_cycle(
        &mut self,
        array: &VolatileSlice<'_>,
        offset: u64,
        cmd: u8,
        changed: &mut Changed,
    ) -> Next {
        match cmd {
            command::PROGRAM | command::PROGRAM_ALT | command::LOCK | command::CFI_QUERY => {}
            command::BLOCK_ERASE => self.erase(array, offset, changed),
            command::WRITE_BUFFER => self.state.status |= status::READY,
            command::READ_STATUS | command::READ_ID => {
                self.state.cmd = cmd;
                return Next::Stay;
            }
            command::CLEAR_STATUS => {
                self.state.status = 0;
                return Next::Array;
            }
            // READ_ARRAY, and what no chip of this kind knows.
            _ => return Next::Array,
        }
        self.state.wcycle = 1;
        self.state.cmd = cmd;
        Next::Stay
    }

    fn erase(&mut self, array: &VolatileSlice<'_>, offset: u64, changed: &mut Changed) {
        let len = self.bank.sector_len;
        let start = offset / len * len;
        if self.read_only {
            self.state.status |= status::ERASE_ERROR;
        } else if array.write_slice(&vec![0xff; len as usize], start as usize).is_ok() {
            *changed = Some(start..start + len);
        }
        self.state.status |= status::READY;
    }

    fn second_cycle(
        &mut self,
        array: &VolatileSlice<'_>,
        offset: u64,
        value: u32,
        size: u8,
        changed: &mut Changed,
    ) -> Next {
        let byte = value as u8;
        match (self.state.cmd, byte) {
            (command::PROGRAM | command::PROGRAM_ALT, _) => {
                if self.read_only {
                    self.state.status |= status::PROGRAM_ERROR;
                } else if self.bank.store(array, offset, value, size) {
                    *changed = Some(offset..offset + u64::from(size));
                }
            }
            (command::BLOCK_ERASE | command::BLOCK_ERASE_ALT, command::CONFIRM)
            | (command::LOCK, command::CONFIRM | command::LOCK_CONFIRM) => {}
            (command::WRITE_BUFFER, _) => {
                self.state.counter = self.bank.count(value).into();
                self.state.wcycle = 2;
                self.start_buffer(array, offset);
                return Next::Stay;
            }
            // Whatever else is written, the table stays to be read.
            (command::CFI_QUERY, byte) if byte != command::READ_ARRAY => return Next::Stay,
            _ => return Next::Array,
        }
        self.state.wcycle = 0;
        self.state.status |= status::READY;
        Next::Stay
    }

    /// The buffer starts as what the array has there.
    fn start_buffer(&mut self, array: &VolatileSlice<'_>, offset: u64) {
        let len = self.table.buffer_size();
        let start = offset / len * len;
        let mut bytes = vec![0; len as usize];
        let read = array.read_slice(&mut bytes, start as usize);
        self.state.buffer = read.is_ok().then_some((start, bytes));
    }

    fn fill_buffer(&mut self, array: &VolatileSlice<'_>, offset: u64, value: u32, size: u8) -> Next {
        debug_assert!(offset < array.len() as u64);
        let stored = match &mut self.state.buffer {
            Some((start, bytes)) if !self.read_only => {
                let at = offset.checked_sub(*start);
                at.is_some_and(|at| self.bank.store(&VolatileSlice::from(&mut bytes[..]), at, value, size))
            }
            _ => false,
        };
        if !stored {
            self.state.status |= status::PROGRAM_ERROR;
        }
        self.state.status |= status::READY;
        if self.state.counter == 0 {
            self.state.wcycle = 3;
        }
        self.state.counter = self.state.counter.wrapping_sub(1);
        Next::Stay
    }

    fn confirm_buffer(&mut self, array: &VolatileSlice<'_>, byte: u8, changed: &mut Changed) -> Next {
        let buffer = self.state.buffer.take();
        if byte != command::CONFIRM || self.state.status & status::PROGRAM_ERROR != 0 {
            return Next::Array;
        }
        if let Some((start, bytes)) = buffer
            && array.write_slice(&bytes, start as usize).is_ok()
        {
            *changed = Some(start..start + bytes.len() as u64);
        }
        self.state.wcycle = 0;
        self.state.status |= status::READY;
        Next::Stay
    }
}

impl Bank {
    /// Puts a value into the array or a buffer; `false`: it is not all inside.
    fn store(&self, to: &VolatileSlice<'_>, offset: u64, value: u32, size: u8) -> bool {
        let mut bytes = value.to_le_bytes();
        let Some(part) = bytes.get_mut(..size.into()) else { return false };
        if self.big_endian {
            part.reverse();
        }
        let inside = usize::try_from(offset).ok().and_then(|at| to.get_slice(at, part.len()).ok());
        inside.is_some_and(|slice| {
            slice.copy_from(part);
            true
        })
    }
}
