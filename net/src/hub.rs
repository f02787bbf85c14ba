//! Hubs: what one port takes goes to all others (net/hub.c).

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use qom::{Result, bail};

use crate::client::{NetClient, NetClientDriver, NetClientState, Received, find_netdev, new_client};

struct Hub {
    id: i32,
    /// The ports there ever were.
    made: usize,
    /// The newest first.
    ports: Vec<Weak<NetClientState>>,
}

/// The newest first.
static HUBS: Mutex<Vec<Hub>> = Mutex::new(Vec::new());

struct HubPort {
    hub: i32,
    nc: Weak<NetClientState>,
}

impl HubPort {
    fn others(&self) -> Vec<Arc<NetClientState>> {
        let hubs = HUBS.lock();
        let hub = hubs.iter().find(|hub| hub.id == self.hub);
        let ports = hub.map(|hub| hub.ports.as_slice()).unwrap_or_default();
        ports.iter().filter(|port| !port.ptr_eq(&self.nc)).filter_map(Weak::upgrade).collect()
    }
}

impl NetClient for HubPort {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::Hubport
    }

    fn can_receive(&self, _: usize) -> bool {
        self.others().iter().any(|port| port.can_send())
    }

    fn receive(&self, _: usize, packet: &[u8]) -> Received {
        self.others().iter().for_each(|port| port.send(packet));
        Received::Done
    }

    fn flush_others(&self) -> bool {
        // What this port takes comes through the others.
        self.others().iter().fold(false, |done, port| port.flush_incoming() | done)
    }

    fn cleanup(&self) {
        if let Some(hub) = HUBS.lock().iter_mut().find(|hub| hub.id == self.hub) {
            hub.ports.retain(|port| !port.ptr_eq(&self.nc));
        }
    }
}

/// Adds a port to a hub, which comes with its first; `peer` is connected to it (`net_hub_add_port`).
pub fn net_hub_add_port(
    id: i32,
    name: Option<&str>,
    peer: Option<&Arc<NetClientState>>,
) -> Arc<NetClientState> {
    let number = {
        let mut hubs = HUBS.lock();
        let at = hubs.iter().position(|hub| hub.id == id).unwrap_or_else(|| {
            hubs.insert(0, Hub { id, made: 0, ports: Vec::new() });
            0
        });
        hubs[at].made += 1;
        hubs[at].made - 1
    };
    let name = name.map_or_else(|| format!("hub{id}port{number}"), str::to_owned);
    let make = |nc: &Weak<NetClientState>| Arc::new(HubPort { hub: id, nc: nc.clone() });
    let (nc, _) = new_client("hub", Some(&name), 0, peer, make);
    if let Some(hub) = HUBS.lock().iter_mut().find(|hub| hub.id == id) {
        hub.ports.insert(0, Arc::downgrade(&nc));
    }
    nc
}

/// `-netdev hubport`.
pub(crate) fn init(name: &str, hub: i32, netdev: Option<&str>) -> Result<()> {
    let peer = match netdev {
        None => None,
        Some(id) => match find_netdev(id) {
            None => bail!("netdev '{id}' not found"),
            Some(nc) if nc.peer().is_some() => bail!("netdev '{id}' is in use"),
            found => found,
        },
    };
    net_hub_add_port(hub, Some(name), peer.as_ref());
    Ok(())
}

fn hubs() -> Vec<(i32, Vec<Arc<NetClientState>>)> {
    let hubs = HUBS.lock();
    hubs.iter().map(|hub| (hub.id, hub.ports.iter().filter_map(Weak::upgrade).collect())).collect()
}

/// The hub that a client is connected to.
pub(crate) fn hub_of(nc: &Arc<NetClientState>) -> Option<i32> {
    let peer = nc.peer();
    let is_at = |port: &Arc<NetClientState>| {
        Arc::ptr_eq(port, nc) || peer.as_ref().is_some_and(|peer| Arc::ptr_eq(port, peer))
    };
    hubs().iter().find(|(_, ports)| ports.iter().any(is_at)).map(|(id, _)| *id)
}

/// The hubs, as `info network` shows them.
pub(crate) fn describe() -> String {
    let mut text = String::new();
    for (id, ports) in hubs() {
        text.push_str(&format!("hub {id}\n"));
        for port in ports {
            text.push_str(&format!(" \\ {}", port.name()));
            match port.peer() {
                Some(peer) => text.push_str(&format!(": {}", peer.describe())),
                None => text.push('\n'),
            }
        }
    }
    text
}

/// What is likely wrong with the hubs (`net_hub_check_clients`). A test has no host's network.
pub(crate) fn check(is_test: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    for (id, ports) in hubs() {
        let (mut nic, mut host) = (false, false);
        for port in ports {
            match port.peer().map(|peer| peer.driver()) {
                None => warnings.push(format!("hub port {} has no peer", port.name())),
                Some(NetClientDriver::Nic) => nic = true,
                Some(NetClientDriver::Hubport) => {}
                Some(_) => host = true,
            }
        }
        if host && !nic {
            warnings.push(format!("hub {id} with no nics"));
        }
        if nic && !host && !is_test {
            warnings.push(format!("hub {id} is not connected to host network"));
        }
    }
    warnings
}
