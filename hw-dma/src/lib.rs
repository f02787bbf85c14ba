//! Direct memory access for devices of the ISA bus.
#![forbid(unsafe_code)]

mod device;
pub mod i8257;

pub use device::{I8257Device, IsaDmaHandler, i8257_dma_init, isa_dma};
