//! fw_cfg (hw/nvram/).
