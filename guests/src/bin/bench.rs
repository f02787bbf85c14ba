//! Loops of one kind of exit each, `n=` times (10000 unless told), between marks, for a host that
//! times the marks; and the cycles an exit took by the guest's own clock. `only=lsr`, `port80` or
//! `hpet` runs one of them.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::io::{inb, outb, rdtsc, read32};
use kit::{hpet, say};

/// Cycles until the host has passed on what a guest printed: a VMM may gather it for a millisecond.
const OUTPUT_CYCLES: u64 = 10_000_000;

kit::guest!(main);

fn main(info: &BootInfo) {
    let n = info.number("n").unwrap_or(10_000).max(1);
    say!("n ", n);
    run(info, "lsr", n, || {
        inb(0x3fd);
    });
    run(info, "port80", n, || outb(0x80, 0));
    run(info, "hpet", n, || {
        read32(hpet::BASE + hpet::COUNTER);
    });
}

fn run(info: &BootInfo, name: &str, n: u64, exit: impl Fn()) {
    if info.value("only").is_some_and(|only| only != name.as_bytes()) {
        return;
    }
    say!("mark ", name, " start");
    let said = rdtsc();
    while rdtsc() - said < OUTPUT_CYCLES {}
    let start = rdtsc();
    for _ in 0..n {
        exit();
    }
    let end = rdtsc();
    say!("mark ", name, " end");
    say!("cycles ", name, " ", (end - start) / n);
}
