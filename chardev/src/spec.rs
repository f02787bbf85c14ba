//! Chardevs from the command line (chardev/char.c: qemu_chr_new_from_opts, qemu_chr_parse_compat).

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use util::option::get_opt_value;

use crate::backend::Backend;
use crate::chr::{Chardev, Core, Event};
use crate::error::ChardevError;
use crate::options::{ChardevSpec, Options};
use crate::{fd, mux, pty, registry, ringbuf, serial, socket, stdio, udp};

/// How a kind of chardev is made, and whether its other end is there from the start.
type Open = fn(&Arc<Core>, &Options) -> Result<Arc<dyn Backend>, ChardevError>;

struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
    open: Open,
    opened: bool,
}

const fn kind(name: &'static str, keys: &'static [&'static str], open: Open, opened: bool) -> Kind {
    Kind { name, keys, open, opened }
}

const UDP_KEYS: &[&str] = &["host", "port", "localaddr", "localport", "ipv4", "ipv6"];

const KINDS: &[Kind] = &[
    kind("stdio", &["signal"], stdio::open, true),
    kind("ringbuf", &["size"], |_, options| ringbuf::open(options), true),
    kind("pipe", &["path"], fd::open_pipe, true),
    kind("null", &[], |_, _| Ok(Arc::new(ringbuf::Null)), true),
    kind("socket", socket::KEYS, socket::open, false),
    kind("udp", UDP_KEYS, udp::open, false),
    kind("memory", &["size"], |_, options| ringbuf::open(options), true),
    kind("file", &["path", "append", "input-path"], fd::open_file, true),
    kind("serial", &["path"], serial::open, true),
    kind("tty", &["path"], serial::open, true),
    kind("pty", &[], |core, _| pty::open(core), false),
];

/// What QEMU has and we do not.
const MISSING: &[&str] = &[
    "vc",
    "msmouse",
    "wctablet",
    "braille",
    "testdev",
    "parallel",
    "parport",
    "qemu-vdagent",
    "spicevmc",
    "spiceport",
    "dbus",
    "console",
];

/// The names of all kinds of chardevs.
pub fn backends() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name).chain([mux::BACKEND])
}

/// The text of `-chardev help`.
#[must_use]
pub fn backend_help() -> String {
    backends().fold(String::from("Available chardev backend types: "), |text, name| text + "\n  " + name)
        + "\n"
}

/// Makes a chardev and puts it into the registry (qemu_chr_new_from_opts). With `mux=on` it is a multiplexer
/// over one named `ID-base`.
///
/// # Errors
/// Options that make no sense, an id that is taken, what the host refuses.
pub fn new_from_opts(id: &str, options: &[(String, String)]) -> Result<Arc<Chardev>, ChardevError> {
    let options = Options::new(options)?;
    let name = options
        .get("backend")
        .ok_or_else(|| ChardevError::options(format!("chardev: \"{id}\" missing backend")))?;
    let multiplexed = options.flag("mux")?.unwrap_or(false);
    if registry::find(id).is_some() {
        return Err(registry::duplicate(id));
    }
    if name == mux::BACKEND {
        options.check(name, &["chardev"])?;
        let base =
            options.get("chardev").ok_or_else(|| ChardevError::options("chardev: mux: no chardev given"))?;
        let base = registry::find(base)
            .ok_or_else(|| ChardevError::options(format!("mux: base chardev {base} not found")))?;
        return register(mux::new(id, &base, open_log(&options)?)?);
    }
    let kind = find_kind(name)?;
    options.check(name, kind.keys)?;
    if !multiplexed {
        return register(new_kind(id, kind, &options)?);
    }
    let base = register(new_kind(&format!("{id}-base"), kind, &options)?)?;
    register(mux::new(id, &base, None)?)
}

fn find_kind(name: &str) -> Result<&'static Kind, ChardevError> {
    if MISSING.contains(&name) {
        return Err(ChardevError::options(format!("chardev backend '{name}' is not supported")));
    }
    let kind = KINDS.iter().find(|kind| kind.name == name);
    kind.ok_or_else(|| ChardevError::options(format!("'{name}' is not a valid char driver name")))
}

fn new_kind(id: &str, kind: &Kind, options: &Options) -> Result<Arc<Chardev>, ChardevError> {
    let log = open_log(options)?;
    let core = Core::new(id, kind.name, 1);
    let backend = (kind.open)(&core, options)?;
    if kind.opened {
        core.event(Event::Opened);
    }
    Ok(Chardev::new(core, backend, log))
}

fn register(chardev: Arc<Chardev>) -> Result<Arc<Chardev>, ChardevError> {
    registry::add(&chardev)?;
    Ok(chardev)
}

fn open_log(options: &Options) -> Result<Option<File>, ChardevError> {
    let append = options.flag("logappend")?.unwrap_or(false);
    let Some(path) = options.get("logfile") else { return Ok(None) };
    let mut how = OpenOptions::new();
    how.write(true).create(true).append(append).truncate(!append);
    fd::open(path, rustix::fs::OFlags::WRONLY, &mut how).map(Some)
}

