//! Another program that serves queues, over a unix socket: vhost-user (QEMU `hw/virtio/vhost-user.c`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use ::memory::RamBlock;
use parking_lot::Mutex;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::VhostBackend;
use super::kernel::{MemoryPiece, VringAddresses};

/// The program at the other end of a socket.
pub struct VhostUser {
    frontend: Mutex<Frontend>,
    features: u64,
    /// It notes which requests it has begun with where another program can go on from.
    tracks: bool,
}

/// Where a program notes what it has begun with: memory that it shares and nobody else looks at.
pub(super) type Inflight = (VhostUserInflight, File);

fn failed(error: vhost::Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// What can be shared with the program; pieces that follow each other in the guest and in one block are one.
fn joined(pieces: &[(MemoryPiece, Arc<RamBlock>)]) -> Vec<(MemoryPiece, Arc<RamBlock>)> {
    let mut all: Vec<(MemoryPiece, Arc<RamBlock>)> = Vec::new();
    for (piece, ram) in pieces.iter().filter(|(_, ram)| ram.is_shared() && ram.file().is_some()) {
        match all.last_mut() {
            Some((last, its))
                if Arc::ptr_eq(its, ram)
                    && last.guest + last.size == piece.guest
                    && last.host + last.size == piece.host =>
            {
                last.size += piece.size;
            }
            _ => all.push((*piece, ram.clone())),
        }
    }
    all
}

/// How many queues a program has. It is asked by another frontend than the one that is used: that would take the answer
/// for the number of rings, of which a network's queue has two.
fn queues_offered(stream: UnixStream, features: VhostUserProtocolFeatures) -> io::Result<u64> {
    let mut frontend = Frontend::from_stream(stream, 1);
    frontend.get_features().map_err(failed)?;
    frontend.get_protocol_features().map_err(failed)?;
    frontend.set_protocol_features(features).map_err(failed)?;
    frontend.get_queue_num().map_err(failed)
}

impl VhostUser {
    /// Agrees with a program on how to talk, about a device with `queues` queues of `rings` rings each, whose
    /// configuration it has if `has_config` says so (`vhost_user_backend_init`).
    ///
    /// # Errors
    /// What it does wrong, or cannot do.
    pub fn new(stream: OwnedFd, queues: u16, rings: u16, has_config: bool) -> io::Result<Arc<VhostUser>> {
        let stream = UnixStream::from(stream);
        let asked = stream.try_clone()?;
        let mut frontend = Frontend::from_stream(stream, u64::from(queues) * u64::from(rings));
        let features = frontend.get_features().map_err(failed)?;
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            return Err(io::Error::other("the backend has no protocol features"));
        }
        let offered = frontend.get_protocol_features().map_err(failed)?;
        let (config, many) = (VhostUserProtocolFeatures::CONFIG, VhostUserProtocolFeatures::MQ);
        if has_config && !offered.contains(config) {
            return Err(io::Error::other("vhost-user backend doesn't support config space"));
        }
        let tracks = VhostUserProtocolFeatures::INFLIGHT_SHMFD;
        let wanted = offered & (config | many | tracks | VhostUserProtocolFeatures::REPLY_ACK);
        frontend.set_protocol_features(wanted).map_err(failed)?;
        let most = if wanted.contains(many) { queues_offered(asked, wanted)? } else { 1 };
        if u64::from(queues) > most {
            let what = "The maximum number of queues supported by the backend is";
            return Err(io::Error::other(format!("{what} {most}")));
        }
        frontend.set_owner().map_err(failed)?;
        // From now on it says whether it has done what it was asked.
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let tracks = wanted.contains(tracks);
        Ok(Arc::new(VhostUser { frontend: Mutex::new(frontend), features, tracks }))
    }

    /// Has the program note in `inflight` which requests it has begun with, and first carry out what an earlier one noted
    /// there (`vhost_dev_prepare_inflight`).
    pub(super) fn track(&self, inflight: &mut Option<Inflight>, queues: u16, size: u16) -> io::Result<()> {
        if !self.tracks {
            return Ok(());
        }
        let mut frontend = self.frontend.lock();
        let (area, file) = match inflight.take() {
            Some(inflight) => inflight,
            None => frontend.get_inflight_fd(&VhostUserInflight::new(0, 0, queues, size)).map_err(failed)?,
        };
        let told = frontend.set_inflight_fd(&area, file.as_raw_fd()).map_err(failed);
        *inflight = Some((area, file));
        told
    }

    /// The virtio features that it knows.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The first bytes of the device's configuration.
    ///
    /// # Errors
    /// What it does wrong.
    pub fn config(&self, bytes: usize) -> io::Result<Vec<u8>> {
        let (flags, room) = (VhostUserConfigFlags::empty(), vec![0; bytes]);
        let got = self.frontend.lock().get_config(0, bytes as u32, flags, &room);
        got.map(|(_, payload)| payload).map_err(failed)
    }

    /// The driver wrote the device's configuration.
    ///
    /// # Errors
    /// What it does wrong.
    pub fn set_config(&self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.frontend.lock().set_config(offset, VhostUserConfigFlags::WRITABLE, bytes).map_err(failed)
    }
}

