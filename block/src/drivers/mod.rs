//! The drivers.

mod blkdebug;
mod copy_on_read;
mod file;
mod filter;
mod null;
mod qcow2;
mod raw;
mod throttle;

pub(crate) use qcow2::{backing as qcow2_backing, create as qcow2_create};
use qom::Result;

use crate::driver::BlockDriver;
use crate::node::Inherited;
use crate::options::BlockdevDriver;

/// The names of all drivers, formats and protocols.
pub const NAMES: [&str; 9] =
    ["blkdebug", "copy-on-read", "file", "host_device", "null-aio", "null-co", "qcow2", "raw", "throttle"];

/// Makes a driver's instance; also gives whether it can only be read.
pub(crate) fn open(driver: &BlockdevDriver, mode: Inherited) -> Result<(Box<dyn BlockDriver>, bool)> {
    Ok(match driver {
        BlockdevDriver::Blkdebug(options) => {
            (Box::new(blkdebug::Blkdebug::open(options, mode)?), mode.read_only)
        }
        BlockdevDriver::CopyOnRead(options) => {
            (Box::new(copy_on_read::CopyOnRead::open(options, mode)?), mode.read_only)
        }
        BlockdevDriver::File(options) => file_posix("file", options, mode)?,
        BlockdevDriver::HostDevice(options) => file_posix("host_device", options, mode)?,
        BlockdevDriver::Qcow2(options) => {
            let image = qcow2::Qcow2::open(options, mode)?;
            let read_only = mode.read_only || image.is_read_only();
            (Box::new(image), read_only)
        }
        BlockdevDriver::NullAio(options) => {
            (Box::new(null::Null::open("null-aio", options)?), mode.read_only)
        }
        BlockdevDriver::NullCo(options) => (Box::new(null::Null::open("null-co", options)?), mode.read_only),
        BlockdevDriver::Raw(options) => {
            let raw = raw::Raw::open(options, mode)?;
            let read_only = mode.read_only || raw.is_read_only();
            (Box::new(raw), read_only)
        }
        BlockdevDriver::Throttle(options) => {
            let throttle = throttle::Throttle::open(options, mode)?;
            let read_only = mode.read_only || throttle.is_read_only();
            (Box::new(throttle), read_only)
        }
    })
}

fn file_posix(
    format_name: &'static str,
    options: &crate::options::BlockdevOptionsFile,
    mode: Inherited,
) -> Result<(Box<dyn BlockDriver>, bool)> {
    let (file, read_only) = file::FilePosix::open(format_name, options, mode)?;
    Ok((Box::new(file), read_only))
}
