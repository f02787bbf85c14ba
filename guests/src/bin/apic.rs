//! The local APIC's registers, with answers that KVM's and QEMU's own give alike.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use kit::apic::{self, register};
use kit::boot::BootInfo;
use kit::check::{equal, holds, within};
use kit::interrupts::{PATIENCE, count, set_handler, wait, wait_count};

kit::guest!(main);

const VECTOR: u8 = 0x60;

fn main(_: &BootInfo) {
    kit::pic::remap();
    kit::pic::unmask_only(0);
    apic::enable();
    what_is_written_is_read();
    task_priority();
    processor_priority_in_service();
    destinations();
    requests_and_ends();
    timer_one_shot();
    timer_periodic();
    timer_masked();
}

/// Register, what is written, what is read.
fn what_is_written_is_read() {
    let table: [(&str, u64, u32, u32); 19] = [
        ("tpr", register::TPR, 0x50, 0x50),
        ("tpr-zero", register::TPR, 0, 0),
        ("ldr", register::LDR, 0xa5ff_ffff, 0xa500_0000),
        ("ldr-zero", register::LDR, 0, 0),
        ("dfr-cluster", register::DFR, 0, 0x0fff_ffff),
        ("dfr-flat", register::DFR, 0xf000_0000, 0xffff_ffff),
        ("svr", register::SPURIOUS, 0x1ef, 0x1ef),
        ("svr-again", register::SPURIOUS, 0x1ff, 0x1ff),
        ("esr", register::ESR, 0, 0),
        ("icr-high", register::ICR_HIGH, 0x0500_0000, 0x0500_0000),
        ("lvt-timer", register::LVT_TIMER, 0x3_0044, 0x3_0044),
        ("lvt-thermal", register::LVT_THERMAL, 0x1_0033, 0x1_0033),
        ("lvt-performance", register::LVT_PERFORMANCE, 0x1_0400, 0x1_0400),
        ("lvt-lint0", register::LVT_LINT0, 0x1_0700, 0x1_0700),
        ("lvt-lint1", register::LVT_LINT1, 0x1_a055, 0x1_a055),
        ("lvt-error", register::LVT_ERROR, 0x1_0077, 0x1_0077),
        ("timer-initial", register::TIMER_INITIAL, 0, 0),
        ("timer-divide", register::TIMER_DIVIDE, 0xffff_ffff, 0xb),
        ("timer-divide-by-2", register::TIMER_DIVIDE, 0, 0),
    ];
    for (name, at, value, wanted) in table {
        apic::write(at, value);
        equal(name, apic::read(at).into(), wanted.into());
    }
    equal("id", apic::id().into(), apic::cpuid_id().into());
    equal("version", (apic::read(register::VERSION) & 0xff).into(), 0x14);
    within("lvt-entries", (apic::read(register::VERSION) >> 16 & 0xff).into(), 5, 6);
    // Read-only ones do not take what is written.
    apic::write(register::VERSION, 0);
    apic::write(register::PPR, 0xff);
    apic::write(register::TIMER_CURRENT, 0xff);
    equal("version-read-only", (apic::read(register::VERSION) & 0xff).into(), 0x14);
    equal("ppr-read-only", apic::read(register::PPR).into(), 0);
    equal("current-read-only", apic::read(register::TIMER_CURRENT).into(), 0);
}

fn set_cr8(value: u64) {
    // SAFETY: only the task priority changes, which the guest sets back.
    unsafe { asm!("mov cr8, {}", in(reg) value, options(nostack, preserves_flags)) };
}

fn cr8() -> u64 {
    let value: u64;
    // SAFETY: reading CR8 changes nothing.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// CR8 is the upper half of the task priority, which is the processor's while nothing is in service.
fn task_priority() {
    set_cr8(7);
    equal("cr8-to-tpr", apic::read(register::TPR).into(), 0x70);
    equal("ppr-is-tpr", apic::read(register::PPR).into(), 0x70);
    // QEMU forgets the lower half.
    apic::write(register::TPR, 0x30);
    equal("tpr-to-cr8", cr8(), 3);
    apic::write(register::TPR, 0);
    equal("cr8-zero", cr8(), 0);
}

fn processor_priority_in_service() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    fn handler(vector: u8) {
        let in_service = u32::from(apic::bit(register::ISR, vector));
        let requested = u32::from(apic::bit(register::IRR, vector));
        SEEN.store(apic::read(register::PPR) | in_service << 8 | requested << 12, Ordering::SeqCst);
        apic::eoi();
    }
    set_handler(VECTOR + 5, handler);
    apic::write(register::TPR, 0x20);
    apic::send(0, apic::SELF | u32::from(VECTOR + 5));
    wait_count(PATIENCE, VECTOR + 5, 1);
    // A KVM that does without virtualization hardware shows nothing in service.
    let seen = SEEN.load(Ordering::SeqCst);
    holds("ppr-and-isr-in-service", matches!(seen, 0x160 | 0x20), seen.into());
    equal("isr-after-eoi", apic::bit(register::ISR, VECTOR + 5).into(), 0);
    equal("ppr-after-eoi", apic::read(register::PPR).into(), 0x20);
    apic::write(register::TPR, 0);
}

