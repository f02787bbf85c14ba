//! What the command line takes, for tools: `query-command-line-options`.
//!
//! Source: QEMU `util/qemu-config.c`, `qapi/misc.json`.

use qapi::QapiType;
use qom::{Result, bail};
use util::option::OptType;

use super::fsdev;

/// What a parameter of an option is.
#[derive(QapiType, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandLineParameterType {
    /// Text.
    String,
    /// `on` or `off`.
    Boolean,
    /// A number.
    Number,
    /// A number of bytes, with a suffix.
    Size,
}

/// A parameter of an option.
#[derive(QapiType)]
pub struct CommandLineParameterInfo {
    name: String,
    #[qapi(name = "type")]
    kind: CommandLineParameterType,
    help: Option<String>,
    default: Option<String>,
}

/// An option, or a group of settings that an option and `-readconfig` fill.
#[derive(QapiType)]
pub struct CommandLineOptionInfo {
    option: String,
    parameters: Vec<CommandLineParameterInfo>,
}

use CommandLineParameterType::{Boolean, Number, Size, String as Text};

type Parameter = (&'static str, CommandLineParameterType);

/// The groups under QEMU's names, with the parameters that are taken here. Those without any take what the chosen
/// type has.
const GROUPS: &[(&str, &[Parameter])] = &[
    (
        "machine",
        &[
            ("suppress-vmdesc", Boolean),
            ("firmware", Text),
            ("usb", Boolean),
            ("mem-merge", Boolean),
            ("dump-guest-core", Boolean),
            ("append", Text),
            ("initrd", Text),
            ("kernel", Text),
            ("kernel_irqchip", Boolean),
            ("accel", Text),
            ("type", Text),
        ],
    ),
    (
        "sandbox",
        &[
            ("resourcecontrol", Text),
            ("spawn", Text),
            ("elevateprivileges", Text),
            ("obsolete", Text),
            ("enable", Boolean),
        ],
    ),
    ("msg", &[("guest-name", Boolean), ("timestamp", Boolean)]),
    ("virtfs", &[]),
    ("fsdev", &[]),
    ("smbios", &[]),
    ("acpi", &[]),
    ("action", &[("watchdog", Text), ("panic", Text), ("reboot", Text), ("shutdown", Text)]),
    ("fw_cfg", &[("gen_id", Text), ("string", Text), ("file", Text), ("name", Text)]),
    ("numa", &[]),
    ("name", &[("debug-threads", Boolean), ("process", Text), ("guest", Text)]),
    ("overcommit", &[("cpu-pm", Boolean), ("mem-lock", Boolean)]),
    ("object", &[]),
    ("add-fd", &[("opaque", Text), ("set", Number), ("fd", Number)]),
    (
        "boot-opts",
        &[
            ("strict", Boolean),
            ("reboot-timeout", Number),
            ("splash-time", Number),
            ("splash", Text),
            ("menu", Boolean),
            ("once", Text),
            ("order", Text),
        ],
    ),
    (
        "smp-opts",
        &[
            ("maxcpus", Number),
            ("threads", Number),
            ("cores", Number),
            ("clusters", Number),
            ("dies", Number),
            ("sockets", Number),
            ("cpus", Number),
        ],
    ),
    ("memory", &[("maxmem", Size), ("slots", Number), ("size", Size)]),
    ("accel", &[]),
    ("option-rom", &[("romfile", Text), ("bootindex", Number)]),
    ("trace", &[("file", Text), ("events", Text), ("enable", Text)]),
    ("mon", &[("pretty", Boolean), ("chardev", Text), ("mode", Text)]),
    ("global", &[("value", Text), ("property", Text), ("driver", Text)]),
    ("rtc", &[("driftfix", Text), ("clock", Text), ("base", Text)]),
    ("net", &[]),
    ("nic", &[]),
    ("netdev", &[]),
    ("device", &[]),
    (
        "chardev",
        &[
            ("abstract", Boolean),
            ("tight", Boolean),
            ("logappend", Boolean),
            ("logfile", Text),
            ("append", Boolean),
            ("chardev", Text),
            ("size", Size),
            ("name", Text),
            ("signal", Boolean),
            ("mux", Boolean),
            ("telnet", Boolean),
            ("reconnect", Number),
            ("nodelay", Boolean),
            ("delay", Boolean),
            ("server", Boolean),
            ("wait", Boolean),
            ("ipv6", Boolean),
            ("ipv4", Boolean),
            ("to", Number),
            ("localport", Text),
            ("localaddr", Text),
            ("fd", Text),
            ("port", Text),
            ("host", Text),
            ("path", Text),
            ("backend", Text),
        ],
    ),
    (
        "drive",
        &[
            ("copy-on-read", Boolean),
            ("werror", Text),
            ("rerror", Text),
            ("read-only", Boolean),
            ("file", Text),
            ("if", Text),
            ("media", Text),
            ("index", Number),
            ("unit", Number),
            ("bus", Number),
            ("detect-zeroes", Text),
            ("throttling.group", Text),
            ("throttling.iops-size", Number),
            ("throttling.bps-write-max-length", Number),
            ("throttling.bps-read-max-length", Number),
            ("throttling.bps-total-max-length", Number),
            ("throttling.iops-write-max-length", Number),
            ("throttling.iops-read-max-length", Number),
            ("throttling.iops-total-max-length", Number),
            ("throttling.bps-write-max", Number),
            ("throttling.bps-read-max", Number),
            ("throttling.bps-total-max", Number),
            ("throttling.iops-write-max", Number),
            ("throttling.iops-read-max", Number),
            ("throttling.iops-total-max", Number),
            ("throttling.bps-write", Number),
            ("throttling.bps-read", Number),
            ("throttling.bps-total", Number),
            ("throttling.iops-write", Number),
            ("throttling.iops-read", Number),
            ("throttling.iops-total", Number),
            ("format", Text),
            ("cache.writeback", Boolean),
            ("aio", Text),
            ("snapshot", Boolean),
            ("discard", Text),
            ("force-share", Boolean),
            ("auto-read-only", Boolean),
            ("cache.no-flush", Boolean),
            ("cache.direct", Boolean),
            ("driver", Text),
            ("node-name", Text),
        ],
    ),
];

fn kind_of(kind: OptType) -> CommandLineParameterType {
    match kind {
        OptType::String => Text,
        OptType::Bool => Boolean,
        OptType::Number => Number,
        OptType::Size => Size,
    }
}

fn describe((option, parameters): &(&str, &[Parameter])) -> CommandLineOptionInfo {
    let desc = match *option {
        "fsdev" => fsdev::FSDEV.descs,
        "virtfs" => fsdev::VIRTFS.descs,
        _ => &[],
    };
    // QEMU's list of them is the other way round.
    let described = desc.iter().rev().map(|desc| (desc.name, kind_of(desc.kind)));
    let parameter = |(name, kind): Parameter| CommandLineParameterInfo {
        name: name.to_owned(),
        kind,
        help: None,
        default: None,
    };
    CommandLineOptionInfo {
        option: (*option).to_owned(),
        parameters: parameters.iter().copied().chain(described).map(parameter).collect(),
    }
}

/// The text of `-OPTION help`: what it takes, by name (`qemu_opts_print_help`).
pub fn option_parameters(option: &str) -> String {
    let group = GROUPS.iter().find(|(name, _)| *name == option);
    let line = |(name, kind): &Parameter| {
        let kind = match kind {
            Text => "str",
            Boolean => "bool (on/off)",
            Number => "num",
            Size => "size",
        };
        format!("  {name}=<{kind}>\n")
    };
    let mut lines: Vec<_> = group.into_iter().flat_map(|(_, parameters)| *parameters).map(line).collect();
    lines.sort_unstable();
    format!("{option} options:\n{}", lines.concat())
}

/// Lists options of the command line with their parameters.
#[qapi::command("query-command-line-options", preconfig)]
fn query_command_line_options(
    /// Only this one.
    option: Option<String>,
) -> Result<Vec<CommandLineOptionInfo>> {
    let Some(option) = option else { return Ok(GROUPS.iter().map(describe).collect()) };
    match GROUPS.iter().find(|(name, _)| *name == option) {
        Some(group) => Ok(vec![describe(group)]),
        None => bail!("invalid option name: {option}"),
    }
}
