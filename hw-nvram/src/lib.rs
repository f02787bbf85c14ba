//! fw_cfg: how a firmware and a guest are told about their machine.
//!
//! [`fw_cfg::FwCfg`] is the device without its ports, [`FwCfgIo`] puts it into a machine.

#![forbid(unsafe_code)]

mod device;
pub mod fw_cfg;

pub use device::{FwCfgIo, fw_cfg_find, fw_cfg_init_io_dma};
