//! The texts of `-machine help`, `-device NAME,help` and the like.

use std::fmt::Write;

use hw_core::accel::{AccelClass, accel_find};
use hw_core::machine::MachineClass;
use hw_core::qdev_monitor::{device_help, device_properties_help, properties_help};
use qom::{Result, bail};

use crate::audiodev;
use crate::cli::option_parameters;
use crate::options::{Help, Options};
use crate::vl::select_machine;

/// The text that was asked for, if one was.
///
/// # Errors
/// When what it is to describe does not exist.
pub fn wanted(options: &Options) -> Result<Option<String>> {
    let Some(help) = &options.help else { return Ok(None) };
    let text = match help {
        Help::Machines => machines(),
        Help::MachineProperties => {
            let class = select_machine(options)?;
            format!("{} options:\n{}", class.name(), properties_help(class))
        }
        Help::Accelerators => accelerators(),
        Help::AcceleratorProperties(name) => match accel_find(name) {
            Some(class) => format!("{name}-accel options:\n{}", properties_help(class)),
            None => bail!("invalid accelerator {name}"),
        },
        Help::Cpus => target_i386::help::cpu_help(),
        Help::Devices => device_help(),
        Help::DeviceProperties(driver) => device_properties_help(driver)?,
        Help::Objects => objects(),
        Help::ObjectProperties(name) => match qom::class_by_name(name) {
            Some(class) => format!("{name} options:\n{}", properties_help(class)),
            None => bail!("-object {name},help: Parameter 'qom-type' does not accept value '{name}'"),
        },
        Help::Chardevs => chardev::backend_help(),
        Help::ChardevOptions => option_parameters("chardev"),
        Help::Netdevs => net::netdev_help(),
        Help::Audiodevs => audiodev::HELP.to_owned(),
    };
    Ok(Some(text))
}

fn machines() -> String {
    let mut machines: Vec<_> = qom::class_list("machine", false)
        .into_iter()
        .filter_map(|class| class.get::<MachineClass>())
        .collect();
    // Families come first, the newest of each first; then the others, which are in order of name.
    machines.sort_by(|a, b| {
        let families = a.family.is_none().cmp(&b.family.is_none()).then(a.family.cmp(&b.family));
        families.then(if a.family.is_some() { b.name.cmp(a.name) } else { std::cmp::Ordering::Equal })
    });
    let mut lines = Vec::new();
    for machine in machines {
        if let Some(alias) = machine.alias {
            lines.push(format!("{alias:<20} {} (alias of {})", machine.desc, machine.name));
        }
        let default = if machine.is_default { " (default)" } else { "" };
        lines.push(format!("{:<20} {}{default}", machine.name, machine.desc));
    }
    format!("Supported machines are:\n{}\n", lines.join("\n"))
}

fn accelerators() -> String {
    let mut text = "Accelerators supported in QEMU binary:\n".to_owned();
    for class in qom::class_list("accel", false) {
        // The one for tests only is not for users.
        if let Some(accel) = class.get::<AccelClass>().filter(|accel| accel.name != "QTest") {
            let _ = writeln!(text, "{}", accel.name);
        }
    }
    text
}

fn objects() -> String {
    let mut text = "List of user creatable objects:\n".to_owned();
    for class in qom::class_list("user-creatable", false) {
        let _ = writeln!(text, "  {}", class.name());
    }
    text
}
