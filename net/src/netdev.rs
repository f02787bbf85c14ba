//! `-netdev`, `-nic` and `-net`, and the commands about networks (net/net.c, qapi/net.json).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use qapi::sockets::SocketAddress;
use qapi::{At, QapiEvent, QapiObject, QapiType};
use qom::{Error, ErrorClass, Result, Value, bail};
use serde_json::Map;
use util::cutils::{SizeUnit, parse_bool, strtosz};
use util::option::{Opts, OptsDesc, id_wellformed, is_help_option};

use crate::client::{NetClientDriver, NetClientState, clients, del_client, find_netdev, find_netdev_queues};
use crate::hub::{self, net_hub_add_port};
use crate::nic::{self, NicInfo, macaddr_default_if_unset, parse_mac};
use crate::tap::{NetdevBridgeOptions, NetdevTapOptions};
use crate::user::NetdevUserOptions;
use crate::vhost_user::NetdevVhostUserOptions;
use crate::{dgram, socket, stream, tap, user, vhost_user};

/// Another virtual machine, over TCP or UDP.
#[derive(QapiType, Clone, Debug, Default)]
pub struct NetdevSocketOptions {
    /// A socket that is there already.
    pub fd: Option<String>,
    /// Where to wait for a connection, `HOST:PORT`.
    pub listen: Option<String>,
    /// Where to connect to.
    pub connect: Option<String>,
    /// The multicast group to join.
    pub mcast: Option<String>,
    /// The address of the interface for it, or with `udp` where datagrams come.
    pub localaddr: Option<String>,
    /// Where datagrams go.
    pub udp: Option<String>,
}

/// A stream of packets, each after its length in four bytes.
#[derive(QapiType, Clone, Debug)]
pub struct NetdevStreamOptions {
    /// Where to connect to, or to wait for a connection.
    pub addr: SocketAddress,
    /// Whether to wait for one.
    pub server: Option<bool>,
}

/// Datagrams, one a packet.
#[derive(QapiType, Clone, Debug)]
pub struct NetdevDgramOptions {
    /// Where they come.
    pub local: Option<SocketAddress>,
    /// Where they go.
    pub remote: Option<SocketAddress>,
}

/// A port of a hub.
#[derive(QapiType, Clone, Debug)]
pub struct NetdevHubPortOptions {
    /// The hub.
    pub hubid: i32,
    /// What is connected to it.
    pub netdev: Option<String>,
}

/// What a backend is.
#[derive(QapiType, Clone, Debug)]
#[qapi(tag = "type", tag_type = "NetClientDriver")]
pub enum NetdevKind {
    /// A network stack in this program.
    User(NetdevUserOptions),
    /// A network interface of the host.
    Tap(NetdevTapOptions),
    /// Another virtual machine.
    Socket(NetdevSocketOptions),
    /// A stream of packets.
    Stream(NetdevStreamOptions),
    /// Datagrams.
    Dgram(NetdevDgramOptions),
    /// A network interface of the host that a helper opens on a bridge.
    Bridge(NetdevBridgeOptions),
    /// A port of a hub.
    Hubport(NetdevHubPortOptions),
    /// Another program, which serves the device's queues.
    VhostUser(NetdevVhostUserOptions),
}

/// A backend.
#[derive(QapiType, Clone, Debug)]
pub struct Netdev {
    /// Its id.
    pub id: String,
    /// What it is.
    #[qapi(flatten)]
    pub kind: NetdevKind,
}

/// QEMU's names of kinds of backends that are not there.
const MISSING: [&str; 4] = ["l2tpv3", "vde", "netmap", "vhost-vdpa"];
/// What `-netdev help` lists.
const KINDS: [&str; 8] = ["socket", "stream", "dgram", "hubport", "tap", "user", "bridge", "vhost-user"];

/// The text of `-netdev help`.
pub fn netdev_help() -> String {
    KINDS.iter().fold("Available netdev backend types:\n".to_owned(), |text, kind| text + kind + "\n")
}

