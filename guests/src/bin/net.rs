//! Packets through a virtio network in loops: echoes of a gateway one at a time and 32 at a time, datagrams that
//! nobody wants 32 at a time; what one took by the guest's own clock. `n=` sets how many of each (128 unless told).
//!
//! The guest is 10.0.2.15 and its gateway 10.0.2.2, as in `-netdev user`.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::check::holds;
use kit::io::{rdtsc, read8, read64, write8, write64};
use kit::say;
use kit::virtio::{Device, Queue, flag};

kit::guest!(main);

/// Free memory: two rings, packets from and to the network.
const RX_RING: u64 = 16 << 20;
const TX_RING: u64 = 17 << 20;
const RX: u64 = 32 << 20;
const TX: u64 = 33 << 20;
const SLOT: u64 = 2048;
const SLOTS: u16 = 128;
/// Before each packet: a virtio-net header of zeroes (virtio 1.2, section 5.1.6).
const HEADER: u64 = 12;
/// Packets before the clock starts.
const WARM: u64 = 64;
/// Feature: the address is in the configuration (section 5.1.3).
const MAC: u32 = 1 << 5;

const US: [u8; 4] = [10, 0, 2, 15];
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ARP_REPLY: u16 = 2;
const ETHER: u64 = 14;
const IP: u64 = 20;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// What ICMP and UDP have before their data.
const BODY_HEADER: u64 = 8;

struct Load {
    name: &'static str,
    echo: bool,
    /// Packets on their way at most.
    depth: u64,
    /// Bytes behind the IP header.
    bytes: u64,
}

const LOADS: [Load; 3] = [
    Load { name: "echo1", echo: true, depth: 1, bytes: 64 },
    Load { name: "echo32", echo: true, depth: 32, bytes: 1400 },
    Load { name: "send32", echo: false, depth: 32, bytes: 1400 },
];

fn main(info: &BootInfo) {
    let n = info.number("n").unwrap_or(128).max(1);
    let Some(device) = Device::find(1, 0x1000, MAC) else { return holds("network", false, 0) };
    let mut mac = [0; 6];
    (0..).zip(&mut mac).for_each(|(i, byte)| *byte = read8(device.config + i));
    let (rx, tx) = (device.queue(0, SLOTS, RX_RING), device.queue(1, SLOTS, TX_RING));
    let mut net = Net { rx, tx, mac, gateway: None, next: 0, on_way: 0, wrong: 0 };
    device.start();
    net.prepare();
    net.find_gateway();
    for load in &LOADS {
        net.fill(load);
        net.run(load, WARM);
        let start = rdtsc();
        net.run(load, n);
        say!("cycles ", load.name, " ", (rdtsc() - start) / n);
    }
    holds("network-echoes", net.wrong == 0, net.wrong);
}

struct Net {
    rx: Queue,
    tx: Queue,
    mac: [u8; 6],
    gateway: Option<[u8; 6]>,
    /// The slot of the next packet to be sent.
    next: u16,
    /// Packets that the device has not sent yet.
    on_way: u64,
    /// Echoes that are not what was sent.
    wrong: u64,
}

fn put(at: u64, bytes: &[u8]) {
    (at..).zip(bytes).for_each(|(at, byte)| write8(at, *byte));
}

fn be16(at: u64) -> u16 {
    u16::from_be_bytes([read8(at), read8(at + 1)])
}

