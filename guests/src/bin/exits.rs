//! Exits to a device: port and memory accesses of every size and alignment, string instructions,
//! addresses nobody answers, CPUID and HLT. Needs `-device pc-testdev`.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::check::{equal, holds};
use kit::io::*;
use kit::{apic, fw_cfg, interrupts, pic, pit};

kit::guest!(main);

/// pc-testdev: four bytes of latch, accessed in any size.
const LATCH: u16 = 0xe0;
/// pc-testdev: the same latch, its model byte-wide.
const LATCH_BYTES: u16 = 0xe8;
/// pc-testdev: 64 KiB of memory that exits.
const MMIO: u64 = 0xff00_0000;
/// A port and an address with no device.
const NO_PORT: u16 = 0x0a00;
const NO_DEVICE: u64 = 0xf800_0000;
/// COM1's scratch register.
const SCRATCH: u16 = 0x3ff;

fn main(_: &BootInfo) {
    ports();
    strings();
    nobody();
    memory();
    cpuid_leaves();
    halt();
}

fn ports() {
    outl(LATCH, 0x4433_2211);
    equal("in-4", inl(LATCH).into(), 0x4433_2211);
    equal("in-2-high", inw(LATCH + 2).into(), 0x4433);
    equal("in-1-each", u32::from_le_bytes([0, 1, 2, 3].map(|i| inb(LATCH + i))).into(), 0x4433_2211);
    outw(LATCH, 0xbbaa);
    outb(LATCH + 3, 0xdd);
    equal("out-2-and-1", inl(LATCH).into(), 0xdd33_bbaa);
    // Split into four single bytes on the way.
    equal("in-4-byte-device", inl(LATCH_BYTES).into(), 0xdd33_bbaa);
    outl(LATCH_BYTES, 0x8877_6655);
    equal("out-4-byte-device", inl(LATCH).into(), 0x8877_6655);
    equal("in-2-misaligned", inw(LATCH + 1).into(), 0x7766);
}

fn strings() {
    outsb(SCRATCH, &[1, 2, 3, 0x5a]);
    equal("outsb-last", inb(SCRATCH).into(), 0x5a);
    outsw(LATCH, &[1, 2, 0x1234]);
    equal("outsw-last", inw(LATCH).into(), 0x1234);
    outsl(LATCH, &[7, 0xcafe_f00d]);
    equal("outsl-last", inl(LATCH).into(), 0xcafe_f00d);
    let mut words = [0; 5];
    insw(LATCH, &mut words);
    equal("insw-all", words.iter().filter(|&&w| w == 0xf00d).count() as u64, 5);
    let mut longs = [0; 5];
    insl(LATCH, &mut longs);
    equal("insl-all", longs.iter().filter(|&&l| l == 0xcafe_f00d).count() as u64, 5);
    // Each byte must be a new access: fw_cfg's data port moves on with each.
    let mut signature = [0; 4];
    fw_cfg::select(fw_cfg::SIGNATURE);
    insb(0x511, &mut signature);
    equal("insb-advances", u32::from_be_bytes(signature).into(), 0x5145_4d55);
    // More than one page of string I/O, across a page boundary.
    let mut many = [0; 6000];
    insb(LATCH + 3, &mut many);
    equal("insb-6000", many.iter().filter(|&&b| b == 0xca).count() as u64, 6000);
    outsb(SCRATCH, &many);
    equal("outsb-6000-last", inb(SCRATCH).into(), 0xca);
    let none: &mut [u8] = &mut [];
    insb(LATCH, none);
    equal("insb-0", inb(SCRATCH).into(), 0xca);
    outsb(0x3f8, b"ok outsb-serial\n");
}

