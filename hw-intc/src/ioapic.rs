//! The I/O APIC: Intel 82093AA data sheet, with the EOI register of version 20h (QEMU's hw/intc/ioapic.c).
//!
//! As in QEMU and KVM the polarity bit is stored and otherwise ignored: inputs are "asserted" or not.
//! The board, not the chip, takes ISA interrupt 0 to input 2.

pub mod spec;

use hw_core::intc::ioapic_info;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// So many interrupts of a level-triggered input, each right after the end of the last, are a storm
/// (`SUCCESSIVE_IRQ_MAX_COUNT`).
const STORM: u32 = 10_000;
/// How long an input in a storm is held back.
pub const STORM_DELAY_NS: u64 = 10_000_000;

/// The property `version` has a value for which there is no chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("IOAPIC only supports version 0x11 or 0x20 (default: {:#x}).", spec::VERSION_20)]
pub struct UnknownVersion;

/// How a local APIC takes an interrupt (82093AA, 3.2.4, delivery mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// To all destinations.
    Fixed = 0,
    /// To the destination with the lowest priority.
    LowestPriority = 1,
    /// System management interrupt.
    Smi = 2,
    /// Not defined; local APICs ignore it.
    Reserved3 = 3,
    /// Non-maskable interrupt.
    Nmi = 4,
    /// INIT.
    Init = 5,
    /// Start-up: between local APICs only.
    StartUp = 6,
    /// The 8259A gives the vector.
    ExtInt = 7,
}

impl DeliveryMode {
    /// The mode in bits 8–10 of a redirection entry, a message's data, an LVT entry or the ICR.
    pub(crate) fn of(bits: u64) -> Self {
        match bits >> spec::DELMOD_SHIFT & spec::DELMOD_MASK {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::Reserved3,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::ExtInt,
        }
    }
}

/// An interrupt on its way to the local APICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApicMessage {
    /// APIC id or set of logical destinations in the upper eight bits, extended destination in the lower.
    pub destination: u16,
    /// Whether the destination is logical.
    pub logical: bool,
    /// How it is to be taken.
    pub delivery_mode: DeliveryMode,
    /// Whether it is level-triggered: its end comes back through [`IoApic::eoi`].
    pub level_triggered: bool,
    /// The vector; under [`DeliveryMode::ExtInt`] the 8259A's counts instead.
    pub vector: u8,
}

impl IoApicMessage {
    fn of(entry: u64) -> Self {
        Self {
            destination: (entry >> spec::DEST_SHIFT) as u16,
            logical: entry & spec::DESTMOD != 0,
            delivery_mode: DeliveryMode::of(entry),
            level_triggered: entry & spec::TRIGGER_LEVEL != 0,
            vector: (entry & spec::INTVEC) as u8,
        }
    }

    /// The same as the address and data of a message-signalled interrupt.
    pub fn to_msi(self) -> (u64, u32) {
        let address = spec::MSI_ADDRESS
            | u64::from(self.destination) << spec::MSI_ADDRESS_DEST_SHIFT
            | u64::from(self.logical) << spec::MSI_ADDRESS_DESTMOD_SHIFT;
        let data = u32::from(self.vector)
            | (self.delivery_mode as u32) << spec::MSI_DATA_DELMOD_SHIFT
            | u32::from(self.level_triggered) << spec::MSI_DATA_TRIGGER_SHIFT;
        (address, data)
    }
}

/// The I/O APIC's registers and inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IoApic {
    version: u8,
    id: u8,
    ioregsel: u8,
    /// Requests of the inputs: of a level-triggered one its level.
    irr: u32,
    redirection: [u64; spec::PINS],
    /// EOIs of each input that found it still asserted, one after the other.
    storms: [u32; spec::PINS],
    /// An input in a storm waits for [`Self::service_delayed`].
    delayed: bool,
}

impl IoApic {
    /// The chip after power-on: all entries masked.
    pub fn new(version: u8) -> Result<Self, UnknownVersion> {
        if version != spec::VERSION_11 && version != spec::VERSION_20 {
            return Err(UnknownVersion);
        }
        Ok(Self::powered_on(version))
    }

    fn powered_on(version: u8) -> Self {
        Self {
            version,
            id: 0,
            ioregsel: 0,
            irr: 0,
            redirection: [spec::MASK; spec::PINS],
            storms: [0; spec::PINS],
            delayed: false,
        }
    }

    /// The chip with these registers, as others emulate it; `irr` the requests of its inputs.
    pub fn from_registers(id: u8, ioregsel: u8, irr: u32, redirection: [u64; spec::PINS]) -> Self {
        Self { id, ioregsel, irr, redirection, ..Self::powered_on(spec::VERSION_11) }
    }

    /// Id, selected register, requests of the inputs, and the redirection table.
    pub fn registers(&self) -> (u8, u8, u32, [u64; spec::PINS]) {
        (self.id, self.ioregsel, self.irr, self.redirection)
    }

    /// Returns to the state after power-on.
    pub fn reset(&mut self) {
        *self = Self::powered_on(self.version);
    }

    /// Reads `size` bytes at `offset`. The window takes double words only.
    pub fn read(&self, offset: u64, size: u32) -> u32 {
        match offset & spec::OFFSET_MASK {
            spec::IOREGSEL => self.ioregsel.into(),
            spec::IOWIN if size == 4 => self.read_register(),
            _ => 0,
        }
    }

