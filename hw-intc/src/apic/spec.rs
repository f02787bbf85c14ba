//! Registers and bit fields of the local APIC (Intel SDM volume 3, chapter 11), as far as QEMU's has them.

/// Where its registers are at reset.
pub const APIC_DEFAULT_ADDRESS: u64 = 0xfee0_0000;
/// Bytes of memory that belong to APICs: the first page has registers, all of them take messages.
pub const APIC_SPACE_SIZE: u64 = 0x10_0000;
/// Bytes of the page with registers.
pub const REGISTER_PAGE: u64 = 0x1000;
/// APIC ids of one byte, less the broadcast.
pub const MAX_APICS: u32 = 255;
/// Physical destination: all.
pub const BROADCAST: u8 = 0xff;

/// IA32_APIC_BASE: this is the bootstrap processor.
pub const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: global enable.
pub const BASE_ENABLE: u64 = 1 << 11;
/// IA32_APIC_BASE: the address.
pub const BASE_ADDRESS: u64 = 0xffff_f000;

/// Registers are 16 bytes apart: the position of their number in the address.
pub const REGISTER_SHIFT: u32 = 4;
/// Bits of the number.
pub const REGISTER_MASK: u64 = 0xff;

/// Local APIC id.
pub const ID: u8 = 0x02;
/// Version.
pub const VERSION: u8 = 0x03;
/// Task priority.
pub const TPR: u8 = 0x08;
/// Arbitration priority.
pub const APR: u8 = 0x09;
/// Processor priority.
pub const PPR: u8 = 0x0a;
/// End of interrupt.
pub const EOI: u8 = 0x0b;
/// Logical destination.
pub const LDR: u8 = 0x0d;
/// Destination format.
pub const DFR: u8 = 0x0e;
/// Spurious interrupt vector.
pub const SVR: u8 = 0x0f;
/// In service, eight registers.
pub const ISR: u8 = 0x10;
/// Trigger mode, eight registers.
pub const TMR: u8 = 0x18;
/// Interrupt request, eight registers.
pub const IRR: u8 = 0x20;
/// The last of the interrupt request registers.
pub const IRR_LAST: u8 = 0x27;
/// Error status.
pub const ESR: u8 = 0x28;
/// Interrupt command, lower half.
pub const ICR_LOW: u8 = 0x30;
/// Interrupt command, upper half.
pub const ICR_HIGH: u8 = 0x31;
/// Local vector table, first entry.
pub const LVT: u8 = 0x32;
/// Local vector table, last entry.
pub const LVT_LAST: u8 = 0x37;
/// Initial count.
pub const INITIAL_COUNT: u8 = 0x38;
/// Current count.
pub const CURRENT_COUNT: u8 = 0x39;
/// Divide configuration.
pub const DIVIDE: u8 = 0x3e;

/// Position of the id, of the logical destination and of the ICR's destination in their registers.
pub const ID_SHIFT: u32 = 24;
/// Position of the number of the last LVT entry in the version register.
pub const MAX_LVT_SHIFT: u32 = 16;
/// Version of an integrated APIC.
pub const VERSION_DEFAULT: u8 = 0x14;
/// Position of the model in the DFR.
pub const DFR_SHIFT: u32 = 28;
/// DFR: what reads as one.
pub const DFR_RESERVED: u32 = 0x0fff_ffff;
/// DFR: flat model.
pub const DFR_FLAT: u8 = 0xf;
/// DFR: cluster model.
pub const DFR_CLUSTER: u8 = 0x0;
/// LDR in the cluster model: the cluster.
pub const LDR_CLUSTER: u8 = 0xf0;
/// LDR in the cluster model: the members.
pub const LDR_MEMBERS: u8 = 0x0f;

/// SVR: the vector.
pub const SVR_VECTOR: u32 = 0xff;
/// SVR: software enable.
pub const SVR_ENABLE: u32 = 1 << 8;
/// SVR: the bits there are.
pub const SVR_MASK: u32 = 0x1ff;
/// The priority class of a vector or of TPR and PPR.
pub const PRIORITY_CLASS: u8 = 0xf0;
/// ESR: an access to a register there is none.
pub const ESR_ILLEGAL_ADDRESS: u32 = 1 << 7;

/// ICR and LVT: the vector.
pub const VECTOR: u32 = 0xff;
/// ICR: logical destination mode.
pub const ICR_LOGICAL: u32 = 1 << 11;
/// ICR: level assert.
pub const ICR_ASSERT: u32 = 1 << 14;
/// ICR: level-triggered.
pub const ICR_LEVEL: u32 = 1 << 15;
/// ICR: position of the destination shorthand.
pub const ICR_SHORTHAND_SHIFT: u32 = 18;
/// ICR: two bits of shorthand.
pub const ICR_SHORTHAND_MASK: u32 = 0x3;

/// Number of LVT entries.
pub const LVT_ENTRIES: usize = 6;
/// LVT: timer.
pub const LVT_TIMER: usize = 0;
/// LVT: LINT0, where the PIC's output is.
pub const LVT_LINT0: usize = 3;
/// LVT: LINT1, the NMI pin.
pub const LVT_LINT1: usize = 4;
/// LVT: level-triggered.
pub const LVT_LEVEL: u32 = 1 << 15;
/// LVT: masked.
pub const LVT_MASKED: u32 = 1 << 16;
/// LVT of the timer: periodic.
pub const LVT_PERIODIC: u32 = 1 << 17;
/// Divide configuration: its three bits.
pub const DIVIDE_MASK: u32 = 0xb;
/// Divide configuration: the two lower of them.
pub const DIVIDE_LOW: u32 = 0x3;
/// Divide configuration: the third, one place too high.
pub const DIVIDE_HIGH: u32 = 0x8;

/// Message address: position of the destination's eight bits.
pub const MSI_DEST_SHIFT: u32 = 12;
/// Message address: logical destination mode.
pub const MSI_LOGICAL: u64 = 1 << 2;
/// Message data: level-triggered.
pub const MSI_LEVEL: u32 = 1 << 15;
