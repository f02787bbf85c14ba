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
    /// Registers as after a reset at `now_ns`.
    ///
    /// `gpe_len` is the length of the general-purpose event block in bytes, half status and half enable;
    /// `s4_slp_typ` the SLP_TYPx that means S4 (property `s4_val`). With `acpi_only` the machine has no SMI
    /// to turn ACPI on: SCI_EN is always set.
    pub fn new(gpe_len: usize, s4_slp_typ: u8, acpi_only: bool, now_ns: u64) -> Self {
        Self {
            pm1_sts: 0,
            pm1_en: 0,
            pm1_cnt: if acpi_only { spec::SCI_EN } else { 0 },
            timer_overflow: next_overflow(ticks(now_ns)),
            gpe_sts: vec![0; gpe_len / 2],
            gpe_en: vec![0; gpe_len / 2],
            s4_slp_typ,
            acpi_only,
        }
    }

    /// Returns to the state of [`Self::new`].
    pub fn reset(&mut self, now_ns: u64) {
        *self = Self::new(self.gpe_sts.len() * 2, self.s4_slp_typ, self.acpi_only, now_ns);
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

    /// Reads `size` bytes at `offset` in the PM I/O block. What lies between the registers reads 0.
    pub fn read(&self, offset: u64, size: u32, now_ns: u64) -> u64 {
        let registers = u128::from(self.status(now_ns)) << (8 * spec::PM1_STS)
            | u128::from(self.pm1_en) << (8 * spec::PM1_EN)
            | u128::from(self.pm1_cnt) << (8 * spec::PM1_CNT)
            | u128::from(timer_value(now_ns)) << (8 * spec::PM_TMR);
        let shifted = registers.checked_shr(offset.saturating_mul(8).min(128) as u32).unwrap_or(0) as u64;
        shifted & byte_mask(size)
    }

    /// Writes `size` bytes at `offset` in the PM I/O block. The PM timer is read-only.
    #[must_use]
    pub fn write(&mut self, offset: u64, value: u64, size: u32, now_ns: u64) -> Option<SleepRequest> {
        let mut request = None;
        for register in [spec::PM1_STS, spec::PM1_EN, spec::PM1_CNT] {
            let (value, mask) = lanes(register, offset, value, size);
            match register {
                _ if mask == 0 => {}
                spec::PM1_STS => self.clear_status(value, now_ns),
                spec::PM1_EN => self.pm1_en = self.pm1_en & !mask | value,
                _ => request = self.write_control(self.pm1_cnt & !mask | value),
            }
        }
        request
    }

    fn write_control(&mut self, value: u16) -> Option<SleepRequest> {
        self.pm1_cnt = value & !(spec::SLP_EN | spec::GBL_RLS);
        if self.acpi_only {
            self.pm1_cnt |= spec::SCI_EN;
        }
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
            || self.gpe_sts.iter().zip(&self.gpe_en).any(|(status, enable)| status & enable != 0)
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

/// The part of an access to `size` bytes at `offset` that falls on the 16-bit `register`: value and mask.
fn lanes(register: u64, offset: u64, value: u64, size: u32) -> (u16, u16) {
    let Some(end) = offset.checked_add(size.min(8).into()) else { return (0, 0) };
    let (mut lane, mut mask) = (0, 0);
    for byte in 0..2 {
        let at = register + byte;
        if (offset..end).contains(&at) {
            lane |= (value >> (8 * (at - offset)) & 0xff) << (8 * byte);
            mask |= 0xff << (8 * byte);
        }
    }
    (lane as u16, mask)
}

fn byte_mask(size: u32) -> u64 {
    1u64.checked_shl(size.saturating_mul(8)).map_or(u64::MAX, |bit| bit - 1)
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
