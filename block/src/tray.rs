//! Media that come and go: trays, and QMP's commands about both (block/qapi-sysemu.c).

use std::sync::Arc;

use qapi::{QapiEvent, QapiType};
use qom::{Error, ErrorClass, Result, bail};

use crate::backend::BlockDevice;
use crate::node::Inherited;
use crate::{BlockBackend, BlockNode, backend, node};

/// A tray opened or closed.
#[derive(QapiType, QapiEvent)]
#[qapi(name = "q_obj_DEVICE_TRAY_MOVED-arg", event = "DEVICE_TRAY_MOVED")]
pub struct DeviceTrayMoved {
    /// The backend's name, if it has one.
    device: String,
    /// The device's id, or its path.
    id: String,
    /// Whether it is open now.
    tray_open: bool,
}

impl DeviceTrayMoved {
    /// The event for the device `id` that has `backend`.
    pub fn of(backend: &BlockBackend, id: &str, tray_open: bool) -> DeviceTrayMoved {
        DeviceTrayMoved { device: backend.name().to_owned(), id: id.to_owned(), tray_open }
    }
}

/// A backend as commands name it.
struct Named {
    backend: Arc<BlockBackend>,
    /// What the command called it.
    name: String,
}

/// Why a tray does not open.
enum Shut {
    /// The guest was asked; it may open it later.
    Asked(Error),
    /// It cannot be.
    Never(Error),
}

impl Named {
    /// The backend of a drive's name or of a device's id (`qmp_get_blk`).
    fn find(device: Option<&str>, id: Option<&str>) -> Result<Named> {
        let (name, found) = match (device, id) {
            (Some(name), None) => (name, backend::find(name)),
            (None, Some(id)) => (id, of_device(id)),
            _ => bail!("Need exactly one of 'device' and 'id'"),
        };
        let Some(backend) = found else {
            let error = Error::new(format!("Device '{name}' not found"));
            return Err(error.with_class(ErrorClass::DeviceNotFound));
        };
        Ok(Named { backend, name: name.to_owned() })
    }

    fn device(&self) -> Option<Arc<dyn BlockDevice>> {
        self.backend.device()
    }

    fn check_removable(&self) -> Result<()> {
        if self.device().is_some_and(|device| !device.is_removable()) {
            bail!("Device '{}' is not removable", self.name);
        }
        Ok(())
    }

    /// Whether the tray is open; `None` without one.
    fn is_tray_open(&self) -> Option<bool> {
        self.device()?.is_tray_open()
    }

    /// The medium came or went, as the device sees it; clients hear if its tray moved
    /// (`blk_dev_change_media_cb`).
    fn change_media(&self, load: bool) {
        let Some(device) = self.device() else { return };
        let before = device.is_tray_open();
        device.change_media(load);
        if let Some(now) = device.is_tray_open().filter(|now| before != Some(*now)) {
            qapi::emit(&DeviceTrayMoved::of(&self.backend, &device.id(), now));
        }
    }

    /// Opens the tray, or asks the guest for it (`do_open_tray`). A drive without a tray has it open all the time.
    fn open_tray(&self, force: bool) -> Result<(), Shut> {
        self.check_removable().map_err(Shut::Never)?;
        let (Some(device), Some(false)) = (self.device(), self.is_tray_open()) else { return Ok(()) };
        let locked = device.is_medium_locked();
        if locked {
            device.eject_request(force);
        }
        if locked && !force {
            return Err(Shut::Asked(Error::new(format!(
                "Device '{}' is locked and force was not specified, wait for tray to open and try again",
                self.name
            ))));
        }
        self.change_media(false);
        Ok(())
    }

    /// Closes the tray (`qmp_blockdev_close_tray`).
    fn close_tray(&self) -> Result<()> {
        self.check_removable()?;
        if self.is_tray_open() == Some(true) {
            self.change_media(true);
        }
        Ok(())
    }

    /// A medium can be put in or taken out.
    fn check_tray_open(&self) -> Result<()> {
        self.check_removable()?;
        if self.is_tray_open() == Some(false) {
            bail!("Tray of device '{}' is not open", self.name);
        }
        Ok(())
    }

    /// Takes the medium out (`blockdev_remove_medium`).
    fn remove_medium(&self) -> Result<()> {
        self.check_tray_open()?;
        if self.backend.node().is_none() {
            return Ok(());
        }
        self.backend.remove();
        if self.is_tray_open().is_none() {
            self.change_media(false);
        }
        Ok(())
    }

    /// Puts a medium in (`qmp_blockdev_insert_anon_medium`).
    fn insert_medium(&self, node: Arc<BlockNode>) -> Result<()> {
        self.check_tray_open()?;
        if self.backend.node().is_some() {
            bail!("There already is a medium in device '{}'", self.name);
        }
        self.backend.insert_alone(node)?;
        if self.is_tray_open().is_none() {
            self.change_media(true);
        }
        Ok(())
    }
}

