//! The requests of Linux's TUN/TAP driver (net/tap-linux.c; Linux `linux/if_tun.h`, `linux/if.h`), and packets from
//! guest memory.
//!
//! They are the only `unsafe` of this crate: no crate at hand has those that set offloads and header lengths, and the
//! libraries' calls want `&[u8]`, which guest memory must never be.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use memory::IoVecs;
use memory::vm_memory::VolatileSlice;
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

/// The bytes of an interface's name, its end among them.
const IFNAMSIZ: usize = 16;

/// Interface flags of `TUNSETIFF` and `TUNSETQUEUE`.
pub const IFF_TAP: u16 = 0x0002;
pub const IFF_NO_PI: u16 = 0x1000;
pub const IFF_VNET_HDR: u16 = 0x4000;
pub const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
const IFF_DETACH_QUEUE: u16 = 0x0400;

/// Offloads of `TUNSETOFFLOAD`.
pub const TUN_F_CSUM: usize = 0x01;
pub const TUN_F_TSO4: usize = 0x02;
pub const TUN_F_TSO6: usize = 0x04;
pub const TUN_F_TSO_ECN: usize = 0x08;
pub const TUN_F_UFO: usize = 0x10;

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNGETFEATURES: Opcode = opcode::read::<u32>(b'T', 207);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNGETIFF: Opcode = opcode::read::<u32>(b'T', 210);
const TUNSETSNDBUF: Opcode = opcode::write::<i32>(b'T', 212);
const TUNGETVNETHDRSZ: Opcode = opcode::read::<i32>(b'T', 215);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);
const TUNSETQUEUE: Opcode = opcode::write::<i32>(b'T', 217);

/// `struct ifreq`: a name, and flags in a union of 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct IfReq {
    name: [u8; IFNAMSIZ],
    flags: u16,
    rest: [u16; 11],
}

impl IfReq {
    fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(IFNAMSIZ);
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

/// What the driver can do: flags of `TUNSETIFF`.
pub fn features(fd: &OwnedFd) -> Result<u16> {
    // SAFETY: TUNGETFEATURES writes an unsigned int, which the getter has room for.
    let features = unsafe { ioctl(fd, Getter::<TUNGETFEATURES, u32>::new()) }?;
    Ok(features as u16)
}

/// Makes the descriptor a queue of an interface; gives the interface's name, which may have been chosen (`%d`).
pub fn set_iff(fd: &OwnedFd, name: &str, flags: u16) -> Result<String> {
    let mut request = IfReq { flags, ..IfReq::default() };
    let length = name.len().min(IFNAMSIZ - 1);
    request.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, whose layout `IfReq` has, and keeps no reference to it.
    unsafe { ioctl(fd, Updater::<TUNSETIFF, IfReq>::new(&mut request)) }?;
    Ok(request.name())
}

/// The flags of the descriptor's interface, and its name.
pub fn get_iff(fd: &OwnedFd) -> Result<(u16, String)> {
    let mut request = IfReq::default();
    // SAFETY: TUNGETIFF writes a `struct ifreq`, whose layout `IfReq` has, and keeps no reference to it.
    unsafe { ioctl(fd, Updater::<TUNGETIFF, IfReq>::new(&mut request)) }?;
    Ok((request.flags, request.name()))
}

/// What the host may leave to be done on packets that it sends us.
pub fn set_offload(fd: &OwnedFd, offload: usize) -> Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument as a number.
    unsafe { ioctl(fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offload)) }
}

/// How many bytes of ours the host keeps before it says that there is no room.
pub fn set_sndbuf(fd: &OwnedFd, bytes: i32) -> Result<()> {
    // SAFETY: TUNSETSNDBUF reads an int.
    unsafe { ioctl(fd, Setter::<TUNSETSNDBUF, i32>::new(bytes)) }
}

/// The bytes of the virtio-net header.
pub fn vnet_hdr_len(fd: &OwnedFd) -> Result<i32> {
    // SAFETY: TUNGETVNETHDRSZ writes an int, which the getter has room for.
    unsafe { ioctl(fd, Getter::<TUNGETVNETHDRSZ, i32>::new()) }
}

/// Sets the bytes of the virtio-net header.
pub fn set_vnet_hdr_len(fd: &OwnedFd, bytes: i32) -> Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads an int.
    unsafe { ioctl(fd, Setter::<TUNSETVNETHDRSZ, i32>::new(bytes)) }
}

/// Uses a queue, or not.
pub fn set_queue(fd: &OwnedFd, attach: bool) -> Result<()> {
    let flags = if attach { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE };
    // SAFETY: TUNSETQUEUE reads a `struct ifreq`, whose layout `IfReq` has.
    unsafe { ioctl(fd, Setter::<TUNSETQUEUE, IfReq>::new(IfReq { flags, ..IfReq::default() })) }
}

/// Sends a packet that lies in guest memory; `E2BIG` where it has more parts than the kernel takes at once.
pub fn write_parts(fd: &OwnedFd, parts: &[VolatileSlice<'_>]) -> Result<usize> {
    let iov = IoVecs::new(parts);
    if iov.len() < parts.len() {
        return Err(Errno::TOOBIG);
    }
    retry_on_intr(|| {
        // SAFETY: each iovec is a `VolatileSlice` that `parts` borrows, so its memory is mapped and readable until this
        // returns. The kernel accesses it as a guest does; no reference to it exists.
        let written = unsafe { libc::writev(fd.as_raw_fd(), iov.as_ptr(), iov.len() as i32) };
        usize::try_from(written)
            .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    })
}
