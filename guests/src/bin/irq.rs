//! Interrupts from each source through each controller: PIT, RTC, HPET, UART and pc-testdev's
//! lines through the 8259s and the I/O APIC, the local APIC's timer and self-IPIs.
//! Needs `-device pc-testdev`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use kit::apic::{self, register};
use kit::boot::BootInfo;
use kit::check::{equal, holds, within};
use kit::interrupts::{PATIENCE, count, set_handler, wait, wait_count};
use kit::io::{cli, inb, outb, sti_hlt_cli};
use kit::{acpi, hpet, pic, pit, rtc};

kit::guest!(main);

/// pc-testdev: a byte written to this port plus n sets ISA line n.
const LINES: u16 = 0x2000;
/// An ISA line no device of the machine uses.
const LINE: u8 = 5;
/// Vector for what goes through the I/O APIC or the local APIC.
const VECTOR: u8 = 0x60;

fn main(_: &BootInfo) {
    pic_masks();
    pic_pit();
    pic_rtc();
    pic_uart();
    pic_edge();
    pic_level();
    pic_spurious();
    pic::unmask_only(0);
    apic::enable();
    apic_registers();
    apic_timer();
    apic_self_ipi();
    apic_priority();
    apic_nmi();
    io_apic_registers();
    io_apic_pit();
    io_apic_rtc();
    io_apic_edge();
    io_apic_level();
    io_apic_hpet();
    pic_through_lint0();
}

fn vector(irq: u8) -> u8 {
    pic::VECTORS + irq
}

fn set_line(level: u8) {
    outb(LINES + u16::from(LINE), level);
}

/// Pulses the line low, high, low.
fn pulse_line() {
    set_line(0);
    set_line(1);
    set_line(0);
}

fn pic_masks() {
    pic::remap();
    equal("pic-all-masked", pic::masks().into(), 0xffff);
    pic::unmask_only(1 << 8);
    equal("pic-mask-readback", pic::masks().into(), 0xfefb);
    pic::unmask_only(0);
}

fn pic_pit() {
    set_handler(vector(0), pic::eoi_handler);
    pic::unmask_only(1);
    pit::start_periodic(6000);
    holds("pic-pit-periodic", wait_count(PATIENCE, vector(0), 5), count(vector(0)).into());
    equal("pit-status-mode-2", (pit::status() & 0x3f).into(), 0x34);
    within("pit-count", pit::count().into(), 1, 6000);
    pit::stop();
    pic::unmask_only(0);
}

/// RTC at 64 Hz through the slave: register C must be read for the next one to come.
fn rtc_handler_pic(_: u8) {
    rtc::read(rtc::C);
    pic::eoi(8);
}

fn start_rtc_periodic() {
    rtc::write(rtc::A, 0x2a);
    rtc::write(rtc::B, rtc::read(rtc::B) | 0x40);
    rtc::read(rtc::C);
}

fn stop_rtc_periodic() {
    rtc::write(rtc::B, rtc::read(rtc::B) & !0x40);
    rtc::write(rtc::A, 0x26);
    rtc::read(rtc::C);
}

fn pic_rtc() {
    set_handler(vector(8), rtc_handler_pic);
    pic::unmask_only(1 << 8);
    start_rtc_periodic();
    holds("pic-rtc-periodic", wait_count(PATIENCE, vector(8), 4), count(vector(8)).into());
    stop_rtc_periodic();
    pic::unmask_only(0);
}

/// COM1's transmitter-empty interrupt; reading IIR clears it.
fn pic_uart() {
    static IIR: AtomicU32 = AtomicU32::new(0);
    fn handler(_: u8) {
        IIR.store(inb(0x3fa).into(), Ordering::SeqCst);
        outb(0x3f9, 0);
        pic::eoi(4);
    }
    set_handler(vector(4), handler);
    pic::unmask_only(1 << 4);
    // OUT2 connects the interrupt on a PC.
    outb(0x3fc, 0x0b);
    outb(0x3f9, 2);
    wait_count(PATIENCE, vector(4), 1);
    equal("pic-uart-thre", (IIR.load(Ordering::SeqCst) & 0xf).into(), 2);
    outb(0x3f9, 0);
    pic::unmask_only(0);
}

fn pic_edge() {
    set_handler(vector(LINE), pic::eoi_handler);
    set_line(0);
    set_line(1);
    equal("pic-request-while-masked", (pic::requests() & 1 << LINE).into(), 1 << LINE);
    pic::unmask_only(1 << LINE);
    wait_count(PATIENCE, vector(LINE), 1);
    wait(5, || false);
    equal("pic-edge-once", count(vector(LINE)).into(), 1);
    set_line(0);
    pulse_line();
    wait_count(PATIENCE, vector(LINE), 2);
    equal("pic-edge-again", count(vector(LINE)).into(), 2);
    pic::unmask_only(0);
}

