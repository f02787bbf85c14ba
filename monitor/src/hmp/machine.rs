//! Commands that steer the program, the machine and the log.

use hw_core::bootdevice::boot_set as boot_set_order;
use hw_core::runstate::{self, ShutdownCause};
use parking_lot::Mutex;
use serde_json::json;

use super::args::Args;
use super::qmp;
use super::session::{Session, out};

type Done = Result<(), String>;

pub(crate) fn quit(mon: &mut Session, _: &Args) -> Done {
    mon.ended = true;
    runstate::shutdown_request(ShutdownCause::HostQmpQuit);
    Ok(())
}

pub(crate) fn stop(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("stop", [])
}

pub(crate) fn cont(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("cont", [])
}

pub(crate) fn system_reset(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("system_reset", [])
}

pub(crate) fn system_powerdown(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("system_powerdown", [])
}

pub(crate) fn system_wakeup(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("system_wakeup", [])
}

pub(crate) fn exit_preconfig(_: &mut Session, _: &Args) -> Done {
    qmp::carry_out("x-exit-preconfig", [])
}

pub(crate) fn nmi(mon: &mut Session, _: &Args) -> Done {
    if mon.cpu().is_none() {
        return Err("Error: machine does not provide NMIs".to_owned());
    }
    qmp::carry_out("inject-nmi", [])
}

pub(crate) fn watchdog_action(_: &mut Session, args: &Args) -> Done {
    const ACTIONS: [&str; 7] = ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];
    let action = args.word("action").to_ascii_lowercase();
    if !ACTIONS.contains(&action.as_str()) {
        return Err(format!("Error: invalid parameter value: {}", args.word("action")));
    }
    qmp::carry_out("watchdog-set-action", [("action", json!(action))])
}

pub(crate) fn getfd(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("getfd", [("fdname", json!(args.word("fdname")))])
}

pub(crate) fn closefd(_: &mut Session, args: &Args) -> Done {
    qmp::carry_out("closefd", [("fdname", json!(args.word("fdname")))])
}

/// Starts a gdb server on a device, or stops it on `none`.
///
/// # Errors
/// Why it cannot.
pub type GdbServer = fn(&str) -> Result<(), String>;

static GDB_SERVER: Mutex<Option<GdbServer>> = Mutex::new(None);

/// The program can start a gdb server: what `gdbserver` calls.
pub fn set_gdb_server(server: GdbServer) {
    *GDB_SERVER.lock() = Some(server);
}

pub(crate) fn gdbserver(mon: &mut Session, args: &Args) -> Done {
    let device = args.text("device").unwrap_or("tcp::1234");
    let server = *GDB_SERVER.lock();
    match server.map(|start| start(device)) {
        Some(Ok(())) if device == "none" => mon.print("Disabled gdbserver\n"),
        Some(Ok(())) => out!(mon, "Waiting for gdb connection on device '{device}'\n"),
        refused => {
            if let Some(Err(why)) = refused {
                out!(mon, "{why}\n");
            }
            out!(mon, "Could not open gdbserver on device '{device}'\n");
        }
    }
    Ok(())
}

pub(crate) fn boot_set(mon: &mut Session, args: &Args) -> Done {
    let order = args.word("bootdevice");
    boot_set_order(order).map_err(|e| e.message)?;
    out!(mon, "boot device list now set to {order}\n");
    Ok(())
}

/// KVM's guests run at full speed whatever is set, and so they do in QEMU.
static SINGLE_STEP: Mutex<bool> = Mutex::new(false);

/// Whether `singlestep` is on, which the status tells.
pub(crate) fn is_singlestep() -> bool {
    *SINGLE_STEP.lock()
}

pub(crate) fn singlestep(_: &mut Session, args: &Args) -> Done {
    let on = match args.text("option") {
        None | Some("on") => true,
        Some("off") => false,
        Some(other) => return Err(format!("unexpected option {other}")),
    };
    *SINGLE_STEP.lock() = on;
    Ok(())
}

/// Whether `sync-profile` is on. No lock of ours is profiled: the table stays empty, as QEMU's is at first.
static SYNC_PROFILE: Mutex<bool> = Mutex::new(false);

pub(crate) fn sync_profile(mon: &mut Session, args: &Args) -> Done {
    let mut on = SYNC_PROFILE.lock();
    match args.text("op") {
        None => out!(mon, "sync-profile is {}\n", if *on { "on" } else { "off" }),
        Some("on") => *on = true,
        Some("off") => *on = false,
        Some("reset") => {}
        Some(other) => return Err(format!("Error: Invalid parameter '{other}'")),
    }
    Ok(())
}

/// The items of `log`.
pub(crate) fn log_help(mon: &mut Session) {
    let help = util::log::help().replace("\"-d ", "\"log ");
    let (heading, items) = help.split_once('\n').unwrap_or_default();
    out!(mon, "{heading}\n{:<15} remove all logs\n{items}", "none");
}

pub(crate) fn log(mon: &mut Session, args: &Args) -> Done {
    let items = args.word("items");
    let mask = match items {
        "none" => util::log::Mask::empty(),
        items => match util::log::parse_mask(items) {
            Ok(mask) => mask,
            Err(_) => {
                log_help(mon);
                return Ok(());
            }
        },
    };
    util::log::set_mask(mask).map_err(|e| e.to_string())
}

pub(crate) fn logfile(_: &mut Session, args: &Args) -> Done {
    util::log::set_filename(Some(args.word("filename"))).map_err(|e| e.to_string())
}

pub(crate) fn trace_event(_: &mut Session, args: &Args) -> Done {
    let name = args.word("name");
    let prefix = if args.is_set("option") { "" } else { "-" };
    let known = name.contains('*') || util::trace::list().iter().any(|(known, _)| *known == name);
    if name.starts_with('-') || !known || !util::trace::enable(&format!("{prefix}{name}")) {
        return Err(format!("unknown event \"{name}\""));
    }
    Ok(())
}
