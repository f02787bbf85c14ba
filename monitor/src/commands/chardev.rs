//! Character devices.
//!
//! Source: QEMU `chardev/char.c`, `chardev/char-ringbuf.c`, `qapi/char.json`.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chardev::Chardev;
use qapi::QapiType;
use qom::{Error, Result, bail};

use super::chardev_types::ChardevBackend;

#[derive(QapiType)]
struct ChardevInfo {
    label: String,
    filename: String,
    frontend_open: bool,
}

/// Lists the character devices.
#[qapi::command("query-chardev", preconfig)]
fn query_chardev() -> Result<Vec<ChardevInfo>> {
    let info = |chardev: Arc<Chardev>| ChardevInfo {
        label: chardev.label().to_owned(),
        filename: chardev.filename(),
        frontend_open: chardev.frontend_open(),
    };
    Ok(chardev::list().into_iter().map(info).collect())
}

#[derive(QapiType)]
struct ChardevBackendInfo {
    name: String,
}

/// Lists the kinds of character devices.
#[qapi::command("query-chardev-backends")]
fn query_chardev_backends() -> Result<Vec<ChardevBackendInfo>> {
    Ok(chardev::backends().map(|name| ChardevBackendInfo { name: name.to_owned() }).collect())
}

#[derive(QapiType)]
struct ChardevReturn {
    /// The pseudo-terminal that was made.
    pty: Option<String>,
}

fn create(id: &str, backend: &ChardevBackend, failed: &str) -> Result<ChardevReturn> {
    let chardev = chardev::new_from_opts(id, &backend.options()?)
        .map_err(|error| Error::new(error.to_string()).prepend(format!("{failed} '{id}': ")))?;
    Ok(ChardevReturn { pty: chardev.filename().strip_prefix("pty:").map(str::to_owned) })
}

/// Makes a character device.
#[qapi::command("chardev-add")]
fn chardev_add(id: String, backend: ChardevBackend) -> Result<ChardevReturn> {
    if chardev::find(&id).is_some() {
        bail!("Chardev with id '{id}' already exists");
    }
    create(&id, &backend, "Failed to add chardev")
}

fn find(id: &str) -> Result<Arc<Chardev>> {
    chardev::find(id).ok_or_else(|| Error::new(format!("Chardev '{id}' not found")))
}

/// Makes a character device another one. Its user would have to agree; none here can.
#[qapi::command("chardev-change")]
fn chardev_change(id: String, backend: ChardevBackend) -> Result<ChardevReturn> {
    let Some(chardev) = chardev::find(&id) else { bail!("Chardev '{id}' does not exist") };
    if chardev.is_mux() {
        bail!("Mux device hotswap not supported yet");
    }
    if chardev.is_busy() {
        bail!("Chardev user does not support chardev hotswap");
    }
    drop(chardev);
    // The new one may need what the old one holds: a path, the terminal.
    chardev::remove(&id).map_err(|error| Error::new(error.to_string()))?;
    create(&id, &backend, "Failed to change chardev")
}

/// Removes a character device that nobody uses.
#[qapi::command("chardev-remove")]
fn chardev_remove(id: String) -> Result<()> {
    chardev::remove(&id).map_err(|error| Error::new(error.to_string()))
}

/// Has a character device's user see a break.
#[qapi::command("chardev-send-break")]
fn chardev_send_break(id: String) -> Result<()> {
    find(&id)?.receive_break();
    Ok(())
}

/// Base64 as QEMU reads it: padding may be missing, and surplus bits do not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(QapiType)]
enum DataFormat {
    Utf8,
    Base64,
}

fn ringbuf(device: &str) -> Result<Arc<Chardev>> {
    let Some(chardev) = chardev::find(device) else { bail!("Device '{device}' not found") };
    match chardev.read_buffered(0) {
        Some(_) => Ok(chardev),
        None => bail!("{device} is not a ringbuf device"),
    }
}

/// Adds to a ring buffer.
#[qapi::command("ringbuf-write")]
fn ringbuf_write(device: String, data: String, format: Option<DataFormat>) -> Result<()> {
    let chardev = ringbuf(&device)?;
    let bytes = match format {
        Some(DataFormat::Base64) => match BASE64.decode(&data) {
            Ok(bytes) => bytes,
            Err(_) => bail!("Base64 data contains invalid characters"),
        },
        _ => data.into_bytes(),
    };
    if chardev.write_buffered(&bytes).is_none() {
        bail!("Failed to write to device {device}");
    }
    Ok(())
}

/// Takes the oldest bytes out of a ring buffer.
#[qapi::command("ringbuf-read")]
fn ringbuf_read(
    device: String,
    /// At most so many.
    size: i64,
    format: Option<DataFormat>,
) -> Result<String> {
    let chardev = ringbuf(&device)?;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else {
        bail!("size must be greater than zero")
    };
    let bytes = chardev.read_buffered(size).unwrap_or_default();
    Ok(match format {
        Some(DataFormat::Base64) => BASE64.encode(&bytes),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    })
}
