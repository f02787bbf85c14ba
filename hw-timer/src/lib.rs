//! Timers: HPET, i8254 (hw/timer/), and the PC speaker's port, which looks at the i8254.
//!
//! Each is a chip, a plain struct that is told the virtual time and answers with the levels, messages and deadlines that
//! follow, and a device around it, which has the lock, the timer and the interrupt line.

#![forbid(unsafe_code)]

pub mod hpet;
mod hpet_device;
pub mod i8254;
mod i8254_device;
mod pcspk;

pub use hpet_device::{HPET_BASE, HpetDevice};
pub use i8254_device::{IsaPit, PitClass, PitCommon, PitImpl, i8254_pit_init, pit_set_up_as_firmware};
pub use pcspk::{PcSpeaker, pcspk_init};
