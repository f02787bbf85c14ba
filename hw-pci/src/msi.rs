//! MSI: messages of a function whose registers are all in configuration space.
//!
//! Sources: PCI Local Bus Specification 3.0, section 6.8.1; QEMU `hw/pci/msi.c`.

use hw_core::accel::MsiMessage;
use qom::{Result, bail};

use crate::config::ConfigSpace;
use crate::device::PciDevice;
use crate::spec::*;

/// A function's MSI: where its registers are. What they hold is the configuration space's, and saved with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msi {
    capability: usize,
    wide: bool,
    masks: bool,
}

impl Msi {
    /// Adds the capability for `vectors` messages; `wide` addresses have 64 bits, and with `masks` each message has a mask
    /// and a pending bit (`msi_init`).
    fn add(config: &mut ConfigSpace, vectors: u32, wide: bool, masks: bool) -> Result<Msi> {
        if !vectors.is_power_of_two() || vectors > MSI_VECTORS_MAX {
            bail!("The number of MSI vectors is invalid");
        }
        let mut msi = Msi { capability: 0, wide, masks };
        msi.capability = config.add_capability(CAP_ID_MSI, None, msi.size())?;
        let wide_flag = if wide { MSI_CONTROL_64BIT } else { 0 };
        let masks_flag = if masks { MSI_CONTROL_MASKS } else { 0 };
        let capable = (vectors.trailing_zeros() as u16) << MSI_CONTROL_CAPABLE_SHIFT;
        config.set_u16(msi.control(), capable | wide_flag | masks_flag);
        config.set_writable_u16(msi.control(), MSI_CONTROL_COUNT | MSI_CONTROL_ENABLE);
        config.set_writable_u32(msi.address(), MSI_ADDRESS_MASK);
        if wide {
            config.set_writable_u32(msi.address() + 4, u32::MAX);
        }
        config.set_writable_u16(msi.data(), u16::MAX);
        if masks {
            config.set_writable_u32(msi.mask(), all_of(vectors));
        }
        Ok(msi)
    }

    /// Bytes of the capability; the pending bits are its end.
    fn size(&self) -> usize {
        let last = if self.masks { self.pending() + 4 } else { self.data() + 2 };
        last - self.capability
    }

    fn control(&self) -> usize {
        self.capability + MSI_CONTROL
    }

    fn address(&self) -> usize {
        self.capability + MSI_ADDRESS
    }

    fn data(&self) -> usize {
        self.address() + if self.wide { 8 } else { 4 }
    }

    fn mask(&self) -> usize {
        self.data() + 4
    }

    fn pending(&self) -> usize {
        self.mask() + 4
    }

    fn is_enabled(&self, config: &ConfigSpace) -> bool {
        config.u16(self.control()) & MSI_CONTROL_ENABLE != 0
    }

    /// How many messages the guest lets it have, no more than there are.
    fn vectors(&self, config: &ConfigSpace) -> u32 {
        let control = config.u16(self.control());
        let wanted = (control & MSI_CONTROL_COUNT) >> MSI_CONTROL_COUNT_SHIFT;
        let capable = (control & MSI_CONTROL_CAPABLE) >> MSI_CONTROL_CAPABLE_SHIFT;
        1 << wanted.min(capable)
    }

    fn message(&self, config: &ConfigSpace, vector: u32) -> MsiMessage {
        let high = if self.wide { config.u32(self.address() + 4) } else { 0 };
        let low_bits = self.vectors(config) - 1;
        let data = u32::from(config.u16(self.data())) & !low_bits | vector & low_bits;
        MsiMessage { address: u64::from(high) << 32 | u64::from(config.u32(self.address())), data }
    }

    /// What is to be sent for `vector` now: nothing while it is masked, when it becomes pending.
    fn notify(&self, config: &mut ConfigSpace, vector: u32) -> Option<MsiMessage> {
        if vector >= self.vectors(config) {
            return None;
        }
        if self.masks && config.u32(self.mask()) & 1 << vector != 0 {
            config.set_u32(self.pending(), config.u32(self.pending()) | 1 << vector);
            return None;
        }
        Some(self.message(config, vector))
    }

    /// The guest wrote the capability: settles what it asked for, and gives what was pending and is to be sent now.
    fn written(&self, config: &mut ConfigSpace) -> Vec<MsiMessage> {
        let vectors = self.vectors(config);
        let control = config.u16(self.control()) & !MSI_CONTROL_COUNT;
        let count = (vectors.trailing_zeros() as u16) << MSI_CONTROL_COUNT_SHIFT;
        config.set_u16(self.control(), control | count);
        if !self.masks {
            return Vec::new();
        }
        // What is pending of messages that it has no more is lost.
        let pending = config.u32(self.pending()) & all_of(vectors);
        let masked = config.u32(self.mask());
        config.set_u32(self.pending(), pending & masked);
        let due = pending & !masked;
        let vectors = (0..vectors).filter(|vector| due & 1 << vector != 0);
        vectors.map(|vector| self.message(config, vector)).collect()
    }

    /// As after power-on.
    pub(crate) fn reset(&self, config: &mut ConfigSpace) {
        let control = config.u16(self.control());
        config.set_u16(self.control(), control & !(MSI_CONTROL_COUNT | MSI_CONTROL_ENABLE));
        (self.address()..self.capability + self.size()).for_each(|at| config.set_u8(at, 0));
    }
}

