//! `-netdev tap`: a network interface of the host (net/tap.c).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::{Arc, Weak};

use memory::vm_memory::VolatileSlice;
use parking_lot::Mutex;
use qapi::QapiType;
use qom::{Error, Result, bail};
use rustix::io::Errno;
use util::event_loop::{EventLoop, FdWatch, Interest, Ready};
use util::log::OsError;

use crate::client::{
    NET_BUFSIZE, NetClient, NetClientDriver, NetClientState, Offload, Received, VhostNet, VnetHdr, new_client,
};
use crate::netdev::fd_param;

mod bridge;
mod linux;
mod vhost;

pub use bridge::NetdevBridgeOptions;
pub(crate) use bridge::init_bridge;

use vhost::Vhost;

/// What `-netdev tap` takes.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NetdevTapOptions {
    /// The interface's name.
    pub ifname: Option<String>,
    /// An open descriptor of it.
    pub fd: Option<String>,
    /// The same for several queues, separated by `:`.
    pub fds: Option<String>,
    /// A program that sets the interface up; `no` for none.
    pub script: Option<String>,
    /// One that is run at the end.
    pub downscript: Option<String>,
    /// The bridge for `helper`.
    pub br: Option<String>,
    /// A program that opens the interface.
    pub helper: Option<String>,
    /// How much the host keeps of what we send.
    pub sndbuf: Option<u64>,
    /// Whether packets have virtio-net headers; if the host can, where nothing is said.
    #[qapi(name = "vnet_hdr")]
    pub vnet_hdr: Option<bool>,
    /// Whether the kernel serves the guest's queues.
    pub vhost: Option<bool>,
    /// A descriptor for that.
    pub vhostfd: Option<String>,
    /// The same for several queues.
    pub vhostfds: Option<String>,
    /// Whether it must be so.
    pub vhostforce: Option<bool>,
    /// The number of queues.
    pub queues: Option<u32>,
    /// How long to poll.
    pub poll_us: Option<u32>,
}

/// The kind of client, for names that are made up.
const MODEL: &str = "tap";
const PATH_NET_TUN: &str = "/dev/net/tun";
const DEFAULT_SCRIPT: &str = "/etc/qemu-ifup";
const DEFAULT_DOWN_SCRIPT: &str = "/etc/qemu-ifdown";
/// Queues that an option can name at most.
const MAX_QUEUES: usize = 1024;
/// The virtio-net header without and with the number of buffers.
const HEADER_LENGTHS: [usize; 2] = [10, 12];
/// Packets read at one go, so that others get their turn.
const BATCH: usize = 50;

struct State {
    watch: Option<FdWatch>,
    enabled: bool,
    read: bool,
    write: bool,
    /// The kernel reads the interface.
    served: bool,
    /// The bytes of the header on the host's side; none where it has none.
    host_header: usize,
    /// The peer's packets have it, too.
    using_header: bool,
    buffer: Vec<u8>,
}

/// One queue of an interface.
struct Tap {
    nc: Weak<NetClientState>,
    fd: Arc<OwnedFd>,
    has_ufo: bool,
    state: Mutex<State>,
    vhost: Option<Vhost>,
    /// A program to be run at the end, and the interface's name.
    down: Option<(String, String)>,
}

impl Tap {
    fn ready(&self, ready: Ready) {
        let Some(nc) = self.nc.upgrade() else { return };
        if ready.intersects(Ready::WRITE | Ready::ERROR) && self.state.lock().write {
            self.poll(|state| state.write = false);
            nc.flush();
        }
        if ready.intersects(Ready::READ | Ready::ERROR) {
            self.read(&nc);
        }
    }

    fn poll(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let mut interest = Interest::empty();
        interest.set(Interest::READ, state.read && state.enabled && !state.served);
        interest.set(Interest::WRITE, state.write && state.enabled);
        if let Some(watch) = &state.watch {
            // The descriptor is open and watched: there is nothing that could fail.
            let _ = watch.set_interest(interest);
        }
    }

    fn read(&self, nc: &Arc<NetClientState>) {
        let mut buffer = std::mem::take(&mut self.state.lock().buffer);
        buffer.resize(NET_BUFSIZE, 0);
        nc.batch(|| self.read_batch(nc, &mut buffer));
        self.state.lock().buffer = buffer;
    }

