//! A driver of PIIX3's IDE channels, as the machine `pc` has them: by ports, and by the bus master.

use crate::QTest;
use crate::pci::PciFunction;

/// The function.
pub const IDE: PciFunction = PciFunction(1 << 3 | 1);

/// Bits of the status register.
pub const BUSY: u8 = 1 << 7;
/// The device is ready.
pub const READY: u8 = 1 << 6;
/// Data is to be moved.
pub const DRQ: u8 = 1 << 3;
/// The command failed.
pub const ERR: u8 = 1 << 0;

/// Bits of the bus master's status register: active.
pub const ACTIVE: u8 = 1 << 0;
/// There was an interrupt.
pub const INTERRUPT: u8 = 1 << 2;

/// Where tables of memory are put.
const TABLE: u64 = 0x20_0000;
/// The last of a table.
const LAST: u32 = 1 << 31;
/// How often a device is asked whether it is done.
const PATIENCE: u32 = 200_000;

/// A channel: the numbers of its ports.
#[derive(Clone, Copy, Debug)]
pub struct IdeChannel {
    command: u16,
    control: u16,
    bus_master: u16,
}

/// What a command's registers are to be; the command's features, count and address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taskfile {
    /// Features.
    pub features: u8,
    /// Sector Count.
    pub count: u8,
    /// Sector Number, Cylinder Low and High.
    pub lba: [u8; 3],
    /// Device/Head.
    pub device: u8,
}

impl IdeChannel {
    /// Both channels, their bus masters where the function shows them.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn open(vm: &mut QTest) -> [IdeChannel; 2] {
        let bus_master = IDE.map_bar(vm, 4) as u16;
        let at = |command, control, bus_master| IdeChannel { command, control, bus_master };
        [at(0x1f0, 0x3f6, bus_master), at(0x170, 0x376, bus_master + 8)]
    }

    /// Reads a register of the command block.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn read(self, vm: &mut QTest, at: u16) -> u8 {
        vm.inb(self.command + at)
    }

    /// Writes a register of the command block.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn write(self, vm: &mut QTest, at: u16, value: u8) {
        vm.outb(self.command + at, value);
    }

    /// Writes Device Control.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn control(self, vm: &mut QTest, value: u8) {
        vm.outb(self.control, value);
    }

    /// The status when the device is not busy, looked at without taking back its interrupt.
    ///
    /// # Panics
    /// When it stays busy.
    #[track_caller]
    pub fn wait(self, vm: &mut QTest) -> u8 {
        for _ in 0..PATIENCE {
            let status = vm.inb(self.control);
            if status & BUSY == 0 {
                return status;
            }
        }
        panic!("the device stays busy");
    }

    /// Gives a command, and waits; the status then.
    ///
    /// # Panics
    /// As [`IdeChannel::wait`].
    #[track_caller]
    pub fn command(self, vm: &mut QTest, command: u8, taskfile: Taskfile) -> u8 {
        self.begin(vm, command, taskfile);
        self.wait(vm)
    }

    /// Gives a command.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn begin(self, vm: &mut QTest, command: u8, taskfile: Taskfile) {
        let Taskfile { features, count, lba: [low, mid, high], device } = taskfile;
        self.write(vm, 6, device);
        for (at, value) in (1..).zip([features, count, low, mid, high]) {
            self.write(vm, at, value);
        }
        self.write(vm, 7, command);
    }

    /// Reads data of so many bytes.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn read_data(self, vm: &mut QTest, len: usize) -> Vec<u8> {
        (0..len / 2).flat_map(|_| vm.inw(self.command).to_le_bytes()).collect()
    }

    /// Writes data, an even number of bytes.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn write_data(self, vm: &mut QTest, data: &[u8]) {
        for pair in data.chunks_exact(2) {
            vm.outw(self.command, u16::from_le_bytes([pair[0], pair[1]]));
        }
    }

    /// Gives a drive a packet, with at most so many bytes between interrupts, or by DMA where there is none; the status
    /// then.
    ///
    /// # Panics
    /// As [`IdeChannel::wait`].
    #[track_caller]
    pub fn packet(self, vm: &mut QTest, device: u8, limit: Option<u16>, packet: &[u8]) -> u8 {
        let [low, high] = limit.unwrap_or(0).to_le_bytes();
        let features = u8::from(limit.is_none());
        let status = self.command(vm, 0xa0, Taskfile { features, count: 0, lba: [0, low, high], device });
        assert_eq!(status & (DRQ | ERR), DRQ, "the drive wants a packet");
        let mut bytes = [0; 12];
        bytes[..packet.len()].copy_from_slice(packet);
        self.write_data(vm, &bytes);
        if limit.is_none() {
            return vm.inb(self.control);
        }
        self.wait(vm)
    }

    /// Has the bus master go through these pieces of memory, address and length, to memory or from it, and waits; its
    /// status then.
    ///
    /// # Panics
    /// When it goes on and on.
    #[track_caller]
    pub fn dma(self, vm: &mut QTest, pieces: &[(u32, u32)], to_memory: bool) -> u8 {
        self.set_table(vm, pieces);
        self.start(vm, to_memory);
        for _ in 0..PATIENCE {
            let status = vm.inb(self.bus_master + 2);
            if status & (ACTIVE | INTERRUPT) != ACTIVE {
                self.stop(vm);
                return status;
            }
        }
        panic!("the bus master does not end");
    }

    /// Writes a table of memory, and says where it is; an interrupt of before is forgotten.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn set_table(self, vm: &mut QTest, pieces: &[(u32, u32)]) {
        let last = pieces.len().saturating_sub(1);
        let table: Vec<u8> = pieces
            .iter()
            .enumerate()
            .flat_map(|(n, (address, len))| {
                let len = if n == last { len & 0xffff | LAST } else { len & 0xffff };
                [address.to_le_bytes(), len.to_le_bytes()].concat()
            })
            .collect();
        vm.memwrite(TABLE, &table);
        vm.outb(self.bus_master + 2, INTERRUPT);
        vm.outl(self.bus_master + 4, TABLE as u32);
    }

    /// Starts the bus master.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn start(self, vm: &mut QTest, to_memory: bool) {
        vm.outb(self.bus_master, if to_memory { 9 } else { 1 });
    }

    /// Stops it.
    ///
    /// # Panics
    /// As [`QTest::memread`].
    #[track_caller]
    pub fn stop(self, vm: &mut QTest) {
        vm.outb(self.bus_master, 0);
    }
}
