//! The bus: who answers at which of 128 addresses.
//!
//! Source: QEMU `hw/i2c/core.c`, `hw/i2c/smbus_slave.c`. Transfers come whole, as the host controller makes them: what
//! is written up to a stop or a repeated start, and bytes read one after the other.

use std::sync::Arc;

use hw_core::{Bus, Device, DeviceClass, DeviceImpl, qbus_new};
use qom::{Class, ClassInit, Object, Property, Result};

use crate::pm_smbus::Targets;

/// The bus.
#[derive(Object)]
#[object(name = "i2c-bus", parent = Bus)]
pub struct I2cBus {
    parent: Bus,
}

/// A device on the bus.
#[derive(Object)]
#[object(name = "smbus-device", parent = Device, abstract, class_init = class_init)]
pub struct SmbusDevice {
    parent: Device,
    /// The address it answers at, 0 to 127
    #[property]
    pub address: Property<u8>,
}
qom::type_init!(I2cBus, SmbusDevice);

/// What all devices of a type share.
#[derive(Clone, Default)]
struct SmbusDeviceClass {
    receive_byte: Option<fn(&dyn Object) -> u8>,
    write_data: Option<fn(&dyn Object, &[u8])>,
}

/// What a device on the bus implements beside [`DeviceImpl`].
pub trait SmbusDeviceImpl: DeviceImpl {
    /// The host reads a byte.
    fn receive_byte(&self) -> u8 {
        u8::MAX
    }
    /// The host wrote these bytes, at least one, the first of them a command.
    fn write_data(&self, data: &[u8]) {
        let _ = data;
    }
}

fn class_init(class: &mut Class) {
    class.get_mut::<DeviceClass>().bus_type = Some("i2c-bus");
}

impl<T: SmbusDeviceImpl> ClassInit<T> for SmbusDevice {
    fn class_init(class: &mut Class) {
        <Device as ClassInit<T>>::class_init(class);
        let class = class.get_mut::<SmbusDeviceClass>();
        class.receive_byte = Some(|object| object.cast::<T>().map_or(u8::MAX, T::receive_byte));
        class.write_data = Some(|object, data| {
            if let Some(device) = object.cast::<T>() {
                device.write_data(data);
            }
        });
    }
}

/// A bus that `owner` provides.
///
/// # Errors
/// When its name is taken.
pub fn i2c_init_bus(owner: &Arc<dyn Object>, name: &str) -> Result<Arc<dyn Object>> {
    qbus_new("i2c-bus", Some(owner), Some(name))
}

impl I2cBus {
    fn device(&self, address: u8) -> Option<Arc<dyn Object>> {
        let at = |device: &Arc<dyn Object>| {
            device.cast::<SmbusDevice>().is_some_and(|device| device.address.get() == address)
        };
        self.children().into_iter().find(at)
    }
}

impl Targets for I2cBus {
    fn is_present(&self, address: u8) -> bool {
        self.device(address).is_some()
    }

    fn write(&self, address: u8, data: &[u8]) -> Option<()> {
        let device = self.device(address)?;
        if let Some(write) = device.class().get::<SmbusDeviceClass>().and_then(|class| class.write_data) {
            write(&*device, data);
        }
        Some(())
    }

    fn read(&self, address: u8) -> Option<u8> {
        let device = self.device(address)?;
        let read = device.class().get::<SmbusDeviceClass>().and_then(|class| class.receive_byte);
        Some(read.map_or(u8::MAX, |read| read(&*device)))
    }
}