    fn read_batch(&self, nc: &Arc<NetClientState>, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Ok(size) = rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut *buffer)) else {
                break;
            };
            let skip = {
                let mut state = self.state.lock();
                // Before it is sent: the peer may have taken it before `send_async` returns.
                state.read = false;
                if state.using_header { 0 } else { state.host_header }
            };
            let Some(packet) = buffer.get(skip..size).filter(|packet| !packet.is_empty()) else {
                self.state.lock().read = true;
                break;
            };
            if !nc.send_async(packet) {
                self.poll(|_| {});
                break;
            }
            self.state.lock().read = true;
        }
    }

    fn offload_bits(offload: Offload) -> usize {
        if !offload.csum {
            return 0;
        }
        let ecn = offload.ecn && (offload.tso4 || offload.tso6);
        let bits = [
            (offload.tso4, linux::TUN_F_TSO4),
            (offload.tso6, linux::TUN_F_TSO6),
            (ecn, linux::TUN_F_TSO_ECN),
            (offload.ufo, linux::TUN_F_UFO),
        ];
        bits.iter().filter(|(on, _)| *on).fold(linux::TUN_F_CSUM, |all, (_, bit)| all | bit)
    }
}

impl NetClient for Tap {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::Tap
    }

    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        let added = {
            let state = self.state.lock();
            if state.using_header { 0 } else { state.host_header }
        };
        let header = [0; HEADER_LENGTHS[1]];
        let parts = [io::IoSlice::new(&header[..added]), io::IoSlice::new(packet)];
        let parts = if added == 0 { &parts[1..] } else { &parts[..] };
        match rustix::io::retry_on_intr(|| rustix::io::writev(&self.fd, parts)) {
            Err(Errno::AGAIN) => {
                self.poll(|state| state.write = true);
                Received::Blocked
            }
            // A packet that the host refuses (the interface is down) is lost.
            _ => Received::Done,
        }
    }

    fn receive_parts(&self, _: usize, parts: &[VolatileSlice<'_>]) -> bool {
        let whole = {
            let state = self.state.lock();
            state.using_header || state.host_header == 0
        };
        // One that the host refuses is lost, as above; one that it has no room for, or that has too many parts, comes
        // again in one piece.
        whole && !matches!(linux::write_parts(&self.fd, parts), Err(Errno::AGAIN | Errno::TOOBIG))
    }

    fn sent(&self, _: usize) {
        self.poll(|state| state.read = true);
    }

    fn cleanup(&self) {
        let watch = self.state.lock().watch.take();
        drop(watch);
        if let Some((script, ifname)) = &self.down
            && let Err(error) = launch_script(script, ifname)
        {
            util::error_report!("{error}");
        }
    }

    fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        if self.state.lock().enabled == enabled {
            return Ok(());
        }
        linux::set_queue(&self.fd, enabled)?;
        self.poll(|state| state.enabled = enabled);
        if let Some(nc) = self.nc.upgrade().filter(|_| !enabled) {
            nc.purge_sent();
        }
        Ok(())
    }

    fn vnet_hdr(&self) -> Option<&dyn VnetHdr> {
        (self.state.lock().host_header > 0).then_some(self as &dyn VnetHdr)
    }

    fn vhost(&self) -> Option<&dyn VhostNet> {
        self.vhost.as_ref().map(|_| self as &dyn VhostNet)
    }
}

impl VnetHdr for Tap {
    fn use_vnet_hdr(&self, len: Option<usize>) {
        let mut state = self.state.lock();
        state.using_header = len.is_some();
        if let Some(len) = len
            && linux::set_vnet_hdr_len(&self.fd, len as i32).is_ok()
        {
            state.host_header = len;
        }
    }

    fn has_vnet_hdr_len(&self, len: usize) -> bool {
        // A host that knows the request knows both lengths.
        HEADER_LENGTHS.contains(&len) && linux::vnet_hdr_len(&self.fd).is_ok()
    }

    fn has_ufo(&self) -> bool {
        self.has_ufo
    }

    fn set_offload(&self, offload: Offload) {
        let bits = Self::offload_bits(offload);
        if linux::set_offload(&self.fd, bits).is_err() {
            // Newer hosts know no UFO.
            if let Err(error) = linux::set_offload(&self.fd, bits & !linux::TUN_F_UFO) {
                util::error_report!("TUNSETOFFLOAD ioctl() failed: {}", OsError(error.into()));
            }
        }
    }
}

