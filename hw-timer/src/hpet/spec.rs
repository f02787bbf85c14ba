//! Registers and bit fields of the IA-PC HPET specification, revision 1.0a, chapter 2.

/// Length of the memory-mapped register block in bytes.
pub const REGISTER_SPACE: u64 = 0x400;

/// General Capabilities and ID (2.3.4).
pub const GCAP_ID: u64 = 0x000;
/// General Configuration (2.3.5).
pub const GEN_CONF: u64 = 0x010;
/// General Interrupt Status (2.3.6).
pub const GINTR_STA: u64 = 0x020;
/// Main Counter Value (2.3.7).
pub const MAIN_CNT: u64 = 0x0f0;
/// First register of timer 0; those of timer N follow at multiples of [`TIMER_STRIDE`].
pub const TIMER_BASE: u64 = 0x100;
/// Distance between the registers of one timer and the next.
pub const TIMER_STRIDE: u64 = 0x20;
/// Timer N Configuration and Capabilities (2.3.8), from the timer's first register.
pub const TIMER_CONF: u64 = 0x00;
/// Timer N Comparator Value (2.3.9).
pub const TIMER_COMPARATOR: u64 = 0x08;
/// Timer N FSB Interrupt Route (2.3.10): data in the low half, address in the high half.
pub const TIMER_FSB_ROUTE: u64 = 0x10;

/// GCAP_ID: revision 1, 64-bit counter, legacy replacement capable, vendor 8086h.
pub const GCAP_ID_FIXED: u64 = 0x8086_a001;
/// GCAP_ID, NUM_TIM_CAP: number of the last timer.
pub const NUM_TIM_CAP_SHIFT: u32 = 8;
/// GCAP_ID, COUNTER_CLK_PERIOD in femtoseconds.
pub const COUNTER_CLK_PERIOD_SHIFT: u32 = 32;
/// The period of QEMU's HPET: 10 ns in femtoseconds.
pub const COUNTER_CLK_PERIOD_FS: u64 = 10_000_000;
/// The same in nanoseconds.
pub const COUNTER_CLK_PERIOD_NS: u64 = 10;

/// GEN_CONF, ENABLE_CNF: the main counter runs and timers may interrupt.
pub const ENABLE_CNF: u64 = 1 << 0;
/// GEN_CONF, LEG_RT_CNF: legacy replacement route.
pub const LEG_RT_CNF: u64 = 1 << 1;

/// Tn_INT_TYPE_CNF: level-triggered.
pub const TN_INT_TYPE_CNF: u64 = 1 << 1;
/// Tn_INT_ENB_CNF: interrupts enabled.
pub const TN_INT_ENB_CNF: u64 = 1 << 2;
/// Tn_TYPE_CNF: periodic.
pub const TN_TYPE_CNF: u64 = 1 << 3;
/// Tn_PER_INT_CAP: can be periodic.
pub const TN_PER_INT_CAP: u64 = 1 << 4;
/// Tn_SIZE_CAP: 64 bits wide.
pub const TN_SIZE_CAP: u64 = 1 << 5;
/// Tn_VAL_SET_CNF: the next comparator write sets a periodic timer's accumulator.
pub const TN_VAL_SET_CNF: u64 = 1 << 6;
/// Tn_32MODE_CNF: works as a 32-bit timer.
pub const TN_32MODE_CNF: u64 = 1 << 8;
/// Tn_INT_ROUTE_CNF: I/O APIC input.
pub const TN_INT_ROUTE_CNF_SHIFT: u32 = 9;
/// Tn_INT_ROUTE_CNF, five bits.
pub const TN_INT_ROUTE_CNF: u64 = 0x1f << TN_INT_ROUTE_CNF_SHIFT;
/// Tn_FSB_EN_CNF: deliver as a message.
pub const TN_FSB_EN_CNF: u64 = 1 << 14;
/// Tn_FSB_INT_DEL_CAP: can deliver as a message.
pub const TN_FSB_INT_DEL_CAP: u64 = 1 << 15;
/// Tn_INT_ROUTE_CAP: the inputs the timer can be routed to.
pub const TN_INT_ROUTE_CAP_SHIFT: u32 = 32;
/// The bits of a timer's configuration that software can write.
pub const TN_CONF_WRITABLE: u64 = TN_INT_TYPE_CNF
    | TN_INT_ENB_CNF
    | TN_TYPE_CNF
    | TN_VAL_SET_CNF
    | TN_32MODE_CNF
    | TN_INT_ROUTE_CNF
    | TN_FSB_EN_CNF;

/// Line of timer 0 under legacy replacement, and of the PIT otherwise (2.3.5).
pub const LEGACY_TIMER0_IRQ: u8 = 0;
/// Line of timer 1 under legacy replacement, and of the RTC otherwise (2.3.5).
pub const LEGACY_TIMER1_IRQ: u8 = 8;

/// Fewest timers a block has (2.2: three comparators).
pub const MIN_TIMERS: u8 = 3;
/// Most timers a block has (2.2).
pub const MAX_TIMERS: u8 = 32;
