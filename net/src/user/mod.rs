//! `-netdev user`: a network stack in this program, for guests without a network of the host's (net/slirp.c and
//! libslirp, whose addresses, options and limits it has).
//!
//! The guest sees a router that is also its DHCP, DNS and TFTP server. Connections and datagrams that it sends go on
//! over sockets of the host. All state is the `Stack`'s, under one lock that is never held while frames are
//! handed to the guest. The guest's frames are looked at by the thread that sends them; what connections do next, and the
//! answers, come later on the main loop, for all that the guest sent at one go.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use chardev::{CharFrontend, CharHandlers};
use parking_lot::Mutex;
use qapi::QapiType;
use qapi::sockets::FdName;
use qom::{Error, Result, bail};
use util::clock::ClockType;
use util::event_loop::{BottomHalf, EventLoop};
use util::timer::Timer;

use crate::client::{
    NetClient, NetClientDriver, NetClientState, Received, clients, del_client, find_netdev, new_client,
};

mod config;
mod dhcp;
mod forward;
mod link;
mod reassembly;
mod resolver;
mod stack;
mod tcp;
mod tftp;
mod udp;
mod wire;

use config::Config;
use forward::{GuestTarget, HostForward, parse_guestfwd};
use stack::{GuestForward, Stack};

/// What `-netdev user` takes.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NetdevUserOptions {
    /// The guest's name, which DHCP tells it.
    pub hostname: Option<String>,
    /// Whether the guest is kept from the host and the world.
    pub restrict: Option<bool>,
    /// Whether there is IPv4.
    pub ipv4: Option<bool>,
    /// Whether there is IPv6.
    pub ipv6: Option<bool>,
    /// The network's address, by an older name.
    pub ip: Option<String>,
    /// The network, `ADDR[/MASK]`.
    pub net: Option<String>,
    /// The host's address in it.
    pub host: Option<String>,
    /// The folder that TFTP serves.
    pub tftp: Option<String>,
    /// The file that DHCP names for starting.
    pub bootfile: Option<String>,
    /// The first of 16 addresses that DHCP gives.
    pub dhcpstart: Option<String>,
    /// The name server's address.
    pub dns: Option<String>,
    /// Domains to search for names in.
    pub dnssearch: Option<Vec<FdName>>,
    /// The guest's domain.
    pub domainname: Option<String>,
    /// The network of IPv6.
    pub ipv6_prefix: Option<String>,
    /// The bits that all addresses in it share.
    pub ipv6_prefixlen: Option<i64>,
    /// The host's address in it.
    pub ipv6_host: Option<String>,
    /// The name server's address in it.
    pub ipv6_dns: Option<String>,
    /// The folder that a file server of Windows' kind serves.
    pub smb: Option<String>,
    /// Its address.
    pub smbserver: Option<String>,
    /// Ports of the host that lead to the guest.
    pub hostfwd: Option<Vec<FdName>>,
    /// Addresses of the guest's network that lead to a chardev or a program.
    pub guestfwd: Option<Vec<FdName>>,
    /// The name of the TFTP server that DHCP tells.
    pub tftp_server_name: Option<String>,
}

/// Frames that the guest is told of together.
const BATCH: usize = 64;

/// The backend.
pub struct UserNet {
    nc: Weak<NetClientState>,
    stack: Mutex<Stack>,
    timer: Timer,
    /// A frame is being handed to the guest, or waits there.
    sending: AtomicBool,
    /// Goes on with what the guest sent, and with handing frames over, on the main loop's thread.
    resume: BottomHalf,
    /// The chardevs of `guestfwd=`, by the number of the rule.
    chardevs: Mutex<Vec<Option<Arc<GuestChardev>>>>,
    this: Weak<UserNet>,
}

/// A chardev that a `guestfwd=` leads to.
struct GuestChardev {
    index: usize,
    user: Weak<UserNet>,
    frontend: CharFrontend,
}

impl CharHandlers for GuestChardev {
    fn can_read(&self) -> usize {
        self.user.upgrade().map_or(0, |user| user.stack.lock().chardev_room(self.index))
    }

    fn read(&self, data: &[u8]) {
        if let Some(user) = self.user.upgrade() {
            user.with_stack(|stack| stack.chardev_input(self.index, data));
        }
    }
}