    fn read_register(&self) -> u32 {
        match self.ioregsel {
            spec::IOAPICID | spec::IOAPICARB => u32::from(self.id) << spec::ID_SHIFT,
            spec::IOAPICVER => {
                u32::from(self.version) | (spec::PINS as u32 - 1) << spec::MAX_REDIRECTION_SHIFT
            }
            index => match self.entry(index) {
                Some((pin, shift)) => (self.redirection.get(pin).copied().unwrap_or(0) >> shift) as u32,
                None => 0,
            },
        }
    }

    /// Writes `size` bytes at `offset`. The window and the EOI register take double words only.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u32, size: u32) -> Vec<IoApicMessage> {
        match offset & spec::OFFSET_MASK {
            spec::IOREGSEL => self.ioregsel = value as u8,
            spec::IOWIN if size == 4 => return self.write_register(value).into_iter().collect(),
            spec::EOI if size == 4 && self.version == spec::VERSION_20 => return self.eoi(value as u8),
            _ => {}
        }
        Vec::new()
    }

    fn write_register(&mut self, value: u32) -> Option<IoApicMessage> {
        if self.ioregsel == spec::IOAPICID {
            self.id = (value >> spec::ID_SHIFT & spec::ID_MASK) as u8;
        }
        let (pin, shift) = self.entry(self.ioregsel)?;
        let entry = self.redirection.get_mut(pin)?;
        let writable = u64::from(u32::MAX) << shift & !(spec::REMOTE_IRR | spec::DELIVS);
        *entry = *entry & !writable | u64::from(value) << shift & writable;
        if *entry & spec::TRIGGER_LEVEL == 0 {
            // Linux ends an interrupt without an EOI register by a change to edge-triggered and back.
            *entry &= !spec::REMOTE_IRR;
        }
        self.count_storm(pin, false);
        self.service(pin)
    }

    /// The redirection entry that register `index` is half of, and where the half starts.
    fn entry(&self, index: u8) -> Option<(usize, u32)> {
        let half = index.checked_sub(spec::IOREDTBL)?;
        let pin = usize::from(half / 2);
        (pin < spec::PINS).then_some((pin, u32::from(half % 2) * 32))
    }

    /// The message of each input, masked or not.
    pub fn messages(&self) -> impl Iterator<Item = IoApicMessage> + '_ {
        self.redirection.iter().map(|entry| IoApicMessage::of(*entry))
    }

    /// The registers in lines for people (`ioapic_print_redtbl`).
    pub fn info(&self) -> String {
        // Only level-triggered requests last.
        let level = |pin: &usize| self.redirection.get(*pin).is_some_and(|e| e & spec::TRIGGER_LEVEL != 0);
        let levels: u32 = (0..spec::PINS).filter(level).map(|pin| 1 << pin).sum();
        ioapic_info(self.version, self.id, self.ioregsel, self.irr & levels, &self.redirection)
    }

    /// Sets input `pin` (0–23). An edge on a masked input is lost.
    #[must_use]
    pub fn set_irq(&mut self, pin: u8, level: bool) -> Option<IoApicMessage> {
        let entry = *self.redirection.get(usize::from(pin))?;
        let mask = 1 << pin;
        if level && entry & (spec::TRIGGER_LEVEL | spec::MASK) != spec::MASK {
            self.irr |= mask;
            return self.service(pin.into());
        }
        if entry & spec::TRIGGER_LEVEL != 0 {
            self.irr &= !mask;
        }
        None
    }

    /// A local APIC has ended the level-triggered interrupt with `vector`: inputs that are still asserted
    /// interrupt again.
    #[must_use]
    pub fn eoi(&mut self, vector: u8) -> Vec<IoApicMessage> {
        let mut messages = Vec::new();
        for pin in 0..spec::PINS {
            let Some(entry) = self.redirection.get_mut(pin) else { break };
            if *entry & spec::INTVEC == u64::from(vector) && *entry & spec::REMOTE_IRR != 0 {
                *entry &= !spec::REMOTE_IRR;
                let again = *entry & spec::MASK == 0 && self.irr & 1 << pin != 0;
                if self.count_storm(pin, again) {
                    self.delayed = true;
                } else {
                    messages.extend(self.service(pin));
                }
            }
        }
        messages
    }

    /// Whether input `pin`, which interrupts `again` right after its end, has done so too often: hardware would take
    /// a while, in which a guest that does not know its device gets on.
    fn count_storm(&mut self, pin: usize, again: bool) -> bool {
        let Some(count) = self.storms.get_mut(pin) else { return false };
        *count = if again { *count + 1 } else { 0 };
        let storm = *count >= STORM;
        if storm {
            *count = 0;
        }
        storm
    }

    /// Whether [`Self::service_delayed`] is to be called, [`STORM_DELAY_NS`] from now.
    pub fn is_delayed(&self) -> bool {
        self.delayed
    }

    /// Sends what was held back.
    #[must_use]
    pub fn service_delayed(&mut self) -> Vec<IoApicMessage> {
        self.delayed = false;
        (0..spec::PINS).filter_map(|pin| self.service(pin)).collect()
    }

    /// Sends the interrupt that an input requests, unless it is masked or was not yet accepted.
    fn service(&mut self, pin: usize) -> Option<IoApicMessage> {
        let entry = self.redirection.get_mut(pin)?;
        if self.irr & 1 << pin == 0 || *entry & (spec::MASK | spec::REMOTE_IRR) != 0 {
            return None;
        }
        match *entry & spec::TRIGGER_LEVEL {
            0 => self.irr &= !(1 << pin),
            _ => *entry |= spec::REMOTE_IRR,
        }
        Some(IoApicMessage::of(*entry))
    }
}
