//! The 8259A interrupt controller, with the edge/level control register that chipsets add
//! (Intel 8259A data sheet; QEMU's hw/intc/i8259.c).
//!
//! As in QEMU, an edge is remembered even if the input falls before the interrupt is acknowledged.

pub mod spec;

use hw_core::intc::PicInfo;
use serde::{Deserialize, Serialize};

/// What answers the CPU's interrupt acknowledge cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntAck {
    /// The vector to take.
    Vector(u8),
    /// The master leaves it to the slave to give the vector.
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

/// One 8259A: the master next to the CPU, or the slave on the master's input 2.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct I8259 {
    master: bool,
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
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    special_fully_nested: bool,
}

/// What the chip's latches hold, by the data sheet's names: for a chip that others emulate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Inputs as last seen by the edge detection.
    pub last_irr: u8,
    /// Interrupt request register.
    pub irr: u8,
    /// Interrupt mask register.
    pub imr: u8,
    /// In-service register.
    pub isr: u8,
    /// Edge/level control register.
    pub elcr: u8,
    /// The level with the highest priority.
    pub highest: u8,
    /// The vector of level 0.
    pub vector: u8,
    /// How many initialization command words have come: 0 when it is not being initialized, else 1 to 3.
    pub initialization: u8,
    /// The fourth of them comes, too.
    pub ic4: bool,
    /// The next read gives the ISR.
    pub read_isr: bool,
    /// The next read polls.
    pub poll: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// Interrupts end as they are acknowledged.
    pub auto_eoi: bool,
    /// Priorities rotate as they do.
    pub rotate_on_auto_eoi: bool,
    /// Special fully nested mode.
    pub special_fully_nested: bool,
}

impl I8259 {
    /// The chip with these registers.
    pub fn from_registers(master: bool, r: &Registers) -> Self {
        Self {
            master,
            last_irr: r.last_irr,
            irr: r.irr,
            imr: r.imr,
            isr: r.isr,
            elcr: r.elcr,
            highest: r.highest & 7,
            vector: r.vector,
            expect: match r.initialization {
                0 => Expect::Mask,
                1 => Expect::Icw2,
                2 => Expect::Icw3,
                _ => Expect::Icw4,
            },
            ic4: r.ic4,
            read_isr: r.read_isr,
            poll: r.poll,
            special_mask: r.special_mask,
            auto_eoi: r.auto_eoi,
            rotate_on_auto_eoi: r.rotate_on_auto_eoi,
            special_fully_nested: r.special_fully_nested,
            ..Self::default()
        }
    }

    /// Its registers.
    pub fn registers(&self) -> Registers {
        Registers {
            last_irr: self.last_irr,
            irr: self.irr,
            imr: self.imr,
            isr: self.isr,
            elcr: self.elcr,
            highest: self.highest,
            vector: self.vector,
            initialization: match self.expect {
                Expect::Mask => 0,
                Expect::Icw2 => 1,
                Expect::Icw3 => 2,
                Expect::Icw4 => 3,
            },
            ic4: self.ic4,
            read_isr: self.read_isr,
            poll: self.poll,
            special_mask: self.special_mask,
            auto_eoi: self.auto_eoi,
            rotate_on_auto_eoi: self.rotate_on_auto_eoi,
            special_fully_nested: self.special_fully_nested,
        }
    }

    /// The chip after power-on; its place in the cascade is fixed by a pin (SP/EN).
    pub fn new(master: bool) -> Self {
        Self { master, ..Self::default() }
    }

    /// Returns to the state after power-on; the inputs count as low until they are set again.
    pub fn reset(&mut self) {
        *self = Self::new(self.master);
    }

    /// The level in `levels` with the highest priority, and its rank: 0 is first.
    fn first(&self, levels: u8) -> Option<(u8, u8)> {
        (0..8).map(|rank| (rank, (self.highest + rank) & 7)).find(|(_, level)| levels & 1 << level != 0)
    }

    /// The level to be served next: requested, not masked, and above all that are in service.
    fn pending(&self) -> Option<u8> {
        let (rank, level) = self.first(self.irr & !self.imr)?;
        // Special mask mode leaves out the masked ones.
        let mut in_service = if self.special_mask { self.isr & !self.imr } else { self.isr };
        if self.special_fully_nested && self.master {
            // The slave may interrupt its own handler with a higher priority.
            in_service &= !(1 << spec::CASCADE);
        }
        match self.first(in_service) {
            Some((busy, _)) if busy <= rank => None,
            _ => Some(level),
        }
    }

    /// The level of the INT output.
    pub fn int(&self) -> bool {
        self.pending().is_some()
    }

