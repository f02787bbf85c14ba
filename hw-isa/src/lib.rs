//! The ISA bus, its devices' root part, and the bridge that provides it: PIIX3.
//!
//! Sources followed: QEMU `hw/isa/isa-bus.c`, `hw/isa/piix3.c`; Intel 82371SB (PIIX3) data sheet, 290550.
#![forbid(unsafe_code)]

mod bus;
pub mod piix3;

pub use bus::{IsaBus, IsaDevice, isa_bus_new};
