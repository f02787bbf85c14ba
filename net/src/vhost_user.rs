//! `-netdev vhost-user`: another program at the other end of a unix socket serves a network device's queues
//! (net/vhost-user.c). Here is the chardev; `hw-virtio` speaks with the program.

use std::sync::Arc;

use chardev::CharFrontend;
use qapi::QapiType;
use qom::{Error, Result, bail};

use crate::client::{NetClient, NetClientDriver, NetClientState, Offload, Received, VnetHdr, new_client};

/// What `-netdev vhost-user` takes.
#[derive(QapiType, Clone, Debug)]
pub struct NetdevVhostUserOptions {
    /// The chardev, a unix socket.
    pub chardev: String,
    /// Of no consequence any more: the program serves the queues of every driver.
    pub vhostforce: Option<bool>,
    /// The number of queues.
    pub queues: Option<i64>,
}

/// Queues that there can be at most.
const MAX_QUEUES: i64 = 1024;

/// One queue.
struct VhostUserNet {
    /// The program; the first queue has it.
    program: Option<CharFrontend>,
}

impl NetClient for VhostUserNet {
    fn driver(&self) -> NetClientDriver {
        NetClientDriver::VhostUser
    }

    /// While the program does not serve the device, what that sends is lost.
    fn receive(&self, _: usize, _: &[u8]) -> Received {
        Received::Done
    }

    fn cleanup(&self) {
        self.program.iter().for_each(CharFrontend::detach);
    }

    fn vnet_hdr(&self) -> Option<&dyn VnetHdr> {
        Some(self)
    }

    fn vhost_user(&self) -> Option<&CharFrontend> {
        self.program.as_ref()
    }
}

/// The program and the driver settle them.
impl VnetHdr for VhostUserNet {
    fn use_vnet_hdr(&self, _: Option<usize>) {}

    fn has_vnet_hdr_len(&self, _: usize) -> bool {
        true
    }

    fn has_ufo(&self) -> bool {
        true
    }

    fn set_offload(&self, _: Offload) {}
}

/// Makes the backend, and waits until the program is there.
pub(crate) fn init(
    id: &str,
    options: &NetdevVhostUserOptions,
    peer: Option<&Arc<NetClientState>>,
) -> Result<()> {
    let name = &options.chardev;
    let Some(chardev) = chardev::find(name) else { bail!("chardev \"{name}\" not found") };
    if !chardev.is_socket() {
        bail!("chardev \"{name}\" is not reconnectable");
    }
    if !chardev.passes_fds() {
        bail!("chardev \"{name}\" does not support FD passing");
    }
    let queues = options.queues.unwrap_or(1);
    if !(1..=MAX_QUEUES).contains(&queues) {
        bail!("vhost-user number of queues must be in range [1, {MAX_QUEUES}]");
    }
    let told = |error: chardev::ChardevError| Error::new(error.to_string());
    let program = CharFrontend::default();
    program.attach(&chardev).map_err(told)?;
    program.wait_connected().map_err(told)?;
    let mut program = Some(program);
    for number in 0..queues as usize {
        let client = Arc::new(VhostUserNet { program: program.take() });
        let (nc, _) = new_client("vhost_user", Some(id), number, peer, |_| client);
        nc.set_info_str(format!("vhost-user{number} to {name}"));
    }
    Ok(())
}
