//! Starts every processor of the MADT, then sends interrupts between them in every way.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kit::apic::{self, register};
use kit::boot::BootInfo;
use kit::check::{equal, holds};
use kit::interrupts::{PATIENCE, count, set_handler, wait, wait_count};
use kit::io::{cli, rdtsc, read8, sti_hlt_cli};
use kit::{acpi, fw_cfg, hpet, pit, say, smp};

kit::guest!(main);

const WORK: u8 = 0x60;
const PING: u8 = 0x61;
const PONG: u8 = 0x62;

/// APIC ids that have run the work handler, bit by bit, for ids below 64.
static RAN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static DUPLICATE_ID: AtomicBool = AtomicBool::new(false);
static BOOT_ID: AtomicU32 = AtomicU32::new(0);
/// Incremented by each processor in turn with a locked instruction.
static SHARED: AtomicU32 = AtomicU32::new(0);
const ROUNDS: u32 = 200;
/// With `held` on the command line, what the processors do with each other goes on until this byte is not 0.
const RELEASED: u64 = 0x90_0000;

fn note_id() {
    let id = apic::id();
    let bit = 1 << (id % 32);
    let before = RAN[usize::from(id / 32) % 2].fetch_or(bit, Ordering::SeqCst);
    if before & bit != 0 {
        DUPLICATE_ID.store(true, Ordering::SeqCst);
    }
}

fn ran() -> u32 {
    RAN.iter().map(|word| word.load(Ordering::SeqCst).count_ones()).sum()
}

fn work(_: u8) {
    note_id();
    apic::eoi();
}

/// Answers the processor that asked, the boot processor.
fn ping(_: u8) {
    apic::eoi();
    apic::send(BOOT_ID.load(Ordering::SeqCst) as u8, PONG.into());
}

fn application_processor(_: u32) {
    // Flat model: one bit for each of the first eight.
    apic::write(register::DFR, 0xffff_ffff);
    apic::write(register::LDR, 1 << (24 + apic::id() % 8));
    for _ in 0..ROUNDS {
        SHARED.fetch_add(1, Ordering::SeqCst);
    }
    loop {
        sti_hlt_cli();
    }
}

fn main(info: &BootInfo) {
    cli();
    apic::enable();
    let cpus = acpi::processors().count() as u32;
    say!("cpus ", u64::from(cpus));
    equal("fw-cfg-cpus", fw_cfg::number(fw_cfg::NB_CPUS) & 0xffff, cpus.into());
    equal("boot-cpu-is-first", acpi::processors().next().unwrap_or(0xff).into(), apic::id().into());
    if cpus > smp::MAXIMUM {
        return kit::check::fail("too-many-cpus", cpus.into());
    }
    BOOT_ID.store(apic::id().into(), Ordering::SeqCst);
    smp::prepare(application_processor);
    let others = cpus - 1;
    if info.flag("broadcast") {
        smp::start(0, apic::OTHERS);
    } else {
        for id in acpi::processors().filter(|&id| id != apic::id()) {
            smp::start(id, 0);
        }
    }
    wait(PATIENCE, || smp::started() == others && SHARED.load(Ordering::SeqCst) == others * ROUNDS);
    equal("aps-started", smp::started().into(), others.into());
    equal("locked-increments", SHARED.load(Ordering::SeqCst).into(), (others * ROUNDS).into());
    loop {
        ipi_each();
        ipi_shorthands(cpus);
        ipi_logical(cpus);
        time_agrees();
        if !info.flag("held") || read8(RELEASED) != 0 {
            break;
        }
    }
}

/// A fixed interrupt to each processor by its physical id, which answers.
fn ipi_each() {
    set_handler(PING, ping);
    set_handler(PONG, apic::eoi_handler);
    let mut sent = 0;
    for id in acpi::processors() {
        apic::send(id, PING.into());
        sent += 1;
        wait_count(PATIENCE, PONG, sent);
    }
    equal("ipi-each-answered", count(PONG).into(), sent.into());
}

fn ipi_shorthands(cpus: u32) {
    RAN.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    set_handler(WORK, work);
    apic::send(0, apic::OTHERS | u32::from(WORK));
    wait(PATIENCE, || ran() == cpus - 1);
    wait(5, || false);
    equal("ipi-others", ran().into(), (cpus - 1).into());
    RAN.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    set_handler(WORK, work);
    apic::send(0, apic::ALL | u32::from(WORK));
    wait(PATIENCE, || ran() == cpus);
    wait(5, || false);
    equal("ipi-all", ran().into(), cpus.into());
    holds("ipi-none-twice", !DUPLICATE_ID.load(Ordering::SeqCst), 0);
    set_handler(WORK, apic::eoi_handler);
    apic::send(0xff, WORK.into());
    wait_count(PATIENCE, WORK, cpus);
    wait(5, || false);
    equal("ipi-physical-broadcast", count(WORK).into(), cpus.into());
}

/// A logical destination in the flat model reaches just the processors of its mask.
fn ipi_logical(cpus: u32) {
    if cpus > 8 {
        return;
    }
    apic::write(register::DFR, 0xffff_ffff);
    apic::write(register::LDR, 1 << (24 + apic::id() % 8));
    RAN.iter().for_each(|word| word.store(0, Ordering::SeqCst));
    set_handler(WORK, work);
    apic::send(0xff, apic::LOGICAL | u32::from(WORK));
    wait(PATIENCE, || ran() == cpus);
    equal("ipi-logical-all", ran().into(), cpus.into());
    wait(5, || false);
    set_handler(WORK, apic::eoi_handler);
    let last = 1 << ((cpus - 1) % 8);
    apic::send(last, apic::LOGICAL | u32::from(WORK));
    wait_count(PATIENCE, WORK, 1);
    wait(5, || false);
    equal("ipi-logical-one", count(WORK).into(), 1);
}

/// Time passes on the boot processor while the others sleep.
fn time_agrees() {
    hpet::run(true);
    let (counter, tsc) = (hpet::counter(), rdtsc());
    pit::delay_ms(10);
    holds("time-passes", hpet::counter() > counter && rdtsc() > tsc, 0);
}
