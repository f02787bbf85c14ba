//! Network devices' addresses, and the devices that `-nic` and `-net nic` ask the board for (net/net.c).

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use qom::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::client::NetClientState;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl MacAddr {
    /// `52:54:00:12:34:56`, or with dashes.
    pub fn parse(text: &str) -> Option<MacAddr> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(MacAddr(bytes))
    }

    /// Whether many are meant.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Addresses for those who were given none.
const BASE: [u8; 5] = [0x52, 0x54, 0x00, 0x12, 0x34];
/// Their last bytes.
const FIRST: u8 = 0x56;
const LAST: u8 = 0xfe;

static IN_USE: Mutex<[u16; 256]> = Mutex::new([0; 256]);

/// The address itself, or the next of QEMU's own where it is all zeroes; it is noted as in use
/// (`qemu_macaddr_default_if_unset`).
pub fn macaddr_default_if_unset(mac: MacAddr) -> MacAddr {
    let mut in_use = IN_USE.lock();
    let mut mac = mac;
    if mac == MacAddr::default() {
        let free = (FIRST..=LAST).find(|n| in_use[usize::from(*n)] == 0).unwrap_or(0xff);
        mac.0[..5].copy_from_slice(&BASE);
        mac.0[5] = free;
    }
    if mac.0[..5] == BASE {
        let count = &mut in_use[usize::from(mac.0[5])];
        *count = count.saturating_add(1);
    }
    mac
}

/// The address is free again.
pub fn macaddr_set_free(mac: MacAddr) {
    if mac.0[..5] == BASE {
        let count = &mut IN_USE.lock()[usize::from(mac.0[5])];
        *count = count.saturating_sub(1);
    }
}

/// A network device that the board is to make.
#[derive(Clone, Debug)]
pub struct NicInfo {
    /// Its address.
    pub mac: MacAddr,
    /// What kind it is; the board's own choice where none is named.
    pub model: Option<String>,
    /// Its id.
    pub name: Option<String>,
    /// Where on its bus it is.
    pub devaddr: Option<String>,
    /// Its backend.
    pub netdev: Arc<NetClientState>,
    /// MSI-X vectors.
    pub vectors: Option<u32>,
    /// The board made it.
    pub instantiated: bool,
}

/// Network devices there are at most without `-device`.
const MAX_NICS: usize = 8;

static ND_TABLE: Mutex<Vec<NicInfo>> = Mutex::new(Vec::new());

/// Asks the board for a device.
///
/// # Errors
/// When too many were asked for; `many` says so.
pub(crate) fn add(nic: NicInfo, many: &str) -> Result<()> {
    let mut table = ND_TABLE.lock();
    if table.len() >= MAX_NICS {
        bail!("{many}");
    }
    table.push(nic);
    Ok(())
}

/// The address that an option names; `wrong` is said of one of many.
///
/// # Errors
/// What is no address of one device.
pub(crate) fn parse_mac(text: Option<&str>, wrong: &str) -> Result<MacAddr> {
    let Some(text) = text else { return Ok(MacAddr::default()) };
    match MacAddr::parse(text) {
        None => bail!("invalid syntax for ethernet address"),
        Some(mac) if mac.is_multicast() => bail!("{wrong}"),
        Some(mac) => Ok(mac),
    }
}

/// For a board: has `make` make each device that was asked for.
///
/// # Errors
/// What `make` says.
pub fn instantiate(mut make: impl FnMut(&NicInfo) -> Result<()>) -> Result<()> {
    let wanted = ND_TABLE.lock().clone();
    for (n, nic) in wanted.iter().enumerate() {
        make(nic)?;
        if let Some(nic) = ND_TABLE.lock().get_mut(n) {
            nic.instantiated = true;
        }
    }
    Ok(())
}

/// Devices that no board made.
pub(crate) fn check() -> Vec<String> {
    let left = |nic: &NicInfo| {
        let name = nic.name.as_deref().unwrap_or("anonymous");
        let model = nic.model.as_deref().unwrap_or("unspecified");
        format!("requested NIC ({name}, model {model}) was not created (not supported by this machine?)")
    };
    ND_TABLE.lock().iter().filter(|nic| !nic.instantiated).map(left).collect()
}