/// Runs a program that sets an interface up, and waits for it.
fn launch_script(script: &str, ifname: &str) -> Result<()> {
    // A program that cannot be run counts as one that ended with 1.
    let status = Command::new(script).arg(ifname).status().map_or(1 << 8, ExitStatusExt::into_raw);
    if status != 0 {
        bail!("network script {script} failed with status {status}");
    }
    Ok(())
}

fn failed(what: impl Into<String>, error: impl Into<io::Error>) -> Error {
    Error::new(format!("{}: {}", what.into(), OsError(error.into())))
}

struct Queue<'a> {
    options: &'a NetdevTapOptions,
    model: &'static str,
    id: &'a str,
    peer: Option<&'a Arc<NetClientState>>,
    number: usize,
    fd: OwnedFd,
    header: bool,
    info: String,
    down: Option<(String, String)>,
}

/// Adds one queue (`net_init_tap_one`).
fn add_queue(queue: Queue<'_>) -> Result<()> {
    let Queue { options, model, id, peer, number, fd, header, info, down } = queue;
    rustix::io::ioctl_fionbio(&fd, true)
        .map_err(|error| failed(format!("{id}: Can't use file descriptor"), error))?;
    let sndbuf = match options.sndbuf.unwrap_or(0) {
        0 => i32::MAX,
        bytes => i32::try_from(bytes).unwrap_or(i32::MAX),
    };
    if let Err(error) = linux::set_sndbuf(&fd, sndbuf)
        && options.sndbuf.is_some()
    {
        return Err(failed("TUNSETSNDBUF ioctl failed", error));
    }
    let has_ufo = linux::set_offload(&fd, linux::TUN_F_CSUM | linux::TUN_F_UFO).is_ok();
    // Packets are whole until a guest says that it takes others.
    let _ = linux::set_offload(&fd, 0);
    let fd = Arc::new(fd);
    let state = State {
        watch: None,
        enabled: true,
        read: true,
        write: false,
        served: false,
        host_header: if header { HEADER_LENGTHS[0] } else { 0 },
        using_header: false,
        buffer: Vec::new(),
    };
    let vhost = Vhost::open(options, number)?;
    let (nc, tap) = new_client(model, Some(id), number, peer, |nc| {
        Arc::new(Tap { nc: nc.clone(), fd: fd.clone(), has_ufo, state: Mutex::new(state), vhost, down })
    });
    nc.set_info_str(info);
    let weak = Arc::downgrade(&tap);
    let ready = move |ready| {
        if let Some(tap) = weak.upgrade() {
            tap.ready(ready);
        }
    };
    let watch = EventLoop::main().add_fd(fd, Interest::READ, Arc::new(ready));
    tap.state.lock().watch = Some(watch.map_err(|error| failed("tap", error))?);
    Ok(())
}

/// Makes the backend.
pub(crate) fn init(id: &str, options: &NetdevTapOptions, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    if peer.is_some() && (options.queues.is_some() || options.fds.is_some() || options.vhostfds.is_some()) {
        bail!("Multiqueue tap cannot be used with hubs");
    }
    let done = if options.fd.is_some() || options.fds.is_some() {
        init_fds(id, options, peer)
    } else if options.helper.is_some() {
        bridge::init_helped(id, options, peer)
    } else {
        init_interface(id, options, peer)
    };
    if done.is_err() {
        crate::client::del_client(id);
    }
    done
}

fn init_fds(id: &str, options: &NetdevTapOptions, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    let NetdevTapOptions { ifname, script, downscript, helper, .. } = options;
    let strings = [ifname, script, downscript, helper].iter().any(|option| option.is_some());
    let others = strings || options.vnet_hdr.is_some() || options.queues.is_some();
    let names: Vec<&str> = match (&options.fd, &options.fds) {
        (Some(_), fds) if others || fds.is_some() || options.vhostfds.is_some() => bail!(
            "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= are invalid with fd="
        ),
        (None, Some(_)) if others || options.vhostfd.is_some() => bail!(
            "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= are invalid with fds="
        ),
        (Some(fd), _) => vec![fd],
        (None, fds) => fds.as_deref().unwrap_or_default().split(':').take(MAX_QUEUES).collect(),
    };
    if let Some(vhostfds) = &options.vhostfds
        && vhostfds.split(':').take(MAX_QUEUES).count() != names.len()
    {
        bail!("The number of fds passed does not match the number of vhostfds passed");
    }
    let mut first = None;
    for (number, name) in names.into_iter().enumerate() {
        let fd = fd_param(name)?;
        let header = has_vnet_hdr(&fd, name)?;
        if *first.get_or_insert(header) != header {
            bail!("vnet_hdr not consistent across given tap fds");
        }
        let info = format!("fd={name}");
        add_queue(Queue { options, model: MODEL, id, peer, number, fd, header, info, down: None })?;
    }
    Ok(())
}

