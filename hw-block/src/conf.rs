//! What is common to disks: sizes of blocks, and how errors are dealt with (hw/block/block.c).

use std::sync::Arc;

use block::BlockBackend;
use block::backend::{BlockErrorAction, BlockdevOnError};
use hw_core::runstate::{self, RunState};
use hw_core::{Device, DriveProperty};
use qapi::{QapiEvent, QapiType};
use qom::property::{OnOffAuto, PropertyInput, Size, group_field};
use qom::{Class, Object, Property, PropertyInfo, PropertyType, Result, bail};

use crate::geometry::{self, Geometry};

/// Sizes of a block, bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 512..=2 << 20;
/// Size of a sector, which everything is counted in.
pub const SECTOR: u64 = 512;

/// Most cylinders, heads and sectors of disks that are not ATA.
pub const MAX_GEOMETRY: [u32; 3] = [65535, 255, 255];
/// The unit of discards that the user left open.
const AUTO_SIZE: u32 = u32::MAX;

/// Sizes of blocks as a guest sees them, bytes.
#[derive(Clone, Copy, Debug)]
pub struct BlockSizes {
    /// What can be read and written.
    pub logical: u32,
    /// What the disk does at once.
    pub physical: u32,
    /// Smallest efficient request; 0: nothing is said.
    pub min_io: u32,
    /// Best request; 0: nothing is said.
    pub opt_io: u32,
    /// Unit of discards, if anything is said.
    pub discard: Option<u32>,
}

impl BlockSizes {
    /// Checks them (`blkconf_blocksizes`).
    fn checked(self) -> Result<Self> {
        if self.logical > self.physical {
            bail!("logical_block_size > physical_block_size not supported");
        }
        if !self.min_io.is_multiple_of(self.logical) {
            bail!("min_io_size must be a multiple of logical_block_size");
        }
        if self.min_io / self.logical > u16::MAX.into() {
            bail!("min_io_size must not exceed {} logical blocks", u16::MAX);
        }
        if !self.opt_io.is_multiple_of(self.logical) {
            bail!("opt_io_size must be a multiple of logical_block_size");
        }
        if self.discard.is_some_and(|unit| !unit.is_multiple_of(self.logical)) {
            bail!("discard_granularity must be a multiple of logical_block_size");
        }
        Ok(self)
    }
}

/// The properties that all disks have (`BlockConf`).
#[derive(Debug)]
pub struct BlockConf {
    /// The drive, or a node.
    pub drive: Property<DriveProperty>,
    /// What the node below says is the default of some sizes.
    backend_defaults: Property<OnOffAuto>,
    logical_block_size: Property<Size>,
    physical_block_size: Property<Size>,
    min_io_size: Property<Size>,
    opt_io_size: Property<Size>,
    discard_granularity: Property<Size>,
    write_cache: Property<OnOffAuto>,
    share_rw: Property<bool>,
    account_invalid: Property<OnOffAuto>,
    account_failed: Property<OnOffAuto>,
    rerror: Property<BlockdevOnError>,
    werror: Property<BlockdevOnError>,
    /// Cylinders, heads and sectors.
    chs: [Property<u32>; 3],
    /// The same, as firmware is to count them.
    lchs: [Property<u32>; 3],
}

impl Default for BlockConf {
    fn default() -> Self {
        BlockConf {
            drive: Property::default(),
            backend_defaults: Property::default(),
            logical_block_size: Property::default(),
            physical_block_size: Property::default(),
            min_io_size: Property::default(),
            opt_io_size: Property::default(),
            discard_granularity: Property::new(Size(AUTO_SIZE.into())),
            write_cache: Property::default(),
            share_rw: Property::default(),
            account_invalid: Property::default(),
            account_failed: Property::default(),
            rerror: Property::default(),
            werror: Property::default(),
            chs: Default::default(),
            lchs: Default::default(),
        }
    }
}

/// Adds a number of properties of a [`BlockConf`], with QEMU's descriptions.
macro_rules! add_fields {
    ($class:expr, $of:expr, $($name:literal $text:literal $field:ident $([$at:literal])?),+ $(,)?) => {
        let default = BlockConf::default();
        $($class.add_property(group_field($name, $text, $of, |conf| &conf.$field $([$at])?, &default));)+
    };
}