fn pic_level() {
    /// Lets the line stay up for three interrupts; notes what is in service.
    static IN_SERVICE: AtomicU32 = AtomicU32::new(0);
    fn handler(_: u8) {
        IN_SERVICE.store(pic::in_service().into(), Ordering::SeqCst);
        if count(vector(LINE)) == 3 {
            set_line(0);
        }
        pic::eoi(LINE);
    }
    outb(pic::ELCR[0], 1 << LINE);
    equal("elcr-readback", inb(pic::ELCR[0]).into(), 1 << LINE);
    // Lines 0-2, 8 and 13 are always edge.
    outb(pic::ELCR[1], 0xff);
    equal("elcr-fixed-edge-high", inb(pic::ELCR[1]).into(), 0xde);
    outb(pic::ELCR[1], 0);
    outb(pic::ELCR[0], 0xff);
    equal("elcr-fixed-edge-low", inb(pic::ELCR[0]).into(), 0xf8);
    outb(pic::ELCR[0], 1 << LINE);
    set_handler(vector(LINE), handler);
    pic::unmask_only(1 << LINE);
    set_line(1);
    wait_count(PATIENCE, vector(LINE), 3);
    wait(5, || false);
    equal("pic-level-until-lowered", count(vector(LINE)).into(), 3);
    equal("pic-in-service", IN_SERVICE.load(Ordering::SeqCst).into(), 1 << LINE);
    outb(pic::ELCR[0], 0);
    pic::unmask_only(0);
}

/// A level that goes away before the processor asks is answered with IRQ 7, not in service.
fn pic_spurious() {
    set_handler(vector(7), |_| {});
    outb(pic::ELCR[0], 1 << LINE);
    pic::unmask_only(1 << LINE | 1 << 7);
    set_handler(vector(LINE), pic::eoi_handler);
    set_line(1);
    set_line(0);
    wait(5, || false);
    let (real, spurious) = (count(vector(LINE)), count(vector(7)));
    // Whether the line is still asked for is the implementation's; in service it must not stay.
    holds("pic-spurious-at-most-one", real + spurious <= 1, (real << 8 | spurious).into());
    equal("pic-spurious-not-in-service", pic::in_service().into(), 0);
    outb(pic::ELCR[0], 0);
}

fn apic_registers() {
    equal("apic-id-cpuid", apic::id().into(), apic::cpuid_id().into());
    equal("apic-version", (apic::read(register::VERSION) & 0xff).into(), 0x14);
    apic::write(register::TPR, 0x50);
    equal("apic-tpr", apic::read(register::TPR).into(), 0x50);
    apic::write(register::TPR, 0);
    apic::write(register::ESR, 0);
    equal("apic-esr-clear", apic::read(register::ESR).into(), 0);
}

fn apic_timer() {
    set_handler(VECTOR, apic::eoi_handler);
    // Divide by 1; one shot.
    apic::write(register::TIMER_DIVIDE, 0xb);
    apic::write(register::LVT_TIMER, VECTOR.into());
    apic::write(register::TIMER_INITIAL, 1_000_000);
    let left = apic::read(register::TIMER_CURRENT);
    within("apic-timer-counts", left.into(), 0, 999_999);
    holds("apic-timer-one-shot", wait_count(PATIENCE, VECTOR, 1), 0);
    wait(5, || false);
    equal("apic-timer-once", count(VECTOR).into(), 1);
    equal("apic-timer-stopped", apic::read(register::TIMER_CURRENT).into(), 0);
    set_handler(VECTOR, apic::eoi_handler);
    apic::write(register::LVT_TIMER, u32::from(VECTOR) | 1 << 17);
    apic::write(register::TIMER_INITIAL, 5_000_000);
    holds("apic-timer-periodic", wait_count(PATIENCE, VECTOR, 4), count(VECTOR).into());
    apic::write(register::LVT_TIMER, apic::MASKED);
    apic::write(register::TIMER_INITIAL, 0);
}

