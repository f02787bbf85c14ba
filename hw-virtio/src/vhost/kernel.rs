//! The requests of Linux's vhost drivers (Linux `linux/vhost.h`, `linux/vhost_types.h`).
//!
//! They are the only `unsafe` of this crate. rust-vmm's `vhost` has them too, but opens the drivers itself, so that no
//! descriptor could be passed (`vhostfd=`), and wants a map of memory made of vm-memory's own regions.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use memory::RamBlock;
use rustix::io::Result;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};
use vmm_sys_util::eventfd::EventFd;

use super::VhostBackend;

/// Pieces of memory that the drivers take, unless their module was told otherwise.
pub const MAX_REGIONS: usize = 64;

const GROUP: u8 = 0xaf;
const GET_FEATURES: Opcode = opcode::read::<u64>(GROUP, 0);
const SET_FEATURES: Opcode = opcode::write::<u64>(GROUP, 0);
const SET_OWNER: Opcode = opcode::none(GROUP, 1);
/// Its size is that of the head only.
const SET_MEM_TABLE: Opcode = opcode::write::<[u32; 2]>(GROUP, 3);
const SET_VRING_NUM: Opcode = opcode::write::<VringState>(GROUP, 0x10);
const SET_VRING_ADDR: Opcode = opcode::write::<VringAddresses>(GROUP, 0x11);
const SET_VRING_BASE: Opcode = opcode::write::<VringState>(GROUP, 0x12);
const GET_VRING_BASE: Opcode = opcode::read_write::<VringState>(GROUP, 0x12);
const SET_VRING_KICK: Opcode = opcode::write::<VringFile>(GROUP, 0x20);
const SET_VRING_CALL: Opcode = opcode::write::<VringFile>(GROUP, 0x21);
const SET_VRING_BUSYLOOP_TIMEOUT: Opcode = opcode::write::<VringState>(GROUP, 0x23);
const NET_SET_BACKEND: Opcode = opcode::write::<VringFile>(GROUP, 0x30);
const VSOCK_SET_GUEST_CID: Opcode = opcode::write::<u64>(GROUP, 0x60);
const VSOCK_SET_RUNNING: Opcode = opcode::write::<i32>(GROUP, 0x61);

/// `struct vhost_vring_state`: the size, the base or the busy-loop timeout of a ring.
#[repr(C)]
#[derive(Clone, Copy)]
struct VringState {
    index: u32,
    value: u32,
}

/// `struct vhost_vring_file`; -1 for none.
#[repr(C)]
#[derive(Clone, Copy)]
struct VringFile {
    index: u32,
    fd: i32,
}

/// `struct vhost_vring_addr`: where a ring is in this process.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct VringAddresses {
    pub index: u32,
    pub flags: u32,
    pub descriptors: u64,
    pub used: u64,
    pub available: u64,
    pub log: u64,
}

/// `struct vhost_memory_region`: where a piece of the guest's memory is in this process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPiece {
    pub guest: u64,
    pub size: u64,
    pub host: u64,
    pub padding: u64,
}

/// `struct vhost_memory` with room for all.
#[repr(C)]
struct MemoryTable {
    count: u32,
    padding: u32,
    pieces: [MemoryPiece; MAX_REGIONS],
}

/// A driver of the kernel's, open.
pub(super) struct Kernel(pub Arc<OwnedFd>);

impl VhostBackend for Kernel {
    fn set_features(&self, features: u64) -> io::Result<()> {
        Ok(set_features(&self.0, features)?)
    }