impl BlockConf {
    /// Gives devices of a class the properties that all disks have (`DEFINE_BLOCK_PROPERTIES`); `of` says where they
    /// keep them.
    pub fn add_properties<O: Object>(class: &mut Class, of: fn(&O) -> &BlockConf) {
        add_fields!(class, of,
            "drive" "Node name or ID of a block device to use as a backend" drive,
            "backend_defaults" "on/off/auto" backend_defaults,
            "write-cache" "on/off/auto" write_cache,
            "share-rw" "" share_rw,
            "account-invalid" "on/off/auto" account_invalid,
            "account-failed" "on/off/auto" account_failed,
        );
        let default = BlockConf::default();
        for (name, cell) in [
            ("logical_block_size", (|c| &c.logical_block_size) as fn(&BlockConf) -> &Property<Size>),
            ("physical_block_size", |c| &c.physical_block_size),
        ] {
            let text = "A power of two between 512 B and 2 MiB";
            class.add_property(checked(group_field(name, text, of, cell, &default), check_block_size));
        }
        for (name, cell) in [
            ("min_io_size", (|c| &c.min_io_size) as fn(&BlockConf) -> &Property<Size>),
            ("opt_io_size", |c| &c.opt_io_size),
            ("discard_granularity", |c| &c.discard_granularity),
        ] {
            class.add_property(checked(group_field(name, "", of, cell, &default), check_size32));
        }
    }

    /// The same for what becomes of errors (`DEFINE_BLOCK_ERROR_PROPERTIES`).
    pub fn add_error_properties<O: Object>(class: &mut Class, of: fn(&O) -> &BlockConf) {
        add_fields!(class, of,
            "rerror" "Error handling policy, report/ignore/enospc/stop/auto" rerror,
            "werror" "Error handling policy, report/ignore/enospc/stop/auto" werror,
        );
    }

    /// The same for the geometry (`DEFINE_BLOCK_CHS_PROPERTIES`).
    pub fn add_geometry_properties<O: Object>(class: &mut Class, of: fn(&O) -> &BlockConf) {
        add_fields!(class, of,
            "cyls" "" chs[0],
            "heads" "" chs[1],
            "secs" "" chs[2],
            "lcyls" "" lchs[0],
            "lheads" "" lchs[1],
            "lsecs" "" lchs[2],
        );
    }

    /// Has the backend be as the properties say (`blkconf_apply_backend_options`).
    ///
    /// # Errors
    /// For the user: another has the image, or there is none where one is needed.
    pub fn apply(&self, backend: &BlockBackend, needs_media: bool) -> Result<()> {
        match backend.node() {
            None if needs_media => bail!("Device needs media, but drive is empty"),
            _ if !self.share_rw.get() => backend.keep_writers_out()?,
            _ => backend.check_shared(true)?,
        }
        let (drive_read, drive_write) = backend.on_error();
        let chosen = |own, drives, fallback| {
            let wanted = [own, drives].into_iter().find(|policy| *policy != BlockdevOnError::Auto);
            wanted.unwrap_or(fallback)
        };
        let read = chosen(self.rerror.get(), drive_read, BlockdevOnError::Report);
        let write = chosen(self.werror.get(), drive_write, BlockdevOnError::Enospc);
        backend.set_on_error(read, write);
        if let Some(on) = given(&self.write_cache) {
            backend.set_write_cache(on);
        }
        backend.stats.account(given(&self.account_invalid), given(&self.account_failed));
        Ok(())
    }

    /// The sizes of blocks, checked and with defaults (`blkconf_blocksizes`), which the properties show from now on.
    /// Nothing that a host's device says of its blocks is passed on, as in QEMU on this processor.
    ///
    /// # Errors
    /// For the user.
    pub fn sizes(&self, backend: Option<&BlockBackend>) -> Result<BlockSizes> {
        let size = |cell: &Property<Size>| u32::try_from(cell.get().0).unwrap_or(u32::MAX);
        let or_sector = |size: u32| if size == 0 { SECTOR as u32 } else { size };
        let mut discard = Some(size(&self.discard_granularity)).filter(|unit| *unit != AUTO_SIZE);
        if discard.is_none() && self.backend_defaults.get() == OnOffAuto::On {
            let node = backend.and_then(BlockBackend::node);
            let cluster = node.and_then(|node| node.driver().image_details().cluster_size);
            discard = cluster.and_then(|size| u32::try_from(size).ok());
        }
        let sizes = BlockSizes {
            logical: or_sector(size(&self.logical_block_size)),
            physical: or_sector(size(&self.physical_block_size)),
            min_io: size(&self.min_io_size),
            opt_io: size(&self.opt_io_size),
            discard,
        };
        self.logical_block_size.set(Size(sizes.logical.into()));
        self.physical_block_size.set(Size(sizes.physical.into()));
        sizes.discard.into_iter().for_each(|unit| self.show_discard(unit));
        sizes.checked()
    }