fn apic_self_ipi() {
    set_handler(VECTOR, apic::eoi_handler);
    apic::send(0, apic::SELF | u32::from(VECTOR));
    holds("apic-irr", apic::bit(register::IRR, VECTOR), 0);
    wait_count(PATIENCE, VECTOR, 1);
    equal("apic-self-ipi", count(VECTOR).into(), 1);
    apic::send(apic::id(), VECTOR.into());
    wait_count(PATIENCE, VECTOR, 2);
    equal("apic-physical-ipi", count(VECTOR).into(), 2);
    apic::write(register::DFR, 0xffff_ffff);
    apic::write(register::LDR, 1 << 24);
    apic::send(1, apic::LOGICAL | u32::from(VECTOR));
    wait_count(PATIENCE, VECTOR, 3);
    equal("apic-logical-ipi", count(VECTOR).into(), 3);
}

/// The task priority holds back its own class and below; higher vectors nest.
fn apic_priority() {
    static ORDER: AtomicU32 = AtomicU32::new(0);
    fn handler(vector: u8) {
        ORDER.store(ORDER.load(Ordering::SeqCst) << 8 | u32::from(vector), Ordering::SeqCst);
        apic::eoi();
    }
    set_handler(VECTOR, handler);
    set_handler(VECTOR + 0x10, handler);
    apic::write(register::TPR, 0x60);
    apic::send(0, apic::SELF | u32::from(VECTOR));
    apic::send(0, apic::SELF | u32::from(VECTOR + 0x10));
    wait(5, || false);
    equal("apic-tpr-holds-back", ORDER.load(Ordering::SeqCst).into(), 0x70);
    apic::write(register::TPR, 0);
    wait_count(PATIENCE, VECTOR, 1);
    equal("apic-tpr-lets-go", ORDER.load(Ordering::SeqCst).into(), 0x7060);
}

fn apic_nmi() {
    set_handler(2, |_| {});
    cli();
    apic::send(apic::id(), apic::NMI);
    wait_count(PATIENCE, 2, 1);
    equal("apic-nmi-while-disabled", count(2).into(), 1);
}

fn io_apic_registers() {
    let version = apic::io::read(apic::io::VERSION);
    equal("ioapic-pins", (version >> 16 & 0xff).into(), 23);
    // The kernel's, or QEMU's own, which has an EOI register more.
    holds("ioapic-version", matches!(version & 0xff, 0x11 | 0x20), (version & 0xff).into());
    apic::io::route(20, apic::MASKED | 0xa5, 3);
    equal("ioapic-entry-low", apic::io::entry(20).into(), u64::from(apic::MASKED) | 0xa5);
    equal("ioapic-entry-high", apic::io::read(0x11 + 40).into(), 3 << 24);
    apic::io::mask(20);
}

fn io_apic_pit() {
    // The MADT sends ISA IRQ 0 to pin 2.
    let pin = acpi::isa_gsi(0);
    equal("ioapic-irq0-override", pin.into(), 2);
    set_handler(VECTOR, apic::eoi_handler);
    apic::io::route(pin, VECTOR.into(), apic::id());
    pit::start_periodic(6000);
    holds("ioapic-pit", wait_count(PATIENCE, VECTOR, 5), count(VECTOR).into());
    pit::start_one_shot(6000);
    wait(PATIENCE, || pit::status() & 0x80 != 0);
    // On a busy machine the interrupt comes later than the timer's end.
    wait(100, || false);
    set_handler(VECTOR, apic::eoi_handler);
    wait(10, || false);
    equal("pit-one-shot-once", count(VECTOR).into(), 0);
    pit::start_one_shot(6000);
    sti_hlt_cli();
    equal("ioapic-hlt-woken", count(VECTOR).into(), 1);
    pit::stop();
    apic::io::mask(pin);
}

fn io_apic_rtc() {
    set_handler(VECTOR, |_| {
        rtc::read(rtc::C);
        apic::eoi();
    });
    apic::io::route(8, VECTOR.into(), apic::id());
    start_rtc_periodic();
    holds("ioapic-rtc", wait_count(PATIENCE, VECTOR, 4), count(VECTOR).into());
    stop_rtc_periodic();
    apic::io::mask(8);
}

fn io_apic_edge() {
    set_handler(VECTOR, apic::eoi_handler);
    set_line(0);
    apic::io::route(LINE.into(), VECTOR.into(), apic::id());
    set_line(1);
    wait_count(PATIENCE, VECTOR, 1);
    wait(5, || false);
    equal("ioapic-edge-once", count(VECTOR).into(), 1);
    set_line(0);
    pulse_line();
    wait_count(PATIENCE, VECTOR, 2);
    equal("ioapic-edge-again", count(VECTOR).into(), 2);
    apic::io::mask(LINE.into());
}

