//! The pair of 8259A interrupt controllers of a PC, with the edge/level control registers of the PIIX3
//! (Intel 8259A data sheet; QEMU's hw/intc/i8259.c).
//!
//! As in QEMU, an edge is remembered even if the input falls before the interrupt is acknowledged.

pub mod spec;

use serde::{Deserialize, Serialize};

/// One controller of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// IRQ 0–7, at ports 0x20 and 0x21, ELCR at 0x4d0.
    Master,
    /// IRQ 8–15, at ports 0xa0 and 0xa1, ELCR at 0x4d1.
    Slave,
}

/// What the next write with A0 = 1 is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Pic {
    /// Inputs as last seen by the edge detection.
    last_irr: u8,
    irr: u8,
    imr: u8,
    isr: u8,
    elcr: u8,
    /// The level with the highest priority.
    highest: u8,
    vector: u8,
    expect: Expect,
    ic4: bool,
    single: bool,
    level_triggered: bool,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_fully_nested: bool,
}

impl Pic {
    /// The level in `levels` with the highest priority, and its rank: 0 is first.
    fn first(&self, levels: u8) -> Option<(u8, u8)> {
        (0..8).map(|rank| (rank, (self.highest + rank) & 7)).find(|(_, level)| levels & 1 << level != 0)
    }

    /// The level to be served next: requested, not masked, and above all that are in service.
    fn pending(&self, chip: Chip) -> Option<u8> {
        let (rank, level) = self.first(self.irr & !self.imr)?;
        let mut in_service = self.in_service();
        if self.special_fully_nested && chip == Chip::Master {
            // The slave may interrupt its own handler with a higher priority.
            in_service &= !(1 << spec::CASCADE);
        }
        match self.first(in_service) {
            Some((busy, _)) if busy <= rank => None,
            _ => Some(level),
        }
    }

    /// The levels in service that count: special mask mode leaves out the masked ones.
    fn in_service(&self) -> u8 {
        if self.special_mask { self.isr & !self.imr } else { self.isr }
    }

    fn is_level_triggered(&self, mask: u8) -> bool {
        self.level_triggered || self.elcr & mask != 0
    }

    fn set_irq(&mut self, level: u8, high: bool) {
        let mask = 1 << (level & 7);
        if self.is_level_triggered(mask) {
            self.irr = if high { self.irr | mask } else { self.irr & !mask };
        } else if high && self.last_irr & mask == 0 {
            self.irr |= mask;
        }
        self.last_irr = if high { self.last_irr | mask } else { self.last_irr & !mask };
    }

    fn acknowledge(&mut self, level: u8) {
        let mask = 1 << level;
        if !self.auto_eoi {
            self.isr |= mask;
        } else if self.rotate_on_auto_eoi {
            self.rotate(level);
        }
        if !self.is_level_triggered(mask) {
            self.irr &= !mask;
        }
    }

    /// Gives `level` the lowest priority.
    fn rotate(&mut self, level: u8) {
        self.highest = (level + 1) & 7;
    }

    fn end(&mut self, level: u8) {
        self.isr &= !(1 << level);
    }

    fn read(&mut self, chip: Chip, a0: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            let Some(level) = self.pending(chip) else { return 0 };
            self.acknowledge(level);
            return spec::POLL_INTERRUPT | level;
        }
        match (a0, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }

