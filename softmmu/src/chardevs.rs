//! Serial ports, monitors and the terminal: which character device goes where.
//!
//! Source: QEMU `softmmu/vl.c` (`qemu_create_default_devices`, `serial_parse`, `monitor_parse`).

use chardev::{Chardev, ChardevError};
use qom::{Error, Result};
use std::sync::Arc;

use crate::cli::{MonitorMode, MonitorOptions, MonitorPlace};

/// What the options say about character devices.
#[derive(Clone, Debug, Default)]
pub struct CharOptions {
    /// `-chardev`: id, options, and the option as given.
    pub chardevs: Vec<(String, Vec<(String, String)>, String)>,
    /// `-serial`, in order.
    pub serials: Vec<String>,
    /// `-monitor`, `-qmp` and `-mon`, in order.
    pub monitors: Vec<Option<MonitorOptions>>,
    /// `-debugcon`.
    pub debugcon: Option<String>,
    /// `-nographic`.
    pub nographic: bool,
    /// Whether ports and monitors come without being asked for.
    pub defaults: bool,
    /// Whether a serial port does.
    pub default_serial: bool,
}

fn wrong(error: ChardevError) -> Error {
    Error::new(error.to_string())
}

fn open(label: &str, what: &str, option: &str) -> Result<(Arc<Chardev>, bool)> {
    chardev::new_from_compat(label, what, true).map_err(|e| {
        let location = format!("{option} {what}: ");
        let then = match option {
            "-serial" => format!("could not connect serial device to character backend '{what}'"),
            _ => format!("parse error: {what}"),
        };
        if what.starts_with("chardev:") {
            // Nothing was tried: that it is not there is all there is to say.
            return Error::new(format!("{location}{then}"));
        }
        wrong(e).prepend(&location).with_hint(format!("softmmu: {location}{then}"))
    })
}

/// Makes the character devices of `-chardev`.
///
/// # Errors
/// An option that makes no sense, or what the host refuses.
pub fn create(options: &CharOptions) -> Result<()> {
    for (id, list, location) in &options.chardevs {
        chardev::new_from_opts(id, list).map_err(|e| wrong(e).prepend(format!("{location}: ")))?;
    }
    Ok(())
}

/// A monitor to be made.
pub struct Monitor {
    chardev: Arc<Chardev>,
    mode: MonitorMode,
    /// What messages about it begin with.
    option: String,
}

impl Monitor {
    /// Makes it (`monitor_init`).
    ///
    /// # Errors
    /// When another frontend has the chardev.
    pub fn init(&self) -> Result<()> {
        let made = match self.mode {
            MonitorMode::Readline => monitor::monitor_init_hmp(&self.chardev),
            MonitorMode::Control { pretty } => monitor::monitor_init_qmp(&self.chardev, pretty),
        };
        made.map_err(|error| error.prepend(format!("{}: ", self.option)))
    }
}

/// Gives each serial port its character device; gives the monitors that are to be made.
///
/// # Errors
/// As [`create`].
pub fn connect(options: &CharOptions) -> Result<Vec<Monitor>> {
    let mut monitors = Vec::new();
    let mut serials = options.serials.clone();
    let mut typed_at_terminal = false;
    if options.default_serial && serials.is_empty() {
        // The terminal is shared by the port and the monitor; without a terminal nobody sees the port.
        let shared = options.nographic && options.monitors.is_empty();
        serials.push(match options.nographic {
            true if shared => "mon:stdio".to_owned(),
            true => "stdio".to_owned(),
            false => "null".to_owned(),
        });
    } else if options.defaults && options.nographic && options.monitors.is_empty() {
        typed_at_terminal = !serials.iter().any(|s| s.contains("stdio"));
    }
    let readline = |chardev, option| Monitor { chardev, mode: MonitorMode::Readline, option };
    for (n, what) in serials.iter().enumerate() {
        if what == "none" {
            hw_char::add_serial_hd(None);
            continue;
        }
        let (chardev, with_monitor) = open(&format!("serial{n}"), what, "-serial")?;
        hw_char::add_serial_hd(Some(chardev.label().to_owned()));
        monitors.extend(with_monitor.then(|| readline(chardev, format!("-serial {what}"))));
    }
    let mut labels = (0..).map(|n| format!("compat_monitor{n}"));
    let mut label = || labels.next().unwrap_or_default();
    if typed_at_terminal {
        monitors.push(readline(open(&label(), "stdio", "-monitor")?.0, "-monitor stdio".to_owned()));
    }
    for wanted in options.monitors.iter().flatten() {
        let option = wanted.location.to_string();
        let chardev = match &wanted.place {
            MonitorPlace::Chardev(id) => chardev::find(id)
                .ok_or_else(|| Error::new(format!("{option}: chardev \"{id}\" not found")))?,
            MonitorPlace::Device(what) => {
                let opened = chardev::new_from_compat(&label(), what, true);
                opened.map_err(|error| wrong(error).prepend(format!("{option}: ")))?.0
            }
        };
        monitors.push(Monitor { chardev, mode: wanted.mode, option });
    }
    Ok(monitors)
}