impl UserNet {
    /// Works on the state, then hands over what came of it.
    pub(crate) fn with_stack<T>(&self, work: impl FnOnce(&mut Stack) -> T) -> T {
        let (result, deadline) = {
            let mut stack = self.stack.lock();
            let result = work(&mut stack);
            (result, stack.deadline)
        };
        if let Some(at) = deadline {
            self.timer.mod_anticipate(at);
        }
        self.deliver();
        self.write_chardevs();
        result
    }

    /// Hands frames to the guest, one thread at a time, until it takes no more.
    fn deliver(&self) {
        let Some(nc) = self.nc.upgrade() else { return };
        while !self.stack.lock().is_empty() && nc.batch(|| self.deliver_batch(&nc)) {}
    }

    /// The same for so many that the guest is told of together; gives whether it may take more.
    fn deliver_batch(&self, nc: &NetClientState) -> bool {
        for _ in 0..BATCH {
            if self.sending.swap(true, Ordering::AcqRel) {
                return false;
            }
            let frame = self.stack.lock().pop();
            if frame.as_ref().is_some_and(|frame| !nc.send_async(frame)) {
                return false;
            }
            self.sending.store(false, Ordering::Release);
            if frame.is_none() {
                // One that another thread adds now finds nobody sending.
                break;
            }
        }
        true
    }

    /// Hands what waits for chardevs to them.
    fn write_chardevs(&self) {
        let chardevs: Vec<_> = self.chardevs.lock().iter().flatten().cloned().collect();
        for chardev in chardevs {
            let pending = self.stack.lock().take_pending(chardev.index);
            if pending.is_empty() {
                continue;
            }
            let written = chardev.frontend.write(&pending);
            let left = pending.len() - written.min(pending.len());
            self.stack.lock().put_pending(chardev.index, &pending[pending.len() - left..]);
            let (user, index) = (self.this.clone(), chardev.index);
            let again = move || {
                if let Some(user) = user.upgrade() {
                    user.with_stack(|stack| stack.chardev_writable(index));
                }
            };
            if left == 0 {
                EventLoop::main().schedule(again);
            } else if !chardev.frontend.add_watch(again) {
                // Nobody is at the other end.
                drop(self.stack.lock().take_pending(index));
            }
        }
    }

    fn add_guest_forward(&self, rule: &str) -> Result<()> {
        let (address, target) = parse_guestfwd(rule)?;
        let conflict =
            || Error::new(format!("Conflicting/invalid host:port in guest forwarding rule '{rule}'"));
        let index = {
            let mut stack = self.stack.lock();
            let config = &stack.config;
            let ip = IpAddr::V4(*address.ip());
            let taken = stack.guest_forwards.iter().any(|forward| forward.address == address);
            if !config.is_inside(ip) || config.is_host(ip) || config.is_dns(ip) || taken {
                return Err(conflict());
            }
            let forward = GuestForward { address, target: target.clone(), pending: Vec::new() };
            stack.guest_forwards.push(forward);
            stack.guest_forwards.len() - 1
        };
        let chardev = match target {
            GuestTarget::Command(_) => None,
            GuestTarget::Chardev(device) => {
                let label = format!("guestfwd.tcp.{}", address.port());
                let (chardev, _) = chardev::new_from_compat(&label, &device, false).map_err(|error| {
                    let hint = format!("softmmu: {error}");
                    Error::new(format!("Could not open guest forwarding device '{label}'")).with_hint(hint)
                })?;
                let guest = Arc::new(GuestChardev {
                    index,
                    user: self.this.clone(),
                    frontend: CharFrontend::default(),
                });
                guest.frontend.attach(&chardev).map_err(|error| Error::new(error.to_string()))?;
                let handlers: Arc<dyn CharHandlers> = guest.clone();
                guest.frontend.set_handlers(Arc::downgrade(&handlers));
                Some(guest)
            }
        };
        self.chardevs.lock().push(chardev);
        Ok(())
    }

    fn add_host_forward(&self, rule: &str) -> Result<()> {
        let forward = HostForward::parse(rule)?;
        self.with_stack(|stack| stack.add_forward(forward))
            .map_err(|_| Error::new(format!("Could not set up host forwarding rule '{rule}'")))
    }
}

