//! The ACPI hardware registers: PM1a event and control blocks, the PM timer and one general-purpose event
//! block (ACPI 6.4, section 4.8; QEMU's hw/acpi/core.c).
//!
//! The struct knows no clock and no interrupt line: after every call that changes it, the device around it
//! sets the SCI to [`AcpiRegs::sci_level`] and its timer to [`AcpiRegs::next_deadline`].

pub mod spec;

use hw_core::suspend::WakeupReason;
use serde::{Deserialize, Serialize};
use util::clock::{ticks_at, time_of_tick};

/// What the guest asks for by setting SLP_EN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepRequest {
    /// S3, suspend to RAM.
    SuspendToRam,
    /// S4, suspend to disk: the guest has saved itself and wants the power off.
    SuspendToDisk,
    /// S5, soft off.
    SoftOff,
}

/// The registers of one ACPI power management function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcpiRegs {
    pm1_sts: u16,
    pm1_en: u16,
    pm1_cnt: u16,
    /// Tick of the PM timer from which on TMR_STS is set.
    timer_overflow: u64,
    gpe_sts: Vec<u8>,
    gpe_en: Vec<u8>,
    s4_slp_typ: u8,
    acpi_only: bool,
}

impl AcpiRegs {
    /// Registers as after a reset.
    ///
    /// `gpe_len` is the length of the general-purpose event block in bytes, half status and half enable;
    /// `s4_slp_typ` the SLP_TYPx that means S4 (property `s4_val`). With `acpi_only` the machine has no SMI
    /// to turn ACPI on: SCI_EN is set from the start.
    pub fn new(gpe_len: usize, s4_slp_typ: u8, acpi_only: bool) -> Self {
        Self {
            pm1_sts: 0,
            pm1_en: 0,
            pm1_cnt: if acpi_only { spec::SCI_EN } else { 0 },
            // Overflowed at once, as in QEMU.
            timer_overflow: 0,
            gpe_sts: vec![0; gpe_len / 2],
            gpe_en: vec![0; gpe_len / 2],
            s4_slp_typ,
            acpi_only,
        }
    }

    /// Returns to the state of [`Self::new`].
    pub fn reset(&mut self) {
        *self = Self::new(self.gpe_sts.len() * 2, self.s4_slp_typ, self.acpi_only);
    }

    /// Takes the state of `other` over, if its registers are as many; says whether they are.
    pub fn load(&mut self, other: Self) -> bool {
        let sizes = |regs: &Self| (regs.gpe_sts.len(), regs.gpe_en.len());
        let alike = sizes(self) == sizes(&other);
        if alike {
            *self = Self { s4_slp_typ: self.s4_slp_typ, acpi_only: self.acpi_only, ..other };
        }
        alike
    }

    /// Reads the register at `offset` in the PM I/O block, as wide as it is. The control register and the timer are at each
    /// of their bytes; the others at their first only, as QEMU has them.
    #[inline]
    pub fn read(&self, offset: u64, now_ns: u64) -> u64 {
        match offset {
            spec::PM1_STS => self.status(now_ns).into(),
            spec::PM1_EN => self.pm1_en.into(),
            spec::PM1_CNT..spec::PM1_CNT_END => self.pm1_cnt.into(),
            spec::PM_TMR..spec::PM_TMR_END => timer_value(now_ns).into(),
            _ => 0,
        }
    }

