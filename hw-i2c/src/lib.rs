//! The SMBus: the bus, the host controller that Intel's chipsets have, and serial memories.
#![forbid(unsafe_code)]

mod bus;
mod eeprom;
pub mod pm_smbus;
mod ports;

pub use bus::{I2cBus, SmbusDevice, SmbusDeviceImpl, i2c_init_bus};
pub use eeprom::{SmbusEeprom, smbus_eeprom_init};
pub use ports::PmSmbusPorts;