fn nobody() {
    equal("no-port-1", inb(NO_PORT).into(), 0xff);
    equal("no-port-2", inw(NO_PORT).into(), 0xffff);
    equal("no-port-4", inl(NO_PORT).into(), 0xffff_ffff);
    outl(NO_PORT, 0);
    equal("no-port-last", inb(0xffff).into(), 0xff);
    // An access that runs past the last port: its first byte is still nobody's.
    equal("no-port-past-end", u64::from(inl(0xffff)) & 0xff, 0xff);
    let mut bytes = [0; 8];
    insb(NO_PORT, &mut bytes);
    equal("no-port-insb", u64::from_le_bytes(bytes), u64::MAX);
    write64(NO_DEVICE, 0x1234);
    equal("no-device-8", read64(NO_DEVICE), 0);
    equal("no-device-1", read8(NO_DEVICE + 3).into(), 0);
}

fn memory() {
    write64(MMIO, 0x8877_6655_4433_2211);
    equal("mmio-8", read64(MMIO), 0x8877_6655_4433_2211);
    equal("mmio-4", read32(MMIO + 4).into(), 0x8877_6655);
    equal("mmio-2", read16(MMIO + 2).into(), 0x4433);
    equal("mmio-1", read8(MMIO + 7).into(), 0x88);
    equal("mmio-4-misaligned", read32(MMIO + 1).into(), 0x5544_3322);
    equal("mmio-2-misaligned", read16(MMIO + 3).into(), 0x5544);
    write8(MMIO + 1, 0xaa);
    write16(MMIO + 2, 0xccbb);
    equal("mmio-write-1-2", read64(MMIO), 0x8877_6655_ccbb_aa11);
    write32(MMIO + 3, 0xdead_beef);
    equal("mmio-write-4-misaligned", read64(MMIO), 0x88de_adbe_efbb_aa11);
    write64(MMIO + 13, 0x0102_0304_0506_0708);
    equal("mmio-8-misaligned", read64(MMIO + 13), 0x0102_0304_0506_0708);
    // Across a page, both halves in the device.
    write64(MMIO + 0xffc, 0x1122_3344_5566_7788);
    equal("mmio-8-across-page", read64(MMIO + 0xffc), 0x1122_3344_5566_7788);
    equal("mmio-read-modify-write", read_modify_write(MMIO), 0x88de_adbe_efbb_aa11 + 1);
    equal("mmio-string", copy_string(MMIO + 0x100), 0x0807_0605_0403_0201);
}

/// Adds 1 with one instruction; the value afterwards.
fn read_modify_write(at: u64) -> u64 {
    // SAFETY: the memory is the device's.
    unsafe { core::arch::asm!("add qword ptr [{}], 1", in(reg) at, options(nostack)) };
    read64(at)
}

/// Copies eight bytes to a device with one `rep movsb`, and reads them back.
fn copy_string(at: u64) -> u64 {
    let from = [1u8, 2, 3, 4, 5, 6, 7, 8];
    // SAFETY: eight bytes of `from`, to memory that is the device's.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") from.len() => _, inout("rsi") from.as_ptr() => _,
            inout("rdi") at => _, options(nostack, preserves_flags))
    };
    read64(at)
}

fn cpuid_leaves() {
    let leaf1 = cpuid(1, 0);
    equal("cpuid-hypervisor-bit", (leaf1.ecx >> 31).into(), 1);
    equal("cpuid-tsc-msr-pae-cx8-apic", (leaf1.edx & 0x370).into(), 0x370);
    let kvm = cpuid(0x4000_0000, 0);
    equal("cpuid-kvm", (u64::from(kvm.ecx) << 32) | u64::from(kvm.ebx), 0x564b_4d56_4b4d_564b);
    holds("cpuid-max-leaf", cpuid(0, 0).eax >= 7, cpuid(0, 0).eax.into());
    holds("cpuid-long-mode", cpuid(0x8000_0001, 0).edx & 1 << 29 != 0, 0);
    equal("cpuid-apic-id", (leaf1.ebx >> 24).into(), apic::id().into());
}

/// HLT ends with the interrupt of a timer.
fn halt() {
    pic::remap();
    interrupts::set_handler(pic::VECTORS, pic::eoi_handler);
    pic::unmask_only(1);
    pit::start_one_shot(12000);
    sti_hlt_cli();
    equal("hlt-woken", interrupts::count(pic::VECTORS).into(), 1);
    pic::unmask_only(0);
}
