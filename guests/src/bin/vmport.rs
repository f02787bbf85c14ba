//! VMware's backdoor: commands in registers, answers in registers. Needs `-uuid` as below, `-m 96`; with
//! `vmport=off` on the command line checks that nobody answers.
#![no_std]
#![no_main]

use core::arch::asm;

use kit::boot::BootInfo;
use kit::check::{equal, holds};
use kit::io::{cpuid, inl, outl};

kit::guest!(main);

const PORT: u16 = 0x5658;
const MAGIC: u64 = 0x564d_5868;
const UNSUPPORTED: u64 = 0xffff_ffff;

/// EAX, EBX, ECX and EDX, as 64-bit registers.
#[derive(Clone, Copy)]
struct Registers {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

/// A four-byte `in` from the port with the registers given.
fn backdoor(mut r: Registers) -> Registers {
    // SAFETY: only the registers named change.
    unsafe {
        asm!("xchg rbx, {b}", "in eax, dx", "xchg rbx, {b}", b = inout(reg) r.b, inout("rax") r.a,
            inout("rcx") r.c, inout("rdx") r.d, options(nostack, preserves_flags))
    };
    r
}

/// The same with `out`.
fn backdoor_out(mut r: Registers) -> Registers {
    // SAFETY: as above.
    unsafe {
        asm!("xchg rbx, {b}", "out dx, eax", "xchg rbx, {b}", b = inout(reg) r.b, inout("rax") r.a,
            inout("rcx") r.c, inout("rdx") r.d, options(nostack, preserves_flags))
    };
    r
}

fn command(number: u64) -> Registers {
    backdoor(Registers { a: MAGIC, b: 0x1111, c: number, d: PORT.into() })
}

fn main(info: &BootInfo) {
    if info.value("vmport") == Some(b"off") {
        return equal("no-backdoor", command(10).a, UNSUPPORTED);
    }
    let version = command(10);
    equal("version", version.a, 6);
    equal("version-magic", version.b, MAGIC);
    equal("version-product", version.c, 2);
    equal("version-port", version.d, PORT.into());
    let version = backdoor_out(Registers { a: MAGIC, b: 0, c: 10, d: PORT.into() });
    equal("out-version", version.a, 6);
    equal("out-version-magic", version.b, MAGIC);
    // Only the low byte is the command.
    equal("version-low-byte", command(0xabcd_110a).a, 6);

    let ram = command(20);
    equal("ram-size", ram.a, 96 << 20);
    equal("ram-size-port", ram.b, 0x1177);

    // 00112233-4455-6677-8899-aabbccddeeff
    let uuid = command(19);
    equal("uuid-eax", uuid.a, 0x3322_1100);
    equal("uuid-ebx", uuid.b, 0x7766_5544);
    equal("uuid-ecx", uuid.c, 0xbbaa_9988);
    equal("uuid-edx", uuid.d, 0xffee_ddcc);

    let hz = command(45);
    holds("tsc-hz", hz.b << 32 | hz.a > 1_000_000 && hz.b < 100, hz.b);
    equal("apic-hz", hz.c, 1_000_000_000);

    let x2apic = u64::from(cpuid(1, 0).ecx >> 21 & 1);
    equal("vcpu-info", command(68).a, x2apic << 3);

    let unknown = command(1);
    equal("unknown-command", unknown.a, UNSUPPORTED);
    equal("unknown-command-ebx", unknown.b, 0x1111);
    let strange = backdoor(Registers { a: 0x1234, b: 5, c: 10, d: PORT.into() });
    equal("no-magic", strange.a, UNSUPPORTED);
    equal("no-magic-ebx", strange.b, 5);
    // Without the magic number the port reads as nothing.
    equal("plain-read", inl(PORT).into(), UNSUPPORTED);
    outl(PORT, 0);
}
