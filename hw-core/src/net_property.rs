//! Properties of network devices: their backend and their address. Source: QEMU `hw/core/qdev-properties-system.c`.

use std::sync::Arc;

use net::{MacAddr, NetClientState, find_netdev_queues};
use qom::property::PropertyInput;
use qom::{PropertyType, Result, Value, bail};

/// The backend that a property names: all its queues, none of which has a peer.
#[derive(Clone, Debug, Default)]
pub struct NetdevProperty(Vec<Arc<NetClientState>>);

impl NetdevProperty {
    /// The backend's queues.
    pub fn queues(&self) -> &[Arc<NetClientState>] {
        &self.0
    }
}

impl PropertyType for NetdevProperty {
    fn type_name() -> String {
        "str".to_owned()
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let id = String::parse(name, input)?;
        let queues = find_netdev_queues(&id);
        if queues.is_empty() {
            bail!("Property '{name}' can't find value '{id}'");
        }
        if queues.iter().any(|queue| queue.peer().is_some()) {
            bail!("Property '{name}' can't take value '{id}', it's in use");
        }
        Ok(NetdevProperty(queues))
    }

    fn parse_for(owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse(&format!("{owner}.{name}"), input)
    }

    fn to_value(&self) -> Value {
        self.0.first().map(|queue| queue.name().to_owned()).unwrap_or_default().into()
    }
}

/// An Ethernet address as a property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacProperty(pub MacAddr);

impl PropertyType for MacProperty {
    fn type_name() -> String {
        "str".to_owned()
    }

    fn has_default() -> bool {
        false
    }

    fn parse(name: &str, input: PropertyInput<'_>) -> Result<Self> {
        let text = String::parse(name, input)?;
        match MacAddr::parse(&text) {
            Some(mac) => Ok(MacProperty(mac)),
            None => bail!("Property '{name}' doesn't take value '{text}'"),
        }
    }

    fn parse_for(owner: &str, name: &str, input: PropertyInput<'_>) -> Result<Self> {
        Self::parse(&format!("{owner}.{name}"), input)
    }

    fn to_value(&self) -> Value {
        self.0.to_string().into()
    }
}
