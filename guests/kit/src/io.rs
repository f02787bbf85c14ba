//! Ports, physical memory and the processor's special instructions.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, CpuidResult};

macro_rules! port_functions {
    ($in:ident, $out:ident, $ins:ident, $outs:ident, $t:ty, $reg:tt, $suffix:tt, $about:literal) => {
        #[doc = concat!("Reads ", $about, " from a port.")]
        pub fn $in(port: u16) -> $t {
            let value: $t;
            // SAFETY: port input touches no memory of ours.
            unsafe {
                asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) value, options(nostack, preserves_flags))
            };
            value
        }
        #[doc = concat!("Writes ", $about, " to a port.")]
        pub fn $out(port: u16, value: $t) {
            // SAFETY: a device that reads or writes memory is given free memory by its caller.
            unsafe {
                asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value, options(nostack, preserves_flags))
            }
        }
        #[doc = concat!("Fills a slice from a port with one `rep ins` of ", $about, " each.")]
        pub fn $ins(port: u16, to: &mut [$t]) {
            // SAFETY: `rep ins` writes `to.len()` elements, all of them in `to`.
            unsafe {
                asm!(concat!("rep ins", $suffix), in("dx") port, inout("rcx") to.len() => _,
                    inout("rdi") to.as_mut_ptr() => _, options(nostack, preserves_flags))
            }
        }
        #[doc = concat!("Sends a slice to a port with one `rep outs` of ", $about, " each.")]
        pub fn $outs(port: u16, from: &[$t]) {
            // SAFETY: `rep outs` reads `from.len()` elements, all of them in `from`.
            unsafe {
                asm!(concat!("rep outs", $suffix), in("dx") port, inout("rcx") from.len() => _,
                    inout("rsi") from.as_ptr() => _, options(nostack, preserves_flags))
            }
        }
    };
}

port_functions!(inb, outb, insb, outsb, u8, "al", "b", "a byte");
port_functions!(inw, outw, insw, outsw, u16, "ax", "w", "two bytes");
port_functions!(inl, outl, insl, outsl, u32, "eax", "d", "four bytes");

macro_rules! memory_functions {
    ($read:ident, $write:ident, $t:ty, $move_in:literal, $move_out:literal, $class:ident, $about:literal) => {
        #[doc = concat!("Reads ", $about, " of physical memory with one instruction, at any alignment.")]
        pub fn $read(address: u64) -> $t {
            let value: $t;
            // SAFETY: memory is mapped one to one; reading it changes no Rust object.
            unsafe {
                asm!($move_in, in(reg) address, out($class) value, options(nostack, preserves_flags))
            };
            value
        }
        #[doc = concat!("Writes ", $about, " of physical memory with one instruction, at any alignment.")]
        pub fn $write(address: u64, value: $t) {
            // SAFETY: the crate's rule: addresses named are devices, tables or free RAM.
            unsafe {
                asm!($move_out, in(reg) address, in($class) value, options(nostack, preserves_flags))
            }
        }
    };
}

memory_functions!(read8, write8, u8, "mov {1}, [{0}]", "mov [{0}], {1}", reg_byte, "a byte");
memory_functions!(read16, write16, u16, "mov {1:x}, [{0}]", "mov [{0}], {1:x}", reg, "two bytes");
memory_functions!(read32, write32, u32, "mov {1:e}, [{0}]", "mov [{0}], {1:e}", reg, "four bytes");
memory_functions!(read64, write64, u64, "mov {1}, [{0}]", "mov [{0}], {1}", reg, "eight bytes");

/// The physical address of an object of ours (memory is mapped one to one).
pub fn address_of<T: ?Sized>(object: &T) -> u64 {
    core::ptr::from_ref(object).cast::<u8>() as u64
}

/// CPUID of a leaf and subleaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// Reads a model-specific register.
pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR changes nothing; one that is absent ends in the exception handler.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
pub fn wrmsr(index: u32, value: u64) {
    // SAFETY: callers name registers that leave code and stack where they are.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    }
}

/// The time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: RDTSC has no precondition in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Enables interrupts.
pub fn sti() {
    // SAFETY: the IDT is loaded before any guest code runs.
    unsafe { asm!("sti", options(nostack)) }
}

/// Disables interrupts.
pub fn cli() {
    // SAFETY: always allowed in ring 0.
    unsafe { asm!("cli", options(nostack)) }
}

/// Enables interrupts and halts until one has been taken, with no gap between the two, then
/// disables them again.
pub fn sti_hlt_cli() {
    // SAFETY: the IDT is loaded before any guest code runs.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) }
}

/// Halts with interrupts as they are.
pub fn hlt() {
    // SAFETY: always allowed in ring 0.
    unsafe { asm!("hlt", options(nostack)) }
}
