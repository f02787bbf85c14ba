//! Drivers of virtio devices that mean no good: an input is what one does, to the registers, rings and memory of a
//! device. The machine is made once, in this process, and has all the devices.

use std::sync::OnceLock;
use std::time::Duration;

use libqtest::virtio::{
    ACKNOWLEDGE, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, DRIVER, DRIVER_OK, FEATURES_OK, VERSION_1, common,
};
use memory::{address_space_io, address_space_memory};
use parking_lot::Mutex;
use softmmu::vl;
use util::clock::{self, ClockType, now_ns};
use util::event_loop::EventLoop;
// Their devices are named on the command line only.
use {hw_block as _, hw_net as _, hw_scsi as _, hw_virtio as _};

/// The machine's memory, MiB.
const RAM_MIB: u64 = 32;
/// One device of each kind, in slots (hexadecimal) from [`FIRST_SLOT`] on, in the order of [`Device`].
const ARGUMENTS: &str = "-nodefaults -display none -accel qtest -M pc -m 32M \
    -blockdev driver=null-co,node-name=n0,size=1048576,read-zeroes=on \
    -device virtio-blk-pci,addr=4,drive=n0,num-queues=2 \
    -netdev hubport,id=h0,hubid=0 -device virtio-net-pci,addr=5,netdev=h0,romfile= \
    -device virtio-rng-pci,addr=6 \
    -device virtio-serial-pci,addr=7,id=s0 -chardev ringbuf,id=c0 -device virtconsole,bus=s0.0,chardev=c0 \
    -chardev null,id=c1 -device virtserialport,bus=s0.0,chardev=c1 \
    -device virtio-balloon-pci,addr=8,free-page-reporting=on,guest-stats-polling-interval=1 \
    -device virtio-keyboard-pci,addr=9 \
    -device virtio-scsi-pci,addr=a,id=h1,num_queues=2 \
    -blockdev driver=null-co,node-name=n1,size=1048576,read-zeroes=on -device scsi-hd,bus=h1.0,drive=n1,scsi-id=0 \
    -blockdev driver=null-co,node-name=n2,size=1048576,read-zeroes=on,read-only=on \
    -device scsi-cd,bus=h1.0,drive=n2,scsi-id=1 \
    -blockdev driver=null-co,node-name=n3,size=1048576,read-zeroes=on -device ide-hd,bus=ide.0,unit=0,drive=n3 \
    -blockdev driver=null-co,node-name=n4,size=1048576,read-zeroes=on,read-only=on \
    -device ide-cd,bus=ide.0,unit=1,drive=n4";
const FIRST_SLOT: u8 = 4;

/// Which device.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Device {
    Blk,
    Net,
    Rng,
    Serial,
    Balloon,
    Input,
    Scsi,
}

/// Base address registers, and what they are given: ports, MSI-X tables, and the modern interface.
const BARS: [(u8, u64); 3] = [(0x10, PORTS), (0x14, MSIX), (0x20, MODERN)];
const PORTS: u64 = 0xc000;
const MSIX: u64 = 0xe000_0000;
const MODERN: u64 = 0xe010_0000;
/// Parts of the modern interface.
const ISR: u64 = MODERN + 0x1000;
const DEVICE: u64 = MODERN + 0x2000;
const NOTIFY: u64 = MODERN + 0x3000;
const NOTIFY_STEP: u64 = 4;

/// Queues that are set up, and the memory of each.
const MAX_QUEUES: u16 = 6;
const QUEUES: u64 = 0x10_0000;
const QUEUE_LEN: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x8000;
const USED: u64 = 0xc000;
/// Pages of buffers.
const BUFFERS: u64 = 0x40_0000;
const PAGE: u64 = 0x1000;
/// Most steps of an input.
const MOST_STEPS: usize = 64;

macro_rules! targets {
    ($($name:ident $device:ident,)*) => {
        $(pub(crate) fn $name(data: &[u8]) {
            run(Device::$device, data);
        })*
    };
}

targets! {
    blk Blk, net Net, rng Rng, serial Serial, balloon Balloon, input Input, scsi Scsi,
}

/// Steps, and what requests begin with.
pub(crate) fn words() -> Vec<String> {
    let steps = (0..=10u8).map(|step| String::from(char::from(step)));
    let requests =
        ["\u{7}\0\0\u{1}\0\0\0", "\u{7}\0\0\u{8}\0\0\0", "\0\0\u{2}\0\u{8}\u{11}\u{10}", "\u{1}\u{1}\0\0\0"];
    steps.chain(requests.map(str::to_owned)).collect()
}

