//! Which devices firmware boots from, in order (QEMU's `softmmu/bootdevice.c`).

use parking_lot::Mutex;
use qom::{Result, bail};

/// Tells firmware the order, a string of letters.
///
/// # Errors
/// When it cannot.
pub type BootSetHandler = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

static HANDLER: Mutex<Option<BootSetHandler>> = Mutex::new(None);

/// The board can change the order while the machine is there (`qemu_register_boot_set`).
pub fn register_boot_set(handler: BootSetHandler) {
    *HANDLER.lock() = Some(handler);
}

/// Changes the order (`qemu_boot_set`).
///
/// # Errors
/// When the board cannot, or a letter is no device's.
pub fn boot_set(order: &str) -> Result<()> {
    let handler = HANDLER.lock();
    let Some(handler) = handler.as_ref() else {
        bail!("no function defined to set boot device list for this architecture")
    };
    validate_bootdevices(order)?;
    handler(order)
}

/// Checks the letters of `order`: `a` to `p`, each at most once.
///
/// # Errors
/// Names the one that is wrong.
pub fn validate_bootdevices(order: &str) -> Result<()> {
    let mut seen = Vec::new();
    for device in order.chars() {
        // a and b floppy disks, c to f hard disks, g to m of the machine's own, n to p networks.
        if !('a'..='p').contains(&device) {
            bail!("Invalid boot device '{device}'");
        }
        if seen.contains(&device) {
            bail!("Boot device '{device}' was given twice");
        }
        seen.push(device);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_is_told_of_orders_that_can_be() {
        let error = |order| boot_set(order).unwrap_err().message;
        assert_eq!(error("c"), "no function defined to set boot device list for this architecture");
        register_boot_set(Box::new(|order| if order.len() > 3 { bail!("too many") } else { Ok(()) }));
        assert_eq!(error("zz"), "Invalid boot device 'z'");
        assert_eq!(error("cc"), "Boot device 'c' was given twice");
        assert_eq!(error("ncda"), "too many");
        boot_set("ndc").unwrap();
    }
}
