//! Registers and bit fields of the ACPI specification 6.4, section 4.8 (ACPI register model).

/// PM1a_EVT_BLK, status register (4.8.3.1.1): offset in the PM I/O block of the PIIX4 and the ICH9.
pub const PM1_STS: u64 = 0;
/// PM1a_EVT_BLK, enable register (4.8.3.1.2).
pub const PM1_EN: u64 = 2;
/// PM1a_CNT_BLK (4.8.3.2.1).
pub const PM1_CNT: u64 = 4;
/// What follows it.
pub const PM1_CNT_END: u64 = 6;
/// PM_TMR_BLK (4.8.3.3).
pub const PM_TMR: u64 = 8;
/// What follows it.
pub const PM_TMR_END: u64 = 12;

/// TMR_STS and TMR_EN: the most significant bit of the PM timer changed.
pub const TMR: u16 = 1 << 0;
/// GBL_STS and GBL_EN: global lock released.
pub const GBL: u16 = 1 << 5;
/// PWRBTN_STS and PWRBTN_EN: power button pressed.
pub const PWRBTN: u16 = 1 << 8;
/// RTC_STS and RTC_EN: alarm of the real-time clock.
pub const RTC: u16 = 1 << 10;
/// WAK_STS: woken from a sleeping state.
pub const WAK_STS: u16 = 1 << 15;
/// The events that raise the SCI when status and enable bit are set.
pub const SCI_EVENTS: u16 = TMR | GBL | PWRBTN | RTC;

/// SCI_EN: power management events raise the SCI instead of an SMI.
pub const SCI_EN: u16 = 1 << 0;
/// GBL_RLS: write-only.
pub const GBL_RLS: u16 = 1 << 2;
/// SLP_TYPx: three bits that name the sleeping state.
pub const SLP_TYP_SHIFT: u32 = 10;
/// SLP_TYPx after the shift.
pub const SLP_TYP_MASK: u16 = 0x7;
/// SLP_EN: write-only, enters the state in SLP_TYPx.
pub const SLP_EN: u16 = 1 << 13;

/// SLP_TYPx of S5 in the PIIX4 and in QEMU's DSDT.
pub const SLP_TYP_S5: u16 = 0;
/// SLP_TYPx of S3 in the PIIX4 and in QEMU's DSDT.
pub const SLP_TYP_S3: u16 = 1;

/// Frequency of the PM timer in Hz (4.8.2.1).
pub const PM_TMR_FREQUENCY: u64 = 3_579_545;
/// Values of the 24-bit PM timer.
pub const PM_TMR_MASK: u32 = 0x00ff_ffff;
/// Ticks between two changes of the PM timer's most significant bit.
pub const PM_TMR_HALF_PERIOD: u64 = 1 << 23;