impl VhostBackend for VhostUser {
    fn set_features(&self, features: u64) -> io::Result<()> {
        let features = features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.frontend.lock().set_features(features).map_err(failed)
    }

    fn set_memory(&self, pieces: &[(MemoryPiece, Arc<RamBlock>)]) -> io::Result<()> {
        let pieces = joined(pieces);
        let describe = |(piece, ram): &(MemoryPiece, Arc<RamBlock>)| {
            let (file, offset) = ram.file()?;
            Some(VhostUserMemoryRegionInfo {
                guest_phys_addr: piece.guest,
                memory_size: piece.size,
                userspace_addr: piece.host,
                mmap_offset: offset + (piece.host - ram.host_address()),
                mmap_handle: file.as_raw_fd(),
            })
        };
        let regions: Vec<_> = pieces.iter().filter_map(describe).collect();
        if regions.is_empty() {
            let what = "Failed initializing vhost-user memory map, consider using -object memory-backend-file share=on";
            return Err(io::Error::other(what));
        }
        self.frontend.lock().set_mem_table(&regions).map(drop).map_err(failed)
    }

    fn set_vring_num(&self, index: u32, entries: u16) -> io::Result<()> {
        self.frontend.lock().set_vring_num(index as usize, entries).map_err(failed)
    }

    fn set_vring_base(&self, index: u32, next: u16) -> io::Result<()> {
        self.frontend.lock().set_vring_base(index as usize, next).map_err(failed)
    }

    fn set_vring_addresses(&self, addresses: VringAddresses) -> io::Result<()> {
        let data = VringConfigData {
            // These two are not sent.
            queue_max_size: 0,
            queue_size: 0,
            flags: 0,
            desc_table_addr: addresses.descriptors,
            used_ring_addr: addresses.used,
            avail_ring_addr: addresses.available,
            log_addr: None,
        };
        self.frontend.lock().set_vring_addr(addresses.index as usize, &data).map_err(failed)
    }

    fn set_vring_call(&self, index: u32, call: &EventFd) -> io::Result<()> {
        self.frontend.lock().set_vring_call(index as usize, call).map_err(failed)
    }

    fn set_vring_kick(&self, index: u32, kick: &EventFd) -> io::Result<()> {
        self.frontend.lock().set_vring_kick(index as usize, kick).map_err(failed)
    }

    fn enable_vring(&self, index: u32, on: bool) -> io::Result<()> {
        self.frontend.lock().set_vring_enable(index as usize, on).map_err(failed)
    }

    fn vring_base(&self, index: u32) -> io::Result<u16> {
        self.frontend.lock().get_vring_base(index as usize).map(|next| next as u16).map_err(failed)
    }
}
