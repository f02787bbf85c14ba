//! What is common to disks: sizes of blocks, and how errors are dealt with (hw/block/block.c).

use block::BlockBackend;
use block::backend::{BlockErrorAction, BlockdevOnError};
use hw_core::runstate::{self, RunState};
use qapi::{QapiEvent, QapiType};
use qom::property::{OnOffAuto, Size};
use qom::{Result, bail};

/// Largest size of a block, bytes.
const MAX_BLOCK_SIZE: u32 = 2 << 20;
/// Size of a sector, which everything is counted in.
pub const SECTOR: u64 = 512;

/// A size that the user left open.
pub const AUTO_SIZE: Size = Size(u32::MAX as u64);

fn fit(size: Size) -> u32 {
    u32::try_from(size.0).unwrap_or(u32::MAX)
}

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
}

impl BlockSizes {
    /// As properties have them, checked and with defaults.
    ///
    /// # Errors
    /// As [`BlockSizes::checked`].
    pub fn of([logical, physical, min_io, opt_io]: [Size; 4]) -> Result<Self> {
        let [logical, physical, min_io, opt_io] = [logical, physical, min_io, opt_io].map(fit);
        BlockSizes { logical, physical, min_io, opt_io }.checked()
    }

    /// The unit of discards in bytes that a user named, if one.
    ///
    /// # Errors
    /// When it is no multiple of a block.
    pub fn discard_unit(&self, given: Size) -> Result<Option<u32>> {
        if given == AUTO_SIZE {
            return Ok(None);
        }
        if !given.0.is_multiple_of(self.logical.into()) {
            bail!("discard_granularity must be a multiple of logical_block_size");
        }
        Ok(Some(fit(given)))
    }

    /// Checks them, defaults filled in (`blkconf_blocksizes`).
    ///
    /// # Errors
    /// For the user.
    pub fn checked(mut self) -> Result<Self> {
        for (name, size) in
            [("logical_block_size", &mut self.logical), ("physical_block_size", &mut self.physical)]
        {
            if *size == 0 {
                *size = SECTOR as u32;
            }
            if !(SECTOR as u32..=MAX_BLOCK_SIZE).contains(size) || !size.is_power_of_two() {
                bail!(
                    "Property .{name} doesn't take value {size} (minimum: 512, maximum: 2 MiB, a power of 2)"
                );
            }
        }
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
        Ok(self)
    }
}

/// Cylinders, heads and sectors for a disk of so many sectors (`guess_chs_for_size`).
pub fn guess_chs(sectors: u64) -> (u16, u8, u8) {
    let cylinders = (sectors / (16 * 63)).clamp(2, 16383);
    (cylinders as u16, 16, 63)
}

/// Checks the numbers of cylinders, heads and sectors that a user gave, if any (`blkconf_geometry`).
///
/// # Errors
/// Names the one that is out of its range.
pub fn check_geometry((cyls, heads, secs): (u32, u32, u32)) -> Result<()> {
    if (cyls, heads, secs) == (0, 0, 0) {
        return Ok(());
    }
    for (name, value, most) in [("cyls", cyls, 65535), ("heads", heads, 255), ("secs", secs, 255)] {
        if !(1..=most).contains(&value) {
            bail!("{name} must be between 1 and {most}");
        }
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

/// What of a backend a device's properties have a say in.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// Others may write to the image, too.
    pub share_rw: bool,
    /// Whether writes may stay in the host's cache until a flush; the drive's own word, where it is left to that.
    pub write_cache: OnOffAuto,
    /// What becomes of errors of reads.
    pub read_error: BlockdevOnError,
    /// What becomes of errors of writes.
    pub write_error: BlockdevOnError,
}

impl BackendOptions {
    /// Has the backend be so (`blkconf_apply_backend_options`).
    ///
    /// # Errors
    /// For the user: another has the image, or there is none where one is needed.
    pub fn apply(&self, backend: &BlockBackend, needs_media: bool) -> Result<()> {
        match backend.node() {
            None if needs_media => bail!("Device needs media, but drive is empty"),
            _ if !self.share_rw => backend.keep_writers_out()?,
            _ => {}
        }
        let (drive_read, drive_write) = backend.on_error();
        let chosen = |own, drives| if own == BlockdevOnError::Auto { drives } else { own };
        let read = match chosen(self.read_error, drive_read) {
            BlockdevOnError::Auto => BlockdevOnError::Report,
            other => other,
        };
        let write = match chosen(self.write_error, drive_write) {
            BlockdevOnError::Auto => BlockdevOnError::Enospc,
            other => other,
        };
        backend.set_on_error(read, write);
        if self.write_cache != OnOffAuto::Auto {
            backend.set_write_cache(self.write_cache == OnOffAuto::On);
        }
        Ok(())
    }
}
