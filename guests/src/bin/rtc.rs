//! The MC146818: time, formats, update cycle, alarm; and what the board put into CMOS memory.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use kit::boot::BootInfo;
use kit::check::{equal, holds, within};
use kit::interrupts::{PATIENCE, count, set_handler, wait_count};
use kit::{fw_cfg, pic, pit, rtc, say};

kit::guest!(main);

const IRQ: u8 = 8;
/// Register C bits.
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const MIB: u64 = 1 << 20;

/// Register C as the handler read it, all readings together.
static CAUSES: AtomicU32 = AtomicU32::new(0);

fn handler(_: u8) {
    CAUSES.fetch_or(rtc::read(rtc::C).into(), Ordering::SeqCst);
    pic::eoi(IRQ);
}

fn main(_: &BootInfo) {
    registers();
    time();
    update_in_progress();
    pic::remap();
    pic::unmask_only(1 << IRQ);
    update_interrupt();
    alarm();
    pic::unmask_only(0);
    memory();
    memory_sizes();
}

fn registers() {
    equal("register-a", (rtc::read(rtc::A) & 0x7f).into(), 0x26);
    equal("register-b-24-hours", (rtc::read(rtc::B) & 0x82).into(), 0x02);
    equal("register-d-valid", rtc::read(rtc::D).into(), 0x80);
    rtc::write(rtc::D, 0);
    equal("register-d-read-only", rtc::read(rtc::D).into(), 0x80);
}

/// Reads of a register in which all that happens in a second is seen, though this processor may have to wait for others.
const POLLS: u32 = 3_000_000;

/// Waits until a second begins: the time is then good for most of it.
fn after_update() {
    let before = rtc::read(0);
    for _ in 0..POLLS {
        if rtc::read(0) != before {
            break;
        }
    }
}

fn time() {
    after_update();
    let first = rtc::seconds_of_day();
    let [day, month, year, century] = [7, 8, 9, 0x32].map(|i| u64::from(rtc::decode(rtc::read(i))));
    say!("date ", century * 100 + year, "-", month, "-", day, " seconds ", first);
    within("month", month, 1, 12);
    within("day", day, 1, 31);
    within("weekday", rtc::decode(rtc::read(6)).into(), 1, 7);
    within("century", century, 19, 20);
    // Over a second later the time must have moved by one or two, over midnight too.
    for _ in 0..22 {
        pit::delay_ms(50);
    }
    let passed = (rtc::seconds_of_day() + 86400 - first) % 86400;
    holds("time-moves", passed > 0, passed);
    binary_and_bcd();
}

/// The same time in both formats, with updates held off.
fn binary_and_bcd() {
    let b = rtc::read(rtc::B);
    rtc::write(rtc::B, b | 0x80);
    rtc::write(4, 0x21);
    rtc::write(0, 0x59);
    equal("set-holds-hours", rtc::read(4).into(), 0x21);
    equal("set-holds-seconds", rtc::read(0).into(), 0x59);
    rtc::write(rtc::B, b);
    equal("register-b-readback", rtc::read(rtc::B).into(), b.into());
}

fn update_in_progress() {
    let mut seen = false;
    // It is set for some hundred microseconds or more of each second.
    for _ in 0..POLLS {
        if rtc::read(rtc::A) & 0x80 != 0 {
            seen = true;
            break;
        }
    }
    holds("update-in-progress-seen", seen, 0);
}

fn interrupt_by(enable: u8) -> u8 {
    set_handler(pic::VECTORS + IRQ, handler);
    CAUSES.store(0, Ordering::SeqCst);
    rtc::read(rtc::C);
    rtc::write(rtc::B, rtc::read(rtc::B) & 0x8f | enable);
    wait_count(PATIENCE, pic::VECTORS + IRQ, 1);
    rtc::write(rtc::B, rtc::read(rtc::B) & 0x8f);
    if count(pic::VECTORS + IRQ) == 0 { 0 } else { CAUSES.load(Ordering::SeqCst) as u8 }
}

fn update_interrupt() {
    equal("update-interrupt", (interrupt_by(UPDATE) & (0x80 | UPDATE)).into(), (0x80 | UPDATE).into());
    equal("register-c-cleared-by-read", (rtc::read(rtc::C) & 0xe0).into(), 0);
}

/// Sets an alarm two seconds from now, hours and minutes "don't care"; its second.
fn set_alarm() -> u8 {
    let second = || rtc::decode(rtc::read(0));
    loop {
        after_update();
        let then = (second() + 2) % 60;
        let coded = if rtc::read(rtc::B) & 4 != 0 { then } else { then / 10 << 4 | then % 10 };
        rtc::write(1, coded);
        rtc::write(3, 0xc0);
        rtc::write(5, 0xc0);
        // On a busy machine it may be over.
        if (then + 60 - second()) % 60 == 2 {
            return then;
        }
    }
}

fn alarm() {
    let then = set_alarm();
    equal("alarm-interrupt", (interrupt_by(ALARM) & (0x80 | ALARM)).into(), (0x80 | ALARM).into());
    let late = (rtc::decode(rtc::read(0)) + 60 - then) % 60;
    within("alarm-on-time", late.into(), 0, 1);
}

fn memory() {
    rtc::write(0x7d, 0x5a);
    rtc::write(0x7e, 0xa5);
    equal("cmos-readback", rtc::read16(0x7d).into(), 0xa55a);
    rtc::write(0x7e, 0);
    // Bit 7 of the index is the NMI mask, not an address.
    equal("cmos-nmi-bit", rtc::read(0x7d | 0x80).into(), 0x5a);
    rtc::write(0x7d, 0);
}

/// Memory sizes as the board states them, from fw_cfg's number of bytes.
fn memory_sizes() {
    let ram = fw_cfg::number(fw_cfg::RAM_SIZE);
    // The i440FX board splits at 3 GiB once memory would reach 3.5 GiB.
    let below = if ram >= 0xe000_0000 { 0xc000_0000 } else { ram };
    let above = ram - below;
    let extended = (below / 1024).saturating_sub(1024).min(0xffff);
    let over_16m = (below.saturating_sub(16 * MIB) / 0x1_0000).min(0xffff);
    equal("cmos-base-memory", rtc::read16(0x15).into(), 640);
    equal("cmos-extended-memory", rtc::read16(0x17).into(), extended);
    equal("cmos-extended-memory-2", rtc::read16(0x30).into(), extended);
    equal("cmos-memory-over-16m", rtc::read16(0x34).into(), over_16m);
    equal(
        "cmos-memory-over-4g",
        u64::from(rtc::read16(0x5b)) | u64::from(rtc::read(0x5d)) << 16,
        above / 0x1_0000,
    );
    equal("cmos-cpus", u64::from(rtc::read(0x5f)) + 1, fw_cfg::number(fw_cfg::NB_CPUS) & 0xffff);
    // Equipment: mathematics coprocessor and PS/2 mouse.
    equal("cmos-equipment", (rtc::read(0x14) & 0x06).into(), 0x06);
}
