//! Something to debug: functions and variables with known names and instructions. It adds to `counter` until a
//! debugger, or the command line, sets `released`, and says that it runs when one sets `asked`; other processors count
//! in `other_count` for good.
#![no_std]
#![no_main]
#![allow(non_upper_case_globals, reason = "they are named as gdb shows them")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use kit::boot::BootInfo;
use kit::check::equal;
use kit::{acpi, apic, say, smp};

kit::guest!(main);

global_asm!(
    "
    .text
    .globl add_to_counter, other_processor
    .type add_to_counter, @function
    .type other_processor, @function
add_to_counter:
    movq counter, %rax
    addq %rdi, %rax
    movq %rax, counter
    ret
    .size add_to_counter, . - add_to_counter
other_processor:
    incq other_count
    pause
    jmp other_processor
    .size other_processor, . - other_processor
    ",
    options(att_syntax)
);

unsafe extern "C" {
    safe fn add_to_counter(amount: u64);
    safe fn other_processor(number: u64) -> !;
}

// SAFETY: no other symbol has the name.
#[unsafe(no_mangle)]
static counter: AtomicU64 = AtomicU64::new(0);
// SAFETY: no other symbol has the name.
#[unsafe(no_mangle)]
static other_count: AtomicU64 = AtomicU64::new(0);
// SAFETY: no other symbol has the name.
#[unsafe(no_mangle)]
static released: AtomicU64 = AtomicU64::new(0);
// SAFETY: no other symbol has the name.
#[unsafe(no_mangle)]
static asked: AtomicU64 = AtomicU64::new(0);

fn main(info: &BootInfo) {
    apic::enable();
    smp::prepare(|number| other_processor(number.into()));
    for id in acpi::processors().filter(|&id| id != apic::id()) {
        smp::start(id, 0);
    }
    say!("ready");
    released.store(info.flag("released").into(), Ordering::SeqCst);
    let mut added = 0;
    while released.load(Ordering::SeqCst) == 0 {
        add_to_counter(2);
        added += 2;
        if asked.swap(0, Ordering::SeqCst) != 0 {
            say!("running");
        }
    }
    equal("counter", counter.load(Ordering::SeqCst), added);
}