/// What an input has left.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Input<'a> {
        Input(data)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    /// A number of `size` bytes.
    pub(crate) fn number(&mut self, size: usize) -> Option<u64> {
        let bytes = self.bytes(size)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Where a buffer is: mostly in one of the pages for it.
    fn address(&mut self) -> Option<u64> {
        let byte = self.byte()?;
        Some(match byte {
            0..=0xef => BUFFERS + u64::from(byte & 15) * PAGE + u64::from(byte >> 4) * 16,
            0xf0..=0xf3 => QUEUES + u64::from(byte & 3) * QUEUE_LEN,
            0xf4..=0xf7 => (RAM_MIB << 20) - u64::from(byte & 3) * 16,
            _ => self.number(8)?,
        })
    }

    fn length(&mut self) -> Option<u32> {
        let byte = u32::from(self.byte()?);
        Some(match byte {
            0..=0x7f => byte,
            0x80..=0xdf => (byte - 0x7f) * 64,
            0xe0..=0xfe => 1 << (byte - 0xe0),
            _ => self.number(4)? as u32,
        })
    }
}

pub(crate) fn write(address: u64, value: u64, size: usize) {
    let _ = address_space_memory().write(address, &value.to_le_bytes()[..size]);
}

fn read(address: u64, size: usize) -> u64 {
    let mut bytes = [0; 8];
    let _ = address_space_memory().read(address, &mut bytes[..size]);
    u64::from_le_bytes(bytes)
}

pub(crate) fn out(port: u64, value: u64, size: usize) {
    let _ = address_space_io().write(port, &value.to_le_bytes()[..size]);
}

pub(crate) fn in_(port: u64, size: usize) -> u64 {
    let mut bytes = [0; 8];
    let _ = address_space_io().read(port, &mut bytes[..size]);
    u64::from_le_bytes(bytes)
}

fn config_write(slot: u8, at: u8, value: u64, size: usize) {
    config_write_at(slot << 3, at, value, size);
}

/// Writes a register of the function at a device and function number.
pub(crate) fn config_write_at(devfn: u8, at: u8, value: u64, size: usize) {
    const ADDRESS: u64 = 0xcf8;
    const DATA: u64 = 0xcfc;
    out(ADDRESS, 1 << 31 | u64::from(devfn) << 8 | u64::from(at & 0xfc), 4);
    out(DATA + u64::from(at & 3), value, size);
}

/// A device and its driver.
struct Pair {
    slot: u8,
    /// Entries of each queue, and how many were made available.
    queues: Vec<(u16, u16)>,
}

/// Makes the machine, the first time; one input at a time has it.
pub(crate) fn machine() -> &'static Mutex<()> {
    static MACHINE: OnceLock<Mutex<()>> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let arguments: Vec<String> = ARGUMENTS.split_whitespace().map(str::to_owned).collect();
        match vl::qemu_init(&arguments) {
            // It lives as long as the process.
            Ok(made) => std::mem::forget(made),
            Err(error) => panic!("the machine cannot be made: {error}"),
        }
        Mutex::new(())
    })
}

/// Has the devices do what they were told to.
pub(crate) fn turn() {
    for _ in 0..2 {
        EventLoop::main().run_once(Some(Duration::ZERO)).expect("the main loop turns");
    }
}

fn run(device: Device, data: &[u8]) {
    let _alone = machine().lock();
    let slot = FIRST_SLOT + device as u8;
    let mut input = Input(data);
    let Some(features) = input.number(4) else { return };
    let mut pair = Pair::set_up(slot, features | VERSION_1);
    for _ in 0..MOST_STEPS {
        if pair.step(&mut input).is_none() {
            break;
        }
    }
    // A driver that behaves is served as if nothing had been.
    Pair::set_up(slot, VERSION_1);
    assert_eq!(read(MODERN + common::STATUS, 1), u64::from(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK));
    write(MODERN + common::STATUS, 0, 1);
    config_write(slot, 4, 0, 2);
    turn();
}

