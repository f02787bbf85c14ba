//! `vhost=on`: the kernel takes packets between an interface and a guest's queues (net/tap.c, hw/net/vhost_net.c).
//!
//! Here are the options and the descriptors; `hw-virtio` speaks with the kernel.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qom::{Error, Result, bail};
use util::log::OsError;

use super::{NetdevTapOptions, Tap, failed};
use crate::client::VhostNet;
use crate::netdev::fd_param;

const PATH_VHOST_NET: &str = "/dev/vhost-net";

/// An open vhost device and what is asked of it.
pub(super) struct Vhost {
    device: Arc<OwnedFd>,
    busy_us: u32,
    forced: bool,
}

impl Vhost {
    /// Opens queue `number`'s, if the options ask for it. Where the host has none and need not, packets go through this
    /// program, of which a warning tells.
    pub fn open(options: &NetdevTapOptions, number: usize) -> Result<Option<Vhost>> {
        let one = options.vhostfd.as_deref();
        let passed = one.or_else(|| options.vhostfds.as_ref()?.split(':').nth(number));
        let forced = options.vhostforce == Some(true);
        if !options.vhost.unwrap_or(passed.is_some() || forced) {
            if passed.is_some() {
                bail!("vhostfd(s)= is not valid without vhost");
            }
            return Ok(None);
        }
        match open(passed) {
            Ok(device) => {
                let busy_us = options.poll_us.unwrap_or(0);
                Ok(Some(Vhost { device: Arc::new(device), busy_us, forced }))
            }
            Err(error) if forced => Err(error),
            Err(error) => {
                util::warn_report!("{error}");
                Ok(None)
            }
        }
    }
}

fn open(passed: Option<&str>) -> Result<OwnedFd> {
    let device = match passed {
        Some(name) => fd_param(name)?,
        None => {
            let file = OpenOptions::new().read(true).write(true).open(PATH_VHOST_NET);
            file.map_err(|error| failed("tap: open vhost char device failed", error))?.into()
        }
    };
    let nonblocking = rustix::io::ioctl_fionbio(&device, true);
    nonblocking
        .map_err(|error| Error::new(format!("Failed to set FD nonblocking: {}", OsError(error.into()))))?;
    Ok(device)
}

impl VhostNet for Tap {
    fn device(&self) -> &Arc<OwnedFd> {
        self.vhost.as_ref().map_or(&self.fd, |vhost| &vhost.device)
    }

    fn interface(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    fn busy_us(&self) -> u32 {
        self.vhost.as_ref().map_or(0, |vhost| vhost.busy_us)
    }

    fn is_forced(&self) -> bool {
        self.vhost.as_ref().is_some_and(|vhost| vhost.forced)
    }

    fn set_served(&self, served: bool) {
        self.poll(|state| state.served = served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(options: &NetdevTapOptions) -> String {
        Vhost::open(options, 0).err().unwrap().to_string()
    }

    #[test]
    fn descriptors_need_vhost_and_must_be_open() {
        let none = NetdevTapOptions::default();
        assert!(Vhost::open(&none, 0).unwrap().is_none());
        let off = NetdevTapOptions { vhost: Some(false), vhostfd: Some("3".into()), ..none.clone() };
        assert_eq!(error(&off), "vhostfd(s)= is not valid without vhost");
        let passed = NetdevTapOptions { vhostfd: Some("nothing".into()), ..none };
        // It may do without, and says so; unless it is forced.
        assert!(Vhost::open(&passed, 0).unwrap().is_none());
        let forced = NetdevTapOptions { vhostforce: Some(true), ..passed };
        assert!(error(&forced).contains("nothing"), "{}", error(&forced));
    }
}
