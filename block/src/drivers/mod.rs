//! The drivers.

mod blkdebug;
mod null;
mod raw;

use qom::Result;

use crate::driver::BlockDriver;
use crate::node::Inherited;
use crate::options::BlockdevDriver;

/// The names of all drivers, formats and protocols.
pub const NAMES: [&str; 4] = ["blkdebug", "null-aio", "null-co", "raw"];

/// Makes a driver's instance; also gives whether it can only be read.
pub(crate) fn open(driver: &BlockdevDriver, mode: Inherited) -> Result<(Box<dyn BlockDriver>, bool)> {
    Ok(match driver {
        BlockdevDriver::Blkdebug(options) => {
            (Box::new(blkdebug::Blkdebug::open(options, mode)?), mode.read_only)
        }
        BlockdevDriver::NullAio(options) => {
            (Box::new(null::Null::open("null-aio", options)?), mode.read_only)
        }
        BlockdevDriver::NullCo(options) => (Box::new(null::Null::open("null-co", options)?), mode.read_only),
        BlockdevDriver::Raw(options) => (Box::new(raw::Raw::open(options, mode)?), mode.read_only),
    })
}