/// Members that are not strings; the rest of the command line's are.
const BOOLS: [&str; 12] = [
    "restrict",
    "ipv4",
    "ipv6",
    "vnet_hdr",
    "vhost",
    "vhostforce",
    "server",
    "numeric",
    "keep-alive",
    "abstract",
    "tight",
    "x-svq",
];
const NUMBERS: [&str; 6] = ["hubid", "queues", "poll-us", "ipv6-prefixlen", "vectors", "to"];
const LISTS: [&str; 3] = ["dnssearch", "hostfwd", "guestfwd"];

/// A value as the schema has it, of one that the command line gave.
fn typed(name: &str, text: String) -> Result<Value> {
    let expects = |what: &str| Error::new(format!("Parameter '{name}' expects {what}"));
    if BOOLS.contains(&name) {
        return Ok(parse_bool(&text).ok_or_else(|| expects("'on' or 'off'"))?.into());
    }
    if NUMBERS.contains(&name) {
        let number = qom::property::parse_int(&text).and_then(|n| i64::try_from(n).ok());
        return Ok(number.ok_or_else(|| expects("an int64 value or range"))?.into());
    }
    if name == "sndbuf" {
        return Ok(strtosz(&text, SizeUnit::Bytes).map_err(|_| expects("a size value"))?.into());
    }
    Ok(Value::String(text))
}

/// The same for a tree of `a.b=c`.
fn typed_tree(map: Map<String, Value>) -> Result<Map<String, Value>> {
    let leaf = |(name, value): (String, Value)| {
        let value = match value {
            Value::String(text) => typed(&name, text)?,
            Value::Object(inner) => Value::Object(typed_tree(inner)?),
            other => other,
        };
        Ok((name, value))
    };
    map.into_iter().map(leaf).collect()
}

/// The members of a set of options.
fn members(opts: Opts) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for (name, text) in opts.values {
        if LISTS.contains(&name.as_str()) {
            let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(serde_json::json!({ "str": text }));
            }
            continue;
        }
        if name == "ipv6-net" {
            let (prefix, len) = text.split_once('/').unwrap_or((&text, "64"));
            let number = len.parse::<u32>();
            let number = number.map_err(|_| Error::new("Parameter 'ipv6-prefixlen' expects a number"))?;
            map.insert("ipv6-prefix".to_owned(), prefix.into());
            map.insert("ipv6-prefixlen".to_owned(), number.into());
            continue;
        }
        let value = typed(&name, text)?;
        map.insert(name, value);
    }
    map.extend(opts.id.map(|id| ("id".to_owned(), id.into())));
    Ok(map)
}

/// Reads an object of which all members must be known.
fn take_all<T: QapiObject>(mut map: Map<String, Value>) -> Result<T> {
    let taken = T::take(&mut map, At::Top)?;
    match map.keys().next() {
        Some(name) => bail!("Invalid parameter '{name}'"),
        None => Ok(taken),
    }
}

fn check_kind(map: &Map<String, Value>) -> Result<()> {
    match map.get("type").and_then(Value::as_str) {
        Some("nic" | "none") => bail!(
            "network backend '{}' is not compiled into this binary",
            map["type"].as_str().unwrap_or_default()
        ),
        Some(kind) if MISSING.contains(&kind) => {
            bail!("network backend '{kind}' is not compiled into this binary")
        }
        _ => Ok(()),
    }
}

static NETDEV: OptsDesc = OptsDesc { name: "netdev", implied: Some("type"), merge: false, descs: &[] };

fn parse_opts(text: &str) -> Result<Opts> {
    let mut warnings = Vec::new();
    let opts = Opts::parse(&NETDEV, text, &mut warnings).map_err(|error| Error::new(error.to_string()))?;
    warnings.iter().for_each(|warning| util::warn_report!("{warning}"));
    Ok(opts)
}

/// Whether an argument of `-netdev` is JSON, or of a kind whose options form a tree; such backends are made first
/// (`netdev_is_modern`).
pub fn netdev_is_modern(text: &str) -> bool {
    let opts = Opts::parse(&NETDEV, text, &mut Vec::new());
    text.starts_with('{') || opts.is_ok_and(|opts| matches!(opts.get("type"), Some("stream" | "dgram")))
}

