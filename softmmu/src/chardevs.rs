//! Serial ports, monitors and the terminal: which character device goes where.
//!
//! Source: QEMU `softmmu/vl.c` (`qemu_create_default_devices`, `serial_parse`, `monitor_parse`).

use chardev::{Chardev, ChardevError};
use qom::{Error, Result};
use std::sync::Arc;

/// What the options say about character devices.
#[derive(Clone, Debug, Default)]
pub struct CharOptions {
    /// `-chardev`: id and options.
    pub chardevs: Vec<(String, Vec<(String, String)>)>,
    /// `-serial`, in order.
    pub serials: Vec<String>,
    /// `-monitor`, in order.
    pub monitors: Vec<String>,
    /// `-debugcon`.
    pub debugcon: Option<String>,
    /// `-nographic`.
    pub nographic: bool,
    /// Whether ports and monitors come without being asked for.
    pub defaults: bool,
}

fn wrong(error: ChardevError) -> Error {
    Error::new(error.to_string())
}

fn open(label: &str, what: &str, option: &str) -> Result<(Arc<Chardev>, bool)> {
    chardev::new_from_compat(label, what, true).map_err(|e| wrong(e).prepend(format!("{option} {what}: ")))
}

/// Makes the character devices of `-chardev`.
///
/// # Errors
/// An option that makes no sense, or what the host refuses.
pub fn create(options: &CharOptions) -> Result<()> {
    for (id, list) in &options.chardevs {
        chardev::new_from_opts(id, list).map_err(wrong)?;
    }
    Ok(())
}

/// Gives each serial port its character device; gives the monitors that are to be made.
///
/// # Errors
/// As [`create`].
pub fn connect(options: &CharOptions) -> Result<Vec<Arc<Chardev>>> {
    let mut monitors = Vec::new();
    let mut serials = options.serials.clone();
    let mut wanted_monitors = options.monitors.clone();
    if options.defaults && serials.is_empty() {
        // The terminal is shared by the port and the monitor; without a terminal nobody sees the port.
        let shared = options.nographic && wanted_monitors.is_empty();
        serials.push(match options.nographic {
            true if shared => "mon:stdio".to_owned(),
            true => "stdio".to_owned(),
            false => "null".to_owned(),
        });
    } else if options.defaults && options.nographic && wanted_monitors.is_empty() {
        let taken = serials.iter().any(|s| s.contains("stdio"));
        wanted_monitors.extend((!taken).then(|| "stdio".to_owned()));
    }
    for (n, what) in serials.iter().enumerate() {
        if what == "none" {
            hw_char::add_serial_hd(None);
            continue;
        }
        let (chardev, with_monitor) = open(&format!("serial{n}"), what, "-serial")?;
        hw_char::add_serial_hd(Some(chardev.label().to_owned()));
        monitors.extend(with_monitor.then_some(chardev));
    }
    for (n, what) in wanted_monitors.iter().enumerate().filter(|(_, what)| *what != "none") {
        let label = if n == 0 { "compat_monitor0".to_owned() } else { format!("compat_monitor{n}") };
        monitors.push(open(&label, what, "-monitor")?.0);
    }
    Ok(monitors)
}
