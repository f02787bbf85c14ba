//! Who agrees to a device coming and going (QEMU's `hw/core/hotplug.c`).

use std::sync::Arc;

use qom::{Interface, Object, Result};

/// A board or a bus's controller that has a say when devices are plugged.
pub trait HotplugHandler: Send + Sync {
    /// Before realize: checks, and fills in what the user left open.
    ///
    /// # Errors
    /// Refuses the device.
    fn pre_plug(&self, _device: &Arc<dyn Object>) -> Result<()> {
        Ok(())
    }
    /// A user asks for the device to go. Where a guest has its say it goes later; otherwise at once, by
    /// [`crate::qdev_monitor::qdev_unplugged`].
    ///
    /// # Errors
    /// Refuses.
    fn unplug_request(&self, device: &Arc<dyn Object>) -> Result<()> {
        crate::qdev_monitor::qdev_unplugged(device);
        Ok(())
    }
    /// The device goes, before it is unrealized: it is no part of the machine any more.
    fn unplug(&self, _device: &Arc<dyn Object>) {}
    /// After realize: the device becomes part of the machine.
    ///
    /// # Errors
    /// Refuses the device, which is unrealized again.
    fn plug(&self, _device: &Arc<dyn Object>) -> Result<()> {
        Ok(())
    }
}

impl Interface for dyn HotplugHandler {
    const TYPE_NAME: &'static str = "hotplug-handler";
}
qom::type_init!(fn register);

fn register() {
    qom::type_register(qom::TypeInfo::interface::<dyn HotplugHandler>());
}
