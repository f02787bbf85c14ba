//! Keys, pointers, screens and remote displays.
//!
//! Source: QEMU `ui/ui-qmp-cmds.c`, `ui/input.c`, `ui/input-legacy.c`, `qapi/ui.json`.

use hw_input::input::{self, InputEvent, KeyValue, MouseInfo};
use qapi::QapiType;
use qom::{Error, ErrorClass, Result, bail};

/// Presses keys together, and lets them go after a while.
#[qapi::command("send-key")]
fn send_key(
    keys: Vec<KeyValue>,
    /// For how long, in milliseconds of virtual time.
    hold_time: Option<i64>,
) -> Result<()> {
    let keys: Vec<_> = keys.into_iter().map(KeyValue::key).collect();
    input::send_keys(&keys, hold_time.and_then(|time| u64::try_from(time).ok()));
    Ok(())
}

/// The display device called `id`: there is none yet.
fn console(id: Option<String>) -> Result<()> {
    id.map_or(Ok(()), |id| Err(qom::object::device_not_found(&id)))
}

/// Gives the guest events of keyboards and pointers.
#[qapi::command("input-send-event")]
fn input_send_event(
    /// The display that they are meant for.
    device: Option<String>,
    #[qapi(name = "head")] _head: Option<i64>,
    events: Vec<InputEvent>,
) -> Result<()> {
    console(device)?;
    input::send_events(&events)
}

/// Lists the pointing devices.
#[qapi::command("query-mice")]
fn query_mice() -> Result<Vec<MouseInfo>> {
    Ok(input::mice())
}

#[derive(QapiType)]
enum ImageFormat {
    Ppm,
    Png,
}

/// Saves what a display shows to a file.
#[qapi::command("screendump")]
fn screendump(
    #[qapi(name = "filename")] _filename: String,
    device: Option<String>,
    head: Option<i64>,
    #[qapi(name = "format")] _format: Option<ImageFormat>,
) -> Result<()> {
    if head.is_some() && device.is_none() {
        bail!("'head' must be specified together with 'device'");
    }
    console(device)?;
    bail!("There is no console to take a screendump from")
}

#[derive(QapiType)]
enum DisplayType {
    Default,
    None,
}

#[derive(QapiType)]
struct DisplayOptions {
    #[qapi(name = "type")]
    kind: DisplayType,
}

/// Tells what `-display` chose.
#[qapi::command("query-display-options")]
fn query_display_options() -> Result<DisplayOptions> {
    Ok(DisplayOptions { kind: DisplayType::None })
}

#[derive(QapiType)]
struct VncInfo {
    enabled: bool,
}

/// Tells about the first VNC server.
#[qapi::command("query-vnc")]
fn query_vnc() -> Result<VncInfo> {
    Ok(VncInfo { enabled: false })
}

/// A VNC server.
#[derive(QapiType)]
struct VncInfo2 {
    id: String,
}

/// Lists the VNC servers.
#[qapi::command("query-vnc-servers")]
fn query_vnc_servers() -> Result<Vec<VncInfo2>> {
    Ok(Vec::new())
}

#[derive(QapiType)]
struct VncDisplay {
    display: Option<String>,
}

/// Which remote display a password is for.
#[derive(QapiType)]
#[qapi(tag = "protocol", tag_type = "DisplayProtocol")]
enum PasswordOf {
    Vnc(VncDisplay),
    Spice,
}

#[derive(QapiType)]
enum SetPasswordAction {
    Keep,
    Fail,
    Disconnect,
}

impl PasswordOf {
    /// What a machine without remote displays says.
    fn refused(&self, vnc: &str) -> Error {
        match self {
            PasswordOf::Spice => Error::new("SPICE is not in use").with_class(ErrorClass::DeviceNotActive),
            PasswordOf::Vnc(_) => Error::new(vnc),
        }
    }
}

/// Sets the password of a remote display.
#[qapi::command("set_password")]
fn set_password(
    #[qapi(flatten)] protocol: PasswordOf,
    #[qapi(name = "password")] _password: String,
    connected: Option<SetPasswordAction>,
) -> Result<()> {
    match (&protocol, connected) {
        (PasswordOf::Vnc(_), Some(SetPasswordAction::Fail | SetPasswordAction::Disconnect)) => {
            bail!("Invalid parameter 'connected'")
        }
        _ => Err(protocol.refused("Could not set password")),
    }
}

/// Says until when the password of a remote display holds.
#[qapi::command("expire_password")]
fn expire_password(
    #[qapi(flatten)] protocol: PasswordOf,
    #[qapi(name = "time")] _time: String,
) -> Result<()> {
    Err(protocol.refused("Could not set password expire time"))
}

/// Sets the password of the first VNC server.
#[qapi::command("change-vnc-password")]
fn change_vnc_password(#[qapi(name = "password")] _password: String) -> Result<()> {
    bail!("Could not set password")
}
