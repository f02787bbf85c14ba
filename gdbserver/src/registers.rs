//! Registers as the protocol carries them: bytes in the order of gdb's numbers, which the CPU's class knows.

use std::num::NonZeroUsize;

use gdbstub::arch::{Arch, RegId, Registers};

/// A processor with 64-bit addresses. What else there is to know of it, [`hw_core::debug::GdbClass`] says.
pub(crate) enum Processor {}

impl Arch for Processor {
    type Usize = u64;
    type Registers = RegisterFile;
    type BreakpointKind = usize;
    type RegId = RegisterNumber;
}

/// All registers, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RegisterFile(pub Vec<u8>);

impl Registers for RegisterFile {
    type ProgramCounter = u64;

    /// Nobody asks: the state machine reads it nowhere.
    fn pc(&self) -> u64 {
        0
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

/// A register by gdb's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterNumber(pub u32);

impl RegId for RegisterNumber {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        // The last number has no next one.
        let number = u32::try_from(id).ok().filter(|number| *number < u32::MAX)?;
        Some((RegisterNumber(number), None))
    }
}
