//! What a firmware leaves for code in real mode (IBM PC/AT Technical Reference), and the chips as it leaves them.

use kit::check::{equal, holds};
use kit::io::read32;
use kit::pit;

/// The BIOS data area, and in it: the extended data area's segment, the size of memory below it in KiB, the timer's ticks.
const BDA: u64 = 0x400;
const EBDA: u64 = BDA + 0x0e;
const MEMORY: u64 = BDA + 0x13;
const TICKS: u64 = BDA + 0x6c;
/// The timer's ticks in a day.
const TICKS_A_DAY: u64 = 0x18_00b0;

/// To be called before anything changes the chips.
pub fn check() {
    let segment = |vector: u64| u64::from(read32(4 * vector) >> 16);
    equal("ivt-timer-in-bios", segment(0x08), 0xf000);
    equal("ivt-clock-in-bios", segment(0x70), 0xf000);
    equal("ivt-nothing", read32(4 * 0x1c).into(), 0xf000_ff53);
    equal("ivt-users-vector", read32(4 * 0x60).into(), 0);
    equal("bios-iret", (read32(0xf_ff53) & 0xff).into(), 0xcf);
    equal("bios-model", (read32(0xf_fffc) >> 16 & 0xff).into(), 0xfc);
    equal("bda-ebda", (read32(EBDA) & 0xffff).into(), 0x9fc0);
    equal("bda-memory", (read32(MEMORY) & 0xffff).into(), 639);
    equal("bda-com1", (read32(BDA) & 0xffff).into(), 0x3f8);
    let ticks = u64::from(read32(TICKS));
    holds("bda-ticks", ticks < TICKS_A_DAY, ticks);
    // Words in mode 2, a count of 65536: what bit 6 and 7 are depends on the moment.
    equal("pit-channel-0", (pit::status() & 0x3f).into(), 0x34);
}