/// The backend of a drive's name or of a device's id (`qmp_get_blk`).
///
/// # Errors
/// There is none, or not one of the two was named.
pub fn get_backend(device: Option<&str>, id: Option<&str>) -> Result<Arc<BlockBackend>> {
    Named::find(device, id).map(|named| named.backend)
}

/// The backend of the device with this id (`blk_by_qdev_id`).
fn of_device(id: &str) -> Option<Arc<BlockBackend>> {
    let path = format!("/machine/peripheral/{id}");
    let is_it = |device: Arc<dyn BlockDevice>| {
        let other = device.id();
        other == id || other == path || other.starts_with(&format!("{path}/"))
    };
    backend::all_backends().into_iter().find(|backend| backend.device().is_some_and(is_it))
}

impl From<Shut> for Error {
    fn from(shut: Shut) -> Error {
        match shut {
            Shut::Asked(error) | Shut::Never(error) => error,
        }
    }
}

/// Takes a medium out, once the guest has let go of it.
#[qapi::command("eject")]
fn eject(
    /// The drive.
    device: Option<String>,
    /// Or its device's id.
    id: Option<String>,
    /// Whether or not the guest lets go.
    force: Option<bool>,
) -> Result<()> {
    let named = Named::find(device.as_deref(), id.as_deref())?;
    named.open_tray(force.unwrap_or(false))?;
    named.remove_medium()
}

/// Opens a tray; a guest that has locked it is asked, which it may follow later.
#[qapi::command("blockdev-open-tray")]
fn blockdev_open_tray(
    /// The drive.
    device: Option<String>,
    /// Or its device's id.
    id: Option<String>,
    /// Whether or not the guest lets go.
    force: Option<bool>,
) -> Result<()> {
    match Named::find(device.as_deref(), id.as_deref())?.open_tray(force.unwrap_or(false)) {
        Ok(()) | Err(Shut::Asked(_)) => Ok(()),
        Err(Shut::Never(error)) => Err(error),
    }
}

/// Closes a tray.
#[qapi::command("blockdev-close-tray")]
fn blockdev_close_tray(
    /// The drive.
    device: Option<String>,
    /// Or its device's id.
    id: Option<String>,
) -> Result<()> {
    Named::find(device.as_deref(), id.as_deref())?.close_tray()
}

/// Takes a medium out of an open tray.
#[qapi::command("blockdev-remove-medium")]
fn blockdev_remove_medium(
    /// The device's id.
    id: String,
) -> Result<()> {
    Named::find(None, Some(&id))?.remove_medium()
}

/// Puts a node into an open tray, as its medium.
#[qapi::command("blockdev-insert-medium")]
fn blockdev_insert_medium(
    /// The device's id.
    id: String,
    /// The node.
    node_name: String,
) -> Result<()> {
    let Some(node) = node::find_node(&node_name) else { bail!("Node '{node_name}' not found") };
    if node.has_root_parent() {
        bail!("Node '{node_name}' is already in use");
    }
    Named::find(None, Some(&id))?.insert_medium(node)
}

/// Whether a new medium can be written.
#[derive(QapiType)]
enum BlockdevChangeReadOnlyMode {
    Retain,
    ReadOnly,
    ReadWrite,
}

/// Puts another medium in.
#[qapi::command("blockdev-change-medium")]
fn blockdev_change_medium(
    /// The drive.
    device: Option<String>,
    /// Or its device's id.
    id: Option<String>,
    /// The image.
    filename: String,
    /// Its format; told by its first bytes otherwise.
    format: Option<String>,
    /// Whether or not the guest lets go.
    force: Option<bool>,
    /// Whether it can be written.
    read_only_mode: Option<BlockdevChangeReadOnlyMode>,
) -> Result<()> {
    let named = Named::find(device.as_deref(), id.as_deref())?;
    let old = named.backend.node();
    let before = old.as_ref().map(|node| node.mode()).unwrap_or_default();
    let read_only = match read_only_mode {
        Some(BlockdevChangeReadOnlyMode::ReadOnly) => true,
        Some(BlockdevChangeReadOnlyMode::ReadWrite) => false,
        _ => old.as_ref().is_some_and(|node| node.is_read_only()),
    };
    if let Some(format) = format.as_deref().filter(|format| !crate::DRIVER_NAMES.contains(format)) {
        bail!("Unknown driver '{format}'");
    }
    let mode = Inherited { read_only, auto_read_only: !read_only, probed: format.is_none(), ..before };
    drop(old);
    let node = crate::filename::open(&filename, format.as_deref(), mode)?;
    named.open_tray(force.unwrap_or(false))?;
    named.remove_medium()?;
    named.insert_medium(node)?;
    named.close_tray()
}
