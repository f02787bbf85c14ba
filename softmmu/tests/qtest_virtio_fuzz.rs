//! Hostile drivers by chance: random writes to all that a virtio device shows a guest, with rings that are sometimes
//! right. Whatever comes, the program lives, and the device works again after a reset.
//!
//! The sequences are the same in every run. `VIRTIO_FUZZ_ROUNDS` makes them longer than CI has time for, and
//! `VIRTIO_FUZZ_SEED` makes them others.

use libqtest::QTest;
use libqtest::pci::PciFunction;
use libqtest::virtio::*;

const DEVICE: PciFunction = PciFunction(4 << 3);
const QUEUES: u64 = 0x10_0000;
const QUEUE_LEN: u64 = 0x1_0000;
const BUFFERS: u64 = 0x40_0000;
/// Queues that rings are made for, and registers of each kind.
const MAX_QUEUES: u64 = 6;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// xorshift64*: numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A number as drivers might write one: small, at an edge, or anything.
    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(16),
            1 => 1 << self.below(64),
            2 => u64::MAX - self.below(4),
            _ => self.next(),
        }
    }

    /// Where a buffer might be.
    fn address(&mut self) -> u64 {
        match self.below(20) {
            0 => self.value(),
            1 => (128 << 20) - self.below(64),
            2 => 0xfec0_0000 + self.below(4096),
            3 => QUEUES + self.below(MAX_QUEUES * QUEUE_LEN),
            _ => BUFFERS + self.below(0x10_0000),
        }
    }
}

fn write(vm: &mut QTest, at: u64, size: u64, value: u64) {
    match size {
        0 => vm.writeb(at, value as u8),
        1 => vm.writew(at, value as u16),
        2 => vm.writel(at, value as u32),
        _ => vm.writeq(at, value),
    }
}

/// Fills a part of a queue's descriptor table, and makes some of it available.
fn offer(vm: &mut QTest, random: &mut Random, queue: &mut VirtQueue) {
    let first = random.below(queue.size.into()) as u16;
    let count = 1 + random.below(5) as u16;
    for n in 0..count {
        let this = (first + n) % queue.size;
        let next = if random.chance(90) { (this + 1) % queue.size } else { random.next() as u16 };
        let mut flags = 0;
        flags |= if n + 1 < count && random.chance(95) { DESC_NEXT } else { 0 };
        flags |= if random.chance(50) { DESC_WRITE } else { 0 };
        flags |= if random.chance(5) { DESC_INDIRECT } else { 0 };
        let len = if random.chance(90) { 1 + random.below(4096) } else { random.value() };
        let address = random.address();
        queue.set_descriptor(vm, this, (address, len as u32), flags, next);
    }
    // What requests begin with, perhaps.
    let data: Vec<u8> =
        (0..32).map(|_| if random.chance(60) { random.below(8) } else { random.next() } as u8).collect();
    let at = BUFFERS + random.below(0x1000) * 16;
    vm.memwrite(at, &data);
    if random.chance(97) {
        queue.make_available(vm, first);
    } else {
        vm.writew(queue.available + 2, random.next() as u16);
    }
}

fn set_up(vm: &mut QTest, random: &mut Random) -> (VirtioPci, Vec<VirtQueue>) {
    let device = VirtioPci::open(vm, DEVICE);
    let offered = device.features(vm);
    let features = if random.chance(80) { offered } else { offered & random.next() };
    device.negotiate(vm, features & !(1 << 30) | VERSION_1);
    let count = u64::from(vm.readw(device.common + common::NUM_QUEUES)).min(MAX_QUEUES);
    let queues = (0..count).map(|n| device.queue(vm, n as u16, QUEUES + n * QUEUE_LEN)).collect();
    device.driver_ok(vm);
    (device, queues)
}

fn step(vm: &mut QTest, random: &mut Random, device: &VirtioPci, queues: &mut [VirtQueue]) {
    let count = queues.len() as u64;
    match random.below(100) {
        0..60 => {
            let queue = &mut queues[random.below(count) as usize];
            offer(vm, random, queue);
            queue.kick(vm);
        }
        60..70 => write(vm, device.device + random.below(128), random.below(4), random.value()),
        70..76 => write(vm, device.common + random.below(64), random.below(4), random.value()),
        76..80 => write(vm, device.notify + random.below(4096), random.below(4), random.value()),
        80..84 => {
            let _ = (device.read_isr(vm), vm.readq(device.device + random.below(128)));
        }
        84..88 => {
            let table = DEVICE.map_bar(vm, 1);
            write(vm, table + (random.below(4096) & !3), 2 + random.below(2), random.address());
        }
        88..91 => {
            // Capabilities, and the window to the registers among them.
            let at = 0x40 + random.below(0x80) as u8;
            DEVICE.writel(vm, at, random.value() as u32);
        }
        91..93 => DEVICE.writew(vm, 4, random.next() as u16 & 0x507),
        93..96 => {
            vm.clock_step(random.below(1_000_000_000));
        }
        96..98 => {
            let address = random.address();
            write(vm, address & !7, random.below(4), random.value());
        }
        _ => device.set_status(vm, random.next() as u8),
    }
}

fn fuzz(arguments: &[&str]) {
    let rounds = variable("VIRTIO_FUZZ_ROUNDS", 40);
    let mut random = Random(variable("VIRTIO_FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut vm = QTest::builder(env!("CARGO_BIN_EXE_softmmu"))
        .args(["-nodefaults", "-m", "128M"])
        .args(arguments)
        .start();
    for _ in 0..rounds {
        let (device, mut queues) = set_up(&mut vm, &mut random);
        for _ in 0..60 {
            step(&mut vm, &mut random, &device, &mut queues);
        }
    }
    // A driver that behaves is served as if nothing had been.
    let device = VirtioPci::open(&mut vm, DEVICE);
    assert!(device.negotiate(&mut vm, VERSION_1));
    device.driver_ok(&mut vm);
    assert_eq!(device.status(&mut vm), 0xf);
    assert!(vm.quit().success());
}

#[test]
fn rng() {
    fuzz(&["-device", "virtio-rng-pci,addr=4"]);
}

#[test]
fn balloon() {
    fuzz(&["-device", "virtio-balloon-pci,addr=4,free-page-reporting=on,guest-stats-polling-interval=1"]);
}

#[test]
fn serial() {
    fuzz(&[
        "-device",
        "virtio-serial-pci,addr=4",
        "-chardev",
        "ringbuf,id=c0",
        "-device",
        "virtconsole,chardev=c0",
        "-chardev",
        "null,id=c1",
        "-device",
        "virtserialport,chardev=c1",
    ]);
}

#[test]
fn keyboard() {
    fuzz(&["-device", "virtio-keyboard-pci,addr=4"]);
}

#[test]
fn tablet() {
    fuzz(&["-device", "virtio-tablet-pci,addr=4"]);
}

#[test]
fn blk() {
    fuzz(&[
        "-blockdev",
        "driver=null-co,node-name=n0,size=1048576,read-zeroes=on",
        "-device",
        "virtio-blk-pci,addr=4,drive=n0",
    ]);
}

#[test]
fn net() {
    fuzz(&["-netdev", "hubport,id=h0,hubid=0", "-device", "virtio-net-pci,addr=4,netdev=h0"]);
}
