//! PCI functions of a PC, by the configuration ports.

use crate::QTest;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const COMMAND: u8 = 0x04;
const COMMAND_IO_MEMORY_MASTER: u16 = 7;
const BAR_0: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
/// Where functions' memory and ports are put: apart from each other, and from all that a PC has.
const MEMORY: u32 = 0xe000_0000;
const MEMORY_PER_SLOT: u32 = 0x100_0000;
const MEMORY_PER_BAR: u32 = 0x40_0000;
const PORTS: u32 = 0xc000;
const PORTS_PER_SLOT: u32 = 0x200;
const PORTS_PER_BAR: u32 = 0x80;

/// A function on the first bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciFunction(
    /// Slot times 8 plus function.
    pub u8,
);

macro_rules! config_accesses {
    ($($read:ident $write:ident $in:ident $out:ident $type:ty, $align:literal;)*) => {$(
        /// Reads configuration space.
        ///
        /// # Panics
        /// As [`QTest::memread`].
        #[track_caller]
        pub fn $read(self, vm: &mut QTest, at: u8) -> $type {
            self.select(vm, at);
            vm.$in(CONFIG_DATA + u16::from(at & $align))
        }

        /// Writes configuration space.
        ///
        /// # Panics
        /// As [`QTest::memread`].
        #[track_caller]
        pub fn $write(self, vm: &mut QTest, at: u8, value: $type) {
            self.select(vm, at);
            vm.$out(CONFIG_DATA + u16::from(at & $align), value);
        }
    )*};
}

impl PciFunction {
    fn select(self, vm: &mut QTest, at: u8) {
        vm.outl(CONFIG_ADDRESS, 1 << 31 | u32::from(self.0) << 8 | u32::from(at & 0xfc));
    }

    config_accesses! {
        readb writeb inb outb u8, 3;
        readw writew inw outw u16, 2;
        readl writel inl outl u32, 0;
    }

    /// Gives base address register `bar` an address, and has the function answer there and master the bus. For a memory
    /// BAR the address, for ports the number; 0 when the function has no such register.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn map_bar(self, vm: &mut QTest, bar: u8) -> u64 {
        let register = BAR_0 + 4 * bar;
        self.writel(vm, register, u32::MAX);
        let mask = self.readl(vm, register);
        if mask == 0 {
            return 0;
        }
        let slot = u32::from(self.0 >> 3);
        let address = match mask & 1 {
            0 => MEMORY + slot * MEMORY_PER_SLOT + u32::from(bar) / 2 * MEMORY_PER_BAR,
            _ => PORTS + slot * PORTS_PER_SLOT + u32::from(bar) * PORTS_PER_BAR,
        };
        self.writel(vm, register, address);
        self.enable(vm);
        address.into()
    }

    /// Has the function answer, and master the bus.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn enable(self, vm: &mut QTest) {
        let command = self.readw(vm, COMMAND);
        self.writew(vm, COMMAND, command | COMMAND_IO_MEMORY_MASTER);
    }

    /// Where the capabilities with this id are, in order.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn capabilities(self, vm: &mut QTest, id: u8) -> Vec<u8> {
        let mut found = Vec::new();
        let mut at = self.readb(vm, CAPABILITIES);
        // A list without an end would be the program's mistake.
        for _ in 0..64 {
            if at == 0 {
                return found;
            }
            if self.readb(vm, at) == id {
                found.push(at);
            }
            at = self.readb(vm, at + 1);
        }
        panic!("the list of capabilities has no end");
    }
}