    /// Sets input `n` (0–7).
    pub fn set_irq(&mut self, n: u8, high: bool) {
        let Some(mask) = 1u8.checked_shl(n.into()) else { return };
        if self.elcr & mask != 0 {
            self.irr = if high { self.irr | mask } else { self.irr & !mask };
        } else if high && self.last_irr & mask == 0 {
            self.irr |= mask;
        }
        self.last_irr = if high { self.last_irr | mask } else { self.last_irr & !mask };
    }

    /// The CPU's interrupt acknowledge cycle.
    pub fn acknowledge(&mut self) -> IntAck {
        let Some(level) = self.pending() else { return IntAck::Vector(self.vector | spec::SPURIOUS) };
        self.accept(level);
        if self.master && level == spec::CASCADE {
            IntAck::Slave
        } else {
            IntAck::Vector(self.vector | level)
        }
    }

    /// `level` goes into service.
    fn accept(&mut self, level: u8) {
        let mask = 1 << level;
        if !self.auto_eoi {
            self.isr |= mask;
        } else if self.rotate_on_auto_eoi {
            self.rotate(level);
        }
        if self.elcr & mask == 0 {
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

    /// Reads the port with address line `a0`. Polling acknowledges an interrupt.
    pub fn read(&mut self, a0: bool) -> u8 {
        if std::mem::take(&mut self.poll) {
            let Some(level) = self.pending() else { return 0 };
            self.accept(level);
            return spec::POLL_INTERRUPT | level;
        }
        match (a0, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr,
        }
    }

    /// Whether the next read polls.
    pub fn polls(&self) -> bool {
        self.poll
    }

    /// Writes the port with address line `a0`. Gives whether the output follows: a slave's tells the master its level then,
    /// changed or not.
    pub fn write(&mut self, a0: bool, value: u8) -> bool {
        if a0 {
            self.write_data(value)
        } else if value & spec::ICW1 != 0 {
            self.initialize(value);
            true
        } else if value & spec::OCW3 != 0 {
            self.write_ocw3(value);
            false
        } else {
            self.write_ocw2(value)
        }
    }

    /// ICW1: everything but the ELCR and what the level-triggered inputs ask for starts anew. That all inputs be
    /// level-triggered is not to be had, as in QEMU and KVM.
    fn initialize(&mut self, icw1: u8) {
        *self = Self {
            master: self.master,
            elcr: self.elcr,
            irr: self.irr & self.elcr,
            expect: Expect::Icw2,
            ic4: icw1 & spec::ICW1_IC4 != 0,
            single: icw1 & spec::ICW1_SNGL != 0,
            ..Self::default()
        };
    }

    fn write_data(&mut self, value: u8) -> bool {
        let is_mask = self.expect == Expect::Mask;
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
        is_mask
    }

    fn write_ocw2(&mut self, value: u8) -> bool {
        let command = value >> spec::OCW2_COMMAND_SHIFT;
        let level = value & spec::OCW2_LEVEL;
        match command {
            spec::OCW2_ROTATE_AEOI_CLEAR | spec::OCW2_ROTATE_AEOI_SET => {
                self.rotate_on_auto_eoi = command == spec::OCW2_ROTATE_AEOI_SET;
                return false;
            }
            spec::OCW2_EOI | spec::OCW2_ROTATE_EOI => {
                let Some((_, level)) = self.first(self.isr) else { return false };
                self.end(level);
                if command == spec::OCW2_ROTATE_EOI {
                    self.rotate(level);
                }
            }
            spec::OCW2_SPECIFIC_EOI => self.end(level),
            spec::OCW2_SET_PRIORITY => self.rotate(level),
            spec::OCW2_ROTATE_SPECIFIC_EOI => {
                self.end(level);
                self.rotate(level);
            }
            _ => return false,
        }
        true
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

    /// The registers, as people are told of them (`pic_print_info`).
    pub fn info(&self) -> PicInfo {
        PicInfo {
            number: u8::from(!self.master),
            irr: self.irr,
            imr: self.imr,
            isr: self.isr,
            priority_add: self.highest,
            irq_base: self.vector,
            read_reg_select: self.read_isr,
            elcr: self.elcr,
            special_fully_nested: self.special_fully_nested,
        }
    }

    /// The edge/level control register: ones are level-triggered inputs.
    pub fn elcr(&self) -> u8 {
        self.elcr
    }

    /// Writes the edge/level control register; which bits it has is the chipset's matter.
    pub fn set_elcr(&mut self, value: u8) {
        self.elcr = value;
    }
}
