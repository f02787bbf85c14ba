//! Interfaces that a helper opens, and puts on a bridge, for a program that may not (net/tap.c): `-netdev bridge`, and
//! `helper=` of `-netdev tap`.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use qapi::QapiType;
use qom::{Error, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg,
    socketpair,
};

use super::{NetdevTapOptions, Queue, add_queue, failed, has_vnet_hdr};
use crate::client::NetClientState;

/// What `-netdev bridge` takes.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NetdevBridgeOptions {
    /// The bridge.
    pub br: Option<String>,
    /// The program that opens an interface on it: its path, or a command of the shell's.
    pub helper: Option<String>,
}

const MODEL: &str = "bridge";
/// Where Debian has QEMU's own.
const DEFAULT_HELPER: &str = "/usr/lib/qemu/qemu-bridge-helper";
const DEFAULT_BRIDGE: &str = "br0";

/// The helper as a command that is told the bridge and where to send the interface.
fn command(helper: &str, bridge: &str, socket: &OwnedFd) -> Command {
    let fd = format!("--fd={}", socket.as_raw_fd());
    let bridge = format!("--br={bridge}");
    if !helper.contains([' ', '\t']) {
        let mut command = Command::new(helper);
        command.args(["--use-vnet", &fd, &bridge]);
        return command;
    }
    let named = helper.contains("--br=");
    let line = format!("{helper} --use-vnet {fd} {}", if named { "" } else { &bridge });
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]);
    command
}

/// The descriptor that comes over a socket; none where the other end hangs up without.
fn receive(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// Runs a helper, and gives what it opened (`net_bridge_run_helper`).
fn run_helper(helper: &str, bridge: &str) -> Result<OwnedFd> {
    let (own, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| failed("socketpair() failed", error))?;
    // Only the helper inherits it: nothing else is started meanwhile.
    fcntl_setfd(&other, FdFlags::empty()).map_err(|error| failed("socketpair() failed", error))?;
    let child = command(helper, bridge, &other).spawn();
    drop(other);
    // One that cannot be run is as one that fails.
    let Ok(mut child) = child else { bail!("bridge helper failed") };
    let received = receive(&own);
    let succeeded = child.wait().is_ok_and(|status| status.success());
    let told = "failed to recv file descriptor";
    match received.map_err(|error| failed(told, error))? {
        _ if !succeeded => bail!("bridge helper failed"),
        Some(fd) => Ok(fd),
        None => Err(Error::new(told)),
    }
}

fn init(
    options: &NetdevTapOptions,
    (helper, bridge): (&str, &str),
    (id, peer): (&str, Option<&Arc<NetClientState>>),
    info: String,
) -> Result<()> {
    let fd = run_helper(helper, bridge)?;
    let header = has_vnet_hdr(&fd, &fd.as_raw_fd().to_string())?;
    add_queue(Queue { options, model: MODEL, id, peer, number: 0, fd, header, info, down: None })
}

/// Makes the backend `bridge`.
pub(crate) fn init_bridge(
    id: &str,
    options: &NetdevBridgeOptions,
    peer: Option<&Arc<NetClientState>>,
) -> Result<()> {
    let helper = options.helper.as_deref().unwrap_or(DEFAULT_HELPER);
    let bridge = options.br.as_deref().unwrap_or(DEFAULT_BRIDGE);
    let info = format!("helper={helper},br={bridge}");
    init(&NetdevTapOptions::default(), (helper, bridge), (id, peer), info)
}

/// Makes the backend `tap` with a helper.
pub(super) fn init_helped(
    id: &str,
    options: &NetdevTapOptions,
    peer: Option<&Arc<NetClientState>>,
) -> Result<()> {
    let NetdevTapOptions { ifname, script, downscript, vhostfds, .. } = options;
    let strings = [ifname, script, downscript, vhostfds].iter().any(|option| option.is_some());
    if strings || options.vnet_hdr.is_some() || options.queues.is_some() {
        bail!("ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid with helper=");
    }
    let helper = options.helper.as_deref().unwrap_or(DEFAULT_HELPER);
    let bridge = options.br.as_deref().unwrap_or(DEFAULT_BRIDGE);
    init(options, (helper, bridge), (id, peer), format!("helper={helper}"))
}