impl Pair {
    /// Resets the device, negotiates what is offered of `features`, and sets up the queues.
    fn set_up(slot: u8, features: u64) -> Pair {
        const COMMAND: u8 = 4;
        const MSIX_CONTROL: u8 = 0x9a;
        for (register, address) in BARS {
            config_write(slot, register, address, 4);
        }
        config_write(slot, 0x24, 0, 4);
        config_write(slot, COMMAND, 7, 2);
        config_write(slot, MSIX_CONTROL, 0, 2);
        let status = |bits: u8| write(MODERN + common::STATUS, bits.into(), 1);
        status(0);
        turn();
        status(ACKNOWLEDGE | DRIVER);
        for half in 0..2 {
            write(MODERN + common::DEVICE_FEATURE_SELECT, half, 4);
            let offered = read(MODERN + common::DEVICE_FEATURE, 4);
            write(MODERN + common::DRIVER_FEATURE_SELECT, half, 4);
            write(MODERN + common::DRIVER_FEATURE, offered & features >> (32 * half), 4);
        }
        status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        let count = (read(MODERN + common::NUM_QUEUES, 2) as u16).min(MAX_QUEUES);
        let queues = (0..count).map(|n| (Pair::set_up_queue(n), 0)).collect();
        status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        Pair { slot, queues }
    }

    /// Gives a queue cleared rings; its number of entries.
    fn set_up_queue(n: u16) -> u16 {
        let at = QUEUES + u64::from(n) * QUEUE_LEN;
        let zeroes = [0; PAGE as usize];
        for part in [at, at + AVAILABLE, at + USED] {
            let _ = address_space_memory().write(part, &zeroes);
        }
        write(MODERN + common::QUEUE_SELECT, n.into(), 2);
        let size = read(MODERN + common::QUEUE_SIZE, 2) as u16;
        for (register, address) in [
            (common::QUEUE_DESC, at),
            (common::QUEUE_DRIVER, at + AVAILABLE),
            (common::QUEUE_DEVICE, at + USED),
        ] {
            write(MODERN + register, address, 8);
        }
        write(MODERN + common::QUEUE_ENABLE, 1, 2);
        size
    }

    /// What the next bytes say; `None` at their end.
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.byte()? % 11 {
            0..=2 => self.offer(input)?,
            3 => {
                let len = usize::from(input.byte()? % 64);
                let address = input.address()?;
                let _ = address_space_memory().write(address, input.bytes(len)?);
            }
            4 => self.register(input, MODERN, 64)?,
            5 => self.register(input, DEVICE, 128)?,
            6 => self.register(input, NOTIFY, 64)?,
            7 => self.register(input, MSIX, 255)?,
            8 => {
                let (at, value) = (input.byte()?, input.number(4)?);
                config_write(self.slot, at & 0xfc, value, 4);
            }
            9 => {
                let (at, value) = (input.byte()? % 64, input.number(4)?);
                out(PORTS + u64::from(at), value, 1 << (at % 3));
                let _ = read(ISR, 1);
            }
            _ => {
                let ns = u64::from(input.byte()?) << 22;
                while !clock::advance(now_ns(ClockType::Virtual) + ns, 64) {}
            }
        }
        turn();
        Some(())
    }

    /// Writes, and reads, one of the first `span` bytes of registers.
    fn register(&self, input: &mut Input<'_>, base: u64, span: u8) -> Option<()> {
        let (at, size) = (u64::from(input.byte()? % span), input.byte()?);
        let size = 1usize << (size % 4);
        write(base + at, input.number(size)?, size);
        let _ = read(base + at, size);
        Some(())
    }

    /// Makes a chain of descriptors available.
    fn offer(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (which, count) = (input.byte()?, u64::from(input.byte()? % 6) + 1);
        let index = usize::from(which) % self.queues.len().max(1);
        let (size, available) = self.queues.get_mut(index)?;
        let at = QUEUES + index as u64 * QUEUE_LEN;
        let entries = u64::from(*size).max(1);
        let first = u64::from(*available) * 6 % entries;
        for n in 0..count {
            let what = input.byte()?;
            let mut flags = if what & 1 == 0 { 0 } else { DESC_WRITE };
            flags |= if n + 1 < count { DESC_NEXT } else { 0 };
            flags |= if what & 0xf0 == 0xf0 { DESC_INDIRECT } else { 0 };
            let next = if what & 0x0e == 0x0e { input.number(2)? } else { (first + n + 1) % entries };
            let descriptor = at + (first + n) % entries * 16;
            write(descriptor, input.address()?, 8);
            write(descriptor + 8, input.length()?.into(), 4);
            write(descriptor + 12, flags.into(), 2);
            write(descriptor + 14, next, 2);
        }
        write(at + AVAILABLE + 4 + u64::from(*available) % entries * 2, first, 2);
        *available = available.wrapping_add(1);
        write(at + AVAILABLE + 2, (*available).into(), 2);
        write(NOTIFY + index as u64 * NOTIFY_STEP, index as u64, 2);
        Some(())
    }
}
