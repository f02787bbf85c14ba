//! The SMBus host controller, by register sequences.

use std::cell::RefCell;

use hw_i2c::pm_smbus::{PmSmbus, Targets, spec::*};
use proptest::prelude::*;

/// A memory at address 0x50.
#[derive(Default)]
struct Memory(RefCell<(u8, Vec<u8>)>);

impl Memory {
    fn new() -> Memory {
        Memory(RefCell::new((0, vec![0; 256])))
    }
}

impl Targets for Memory {
    fn is_present(&self, address: u8) -> bool {
        address == 0x50
    }

    fn write(&self, address: u8, data: &[u8]) -> Option<()> {
        let (offset, bytes) = data.split_first().filter(|_| self.is_present(address))?;
        let (at, memory) = &mut *self.0.borrow_mut();
        *at = *offset;
        for byte in bytes {
            memory[usize::from(*at)] = *byte;
            *at = at.wrapping_add(1);
        }
        Some(())
    }

    fn read(&self, address: u8) -> Option<u8> {
        self.is_present(address).then_some(())?;
        let (at, memory) = &mut *self.0.borrow_mut();
        *at = at.wrapping_add(1);
        Some(memory[usize::from(at.wrapping_sub(1))])
    }
}

const WRITE: u8 = 0x50 << 1;
const READ: u8 = WRITE | 1;

struct Host(PmSmbus, Memory);

impl Host {
    fn new() -> Host {
        Host(PmSmbus::default(), Memory::new())
    }

    fn write(&mut self, register: u64, value: u8) {
        self.0.write(register, value, &self.1);
    }

    fn read(&mut self, register: u64) -> u8 {
        self.0.read(register, &self.1)
    }

    /// Carries a transaction out with interrupts on; gives the status.
    fn run(&mut self, address: u8, protocol: u8) -> u8 {
        self.write(SMBHSTSTS, 0xff);
        self.write(SMBHSTADD, address);
        self.write(SMBHSTCNT, START | INTREN | protocol << PROTOCOL_SHIFT);
        self.read(SMBHSTSTS)
    }
}

#[test]
fn bytes_and_words_go_there_and_come_back() {
    let mut host = Host::new();
    host.write(SMBHSTCMD, 0x20);
    host.write(SMBHSTDAT0, 0x34);
    host.write(SMBHSTDAT1, 0x12);
    assert_eq!(host.run(WRITE, WORD_DATA), INTR);
    host.write(SMBHSTCMD, 0x22);
    host.write(SMBHSTDAT0, 0x56);
    assert_eq!(host.run(WRITE, BYTE_DATA), INTR);
    host.write(SMBHSTCMD, 0x20);
    assert_eq!(host.run(WRITE, BYTE), INTR, "the offset alone");
    let bytes: Vec<u8> = (0..3)
        .map(|_| {
            assert_eq!(host.run(READ, BYTE), INTR);
            host.read(SMBHSTDAT0)
        })
        .collect();
    assert_eq!(bytes, [0x34, 0x12, 0x56]);
    host.write(SMBHSTCMD, 0x21);
    assert_eq!(host.run(READ, WORD_DATA), INTR);
    assert_eq!((host.read(SMBHSTDAT0), host.read(SMBHSTDAT1)), (0x12, 0x56));
    assert_eq!(host.run(READ, QUICK), INTR);
}

#[test]
fn nobody_answers_elsewhere_and_until_that_is_acknowledged_nothing_runs() {
    let mut host = Host::new();
    assert_eq!(host.run(0x51 << 1 | 1, BYTE), DEV_ERR);
    host.write(SMBHSTADD, READ);
    host.write(SMBHSTCNT, START | INTREN | BYTE << PROTOCOL_SHIFT);
    assert_eq!(host.read(SMBHSTSTS), DEV_ERR);
    assert_eq!(host.run(READ, BYTE), INTR);
    assert_eq!(host.run(READ, 4), DEV_ERR, "a process call is not known");
}

#[test]
fn without_interrupts_the_guest_sees_it_busy_once() {
    let mut host = Host::new();
    host.write(SMBHSTADD, READ);
    host.write(SMBHSTCNT, START | BYTE << PROTOCOL_SHIFT);
    assert_eq!(host.read(SMBHSTSTS), HOST_BUSY);
    assert_eq!(host.read(SMBHSTSTS), INTR);
    assert_eq!(host.read(SMBHSTCNT), BYTE << PROTOCOL_SHIFT, "START reads 0");
}