/// Whether an argument asks for help.
pub fn netdev_wants_help(text: &str) -> bool {
    let opts = Opts::parse(&NETDEV, text, &mut Vec::new());
    !text.starts_with('{') && opts.is_ok_and(|opts| opts.get("type").is_some_and(is_help_option))
}

/// Makes the backend of `-netdev` or the human monitor's `netdev_add`.
///
/// # Errors
/// Options that make no sense, or what the host says.
pub fn netdev_init(text: &str) -> Result<()> {
    if netdev_is_modern(text) {
        let tree = util::keyval::parse_or_json(text, Some("type")).map_err(|e| Error::new(e.to_string()))?;
        let map = if text.starts_with('{') { tree.map } else { typed_tree(tree.map)? };
        check_kind(&map)?;
        let netdev = Netdev::from_json(Value::Object(map), At::Top)?;
        return netdev_add_checked(&netdev);
    }
    let opts = parse_opts(text)?;
    if let Some(id) = opts.id.as_ref().filter(|id| find_netdev(id).is_some()) {
        bail!("Duplicate ID '{id}' for netdev");
    }
    let map = members(opts)?;
    check_kind(&map)?;
    init(&take_all(map)?, None)
}

/// Makes a backend that is connected to `peer`, or to nothing yet (`net_client_init1`).
fn init(netdev: &Netdev, peer: Option<&Arc<NetClientState>>) -> Result<()> {
    let id = netdev.id.as_str();
    if find_netdev(id).is_some() {
        bail!("Duplicate ID '{id}'");
    }
    match &netdev.kind {
        NetdevKind::User(options) => user::init(id, options, peer)?,
        NetdevKind::Tap(options) => tap::init(id, options, peer)?,
        NetdevKind::Socket(options) => socket::init(id, options, peer)?,
        NetdevKind::Stream(options) => stream::init(id, options, peer)?,
        NetdevKind::Dgram(options) => dgram::init(id, options, peer)?,
        NetdevKind::Bridge(options) => tap::init_bridge(id, options, peer)?,
        NetdevKind::VhostUser(options) => vhost_user::init(id, options, peer)?,
        NetdevKind::Hubport(options) => hub::init(id, options.hubid, options.netdev.as_deref())?,
    }
    if peer.is_none() {
        find_netdev_queues(id).iter().for_each(|nc| nc.set_is_netdev());
    }
    Ok(())
}

fn generated_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_micros());
    format!("#net{number}{:02}", now % 100)
}

/// `-nic`: a backend and the board's device for it; gives whether there is to be one (`net_param_nic`).
///
/// # Errors
/// Options that make no sense, or what the host says.
pub fn net_param_nic(text: &str) -> Result<()> {
    let mut opts = parse_opts(text)?;
    if opts.get("type") == Some("none") {
        return Ok(());
    }
    let mut take = |name: &str| {
        let value = opts.get(name).map(str::to_owned);
        opts.values.retain(|(key, _)| key != name);
        value
    };
    let (model, mac) = (take("model"), take("mac"));
    if opts.get("type").is_none() {
        opts.values.push(("type".to_owned(), "user".to_owned()));
    }
    let mac = parse_mac(mac.as_deref(), "NIC cannot have multicast MAC address")?;
    let id = opts.id.get_or_insert_with(generated_id).clone();
    let map = members(opts)?;
    check_kind(&map)?;
    init(&take_all(map)?, None)?;
    let Some(netdev) = find_netdev(&id) else { bail!("netdev '{id}' not found") };
    let nic = NicInfo {
        mac: macaddr_default_if_unset(mac),
        model,
        name: None,
        devaddr: None,
        netdev,
        vectors: None,
        instantiated: false,
    };
    nic::add(nic, "no more on-board/default NIC slots available")
}

