//! Memory that comes and goes while the machine runs: modules, and where in the machine's addresses they lie.
//!
//! Sources: QEMU `hw/mem/memory-device.c`, `hw/mem/pc-dimm.c`, `qapi/machine.json`.
#![forbid(unsafe_code)]

mod memory_device;
mod pc_dimm;

pub use memory_device::{
    MemoryDevice, MemoryDeviceInfo, memory_device_list, memory_device_plug, memory_device_pre_plug,
    memory_device_unplug, plugged_memory_size,
};
pub use pc_dimm::{PcDimm, PcDimmDeviceInfo, pc_dimm_pre_plug};