/// What the short form of `-serial`, `-monitor` and the like stands for (qemu_chr_parse_compat), but for
/// `chardev:ID`, which is [`find`](crate::find). `mon:` is taken where `permit_mux_mon`.
///
/// # Errors
/// A word that is none of them.
pub fn parse_compat(label: &str, filename: &str, permit_mux_mon: bool) -> Result<ChardevSpec, ChardevError> {
    let mut options = Vec::new();
    let mut rest = filename;
    if let Some(multiplexed) = filename.strip_prefix("mon:") {
        if !permit_mux_mon {
            return Err(ChardevError::options("mon: isn't supported in this context"));
        }
        rest = multiplexed;
        set(&mut options, "mux", "on");
        if rest == "stdio" {
            // Ctrl-C goes to the guest: the monitor and Ctrl-A x are at hand.
            set(&mut options, "signal", "off");
        }
    }
    let valid = parse_backend(rest, &mut options).is_some();
    if !valid {
        return Err(ChardevError::options(format!("'{rest}' is not a valid char driver")));
    }
    Ok(ChardevSpec { id: label.to_owned(), options })
}

/// The chardev that `-serial` and the like name: a new one, or with `chardev:ID` one that is there
/// (qemu_chr_new_mux_mon). The second value says that a human monitor is to be put on it too.
///
/// # Errors
/// As [`parse_compat`] and [`new_from_opts`], or there is none of that id.
pub fn new_from_compat(
    label: &str,
    filename: &str,
    permit_mux_mon: bool,
) -> Result<(Arc<Chardev>, bool), ChardevError> {
    if let Some(id) = filename.strip_prefix("chardev:") {
        let found = registry::find(id);
        let missing = || ChardevError::options(format!("Chardev '{id}' not found"));
        return Ok((found.ok_or_else(missing)?, false));
    }
    let spec = parse_compat(label, filename, permit_mux_mon)?;
    let chardev = new_from_opts(&spec.id, &spec.options)?;
    Ok((chardev, spec.is_mux()))
}

fn set(options: &mut Vec<(String, String)>, key: &str, value: &str) {
    options.push((key.to_owned(), value.to_owned()));
}

fn parse_backend(filename: &str, options: &mut Vec<(String, String)>) -> Option<()> {
    const PLAIN: &[&str] = &["null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio"];
    if PLAIN.contains(&filename) {
        set(options, "backend", filename);
        return Some(());
    }
    if filename == "vc" || filename.starts_with("vc:") {
        set(options, "backend", "vc");
        return Some(());
    }
    for (prefix, backend) in [("file:", "file"), ("pipe:", "pipe")] {
        if let Some(path) = filename.strip_prefix(prefix) {
            set(options, "backend", backend);
            set(options, "path", path);
            return Some(());
        }
    }
    for (prefix, flag) in [
        ("tcp:", None),
        ("telnet:", Some("telnet")),
        ("tn3270:", Some("tn3270")),
        ("websocket:", Some("websocket")),
    ] {
        if let Some(address) = filename.strip_prefix(prefix) {
            set(options, "backend", "socket");
            let (address, words) = address.split_once(',').unwrap_or((address, ""));
            set_host_port(address, "host", "port", options)?;
            add_words(words, options);
            if let Some(flag) = flag {
                set(options, flag, "on");
            }
            return Some(());
        }
    }
    if let Some(address) = filename.strip_prefix("udp:") {
        set(options, "backend", "udp");
        let (remote, local) = address.split_once('@').unwrap_or((address, ""));
        set_host_port(remote, "host", "port", options)?;
        if !local.is_empty() {
            set_host_port(local, "localaddr", "localport", options)?;
        }
        return Some(());
    }
    if let Some(path) = filename.strip_prefix("unix:") {
        set(options, "backend", "socket");
        if path.find(['=', ',']).is_some_and(|at| path[at..].starts_with('=')) {
            add_words(path, options);
            return Some(());
        }
        let (path, words) = get_opt_value(path);
        set(options, "path", &path);
        add_words(words.strip_prefix(',').unwrap_or(words), options);
        return Some(());
    }
    if filename.starts_with("/dev/parport") || filename.starts_with("/dev/ppi") {
        set(options, "backend", "parallel");
    } else if filename.starts_with("/dev/") || filename.starts_with("COM") {
        set(options, "backend", "serial");
    } else {
        return None;
    }
    set(options, "path", filename);
    Some(())
}

/// `HOST:PORT`, the host perhaps empty or in brackets.
fn set_host_port(
    address: &str,
    host_key: &str,
    port_key: &str,
    options: &mut Vec<(String, String)>,
) -> Option<()> {
    let (host, port) = address.rsplit_once(':').filter(|(_, port)| !port.is_empty())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    set(options, host_key, bare.unwrap_or(host));
    set(options, port_key, port);
    Some(())
}

/// `key=value` words; a bare `key` is `key=on` and `nokey` is `key=off`.
fn add_words(mut words: &str, options: &mut Vec<(String, String)>) {
    while !words.is_empty() {
        let (word, rest) = get_opt_value(words);
        match (word.split_once('='), word.strip_prefix("no")) {
            (Some((key, value)), _) => set(options, key, value),
            (None, Some(key)) if word != "nodelay" => set(options, key, "off"),
            (None, _) => set(options, &word, "on"),
        }
        words = rest.strip_prefix(',').unwrap_or(rest);
    }
}