#[test]
fn blocks_lie_in_the_buffer() {
    let mut host = Host::new();
    host.write(SMBHSTCMD, 0x40);
    host.write(SMBHSTDAT0, 3);
    [7, 8, 9].into_iter().for_each(|byte| host.write(SMBBLKDAT, byte));
    assert_eq!(host.run(WRITE, BLOCK_DATA), INTR);
    // The length came first.
    assert_eq!(host.1.0.borrow().1[0x40..0x44], [3, 7, 8, 9]);
    assert_eq!(host.run(READ, BLOCK_DATA), INTR);
    assert_eq!(host.read(SMBHSTDAT0), 3);
    assert_eq!([0; 3].map(|_| host.read(SMBBLKDAT)), [7, 8, 9]);
    // What was said and what is there differ.
    host.write(SMBBLKDAT, 1);
    assert_eq!(host.run(WRITE, BLOCK_DATA), DEV_ERR);
}

#[test]
fn blocks_may_come_byte_by_byte() {
    let mut host = Host::new();
    host.write(SMBAUXCTL, 0);
    host.1.0.borrow_mut().1[0x10..0x13].copy_from_slice(&[2, 0xaa, 0xbb]);
    host.write(SMBHSTCMD, 0x10);
    assert_eq!(host.run(READ, BLOCK_DATA), HOST_BUSY | BYTE_DONE);
    assert_eq!((host.read(SMBHSTDAT0), host.read(SMBBLKDAT)), (2, 0xaa));
    host.write(SMBHSTCNT, INTREN | LAST_BYTE | BLOCK_DATA << PROTOCOL_SHIFT);
    host.write(SMBHSTSTS, BYTE_DONE);
    assert_eq!((host.read(SMBHSTSTS), host.read(SMBBLKDAT)), (INTR, 0xbb));
    // And go so.
    host.write(SMBHSTDAT0, 2);
    host.write(SMBBLKDAT, 0x11);
    assert_eq!(host.run(WRITE, BLOCK_DATA), HOST_BUSY | BYTE_DONE);
    host.write(SMBBLKDAT, 0x22);
    host.write(SMBHSTSTS, BYTE_DONE);
    assert_eq!(host.read(SMBHSTSTS), HOST_BUSY | BYTE_DONE);
    host.write(SMBHSTSTS, BYTE_DONE);
    assert_eq!(host.read(SMBHSTSTS), INTR);
    assert_eq!(host.1.0.borrow().1[0x10..0x13], [2, 0x11, 0x22]);
}

#[test]
fn an_i2c_block_goes_on_for_as_long_as_the_guest_likes() {
    let mut host = Host::new();
    host.write(SMBAUXCTL, 0);
    host.1.0.borrow_mut().1[0x80..0x83].copy_from_slice(&[1, 2, 3]);
    host.write(SMBHSTDAT1, 0x80);
    assert_eq!(host.run(WRITE, I2C_BLOCK_READ), HOST_BUSY | BYTE_DONE);
    assert_eq!(host.read(SMBBLKDAT), 1);
    host.write(SMBHSTSTS, BYTE_DONE);
    assert_eq!(host.read(SMBBLKDAT), 2);
    host.write(SMBHSTCNT, INTREN | LAST_BYTE | I2C_BLOCK_READ << PROTOCOL_SHIFT);
    host.write(SMBHSTSTS, BYTE_DONE);
    assert_eq!((host.read(SMBHSTSTS), host.read(SMBBLKDAT)), (INTR, 3));
    host.write(SMBHSTCNT, KILL);
    assert_eq!(host.read(SMBHSTSTS), INTR | FAILED);
}

proptest! {
    #[test]
    fn no_sequence_makes_it_panic(ops in prop::collection::vec((any::<bool>(), 0_u64..0x10, any::<u8>()), 1..400)) {
        let mut host = Host::new();
        host.write(SMBHSTADD, READ);
        for (write, register, value) in ops {
            match write {
                true => host.write(register, value),
                false => drop(host.read(register)),
            }
            if register == SMBHSTADD {
                host.write(SMBHSTADD, WRITE | value & 1);
            }
        }
    }
}