/// Which destinations are this processor: model, own logical id, destination, command, whether it is.
fn destinations() {
    const FLAT: u32 = 0xffff_ffff;
    const CLUSTER: u32 = 0x0fff_ffff;
    const LOWEST: u32 = 1 << 8;
    let (me, logical) = (apic::id(), apic::LOGICAL);
    let table: [(&str, u32, u8, u8, u32, bool); 13] = [
        ("to-id", FLAT, 1, me, 0, true),
        ("to-all-ids", FLAT, 1, 0xff, 0, true),
        ("to-another-id", FLAT, 1, me + 1, 0, false),
        ("to-self", FLAT, 1, me + 1, apic::SELF, true),
        ("to-all", FLAT, 1, me + 1, apic::ALL, true),
        ("to-others", FLAT, 1, me, apic::OTHERS, false),
        ("lowest-priority", FLAT, 1, me, LOWEST, true),
        ("flat", FLAT, 0x42, 0x40, logical, true),
        ("flat-another", FLAT, 0x42, 0xbd, logical, false),
        ("flat-all", FLAT, 0x42, 0xff, logical, true),
        ("cluster", CLUSTER, 0x32, 0x33, logical, true),
        ("cluster-another-member", CLUSTER, 0x32, 0x3d, logical, false),
        ("cluster-another", CLUSTER, 0x32, 0x22, logical, false),
    ];
    for (name, model, own, destination, command, arrives) in table {
        apic::write(register::DFR, model);
        apic::write(register::LDR, u32::from(own) << 24);
        set_handler(VECTOR, apic::eoi_handler);
        apic::send(destination, command | u32::from(VECTOR));
        if arrives {
            wait_count(PATIENCE, VECTOR, 1);
        }
        wait(2, || false);
        equal(name, count(VECTOR).into(), arrives.into());
    }
    apic::write(register::DFR, FLAT);
}

/// Two of one vector are one, the higher goes first, and an end without an interrupt is none.
fn requests_and_ends() {
    static ORDER: AtomicU32 = AtomicU32::new(0);
    fn handler(vector: u8) {
        ORDER.store(ORDER.load(Ordering::SeqCst) << 8 | u32::from(vector), Ordering::SeqCst);
        apic::eoi();
    }
    for vector in [VECTOR, VECTOR + 1, VECTOR + 0x20] {
        set_handler(vector, handler);
    }
    for vector in [VECTOR, VECTOR + 0x20, VECTOR + 1, VECTOR] {
        apic::send(0, apic::SELF | u32::from(vector));
    }
    holds("irr-pending", apic::bit(register::IRR, VECTOR) && apic::bit(register::IRR, VECTOR + 0x20), 0);
    equal("tmr-edge", apic::bit(register::TMR, VECTOR).into(), 0);
    wait(5, || false);
    equal("highest-first", ORDER.load(Ordering::SeqCst).into(), 0x0080_6160);
    equal("irr-empty", apic::bit(register::IRR, VECTOR).into(), 0);
    apic::eoi();
    equal("eoi-of-nothing", apic::read(register::PPR).into(), 0);
}

fn start_timer(lvt: u32, initial: u32) {
    set_handler(VECTOR, apic::eoi_handler);
    // Divide by 16.
    apic::write(register::TIMER_DIVIDE, 0x3);
    apic::write(register::LVT_TIMER, lvt | u32::from(VECTOR));
    apic::write(register::TIMER_INITIAL, initial);
}

fn timer_one_shot() {
    start_timer(0, 200_000);
    equal("one-shot-initial", apic::read(register::TIMER_INITIAL).into(), 200_000);
    within("one-shot-current", apic::read(register::TIMER_CURRENT).into(), 0, 200_000);
    holds("one-shot-comes", wait_count(PATIENCE, VECTOR, 1), 0);
    equal("one-shot-at-zero", apic::read(register::TIMER_CURRENT).into(), 0);
    equal("one-shot-keeps-initial", apic::read(register::TIMER_INITIAL).into(), 200_000);
    wait(20, || false);
    equal("one-shot-once", count(VECTOR).into(), 1);
    // A count that is taken back before it ends. On a busy machine it may have ended; then once more.
    for _ in 0..100 {
        wait(1, || false);
        start_timer(0, 2_000_000);
        apic::write(register::TIMER_INITIAL, 0);
        if !apic::bit(register::IRR, VECTOR) {
            break;
        }
    }
    equal("stopped-current", apic::read(register::TIMER_CURRENT).into(), 0);
    wait(50, || false);
    equal("stopped", count(VECTOR).into(), 0);
}

fn timer_periodic() {
    start_timer(1 << 17, 100_000);
    holds("periodic-comes", wait_count(PATIENCE, VECTOR, 4), count(VECTOR).into());
    within("periodic-current", apic::read(register::TIMER_CURRENT).into(), 0, 100_000);
    apic::write(register::TIMER_INITIAL, 0);
    wait(5, || false);
    let before = count(VECTOR);
    wait(20, || false);
    equal("periodic-stops", count(VECTOR).into(), before.into());
}

fn timer_masked() {
    start_timer(apic::MASKED, 50_000);
    wait(30, || false);
    equal("masked-comes-not", count(VECTOR).into(), 0);
    equal("masked-counts", apic::read(register::TIMER_CURRENT).into(), 0);
    apic::write(register::LVT_TIMER, apic::MASKED);
}