    /// Writes the register at `offset` in the PM I/O block, all of it. The PM timer is read-only.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u16, now_ns: u64) -> Option<SleepRequest> {
        match offset {
            spec::PM1_STS => self.clear_status(value, now_ns),
            spec::PM1_EN => self.pm1_en = value,
            spec::PM1_CNT..spec::PM1_CNT_END => return self.write_control(value),
            _ => {}
        }
        None
    }

    fn write_control(&mut self, value: u16) -> Option<SleepRequest> {
        self.pm1_cnt = value & !spec::SLP_EN;
        if value & spec::SLP_EN == 0 {
            return None;
        }
        match value >> spec::SLP_TYP_SHIFT & spec::SLP_TYP_MASK {
            spec::SLP_TYP_S5 => Some(SleepRequest::SoftOff),
            spec::SLP_TYP_S3 => Some(SleepRequest::SuspendToRam),
            slp_typ if slp_typ == u16::from(self.s4_slp_typ) => Some(SleepRequest::SuspendToDisk),
            _ => None,
        }
    }

    fn clear_status(&mut self, bits: u16, now_ns: u64) {
        if self.status(now_ns) & bits & spec::TMR != 0 {
            self.timer_overflow = next_overflow(ticks(now_ns));
        }
        self.pm1_sts &= !bits;
    }

    /// PM1_STS at `now_ns`.
    fn status(&self, now_ns: u64) -> u16 {
        let overflowed = ticks(now_ns) >= self.timer_overflow;
        self.pm1_sts | if overflowed { spec::TMR } else { 0 }
    }

    /// Reads a byte of the general-purpose event block.
    pub fn read_gpe(&self, offset: u64) -> u8 {
        self.gpe_sts.iter().chain(&self.gpe_en).nth(offset as usize).copied().unwrap_or(0)
    }

    /// Writes a byte of the general-purpose event block: ones clear status bits, enable bits are stored.
    pub fn write_gpe(&mut self, offset: u64, value: u8) {
        let offset = offset as usize;
        if let Some(status) = self.gpe_sts.get_mut(offset) {
            *status &= !value;
        } else if let Some(enable) = self.gpe_en.get_mut(offset.saturating_sub(self.gpe_sts.len())) {
            *enable = value;
        }
    }

    /// Sets the status bit of general-purpose event `event`.
    pub fn raise_gpe(&mut self, event: u8) {
        if let Some(status) = self.gpe_sts.get_mut(usize::from(event / 8)) {
            *status |= 1 << (event % 8);
        }
    }

    /// The level of the system control interrupt.
    pub fn sci_level(&self, now_ns: u64) -> bool {
        self.status(now_ns) & self.pm1_en & spec::SCI_EVENTS != 0
            // QEMU looks at the first eight events only.
            || self.gpe_sts.first().zip(self.gpe_en.first()).is_some_and(|(status, enable)| status & enable != 0)
    }

    /// The virtual time at which the PM timer next raises the SCI, if it is enabled to and has not yet.
    pub fn next_deadline(&self, now_ns: u64) -> Option<u64> {
        let waiting = self.pm1_en & spec::TMR != 0 && self.status(now_ns) & spec::TMR == 0;
        waiting.then(|| tick_time(self.timer_overflow))
    }

    /// Whether the PM timer raises the SCI now.
    pub fn timer_due(&self, now_ns: u64) -> bool {
        self.pm1_en & self.status(now_ns) & spec::TMR != 0
    }

    /// Presses the power button. Nothing happens if the guest has not enabled it (as QEMU).
    pub fn press_power_button(&mut self) {
        self.pm1_sts |= self.pm1_en & spec::PWRBTN;
    }

    /// Turns SCI_EN on or off as the SMI handler would after a write of ACPI_ENABLE or ACPI_DISABLE to the
    /// SMI command port (ACPI 6.4, 4.8.3.2.1).
    pub fn set_sci_enabled(&mut self, enabled: bool) {
        if enabled {
            self.pm1_cnt |= spec::SCI_EN;
        } else if !self.acpi_only {
            self.pm1_cnt &= !spec::SCI_EN;
        }
    }

    /// Whether `reason` may wake the machine.
    pub fn can_wake(&self, reason: WakeupReason) -> bool {
        match reason {
            WakeupReason::Rtc => self.pm1_en & spec::RTC != 0,
            WakeupReason::PmTimer => self.pm1_en & spec::TMR != 0,
            WakeupReason::Other => true,
        }
    }

    /// Records that the machine was woken by `reason`.
    pub fn wake(&mut self, reason: WakeupReason) {
        self.pm1_sts |= spec::WAK_STS
            | match reason {
                WakeupReason::Rtc => spec::RTC,
                WakeupReason::PmTimer => spec::TMR,
                // The guest must see some cause: QEMU names the power button.
                WakeupReason::Other => spec::PWRBTN,
            };
    }
}

/// PM timer ticks since virtual time 0.
fn ticks(now_ns: u64) -> u64 {
    ticks_at(now_ns, spec::PM_TMR_FREQUENCY)
}

/// The first virtual time at which [`ticks`] is `tick`.
fn tick_time(tick: u64) -> u64 {
    time_of_tick(tick, spec::PM_TMR_FREQUENCY)
}

fn timer_value(now_ns: u64) -> u32 {
    ticks(now_ns) as u32 & spec::PM_TMR_MASK
}

/// The first tick after `tick` at which the timer's most significant bit changes.
fn next_overflow(tick: u64) -> u64 {
    (tick / spec::PM_TMR_HALF_PERIOD + 1) * spec::PM_TMR_HALF_PERIOD
}