/// The internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(at: u64, bytes: u64) -> [u8; 2] {
    let sum: u32 = (at..at + bytes).step_by(2).map(|at| u32::from(be16(at))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

impl Net {
    fn prepare(&mut self) {
        for slot in 0..SLOTS {
            self.rx.describe(slot, RX + u64::from(slot) * SLOT, SLOT as u32, flag::WRITE);
            self.rx.add(slot);
        }
        self.rx.kick();
    }

    /// Asks who the gateway is, until it answers (RFC 826).
    fn find_gateway(&mut self) {
        let at = self.begin([0xff; 6], ETHERTYPE_ARP);
        put(at, &[0, 1, 8, 0, 6, 4, 0, 1]);
        put(at + 8, &self.mac);
        put(at + 14, &US);
        put(at + 18, &[0; 6]);
        put(at + 24, &GATEWAY);
        self.tx.describe(0, TX, (HEADER + ETHER + 28) as u32, 0);
        self.send();
        self.tx.kick();
        while self.gateway.is_none() {
            self.rx.wait();
            self.receive(0);
        }
    }

    /// Writes the headers of the packet in the first slot; gives where it goes on.
    fn begin(&self, to: [u8; 6], kind: u16) -> u64 {
        put(TX, &[0; HEADER as usize]);
        put(TX + HEADER, &to);
        put(TX + HEADER + 6, &self.mac);
        put(TX + HEADER + 12, &kind.to_be_bytes());
        TX + HEADER + ETHER
    }

    /// Fills all slots with the load's packet.
    fn fill(&mut self, load: &Load) {
        self.drain(0);
        let at = self.begin(self.gateway.unwrap_or_default(), ETHERTYPE_IPV4);
        put(at, &[0x45, 0]);
        put(at + 2, &((IP + load.bytes) as u16).to_be_bytes());
        let protocol = if load.echo { PROTOCOL_ICMP } else { PROTOCOL_UDP };
        put(at + 4, &[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        put(at + 12, &US);
        put(at + 16, &GATEWAY);
        let sum = checksum(at, IP);
        put(at + 10, &sum);
        let body = at + IP;
        (BODY_HEADER..load.bytes).for_each(|i| write8(body + i, i as u8));
        if load.echo {
            put(body, &[ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 1]);
            let sum = checksum(body, load.bytes);
            put(body + 2, &sum);
        } else {
            // From port 1024 to port 9, without a checksum.
            put(body, &[4, 0, 0, 9]);
            put(body + 4, &(load.bytes as u16).to_be_bytes());
            put(body + 6, &[0, 0]);
        }
        let length = HEADER + ETHER + IP + load.bytes;
        for slot in 0..SLOTS {
            let place = TX + u64::from(slot) * SLOT;
            (0..length).step_by(8).for_each(|at| write64(place + at, read64(TX + at)));
            self.tx.describe(slot, place, length as u32, 0);
        }
    }

    /// Sends `n` packets, and another as soon as one is answered or, where no answer is due, sent.
    fn run(&mut self, load: &Load, n: u64) {
        self.drain(0);
        let (mut sent, mut done) = (0, 0);
        while done < n {
            while sent < n && sent - done < load.depth {
                self.send();
                sent += 1;
            }
            self.tx.kick();
            if load.echo {
                self.rx.wait();
                done += self.receive(load.bytes);
            } else {
                self.drain(sent - done - 1);
                done = sent - self.on_way;
                self.receive(0);
            }
        }
    }

    /// Sends the next slot's packet, when it is out since the last time.
    fn send(&mut self) {
        self.reap();
        self.drain(u64::from(SLOTS) - 1);
        self.tx.add(self.next);
        self.next = (self.next + 1) % SLOTS;
        self.on_way += 1;
    }

    fn reap(&mut self) {
        while self.tx.take().is_some() {
            self.on_way -= 1;
        }
    }

    /// Waits until at most so many packets are on their way.
    fn drain(&mut self, most: u64) {
        while self.on_way > most {
            self.tx.wait();
            self.reap();
        }
    }

    /// Looks at what came; gives how many echoes there were, which are to have so many bytes behind the IP header.
    fn receive(&mut self, bytes: u64) -> u64 {
        let mut echoes = 0;
        while let Some(slot) = self.rx.take() {
            let frame = RX + u64::from(slot) * SLOT + HEADER;
            let at = frame + ETHER;
            match be16(frame + 12) {
                ETHERTYPE_ARP if be16(at + 6) == ARP_REPLY => {
                    let mut mac = [0; 6];
                    (frame + 6..).zip(&mut mac).for_each(|(at, byte)| *byte = read8(at));
                    self.gateway = Some(mac);
                }
                ETHERTYPE_IPV4 if read8(at + 9) == PROTOCOL_ICMP && read8(at + IP) == ECHO_REPLY => {
                    let last = read8(at + IP + bytes.saturating_sub(1));
                    let right = u64::from(be16(at + 2)) == IP + bytes && last == bytes.wrapping_sub(1) as u8;
                    self.wrong += u64::from(!right);
                    echoes += 1;
                }
                _ => {}
            }
            self.rx.add(slot);
        }
        self.rx.kick();
        echoes
    }
}
