//! What firmware boots from: devices by their `bootindex`, as OpenFirmware paths; and how it counts cylinders.
//!
//! Source: QEMU `softmmu/bootdevice.c`, `hw/core/qdev-fw.c`.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use qom::{Class, Object, PropertyInfo, PropertyType, Result, bail};

use crate::bus::{Bus, BusClass};
use crate::device::Device;

/// The last line where nothing else is to be booted from (`-boot strict=on`).
const HALT: &str = "HALT";

/// What the path of a device has behind it, where that depends on the device.
type SuffixOf = fn(&Arc<dyn Object>) -> &'static str;

/// What a path has behind the device: the disk of a controller.
#[derive(Clone)]
enum Suffix {
    Text(Cow<'static, str>),
    Of(SuffixOf),
}

/// What firmware can boot from.
#[derive(Clone)]
struct Entry {
    index: i32,
    /// A device; none where the suffix is all there is.
    device: Option<Weak<dyn Object>>,
    suffix: Suffix,
}

impl Entry {
    fn is(&self, object: &dyn Object) -> bool {
        self.device.as_ref().is_some_and(|device| std::ptr::addr_eq(device.as_ptr(), object))
    }

    /// Its path, as long as there is a device.
    fn path(&self) -> Option<String> {
        let device = match &self.device {
            Some(device) => Some(device.upgrade()?),
            None => None,
        };
        match (device, &self.suffix) {
            (Some(device), Suffix::Text(suffix)) => Some(boot_path(&device, suffix)),
            (Some(device), Suffix::Of(suffix)) => Some(boot_path(&device, suffix(&device))),
            (None, Suffix::Text(path)) => Some(path.to_string()),
            (None, Suffix::Of(_)) => None,
        }
    }
}

/// By index.
static ORDER: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// Gives the devices of a class the property `bootindex`, -1 until it is set; firmware reads it at the next reset.
/// `suffix` is what the path has behind the device (`device_add_bootindex_property`).
pub fn add_bootindex_property(class: &mut Class, suffix: &'static str) {
    add_bootindex(class, Suffix::Text(suffix.into()));
}

/// The same where what the path has behind the device depends on the device.
pub fn add_bootindex_property_of(class: &mut Class, suffix: fn(&Arc<dyn Object>) -> &'static str) {
    add_bootindex(class, Suffix::Of(suffix));
}

fn add_bootindex(class: &mut Class, suffix: Suffix) {
    class.add_property(PropertyInfo {
        get: Some(Arc::new(|object| {
            let order = ORDER.lock();
            Ok(order.iter().find(|entry| entry.is(object)).map_or(-1, |entry| entry.index).into())
        })),
        set: Some(Arc::new(move |object, input| {
            set(object, i32::parse("bootindex", input)?, suffix.clone())
        })),
        live: true,
        ..PropertyInfo::new("bootindex", "int32")
    });
}

fn set(object: &dyn Object, index: i32, suffix: Suffix) -> Result<()> {
    let mut order = ORDER.lock();
    order.retain(|entry| entry.device.as_ref().is_none_or(|device| device.strong_count() > 0));
    if index >= 0 && order.iter().any(|entry| entry.index == index) {
        bail!("The bootindex {index} has already been used");
    }
    order.retain(|entry| !entry.is(object));
    if index >= 0 {
        insert(&mut order, Entry { index, device: Some(object.base().weak()), suffix });
    }
    Ok(())
}

fn insert(order: &mut Vec<Entry>, entry: Entry) {
    let at = order.partition_point(|other| other.index < entry.index);
    order.insert(at, entry);
}

/// Adds what is no device, by its path, unless `index` is negative (`add_boot_device_path`).
///
/// # Errors
/// When something else has that place.
pub(crate) fn add_boot_device_path(index: i32, path: String) -> Result<()> {
    if index < 0 {
        return Ok(());
    }
    let mut order = ORDER.lock();
    if order.iter().any(|entry| entry.index == index) {
        bail!("Two devices with same boot index {index}");
    }
    insert(&mut order, Entry { index, device: None, suffix: Suffix::Text(path.into()) });
    Ok(())
}

/// The paths of what there is to boot from, a line each, with a zero behind the last (`get_boot_devices_list`). With
/// `strict` nothing else is to be booted from. Empty where no device has a `bootindex`.
pub fn boot_devices_list(strict: bool) -> Vec<u8> {
    // Paths are made, and devices let go of, without the lock.
    let entries = ORDER.lock().clone();
    let mut lines: Vec<String> = entries.iter().filter_map(Entry::path).collect();
    if !lines.is_empty() {
        lines.extend(strict.then(|| HALT.to_owned()));
    }
    file_of(&lines)
}

/// A disk whose cylinders, heads and sectors the user gave as firmware is to count them.
struct Lchs {
    device: Weak<dyn Object>,
    suffix: &'static str,
    numbers: [u32; 3],
}

/// In the order of their coming.
static LCHS: Mutex<Vec<Lchs>> = Mutex::new(Vec::new());

/// Firmware is to count a disk's cylinders, heads and sectors so, unless they are all 0. `suffix` is what the path has
/// behind the device.
pub fn add_boot_device_lchs(device: &Arc<dyn Object>, suffix: &'static str, numbers: [u32; 3]) {
    if numbers != [0; 3] {
        LCHS.lock().push(Lchs { device: Arc::downgrade(device), suffix, numbers });
    }
}

/// A disk goes.
pub fn del_boot_device_lchs(device: &dyn Object) {
    LCHS.lock().retain(|entry| !std::ptr::addr_eq(entry.device.as_ptr(), device));
}

/// The paths of these disks with the numbers, a line each, with a zero behind the last
/// (`get_boot_devices_lchs_list`). Empty where there are none.
pub fn boot_devices_lchs_list() -> Vec<u8> {
    let disks: Vec<(Arc<dyn Object>, &str, [u32; 3])> = {
        let disks = LCHS.lock();
        disks.iter().filter_map(|disk| Some((disk.device.upgrade()?, disk.suffix, disk.numbers))).collect()
    };
    let lines = disks.iter().map(|(device, suffix, [cylinders, heads, sectors])| {
        format!("{} {cylinders} {heads} {sectors}", boot_path(device, suffix))
    });
    file_of(&lines.collect::<Vec<_>>())
}

/// Lines with a zero behind them, as firmware has them in a file; nothing for none.
fn file_of(lines: &[String]) -> Vec<u8> {
    if lines.is_empty() {
        return Vec::new();
    }
    let mut list = lines.join("\n").into_bytes();
    list.push(0);
    list
}

/// A device's OpenFirmware path with what it has behind it (`get_boot_device_path`).
fn boot_path(device: &Arc<dyn Object>, suffix: &str) -> String {
    format!("{}{suffix}", fw_dev_path(device).trim_end_matches('/'))
}

/// A device's OpenFirmware path, with a slash behind it. A bus that gives its devices no place adds nothing.
fn fw_dev_path(device: &Arc<dyn Object>) -> String {
    let bus = device.cast::<Device>().and_then(Device::parent_bus);
    let owner = bus.as_ref().and_then(|bus| bus.cast::<Bus>()).and_then(Bus::owner);
    let above = owner.map_or_else(|| "/".to_owned(), |owner| fw_dev_path(&owner));
    let class = bus.as_ref().and_then(|bus| bus.class().get::<BusClass>());
    match class.and_then(|class| class.fw_dev_path) {
        Some(place) => format!("{above}{}/", place(device)),
        None => above,
    }
}