    /// The property shows the unit of discards that a device chose.
    pub fn show_discard(&self, unit: u32) {
        self.discard_granularity.set(Size(unit.into()));
    }

    /// The physical size of a block as the user gave it, bytes; 0: not at all.
    pub fn given_physical_size(&self) -> u64 {
        self.physical_block_size.get().0
    }

    /// Cylinders, heads and sectors as firmware is to count them; all 0 where the user left that to it.
    pub fn logical_geometry(&self) -> [u32; 3] {
        [0, 1, 2].map(|at: usize| self.lchs[at].get())
    }

    /// Cylinders, heads and sectors, each checked against the `most` that there can be, or guessed
    /// (`blkconf_geometry`); the properties show what was guessed.
    ///
    /// # Errors
    /// Names the one that is out of its range.
    pub fn geometry(&self, backend: &BlockBackend, most: [u32; 3]) -> Result<Geometry> {
        let chosen = [0, 1, 2].map(|at: usize| self.chs[at].get());
        if chosen == [0; 3] {
            let guess = geometry::guess(backend);
            let found = [guess.cylinders, guess.heads, guess.sectors];
            self.chs.iter().zip(found).for_each(|(property, value)| property.set(value));
            return Ok(guess);
        }
        geometry::check(chosen, most)
    }
}

fn given(switch: &Property<OnOffAuto>) -> Option<bool> {
    match switch.get() {
        OnOffAuto::Auto => None,
        other => Some(other == OnOffAuto::On),
    }
}

/// What a value of a size may be, for the property of this name.
type Check = fn(&dyn Object, &str, u64) -> Result<()>;

/// A property that takes only some sizes.
fn checked(property: PropertyInfo, check: Check) -> PropertyInfo {
    let (name, set) = (property.name.clone(), property.set.clone());
    let set_checked = move |object: &dyn Object, input: PropertyInput<'_>| {
        check(object, &name, Size::parse(&name, input)?.0)?;
        set.as_ref().map_or(Ok(()), |set| set(object, input))
    };
    PropertyInfo { set: Some(Arc::new(set_checked)), ..property }
}

fn check_block_size(object: &dyn Object, name: &str, size: u64) -> Result<()> {
    let id = object.cast::<Device>().and_then(Device::id).unwrap_or_default();
    if size != 0 && !BLOCK_SIZES.contains(&size) {
        let (least, most) = (BLOCK_SIZES.start(), BLOCK_SIZES.end());
        bail!("Property {id}.{name} doesn't take value {size} (minimum: {least}, maximum: {most})");
    }
    if size != 0 && !size.is_power_of_two() {
        bail!("Property {id}.{name} doesn't take value '{size}', it's not a power of 2");
    }
    Ok(())
}

fn check_size32(object: &dyn Object, name: &str, size: u64) -> Result<()> {
    if size > u32::MAX.into() {
        let owner = object.type_name();
        bail!("Property {owner}.{name} doesn't take value {size} (maximum: {})", u32::MAX);
    }
    Ok(())
}

/// What a request did.
#[derive(QapiType)]
enum IoOperationType {
    Read,
    Write,
}

/// A request failed.
#[derive(QapiType, QapiEvent)]
#[qapi(event = "BLOCK_IO_ERROR")]
struct BlockIoError {
    device: String,
    node_name: Option<String>,
    operation: IoOperationType,
    action: BlockErrorAction,
    nospace: Option<bool>,
    reason: String,
}

/// Does about an error what was asked for: tells clients, and stops the machine (`blk_error_action`). What the
/// device is to do is the answer.
pub fn error_action(backend: &BlockBackend, is_read: bool, error: &std::io::Error) -> BlockErrorAction {
    let action = backend.error_action(is_read, error);
    if action == BlockErrorAction::Stop {
        backend.set_io_status(error);
        runstate::vmstop_request(RunState::IoError);
    }
    let nospace = error.kind() == std::io::ErrorKind::StorageFull;
    qapi::emit(&BlockIoError {
        device: backend.name().to_owned(),
        node_name: backend.node().map(|node| node.node_name().to_owned()),
        operation: if is_read { IoOperationType::Read } else { IoOperationType::Write },
        action,
        nospace: backend.has_io_status().then_some(nospace),
        reason: error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    });
    action
}
