//! Registers and bit fields of the Motorola MC146818A data sheet, and a PC's use of its RAM.

/// Ports of a PC: the index register. Bit 7 masks NMIs and is no part of the index.
pub const PORT_INDEX: u64 = 0;
/// Ports of a PC: the register that the index selects.
pub const PORT_DATA: u64 = 1;
/// The bits of an index.
pub const INDEX_MASK: u8 = 0x7f;
/// Bytes of the clock, its registers and RAM.
pub const CMOS_SIZE: usize = 128;

/// Address map: seconds.
pub const SECONDS: u8 = 0x00;
/// Address map: seconds alarm.
pub const SECONDS_ALARM: u8 = 0x01;
/// Address map: minutes.
pub const MINUTES: u8 = 0x02;
/// Address map: minutes alarm.
pub const MINUTES_ALARM: u8 = 0x03;
/// Address map: hours.
pub const HOURS: u8 = 0x04;
/// Address map: hours alarm.
pub const HOURS_ALARM: u8 = 0x05;
/// Address map: day of the week, Sunday is 1.
pub const DAY_OF_WEEK: u8 = 0x06;
/// Address map: day of the month.
pub const DAY_OF_MONTH: u8 = 0x07;
/// Address map: month.
pub const MONTH: u8 = 0x08;
/// Address map: year.
pub const YEAR: u8 = 0x09;
/// Register A.
pub const REG_A: u8 = 0x0a;
/// Register B.
pub const REG_B: u8 = 0x0b;
/// Register C.
pub const REG_C: u8 = 0x0c;
/// Register D.
pub const REG_D: u8 = 0x0d;
/// PC: shutdown status, which tells the firmware why it was reset.
pub const SHUTDOWN_STATUS: u8 = 0x0f;
/// PC: century.
pub const CENTURY: u8 = 0x32;
/// PS/2: century, another address of [`CENTURY`].
pub const PS2_CENTURY: u8 = 0x37;

/// Shutdown status: resume from suspend to RAM.
pub const SHUTDOWN_S3_RESUME: u8 = 0xfe;

/// Hours: afternoon, in 12-hour mode.
pub const HOURS_PM: u8 = 1 << 7;
/// Alarm bytes: both bits set make any value match.
pub const ALARM_DONT_CARE: u8 = 0xc0;

/// Register A: update in progress.
pub const REG_A_UIP: u8 = 1 << 7;
/// Register A, DV: the divider.
pub const REG_A_DV: u8 = 0x70;
/// Register A, DV: the highest of the settings for the three crystals; above, the divider does not run.
pub const REG_A_DV_MAX: u8 = 0x20;
/// Register A, DV: both bits hold the divider chain in reset.
pub const REG_A_DV_RESET: u8 = 0x60;
/// Register A, RS: rate of the periodic interrupt.
pub const REG_A_RS: u8 = 0x0f;

/// Register B: set, no updates while the program sets the clock.
pub const REG_B_SET: u8 = 1 << 7;
/// Register B: periodic interrupt enable.
pub const REG_B_PIE: u8 = 1 << 6;
/// Register B: alarm interrupt enable.
pub const REG_B_AIE: u8 = 1 << 5;
/// Register B: update-ended interrupt enable.
pub const REG_B_UIE: u8 = 1 << 4;
/// Register B: square-wave enable.
pub const REG_B_SQWE: u8 = 1 << 3;
/// Register B: data mode, binary.
pub const REG_B_DM: u8 = 1 << 2;
/// Register B: 24-hour mode.
pub const REG_B_24H: u8 = 1 << 1;

/// Register C: interrupt request.
pub const REG_C_IRQF: u8 = 1 << 7;
/// Register C: periodic interrupt flag.
pub const REG_C_PF: u8 = 1 << 6;
/// Register C: alarm interrupt flag.
pub const REG_C_AF: u8 = 1 << 5;
/// Register C: update-ended interrupt flag.
pub const REG_C_UF: u8 = 1 << 4;
/// The interrupt flags of register C, at the positions of their enable bits in register B.
pub const INTERRUPTS: u8 = REG_C_PF | REG_C_AF | REG_C_UF;

/// Register D: valid RAM and time.
pub const REG_D_VRT: u8 = 1 << 7;

/// Register A after power-on: a 32 kHz crystal, a periodic rate of 1024 Hz.
pub const REG_A_DEFAULT: u8 = 0x26;

/// The crystal of a PC in Hz.
pub const CRYSTAL_HZ: i64 = 32_768;
/// How long before an update UIP is set: t_BUC (244 us), 8 periods of the crystal.
pub const UIP_HOLD_NS: i64 = 8 * 1_000_000_000 / CRYSTAL_HZ;
/// From the end of the divider's reset to the first update.
pub const FIRST_UPDATE_NS: i64 = 500_000_000;

/// Periods of the crystal between two periodic interrupts, for the rate bits of register A.
pub fn periodic_ticks(reg_a: u8) -> Option<i64> {
    match reg_a & REG_A_RS {
        0 => None,
        // With a 32 kHz crystal the two fastest rates do not exist.
        rate @ (1 | 2) => Some(1 << (rate + 6)),
        rate => Some(1 << (rate - 1)),
    }
}