impl NetClient for UserNet {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::User
    }

    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        self.stack.lock().input(packet);
        self.resume.schedule();
        Received::Done
    }

    fn sent(&self, _: usize) {
        self.sending.store(false, Ordering::Release);
        self.resume.schedule();
    }

    fn cleanup(&self) {
        self.timer.del();
        self.stack.lock().close();
        let chardevs = std::mem::take(&mut *self.chardevs.lock());
        chardevs.iter().flatten().for_each(|chardev| chardev.frontend.detach());
    }

    fn user(&self) -> Option<&UserNet> {
        Some(self)
    }
}

/// Makes the backend.
pub(crate) fn init(id: &str, options: &NetdevUserOptions, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    let config = Config::new(options)?;
    let restrict = if config.restricted { "on" } else { "off" };
    let info = format!("net={},restrict={restrict}", config.net);
    let (nc, user) = new_client("user", Some(id), 0, peer, |nc| {
        Arc::new_cyclic(|this: &Weak<UserNet>| {
            let (on_timer, on_resume) = (this.clone(), this.clone());
            UserNet {
                nc: nc.clone(),
                stack: Mutex::new(Stack::new(config, this.clone())),
                timer: Timer::new(ClockType::Realtime, move || {
                    if let Some(user) = on_timer.upgrade() {
                        user.with_stack(Stack::timer);
                    }
                }),
                sending: AtomicBool::new(false),
                resume: BottomHalf::new(EventLoop::main(), move || {
                    if let Some(user) = on_resume.upgrade() {
                        user.with_stack(Stack::service_heard);
                    }
                }),
                chardevs: Mutex::default(),
                this: this.clone(),
            }
        })
    });
    nc.set_info_str(info);
    let rules =
        |list: &Option<Vec<FdName>>| list.iter().flatten().map(|rule| rule.str.clone()).collect::<Vec<_>>();
    let hosts = rules(&options.hostfwd);
    let guests = rules(&options.guestfwd);
    let done = hosts
        .iter()
        .try_for_each(|rule| user.add_host_forward(rule))
        .and_then(|()| guests.iter().try_for_each(|rule| user.add_guest_forward(rule)));
    if done.is_err() {
        del_client(id);
    }
    done
}

fn user_clients() -> impl Iterator<Item = Arc<NetClientState>> {
    clients().into_iter().filter(|nc| nc.driver() == NetClientDriver::User)
}

/// What `info usernet` prints.
pub fn info_usernet() -> String {
    let mut text = String::new();
    for nc in user_clients() {
        let Some(user) = nc.info().user() else { continue };
        let hub = crate::hub::hub_of(&nc).unwrap_or(-1);
        text.push_str(&format!("Hub {hub} ({}):\n", nc.name()));
        text.push_str("  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n");
        text.push_str(&user.stack.lock().describe());
    }
    text
}

/// The backend of that id, or the first.
fn lookup(id: Option<&str>) -> Result<Arc<NetClientState>> {
    match id {
        None => user_clients().next().ok_or_else(|| Error::new("user mode network stack not in use")),
        Some(id) => match find_netdev(id) {
            None => bail!("unrecognized netdev id '{id}'"),
            Some(nc) if nc.driver() != NetClientDriver::User => bail!("invalid device specified"),
            Some(nc) => Ok(nc),
        },
    }
}

/// `hostfwd_add`.
///
/// # Errors
/// There is no such backend, or the rule makes no sense.
pub fn hostfwd_add(id: Option<&str>, rule: &str) -> Result<()> {
    let nc = lookup(id)?;
    nc.info().user().map_or(Ok(()), |user| user.add_host_forward(rule))
}

/// `hostfwd_remove`; gives whether there was such a rule.
///
/// # Errors
/// As [`hostfwd_add`].
pub fn hostfwd_remove(id: Option<&str>, rule: &str) -> Result<bool> {
    let nc = lookup(id)?;
    let (udp, host) = HostForward::parse_host(rule)?;
    Ok(nc.info().user().is_some_and(|user| user.with_stack(|stack| stack.remove_forward(udp, host))))
}
