//! fw_cfg (hw/nvram/).

#![forbid(unsafe_code)]

pub mod fw_cfg;
