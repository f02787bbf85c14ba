//! The device as the network knows it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use net::{NetClient, NetClientDriver, NetClientState, Received, RxFilterInfo, new_client};

use super::VirtIONet;
use super::spec::feature;

/// A client's way to the device.
pub(super) struct Nic(Weak<VirtIONet>);

impl Nic {
    /// A client for each queue of the backend; one without a peer when there is no backend.
    pub fn clients(
        device: &Arc<VirtIONet>,
        name: Option<&str>,
        model: &str,
        peers: &[Arc<NetClientState>],
    ) -> Vec<Arc<NetClientState>> {
        let nic = Arc::new(Nic(Arc::downgrade(device)));
        let mut clients: Vec<Arc<NetClientState>> = Vec::new();
        for n in 0..peers.len().max(1) {
            // All have the name that the first got.
            let first = clients.first().map(|client| client.name().to_owned());
            let name = first.as_deref().or(name);
            clients.push(new_client(model, name, n, peers.get(n), |_| nic.clone()).0);
        }
        clients
    }

    fn device(&self) -> Option<Arc<VirtIONet>> {
        self.0.upgrade()
    }
}

impl NetClient for Nic {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::Nic
    }

    fn can_receive(&self, queue: usize) -> bool {
        self.device().is_some_and(|device| device.can_receive(queue))
    }

    fn receive(&self, queue: usize, packet: &[u8]) -> Received {
        let Some(device) = self.device() else { return Received::Done };
        device.receive(queue, packet)
    }

    fn batch(&self, queue: usize, begins: bool) {
        if let Some(device) = self.device()
            && let Some(pair) = device.pair(queue)
        {
            pair.batch(begins);
        }
    }

    fn sent(&self, queue: usize) {
        if let Some(device) = self.device()
            && let Some(pair) = device.pair(queue)
        {
            pair.sent();
        }
    }

    fn link_status_changed(&self) {
        if let Some(device) = self.device() {
            let down = device.client(0).is_some_and(|client| {
                let orphaned = client.peer().is_some_and(|peer| net::find_netdev(peer.name()).is_none());
                client.link_down() || orphaned
            });
            device.link_changed(down);
        }
    }

    fn query_rx_filter(&self) -> Option<RxFilterInfo> {
        let device = self.device()?;
        let name = device.client(0)?.name().to_owned();
        let vlan_filtering = device.has_feature(feature::CTRL_VLAN);
        device.filter_told.store(false, Ordering::Release);
        Some(device.filter.lock().info(&name, vlan_filtering))
    }

    fn announce(&self) {
        if let Some(device) = self.device() {
            device.announce();
        }
    }
}

impl VirtIONet {
    /// Tells whoever listens that the filter is another, once until somebody looks.
    pub(super) fn filter_changed(&self) {
        if !self.filter_told.swap(true, Ordering::AcqRel) {
            let name = self.name.get().and_then(|(id, _)| id.clone());
            let path = self.this().canonical_path().unwrap_or_default();
            qapi::emit(&net::NicRxFilterChanged { name, path });
        }
    }
}