/// What `-net nic` takes.
#[derive(QapiType)]
struct NetLegacyNicOptions {
    netdev: Option<String>,
    macaddr: Option<String>,
    model: Option<String>,
    addr: Option<String>,
    vectors: Option<u32>,
    id: Option<String>,
}

/// `-net`: a backend or a device on hub 0 (`net_client_init`).
///
/// # Errors
/// Options that make no sense, or what the host says.
pub fn net_init_client(text: &str) -> Result<()> {
    let opts = parse_opts(text)?;
    let mut map = members(opts)?;
    match map.get("type").and_then(Value::as_str) {
        Some("none") => return Ok(()),
        Some("hubport") => bail!("network backend 'hubport' is only supported with -netdev/-nic"),
        Some("nic") => {
            map.remove("type");
            return net_init_nic(take_all(map)?);
        }
        _ => check_kind(&map)?,
    }
    map.entry("id").or_insert_with(|| generated_id().into());
    let netdev: Netdev = take_all(map)?;
    let port = net_hub_add_port(0, None, None);
    init(&netdev, Some(&port))
}

fn net_init_nic(options: NetLegacyNicOptions) -> Result<()> {
    let netdev = match &options.netdev {
        Some(id) => match find_netdev(id) {
            Some(nc) => nc,
            None => bail!("netdev '{id}' not found"),
        },
        None => net_hub_add_port(0, None, None),
    };
    let wrong = "NIC cannot have multicast MAC address (odd 1st byte)";
    let mac = parse_mac(options.macaddr.as_deref(), wrong)?;
    if let Some(vectors) = options.vectors.filter(|vectors| *vectors > 0x7ff_ffff) {
        bail!("invalid # of vectors: {vectors}");
    }
    let nic = NicInfo {
        mac: macaddr_default_if_unset(mac),
        model: options.model,
        name: options.id,
        devaddr: options.addr,
        netdev,
        vectors: options.vectors,
        instantiated: false,
    };
    nic::add(nic, "too many NICs")
}

/// What is likely wrong with the networks, once the machine is made (`net_check_clients`). Under `is_test` nothing
/// is said of hubs without the host's network.
pub fn net_check_clients(is_test: bool) -> Vec<String> {
    let mut warnings = hub::check(is_test);
    for nc in clients().iter().filter(|nc| nc.peer().is_none()) {
        let what = if nc.driver() == NetClientDriver::Nic { "nic" } else { "netdev" };
        warnings.push(format!("{what} {} has no peer", nc.name()));
    }
    warnings.extend(nic::check());
    warnings
}

/// The descriptor that an option names: a number that the program was started with, or what a monitor's client
/// passed (`monitor_fd_param`).
///
/// # Errors
/// When there is none.
pub(crate) fn fd_param(text: &str) -> Result<OwnedFd> {
    util::fdset::fd_param(text).map_err(Error::new)
}

fn netdev_add_checked(netdev: &Netdev) -> Result<()> {
    if !id_wellformed(&netdev.id) {
        bail!("Parameter 'id' expects an identifier");
    }
    init(netdev, None)
}

/// Adds a network backend.
#[qapi::command("netdev_add", preconfig)]
fn netdev_add(#[qapi(flatten)] netdev: Netdev) -> Result<()> {
    netdev_add_checked(&netdev)
}

/// Takes a network backend away.
#[qapi::command("netdev_del", preconfig)]
fn netdev_del(id: String) -> Result<()> {
    match find_netdev(&id) {
        None => Err(qom::object::device_not_found(&id)),
        Some(nc) if !nc.is_netdev() => bail!("Device '{id}' is not a netdev"),
        Some(_) => {
            del_client(&id);
            Ok(())
        }
    }
}