    fn write(&mut self, a0: bool, value: u8) {
        if a0 {
            self.write_data(value);
        } else if value & spec::ICW1 != 0 {
            self.initialize(value);
        } else if value & spec::OCW3 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    /// ICW1: everything but the ELCR and what the level-triggered inputs ask for starts anew.
    fn initialize(&mut self, icw1: u8) {
        let (elcr, irr) = (self.elcr, self.irr & self.elcr);
        *self = Self {
            elcr,
            irr,
            expect: Expect::Icw2,
            ic4: icw1 & spec::ICW1_IC4 != 0,
            single: icw1 & spec::ICW1_SNGL != 0,
            level_triggered: icw1 & spec::ICW1_LTIM != 0,
            ..Self::default()
        };
    }

    fn write_data(&mut self, value: u8) {
        let icw4 = if self.ic4 { Expect::Icw4 } else { Expect::Mask };
        match self.expect {
            Expect::Mask => self.imr = value,
            Expect::Icw2 => {
                self.vector = value & spec::ICW2_VECTOR;
                self.expect = if self.single { icw4 } else { Expect::Icw3 };
            }
            // The wiring between the two is fixed.
            Expect::Icw3 => self.expect = icw4,
            Expect::Icw4 => {
                self.auto_eoi = value & spec::ICW4_AEOI != 0;
                self.special_fully_nested = value & spec::ICW4_SFNM != 0;
                self.expect = Expect::Mask;
            }
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let command = value >> spec::OCW2_COMMAND_SHIFT;
        let level = value & spec::OCW2_LEVEL;
        match command {
            spec::OCW2_ROTATE_AEOI_CLEAR => self.rotate_on_auto_eoi = false,
            spec::OCW2_ROTATE_AEOI_SET => self.rotate_on_auto_eoi = true,
            spec::OCW2_EOI | spec::OCW2_ROTATE_EOI => {
                if let Some((_, level)) = self.first(self.in_service()) {
                    self.end(level);
                    if command == spec::OCW2_ROTATE_EOI {
                        self.rotate(level);
                    }
                }
            }
            spec::OCW2_SPECIFIC_EOI => self.end(level),
            spec::OCW2_SET_PRIORITY => self.rotate(level),
            spec::OCW2_ROTATE_SPECIFIC_EOI => {
                self.end(level);
                self.rotate(level);
            }
            _ => {}
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & spec::OCW3_POLL != 0 {
            self.poll = true;
        }
        if value & spec::OCW3_RR != 0 {
            self.read_isr = value & spec::OCW3_RIS != 0;
        }
        if value & spec::OCW3_ESMM != 0 {
            self.special_mask = value & spec::OCW3_SMM != 0;
        }
    }
}

/// Master and slave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct I8259 {
    master: Pic,
    slave: Pic,
}

impl I8259 {
    /// The state after power-on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns to the state after power-on; the inputs count as low until they are set again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Sets input `irq` (0–15; 2 is the cascade and not connected).
    pub fn set_irq(&mut self, irq: u8, level: bool) {
        match irq {
            spec::CASCADE => {}
            0..8 => self.master.set_irq(irq, level),
            8..16 => {
                self.slave.set_irq(irq - 8, level);
                self.update_cascade();
            }
            _ => {}
        }
    }

    /// The level of the INTR output to the CPU.
    pub fn intr(&self) -> bool {
        self.master.pending(Chip::Master).is_some()
    }

    /// The CPU's interrupt acknowledge cycle: the vector to take.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(level) = self.master.pending(Chip::Master) else {
            return self.master.vector | spec::SPURIOUS;
        };
        self.master.acknowledge(level);
        if level != spec::CASCADE {
            return self.master.vector | level;
        }
        let level = self.slave.pending(Chip::Slave);
        if let Some(level) = level {
            self.slave.acknowledge(level);
        }
        // The slave's output falls during the cycle, so that its next request is a new edge.
        self.master.set_irq(spec::CASCADE, false);
        self.update_cascade();
        self.slave.vector | level.unwrap_or(spec::SPURIOUS)
    }

    /// Reads the port with address line `a0`. Polling acknowledges an interrupt.
    pub fn read(&mut self, chip: Chip, a0: bool) -> u8 {
        let value = self.chip(chip).read(chip, a0);
        self.update_cascade();
        value
    }

    /// Writes the port with address line `a0`.
    pub fn write(&mut self, chip: Chip, a0: bool, value: u8) {
        self.chip(chip).write(a0, value);
        self.update_cascade();
    }

    /// Reads the edge/level control register of `chip`.
    pub fn read_elcr(&self, chip: Chip) -> u8 {
        match chip {
            Chip::Master => self.master.elcr,
            Chip::Slave => self.slave.elcr,
        }
    }

    /// Writes the edge/level control register of `chip`: ones make inputs level-triggered.
    pub fn write_elcr(&mut self, chip: Chip, value: u8) {
        let mask = match chip {
            Chip::Master => spec::ELCR1_MASK,
            Chip::Slave => spec::ELCR2_MASK,
        };
        self.chip(chip).elcr = value & mask;
    }

    fn chip(&mut self, chip: Chip) -> &mut Pic {
        match chip {
            Chip::Master => &mut self.master,
            Chip::Slave => &mut self.slave,
        }
    }

    /// Carries the slave's output to the master's input.
    fn update_cascade(&mut self) {
        let request = self.slave.pending(Chip::Slave).is_some();
        self.master.set_irq(spec::CASCADE, request);
        if !request {
            // Masked or polled away in the meantime: no spurious interrupt.
            self.master.irr &= !(1 << spec::CASCADE);
        }
    }
}
