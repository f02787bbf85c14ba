//! Disks that options ask for (`configure_blockdev` in softmmu/vl.c).

use block::drive::{DriveOptions, Interface, drive_get, drive_new, drives};
use block::options::BlockdevOptions;
use hw_core::qdev_monitor::DeviceOptions;
use qom::Result;

use crate::cli::TreeOption;
use crate::options::{Device, text};

/// What the options say about disks.
#[derive(Clone, Debug, Default)]
pub struct BlockOptions {
    /// `-drive`: id, options, and the option as given.
    pub drives: Vec<(Option<String>, Vec<(String, String)>, String)>,
    /// `-blockdev`.
    pub blockdevs: Vec<TreeOption>,
    /// `-snapshot`.
    pub snapshot: bool,
    /// A PC has a CD-ROM drive without a medium, unless another drive has its place.
    pub default_cdrom: bool,
}

/// Makes nodes and drives. `false`: a text was asked for, and was printed.
///
/// # Errors
/// Names the option that is wrong.
pub fn create(options: &BlockOptions, machine: &str) -> Result<bool> {
    for option in &options.blockdevs {
        option.with(|node: BlockdevOptions| block::node::blockdev_add(&node).map(drop))?;
    }
    // Machines without disks of their own leave them to -device.
    let default_interface = if machine == "none" { Interface::None } else { Interface::Ide };
    for (id, values, location) in &options.drives {
        let options = DriveOptions {
            id: id.as_deref(),
            values,
            snapshot: options.snapshot,
            default_interface,
            location: location.clone(),
        };
        let made = drive_new(&options).map_err(|error| error.prepend(format!("{location}: ")))?;
        if made.is_none() {
            return Ok(false);
        }
    }
    if options.default_cdrom && default_interface == Interface::Ide {
        default_drive()?;
    }
    Ok(true)
}

/// The CD-ROM drive that nobody asked for (`default_drive`).
fn default_drive() -> Result<()> {
    let (interface, bus, unit) = (Interface::Ide, 1, 0);
    if drive_get(interface, bus, unit).is_some() {
        return Ok(());
    }
    let values = [("index", "2"), ("media", "cdrom")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = DriveOptions {
        id: None,
        values: &values,
        snapshot: false,
        default_interface: interface,
        location: String::new(),
    };
    drive_new(&options).map(drop)
}

/// The devices of `if=virtio`, which come after those of `-device`.
///
/// # Errors
/// None: the list is well formed.
pub fn devices() -> Result<Vec<Device>> {
    let device = |drive: block::drive::DriveInfo| {
        let mut list =
            vec![("driver", "virtio-blk-pci".to_owned()), ("drive", drive.backend.name().to_owned())];
        list.extend(drive.address.map(|address| ("addr", address)));
        let list = list.into_iter().map(|(name, value)| (name.to_owned(), text(&value)));
        Ok(Device { options: DeviceOptions::from_list(list)?, location: drive.location })
    };
    drives().into_iter().filter(|drive| drive.interface == Interface::Virtio).map(device).collect()
}