fn io_apic_level() {
    static REMOTE_IRR: AtomicU32 = AtomicU32::new(0);
    fn handler(_: u8) {
        REMOTE_IRR.fetch_or(apic::io::entry(LINE.into()) & apic::io::REMOTE_IRR, Ordering::SeqCst);
        if count(VECTOR) == 3 {
            set_line(0);
        }
        apic::eoi();
    }
    set_handler(VECTOR, handler);
    apic::io::route(LINE.into(), apic::io::LEVEL | u32::from(VECTOR), apic::id());
    set_line(1);
    wait_count(PATIENCE, VECTOR, 3);
    wait(5, || false);
    // One more may have been on its way when the line fell.
    within("ioapic-level-until-lowered", count(VECTOR).into(), 3, 4);
    equal("ioapic-remote-irr", REMOTE_IRR.load(Ordering::SeqCst).into(), apic::io::REMOTE_IRR.into());
    equal("ioapic-remote-irr-clear", (apic::io::entry(LINE.into()) & apic::io::REMOTE_IRR).into(), 0);
    apic::io::mask(LINE.into());
}

/// HPET timers through their legacy routes, the only ones that reach a PC's I/O APIC under QEMU's
/// KVM routing: timer 0 one shot in the PIT's place, timer 1 periodic in the RTC's.
fn io_apic_hpet() {
    const RTC_VECTOR: u8 = VECTOR + 1;
    set_handler(VECTOR, apic::eoi_handler);
    set_handler(RTC_VECTOR, apic::eoi_handler);
    apic::io::route(2, VECTOR.into(), apic::id());
    apic::io::route(8, RTC_VECTOR.into(), apic::id());
    hpet::write(hpet::CONFIGURATION, 0);
    hpet::write(hpet::COUNTER, 0);
    hpet::write(hpet::COUNTER + 4, 0);
    hpet::write(hpet::timer(0), hpet::TIMER_ENABLE);
    hpet::write(hpet::timer(1), hpet::TIMER_ENABLE);
    // 20 ms in units of 10 ns.
    hpet::set_comparator(0, 2_000_000);
    hpet::set_comparator(1, 4_000_000);
    hpet::write(hpet::CONFIGURATION, hpet::RUN | hpet::LEGACY);
    // The PIT must stay silent in legacy mode.
    pit::start_periodic(6000);
    holds("ioapic-hpet-timer-0", wait_count(PATIENCE, VECTOR, 1), 0);
    holds("ioapic-hpet-timer-1", wait_count(PATIENCE, RTC_VECTOR, 1), 0);
    wait(10, || false);
    equal("hpet-legacy-stops-pit", count(VECTOR).into(), 1);
    hpet::write(hpet::timer(1), 0);
    hpet::write(hpet::CONFIGURATION, 0);
    // Periodic: the first write after SETVAL is the comparator, the second the period.
    hpet::write(hpet::COUNTER, 0);
    hpet::write(hpet::COUNTER + 4, 0);
    hpet::write(
        hpet::timer(0),
        hpet::TIMER_ENABLE | hpet::TIMER_PERIODIC | hpet::TIMER_SETVAL | hpet::TIMER_32BIT,
    );
    hpet::write(hpet::timer(0) + 8, 500_000);
    hpet::write(hpet::timer(0) + 8, 500_000);
    set_handler(VECTOR, apic::eoi_handler);
    hpet::write(hpet::CONFIGURATION, hpet::RUN | hpet::LEGACY);
    holds("ioapic-hpet-periodic", wait_count(PATIENCE, VECTOR, 4), count(VECTOR).into());
    hpet::write(hpet::timer(0), 0);
    hpet::write(hpet::CONFIGURATION, 0);
    // The PIT comes back with legacy mode's end.
    set_handler(VECTOR, apic::eoi_handler);
    pit::start_periodic(6000);
    holds("pit-after-hpet", wait_count(PATIENCE, VECTOR, 2), count(VECTOR).into());
    pit::stop();
    apic::io::mask(2);
    apic::io::mask(8);
}

/// The 8259s reach a processor with its local APIC on through LINT0 in ExtINT mode.
fn pic_through_lint0() {
    set_handler(vector(0), pic::eoi_handler);
    pic::unmask_only(1);
    apic::write(register::LVT_LINT0, apic::MASKED | apic::EXTINT);
    pit::start_periodic(6000);
    wait(20, || false);
    equal("lint0-masked", count(vector(0)).into(), 0);
    // Nothing may be pending when LINT0 opens: KVM does not look again at that moment.
    pit::stop();
    pic::remap();
    apic::write(register::LVT_LINT0, apic::EXTINT);
    pic::unmask_only(1);
    pit::start_periodic(6000);
    holds("lint0-extint", wait_count(PATIENCE, vector(0), 3), count(vector(0)).into());
    pit::stop();
    pic::unmask_only(0);
}