    fn set_memory(&self, pieces: &[(MemoryPiece, Arc<RamBlock>)]) -> io::Result<()> {
        if pieces.len() > MAX_REGIONS {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let pieces: Vec<MemoryPiece> = pieces.iter().map(|(piece, _)| *piece).collect();
        Ok(set_memory(&self.0, &pieces)?)
    }

    fn set_vring_num(&self, index: u32, entries: u16) -> io::Result<()> {
        Ok(set_vring_num(&self.0, index, entries)?)
    }

    fn set_vring_base(&self, index: u32, next: u16) -> io::Result<()> {
        Ok(set_vring_base(&self.0, index, next)?)
    }

    fn set_vring_addresses(&self, addresses: VringAddresses) -> io::Result<()> {
        Ok(set_vring_addresses(&self.0, addresses)?)
    }

    fn set_vring_busyloop(&self, index: u32, microseconds: u32) -> io::Result<()> {
        Ok(set_vring_busyloop(&self.0, index, microseconds)?)
    }

    fn set_vring_call(&self, index: u32, call: &EventFd) -> io::Result<()> {
        Ok(set_vring_call(&self.0, index, call)?)
    }

    fn set_vring_kick(&self, index: u32, kick: &EventFd) -> io::Result<()> {
        Ok(set_vring_kick(&self.0, index, kick)?)
    }

    fn vring_base(&self, index: u32) -> io::Result<u16> {
        Ok(vring_base(&self.0, index)?)
    }
}

/// The driver works for this process.
pub fn set_owner(fd: &OwnedFd) -> Result<()> {
    // SAFETY: VHOST_SET_OWNER takes no argument.
    unsafe { ioctl(fd, NoArg::<SET_OWNER>::new()) }
}

/// What the driver can do.
pub fn features(fd: &OwnedFd) -> Result<u64> {
    // SAFETY: VHOST_GET_FEATURES writes a u64, which the getter has room for.
    unsafe { ioctl(fd, Getter::<GET_FEATURES, u64>::new()) }
}

/// What it is to do.
fn set_features(fd: &OwnedFd, features: u64) -> Result<()> {
    // SAFETY: VHOST_SET_FEATURES reads a u64.
    unsafe { ioctl(fd, Setter::<SET_FEATURES, u64>::new(features)) }
}

/// Tells where the guest's memory is; of more than [`MAX_REGIONS`] pieces the last are left out.
///
/// The caller keeps all pieces mapped until the driver has no backend any more or another table.
fn set_memory(fd: &OwnedFd, pieces: &[MemoryPiece]) -> Result<()> {
    let mut table = MemoryTable { count: 0, padding: 0, pieces: [MemoryPiece::default(); MAX_REGIONS] };
    for (place, piece) in table.pieces.iter_mut().zip(pieces) {
        *place = *piece;
        table.count += 1;
    }
    // SAFETY: VHOST_SET_MEM_TABLE reads a `struct vhost_memory` with `count` regions behind it, which is what the
    // table begins with. The driver reaches the memory as this process does, and the caller keeps it mapped.
    unsafe { ioctl(fd, Setter::<SET_MEM_TABLE, MemoryTable>::new(table)) }
}

/// The entries of a ring.
fn set_vring_num(fd: &OwnedFd, index: u32, entries: u16) -> Result<()> {
    let state = VringState { index, value: entries.into() };
    // SAFETY: VHOST_SET_VRING_NUM reads a `struct vhost_vring_state`.
    unsafe { ioctl(fd, Setter::<SET_VRING_NUM, VringState>::new(state)) }
}

/// The entry of the available ring to look at next.
fn set_vring_base(fd: &OwnedFd, index: u32, next: u16) -> Result<()> {
    let state = VringState { index, value: next.into() };
    // SAFETY: VHOST_SET_VRING_BASE reads a `struct vhost_vring_state`.
    unsafe { ioctl(fd, Setter::<SET_VRING_BASE, VringState>::new(state)) }
}

/// The same, as far as the driver has come.
fn vring_base(fd: &OwnedFd, index: u32) -> Result<u16> {
    let mut state = VringState { index, value: 0 };
    // SAFETY: VHOST_GET_VRING_BASE reads and writes a `struct vhost_vring_state`, and keeps no reference to it.
    unsafe { ioctl(fd, Updater::<GET_VRING_BASE, VringState>::new(&mut state)) }?;
    Ok(state.value as u16)
}

/// Where a ring is. The caller keeps it mapped as in [`set_memory`].
fn set_vring_addresses(fd: &OwnedFd, addresses: VringAddresses) -> Result<()> {
    // SAFETY: VHOST_SET_VRING_ADDR reads a `struct vhost_vring_addr`; see `set_memory` for the addresses in it.
    unsafe { ioctl(fd, Setter::<SET_VRING_ADDR, VringAddresses>::new(addresses)) }
}

/// How many microseconds the driver looks for more before it sleeps.
fn set_vring_busyloop(fd: &OwnedFd, index: u32, microseconds: u32) -> Result<()> {
    let state = VringState { index, value: microseconds };
    // SAFETY: VHOST_SET_VRING_BUSYLOOP_TIMEOUT reads a `struct vhost_vring_state`.
    unsafe { ioctl(fd, Setter::<SET_VRING_BUSYLOOP_TIMEOUT, VringState>::new(state)) }
}

/// What wakes the driver.
fn set_vring_kick(fd: &OwnedFd, index: u32, kick: &EventFd) -> Result<()> {
    let file = VringFile { index, fd: kick.as_raw_fd() };
    // SAFETY: VHOST_SET_VRING_KICK reads a `struct vhost_vring_file`; the driver takes a reference to the open eventfd.
    unsafe { ioctl(fd, Setter::<SET_VRING_KICK, VringFile>::new(file)) }
}

/// What the driver signals for an interrupt.
fn set_vring_call(fd: &OwnedFd, index: u32, call: &EventFd) -> Result<()> {
    let file = VringFile { index, fd: call.as_raw_fd() };
    // SAFETY: VHOST_SET_VRING_CALL reads a `struct vhost_vring_file`; the driver takes a reference to the open eventfd.
    unsafe { ioctl(fd, Setter::<SET_VRING_CALL, VringFile>::new(file)) }
}

/// Which interface a ring's packets come from or go to; with none, the driver does nothing any more.
pub fn net_set_backend(fd: &OwnedFd, index: u32, backend: Option<BorrowedFd<'_>>) -> Result<()> {
    let file = VringFile { index, fd: backend.map_or(-1, |backend| backend.as_raw_fd()) };
    // SAFETY: VHOST_NET_SET_BACKEND reads a `struct vhost_vring_file`; the driver takes a reference to the open file.
    unsafe { ioctl(fd, Setter::<NET_SET_BACKEND, VringFile>::new(file)) }
}

/// The guest's address among the sockets; no other guest has it.
pub fn vsock_set_guest_cid(fd: &OwnedFd, cid: u64) -> Result<()> {
    // SAFETY: VHOST_VSOCK_SET_GUEST_CID reads a u64.
    unsafe { ioctl(fd, Setter::<VSOCK_SET_GUEST_CID, u64>::new(cid)) }
}

/// Has the driver take packets between the rings and sockets, or not any more.
pub fn vsock_set_running(fd: &OwnedFd, running: bool) -> Result<()> {
    // SAFETY: VHOST_VSOCK_SET_RUNNING reads an int.
    unsafe { ioctl(fd, Setter::<VSOCK_SET_RUNNING, i32>::new(running.into())) }
}
