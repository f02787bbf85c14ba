//! Reads and writes of a virtio disk in loops: 4 KiB at random at depth 1 and 32, 128 KiB in order at depth 4; what
//! a request took by the guest's own clock. `n=` sets how many of each (128 unless told).
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::check::holds;
use kit::io::{rdtsc, read8, read64, write8, write32, write64};
use kit::say;
use kit::virtio::{Device, Queue, flag};

kit::guest!(main);

/// Free memory: the ring, headers and statuses, data.
const RING: u64 = 16 << 20;
const HEADERS: u64 = 17 << 20;
const STATUSES: u64 = 18 << 20;
const DATA: u64 = 32 << 20;
const SECTOR: u64 = 512;
/// Depths are at most this; each request has three descriptors.
const MOST: u16 = 32;
const RING_SIZE: u16 = 128;
/// Requests before the clock starts.
const WARM: u64 = 32;

struct Load {
    name: &'static str,
    write: bool,
    depth: u16,
    bytes: u64,
    random: bool,
}

const fn load(name: &'static str, write: bool, depth: u16, bytes: u64, random: bool) -> Load {
    Load { name, write, depth, bytes, random }
}

const LOADS: [Load; 6] = [
    load("read1", false, 1, 4096, true),
    load("read32", false, MOST, 4096, true),
    load("write1", true, 1, 4096, true),
    load("write32", true, MOST, 4096, true),
    load("readseq", false, 4, 128 << 10, false),
    load("writeseq", true, 4, 128 << 10, false),
];

fn main(info: &BootInfo) {
    let n = info.number("n").unwrap_or(128).max(1);
    let Some(device) = Device::find(2, 0x1001, 0) else { return holds("disk", false, 0) };
    let bytes = read64(device.config) * SECTOR;
    let mut disk = Disk { queue: device.queue(0, RING_SIZE, RING), bytes, at: 0, seed: 1, failed: 0 };
    device.start();
    for load in &LOADS {
        disk.run(load, WARM);
        let start = rdtsc();
        disk.run(load, n);
        say!("cycles ", load.name, " ", (rdtsc() - start) / n);
    }
    holds("disk-requests", disk.failed == 0, disk.failed);
}

struct Disk {
    queue: Queue,
    bytes: u64,
    at: u64,
    seed: u64,
    failed: u64,
}

impl Disk {
    fn run(&mut self, load: &Load, n: u64) {
        let (mut left, mut done) = (n, 0);
        for slot in 0..load.depth {
            if left > 0 {
                self.submit(load, slot);
                left -= 1;
            }
        }
        self.queue.kick();
        while done < n {
            self.queue.wait();
            while let Some(head) = self.queue.take() {
                let slot = head / 3;
                self.failed += u64::from(read8(STATUSES + u64::from(slot)) != 0);
                done += 1;
                if left > 0 {
                    left -= 1;
                    self.submit(load, slot);
                }
            }
            self.queue.kick();
        }
    }

    fn submit(&mut self, load: &Load, slot: u16) {
        let (header, status) = (HEADERS + u64::from(slot) * 16, STATUSES + u64::from(slot));
        write32(header, load.write.into());
        write64(header + 8, self.place(load) / SECTOR);
        write8(status, 0xff);
        let (head, data) = (slot * 3, DATA + u64::from(slot) * (128 << 10));
        let way = if load.write { 0 } else { flag::WRITE };
        self.queue.describe(head, header, 16, flag::NEXT);
        self.queue.describe(head + 1, data, load.bytes as u32, flag::NEXT | way);
        self.queue.describe(head + 2, status, 1, flag::WRITE);
        self.queue.add(head);
    }

    /// Where the next request goes: at random, or behind the last one.
    fn place(&mut self, load: &Load) -> u64 {
        let blocks = (self.bytes / load.bytes).max(1);
        if load.random {
            // Knuth's MMIX generator.
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.seed >> 33) % blocks * load.bytes
        } else {
            self.at = (self.at + 1) % blocks;
            self.at * load.bytes
        }
    }
}
