//! A program that serves a network device's queues: each packet that the guest sends comes back to it. It reaches the
//! guest's memory by reading and writing its file.

use std::fs::File;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Requests, as the protocol numbers them (QEMU `docs/interop/vhost-user.rst`).
const GET_FEATURES: u32 = 1;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_NUM: u32 = 8;
const SET_VRING_ADDR: u32 = 9;
const SET_VRING_BASE: u32 = 10;
const GET_VRING_BASE: u32 = 11;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const GET_PROTOCOL_FEATURES: u32 = 15;
/// Version 1, and that it is an answer.
const REPLY: u32 = 1 | 1 << 2;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
/// Bytes of a packet's header, and of a descriptor.
const HEADER: usize = 12;
const DESCRIPTOR: u64 = 16;

/// A part of the guest's memory.
struct Region {
    guest: u64,
    size: u64,
    user: u64,
    offset: u64,
    file: File,
}

#[derive(Default)]
struct Ring {
    descriptors: u64,
    used: u64,
    available: u64,
    next: u16,
    entries: u64,
    kick: Option<File>,
    call: Option<File>,
}

pub struct Program {
    stream: UnixStream,
    memory: Vec<Region>,
    rings: [Ring; 2],
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

impl Program {
    /// Serves whoever is at the other end, until that hangs up.
    pub fn serve(stream: UnixStream) {
        let mut program = Program { stream, memory: Vec::new(), rings: Default::default() };
        loop {
            let mut fds = vec![PollFd::new(&program.stream, PollFlags::IN)];
            let kick = program.rings[1].kick.as_ref();
            fds.extend(kick.map(|kick| PollFd::new(kick, PollFlags::IN)));
            poll(&mut fds, None).expect("something comes");
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[0] && program.message().is_none() {
                return;
            }
            if ready.get(1) == Some(&true) {
                // It may be another's by now.
                let _ = program.rings[1].kick.as_ref().map(|mut kick| kick.read(&mut [0; 8]));
                program.echo();
            }
        }
    }

    fn message(&mut self) -> Option<()> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(&self.stream, &mut [IoSliceMut::new(&mut header)], &mut control, RecvFlags::empty());
        if got.ok()?.bytes != header.len() {
            return None;
        }
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let mut payload = vec![0; half(&header, 8) as usize];
        self.stream.read_exact(&mut payload).ok()?;
        self.carry_out(half(&header, 0), &payload, fds)
    }

    fn carry_out(&mut self, request: u32, payload: &[u8], fds: Vec<OwnedFd>) -> Option<()> {
        let mut files = fds.into_iter().map(File::from);
        match request {
            GET_FEATURES => self.reply(request, &(PROTOCOL_FEATURES | VERSION_1).to_le_bytes())?,
            GET_PROTOCOL_FEATURES => self.reply(request, &[0; 8])?,
            SET_MEM_TABLE => {
                let regions = payload[8..].chunks(32).zip(files);
                let region = |(bytes, file): (&[u8], File)| {
                    let [guest, size, user, offset] = [0, 8, 16, 24].map(|at| word(bytes, at));
                    Region { guest, size, user, offset, file }
                };
                self.memory = regions.map(region).collect();
            }
            SET_VRING_ADDR => {
                let ring = &mut self.rings[half(payload, 0) as usize];
                [ring.descriptors, ring.used, ring.available] = [8, 16, 24].map(|at| word(payload, at));
            }
            SET_VRING_NUM => self.rings[half(payload, 0) as usize].entries = half(payload, 4).into(),
            SET_VRING_BASE => self.rings[half(payload, 0) as usize].next = half(payload, 4) as u16,
            GET_VRING_BASE => {
                let ring = &mut self.rings[half(payload, 0) as usize];
                ring.kick = None;
                let next = u32::from(ring.next).to_le_bytes();
                self.reply(request, &[&payload[..4], &next].concat())?;
            }
            SET_VRING_KICK => self.rings[payload[0] as usize].kick = files.next(),
            SET_VRING_CALL => self.rings[payload[0] as usize].call = files.next(),
            _ => {}
        }
        Some(())
    }

    fn reply(&mut self, request: u32, payload: &[u8]) -> Option<()> {
        let header = [request, REPLY, payload.len() as u32].map(u32::to_le_bytes).concat();
        self.stream.write_all(&[&header, payload].concat()).ok()
    }

    /// Where an address of the guest's (or of the machine's program) is.
    fn place(&self, address: u64, start: impl Fn(&Region) -> u64) -> (&File, u64) {
        let inside = |region: &&Region| (start(region)..start(region) + region.size).contains(&address);
        let region = self.memory.iter().find(inside).expect("it is memory");
        (&region.file, address - start(region) + region.offset)
    }

    fn read_ring(&self, address: u64, bytes: &mut [u8]) {
        let (file, at) = self.place(address, |region| region.user);
        file.read_exact_at(bytes, at).expect("memory");
    }

    fn write_ring(&self, address: u64, bytes: &[u8]) {
        let (file, at) = self.place(address, |region| region.user);
        file.write_all_at(bytes, at).expect("memory");
    }

    fn u16_at(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        self.read_ring(address, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// The next chain of a ring: its head, the address and the length of its only buffer.
    fn pop(&mut self, index: usize) -> Option<(u16, u64, usize)> {
        let ring = &self.rings[index];
        if self.u16_at(ring.available + 2) == ring.next {
            return None;
        }
        let head = self.u16_at(ring.available + 4 + 2 * (u64::from(ring.next) % ring.entries));
        let mut descriptor = [0; DESCRIPTOR as usize];
        self.read_ring(ring.descriptors + DESCRIPTOR * u64::from(head), &mut descriptor);
        self.rings[index].next += 1;
        Some((head, word(&descriptor, 0), half(&descriptor, 8) as usize))
    }

    fn push(&self, index: usize, head: u16, written: usize) {
        let ring = &self.rings[index];
        let done = self.u16_at(ring.used + 2);
        let entry = [u32::from(head), written as u32].map(u32::to_le_bytes).concat();
        self.write_ring(ring.used + 4 + 8 * (u64::from(done) % ring.entries), &entry);
        self.write_ring(ring.used + 2, &(done + 1).to_le_bytes());
        if let Some(mut call) = ring.call.as_ref() {
            call.write_all(&1u64.to_ne_bytes()).expect("an eventfd");
        }
    }

    fn echo(&mut self) {
        while let Some((head, from, length)) = self.pop(1) {
            let mut packet = vec![0; length];
            let (file, at) = self.place(from, |region| region.guest);
            file.read_exact_at(&mut packet, at).expect("memory");
            // One buffer has all of it.
            packet[HEADER - 2] = 1;
            self.push(1, head, 0);
            let Some((head, to, room)) = self.pop(0) else { return };
            assert!(room >= length);
            let (file, at) = self.place(to, |region| region.guest);
            file.write_all_at(&packet, at).expect("memory");
            self.push(0, head, length);
        }
    }
}