/// A bit for each of `vectors`, of which there are 1 to 32.
fn all_of(vectors: u32) -> u32 {
    u32::MAX >> (MSI_VECTORS_MAX - vectors.clamp(1, MSI_VECTORS_MAX))
}

impl PciDevice {
    /// Gives the function MSI with `vectors` messages, a power of two up to 32; `wide` addresses have 64 bits, and with
    /// `masks` each message has a mask and a pending bit. Once, in `realize`.
    ///
    /// # Errors
    /// When there cannot be so many, or there is no room for the capability.
    pub fn msi_init(&self, vectors: u32, wide: bool, masks: bool) -> Result<()> {
        let msi = self.with_config(|config| Msi::add(config, vectors, wide, masks))?;
        let _ = self.msi.set(msi);
        Ok(())
    }

    /// Whether the guest uses MSI in place of INTx.
    pub fn msi_is_enabled(&self) -> bool {
        self.msi.get().is_some_and(|msi| self.with_config(|config| msi.is_enabled(config)))
    }

    /// Sends a message, or marks it pending while it is masked; nothing for one that the guest did not let the function
    /// have. Only while MSI is enabled.
    pub fn msi_notify(&self, vector: u32) {
        let due = self.msi.get().and_then(|msi| self.with_config(|config| msi.notify(config, vector)));
        if let Some(message) = due {
            self.send_msi(message);
        }
    }

    /// The guest wrote configuration space (`msi_write_config`).
    pub(crate) fn msi_config_written(&self, at: usize, size: u8) {
        let Some(msi) = self.msi.get() else { return };
        if !ConfigSpace::touches(at, size, msi.capability, msi.size()) || !self.msi_is_enabled() {
            return;
        }
        // A function has either.
        (0..4).for_each(|pin| self.set_irq(pin, false));
        let due = self.with_config(|config| msi.written(config));
        due.into_iter().for_each(|message| self.send_msi(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vectors: u32, wide: bool, masks: bool) -> (ConfigSpace, Msi) {
        let mut config = ConfigSpace::default();
        let msi = Msi::add(&mut config, vectors, wide, masks).unwrap();
        (config, msi)
    }

    #[test]
    fn the_capability_has_what_was_asked_for_and_no_more() {
        for (wide, masks, size, control) in [
            (false, false, 10, 0),
            (true, false, 14, 0x80),
            (false, true, 20, 0x100),
            (true, true, 24, 0x180),
        ] {
            let (mut config, msi) = with(4, wide, masks);
            assert_eq!((msi.size(), config.u32(0x40)), (size, (control | 4) << 16 | 5));
            (0x40..0x60).step_by(4).for_each(|at| config.write(at, u32::MAX, 4));
            let bytes = |at: usize, len| config.bytes()[at..at + len].to_vec();
            assert_eq!(bytes(0x44, 4), [0xfc, 0xff, 0xff, 0xff]);
            assert_eq!(bytes(msi.data(), 2), [0xff; 2]);
            if masks {
                assert_eq!(bytes(msi.mask(), 8), [0x0f, 0, 0, 0, 0, 0, 0, 0]);
                assert_eq!(bytes(msi.data() + 2, 2), [0; 2]);
            }
            msi.reset(&mut config);
            assert_eq!(config.u32(0x40), (control | 4) << 16 | 5);
            assert_eq!(config.bytes()[0x44..0x40 + size], vec![0; size - 4]);
        }
        for vectors in [0, 3, 64] {
            assert!(Msi::add(&mut ConfigSpace::default(), vectors, true, true).is_err());
        }
    }

    #[test]
    fn messages_are_numbered_in_their_low_bits_and_no_more_than_there_are() {
        let (mut config, msi) = with(4, true, true);
        config.write(0x44, 0xfee0_1000, 4);
        config.write(0x48, 7, 4);
        config.write(0x4c, 0x1237, 2);
        let data = |config: &mut ConfigSpace, vector| msi.notify(config, vector).map(|message| message.data);
        assert_eq!((data(&mut config, 0), data(&mut config, 1)), (Some(0x1237), None));
        // More than it is capable of.
        config.write(0x42, 1 | 7 << 4, 2);
        assert_eq!(msi.written(&mut config), []);
        assert_eq!(config.u16(0x42), 0x1a5);
        assert_eq!(msi.notify(&mut config, 2).unwrap().address, 0x7_fee0_1000);
        assert_eq!((data(&mut config, 0), data(&mut config, 3)), (Some(0x1234), Some(0x1237)));
        assert_eq!(data(&mut config, 4), None);
    }

    #[test]
    fn what_is_masked_is_pending_until_it_is_not() {
        let (mut config, msi) = with(2, true, true);
        config.write(0x42, 1 | 1 << 4, 2);
        config.write(0x50, 3, 4);
        assert_eq!((msi.notify(&mut config, 0), msi.notify(&mut config, 1)), (None, None));
        assert_eq!(config.u32(0x54), 3);
        config.write(0x50, 1, 4);
        assert_eq!(msi.written(&mut config).iter().map(|m| m.data).collect::<Vec<_>>(), [1]);
        assert_eq!(config.u32(0x54), 1);
        // The guest wants one only: the other's is lost.
        config.write(0x50, 3, 4);
        assert_eq!(msi.notify(&mut config, 1), None);
        config.write(0x42, 1, 2);
        assert_eq!((msi.written(&mut config), config.u32(0x54)), (vec![], 1));
    }
}