/// Whether the packets of a descriptor that somebody else opened, and errors call `name`, have headers
/// (`tap_probe_vnet_hdr`).
fn has_vnet_hdr(fd: &OwnedFd, name: &str) -> Result<bool> {
    let asked = linux::get_iff(fd);
    let (flags, _) =
        asked.map_err(|error| failed(format!("Unable to query TUNGETIFF on FD {name}"), error))?;
    Ok(flags & linux::IFF_VNET_HDR != 0)
}

fn init_interface(id: &str, options: &NetdevTapOptions, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    if options.vhostfds.is_some() {
        bail!("vhostfds= is invalid if fds= wasn't specified");
    }
    let queues = options.queues.unwrap_or(1);
    if queues as usize > MAX_QUEUES {
        bail!("tap: at most {MAX_QUEUES} queues");
    }
    let mut ifname = options.ifname.clone().unwrap_or_default();
    for number in 0..queues as usize {
        let (fd, header) = open(options, &mut ifname, queues > 1)?;
        let (mut script, mut downscript) = ("no", "no");
        if number == 0 {
            script = options.script.as_deref().unwrap_or(DEFAULT_SCRIPT);
            downscript = options.downscript.as_deref().unwrap_or(DEFAULT_DOWN_SCRIPT);
        }
        if !matches!(script, "" | "no") {
            launch_script(script, &ifname)?;
        }
        let down = (downscript != "no").then(|| (downscript.to_owned(), ifname.clone()));
        let info = format!("ifname={ifname},script={script},downscript={downscript}");
        add_queue(Queue { options, model: MODEL, id, peer, number, fd, header, info, down })?;
    }
    Ok(())
}

/// Opens a queue of an interface, whose name may be chosen by the host; gives whether there are headers
/// (`tap_open`).
fn open(options: &NetdevTapOptions, ifname: &mut String, multiqueue: bool) -> Result<(OwnedFd, bool)> {
    let file = OpenOptions::new().read(true).write(true).open(PATH_NET_TUN);
    let fd = OwnedFd::from(file.map_err(|error| failed(format!("could not open {PATH_NET_TUN}"), error))?);
    // A driver that does not tell can do nothing out of the ordinary.
    let features = linux::features(&fd).unwrap_or(0);
    let has_header = features & linux::IFF_VNET_HDR != 0;
    if options.vnet_hdr == Some(true) && !has_header {
        bail!("vnet_hdr=1 requested, but no kernel support for IFF_VNET_HDR available");
    }
    if multiqueue && features & linux::IFF_MULTI_QUEUE == 0 {
        bail!("multiqueue required, but no kernel support for IFF_MULTI_QUEUE available");
    }
    let header = has_header && options.vnet_hdr.unwrap_or(true);
    let mut flags = linux::IFF_TAP | linux::IFF_NO_PI;
    flags |= if header { linux::IFF_VNET_HDR } else { 0 };
    flags |= if multiqueue { linux::IFF_MULTI_QUEUE } else { 0 };
    let wanted = if ifname.is_empty() { "tap%d" } else { ifname.as_str() };
    let name = linux::set_iff(&fd, wanted, flags).map_err(|error| match ifname.is_empty() {
        true => failed(format!("could not configure {PATH_NET_TUN}"), error),
        false => failed(format!("could not configure {PATH_NET_TUN} ({ifname})"), error),
    })?;
    if header {
        // Whoever had the interface before may have changed it.
        let _ = linux::set_vnet_hdr_len(&fd, HEADER_LENGTHS[0] as i32);
    }
    *ifname = name;
    Ok((fd, header))
}
