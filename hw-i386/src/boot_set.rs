//! The boot order in a PC's CMOS, where the firmware finds it (QEMU's hw/i386/pc.c, `pc_boot_set`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hw_core::bootdevice::{boot_set, register_boot_set};
use hw_core::machine::BootConfig;
use hw_core::reset::qemu_register_reset;
use qom::{Object, Result, bail};

/// CMOS: the first device in bits 0–3, the second in 4–7.
const BOOTFLAG2: u8 = 0x3d;
/// CMOS: the third device in bits 4–7; bit 0: a floppy disk's boot signature does not matter.
const BOOTFLAG1: u8 = 0x38;

/// The firmware's number of a device.
fn boot_device_nibble(device: char) -> Option<u8> {
    match device {
        'a' | 'b' => Some(1),
        'c' => Some(2),
        'd' => Some(3),
        'n' => Some(4),
        _ => None,
    }
}

/// The two bytes for the devices of `order`.
fn boot_flags(order: &str) -> Result<(u8, u8)> {
    let mut devices = [0; 3];
    if order.len() > devices.len() {
        bail!("Too many boot devices for PC");
    }
    for (place, device) in devices.iter_mut().zip(order.chars()) {
        let Some(nibble) = boot_device_nibble(device) else {
            bail!("Invalid boot device for PC: '{device}'")
        };
        *place = nibble;
    }
    let [first, second, third] = devices;
    Ok((second << 4 | first, third << 4))
}

/// Sets the order, in the CMOS of `rtc`, which can be changed from now on. An order for one boot lasts until the
/// first reset after the machine was made (`restore_boot_order`).
///
/// # Errors
/// An order that a PC cannot have.
pub(crate) fn init(rtc: &Arc<dyn Object>, config: &BootConfig, default: &str) -> Result<()> {
    let order = config.order.clone().unwrap_or_else(|| default.to_owned());
    boot_flags(&order)?;
    let (rtc, no_fd_bootchk) = (Arc::downgrade(rtc), u8::from(config.no_fd_bootchk));
    register_boot_set(Box::new(move |order| {
        let (flag2, flag1) = boot_flags(order)?;
        if let Some(rtc) = rtc.upgrade() {
            hw_rtc::rtc_set_memory(&rtc, BOOTFLAG2, flag2);
            hw_rtc::rtc_set_memory(&rtc, BOOTFLAG1, flag1 | no_fd_bootchk);
        }
        Ok(())
    }));
    if config.once.is_none() {
        return boot_set(&order);
    }
    let resets = AtomicU32::new(0);
    qemu_register_reset(Arc::new(move || {
        // The first is that of the start.
        if resets.fetch_add(1, Ordering::Relaxed) == 1 {
            // It was looked at above.
            let _ = boot_set(&order);
        }
    }));
    boot_set(config.once.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::boot_flags;

    #[test]
    fn devices_are_nibbles() {
        assert_eq!(boot_flags("cad").unwrap(), (0x12, 0x30));
        assert_eq!(boot_flags("n").unwrap(), (0x04, 0));
        assert_eq!(boot_flags("cadn").unwrap_err().message, "Too many boot devices for PC");
        assert_eq!(boot_flags("e").unwrap_err().message, "Invalid boot device for PC: 'e'");
    }
}
