//! `-netdev`, `-nic` and `-net`. Source: QEMU `net/net.c` (`net_init_clients`).

use qom::Result;

/// An option's argument, and the option for messages.
type Argument = (String, String);

/// What the options say about networks.
#[derive(Clone, Debug, Default)]
pub struct NetOptions {
    /// `-netdev`, in order.
    pub netdevs: Vec<Argument>,
    /// `-nic`, in order.
    pub nics: Vec<Argument>,
    /// `-net`, in order.
    pub nets: Vec<Argument>,
}

fn each(arguments: &[Argument], wanted: impl Fn(&str) -> bool, init: fn(&str) -> Result<()>) -> Result<()> {
    arguments
        .iter()
        .filter(|(text, _)| wanted(text))
        .try_for_each(|(text, location)| init(text).map_err(|e| e.prepend(format!("{location}: "))))
}

/// Makes the backends, and notes the devices that the board is to make.
///
/// # Errors
/// Options that make no sense, or what the host says.
pub fn create(options: &NetOptions) -> Result<()> {
    each(&options.netdevs, net::netdev_is_modern, net::netdev_init)?;
    each(&options.netdevs, |text| !net::netdev_is_modern(text), net::netdev_init)?;
    each(&options.nics, |_| true, net::net_param_nic)?;
    each(&options.nets, |_| true, net::net_init_client)
}