/// Plugs a network device's or backend's cable in or out.
///
/// # Errors
/// When there is none of that name.
#[qapi::command("set_link")]
pub fn set_link(name: String, up: bool) -> Result<()> {
    let queues: Vec<_> = clients().into_iter().filter(|nc| nc.name() == name).collect();
    let Some(first) = queues.first() else {
        return Err(Error::new(format!("Device '{name}' not found")).with_class(ErrorClass::DeviceNotFound));
    };
    queues.iter().for_each(|nc| nc.set_link_down(!up));
    first.info().link_status_changed();
    if let Some(peer) = first.peer() {
        // Those at a hub still hear each other.
        if peer.driver() == NetClientDriver::Nic {
            queues.iter().filter_map(|nc| nc.peer()).for_each(|peer| peer.set_link_down(!up));
        }
        peer.info().link_status_changed();
    }
    Ok(())
}

/// What is let through.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxState {
    /// What the table says.
    Normal,
    /// Nothing.
    None,
    /// Everything.
    All,
}

/// What a network device lets through to its guest.
#[derive(QapiType, Clone, Debug)]
pub struct RxFilterInfo {
    /// The device's id.
    pub name: String,
    /// Everything.
    pub promiscuous: bool,
    /// Of multicast.
    pub multicast: RxState,
    /// Of unicast.
    pub unicast: RxState,
    /// Of VLANs.
    pub vlan: RxState,
    /// Whether broadcast is.
    pub broadcast_allowed: bool,
    /// Whether the table of multicast addresses was too small.
    pub multicast_overflow: bool,
    /// The same for unicast addresses.
    pub unicast_overflow: bool,
    /// The device's own address.
    pub main_mac: String,
    /// The VLANs.
    pub vlan_table: Vec<i64>,
    /// The unicast addresses.
    pub unicast_table: Vec<String>,
    /// The multicast addresses.
    pub multicast_table: Vec<String>,
}

/// Lists what network devices let through.
#[qapi::command("query-rx-filter")]
fn query_rx_filter(name: Option<String>) -> Result<Vec<RxFilterInfo>> {
    let mut filters = Vec::new();
    for nc in clients() {
        if name.as_ref().is_some_and(|name| nc.name() != name) {
            continue;
        }
        if nc.driver() != NetClientDriver::Nic {
            if let Some(name) = &name {
                bail!("net client({name}) isn't a NIC");
            }
            continue;
        }
        if nc.queue_index() != 0 {
            continue;
        }
        match (nc.info().query_rx_filter(), &name) {
            (Some(info), _) => filters.push(info),
            (None, Some(name)) => bail!("net client({name}) doesn't support rx-filter querying"),
            (None, None) => {}
        }
    }
    match name {
        Some(name) if filters.is_empty() => bail!("invalid net client name: {name}"),
        _ => Ok(filters),
    }
}

/// A guest changed what its network device lets through; not told again before it was asked for.
#[derive(QapiType, QapiEvent, Clone, Debug)]
#[qapi(event = "NIC_RX_FILTER_CHANGED")]
pub struct NicRxFilterChanged {
    /// The device's id, if it has one.
    pub name: Option<String>,
    /// The device's path.
    pub path: String,
}

/// A stream backend is connected.
#[derive(QapiType, QapiEvent)]
#[qapi(event = "NETDEV_STREAM_CONNECTED")]
pub(crate) struct NetdevStreamConnected {
    pub netdev_id: String,
    pub addr: SocketAddress,
}

/// A stream backend is connected no more.
#[derive(QapiType, QapiEvent)]
#[qapi(event = "NETDEV_STREAM_DISCONNECTED")]
pub(crate) struct NetdevStreamDisconnected {
    pub netdev_id: String,
}

/// What `info network` prints.
pub fn info_network() -> String {
    let mut text = hub::describe();
    for nc in clients() {
        if hub::hub_of(&nc).is_some() {
            continue;
        }
        let peer = nc.peer();
        // A backend of a device is shown with the device.
        if peer.is_none() || nc.driver() == NetClientDriver::Nic {
            text.push_str(&nc.describe());
        }
        if let Some(peer) = peer.filter(|_| nc.driver() == NetClientDriver::Nic) {
            text.push_str(&format!(" \\ {}", peer.describe()));
        }
    }
    text
}

/// The machine runs again: what waited is handed over.
pub fn vm_started() {
    clients().iter().for_each(|nc| nc.flush());
}
