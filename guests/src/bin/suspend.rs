//! Suspend to RAM: the clock's alarm wakes the machine, whose firmware, or the board in its place, enters the FACS's
//! waking vector in real mode. The code there says so and ends the run.
#![no_std]
#![no_main]

use kit::acpi::Fadt;
use kit::boot::BootInfo;
use kit::check::holds;
use kit::io::{hlt, outw, read32, write8, write32};
use kit::{rtc, say};

kit::guest!(main);

const FIRMWARE_CTRL: u64 = 36;
const WAKING_VECTOR: u64 = 12;
const RTC_EN: u16 = 1 << 10;
/// Real-mode code: 'W' to COM1, 0 to the debug-exit port, `hlt`.
const CODE: [u8; 13] = [0xb0, 0x57, 0xba, 0xf8, 0x03, 0xee, 0xb0, 0x00, 0xba, 0xf4, 0x00, 0xee, 0xf4];
const VECTOR: u32 = 0x8000;

fn main(_: &BootInfo) {
    let Some(fadt) = Fadt::find() else { return holds("fadt", false, 0) };
    fadt.enable();
    let Some(sleep_type) = fadt.sleep_type(b"_S3_") else { return holds("s3-offered", false, 0) };
    let facs = u64::from(read32(fadt.table.0 + FIRMWARE_CTRL));
    (u64::from(VECTOR)..).zip(CODE).for_each(|(at, byte)| write8(at, byte));
    write32(facs + WAKING_VECTOR, VECTOR);
    // An alarm every second.
    [1, 3, 5].into_iter().for_each(|register| rtc::write(register, 0xff));
    rtc::write(0x0b, rtc::read(0x0b) | 0x20);
    rtc::read(0x0c);
    outw(fadt.pm1a_event + 2, RTC_EN);
    say!("asleep");
    fadt.sleep(sleep_type);
    loop {
        hlt();
    }
}
