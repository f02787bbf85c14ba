//! ACPI, SMBIOS and MP tables: there, whole, and telling of this machine.

use kit::acpi::{self, Fadt};
use kit::boot::BootInfo;
use kit::check::{equal, fail, holds, within};
use kit::io::{cpuid, inl, read8, read16, read32};
use kit::{fw_cfg, hpet, say};

pub fn check(info: &BootInfo) {
    let Some(rsdp) = acpi::rsdp() else { return fail("rsdp", 0) };
    equal("rsdp-sum", acpi::sum(rsdp, 20).into(), 0);
    for table in acpi::tables() {
        say!("table ", &table.signature()[..], " revision ", u64::from(table.revision()));
        equal("table-sum", table.sum().into(), 0);
        let covered = info.memory.as_slice().iter().any(|range| {
            range.kind != 1 && table.0 >= range.base && table.0 + table.length() <= range.base + range.length
        });
        holds("table-in-reserved-memory", covered, table.0);
    }
    fadt();
    madt();
    hpet_table();
    smbios();
    mp_table();
}

fn fadt() {
    let Some(fadt) = Fadt::find() else { return fail("fadt", 0) };
    equal("dsdt-signature", u32::from_be_bytes(fadt.dsdt.signature()).into(), 0x4453_4454);
    equal("dsdt-sum", fadt.dsdt.sum().into(), 0);
    equal("facs", u64::from(acpi::matches(read32(fadt.table.0 + 36).into(), b"FACS")), 1);
    equal("fadt-sci", read16(fadt.table.0 + 46).into(), 9);
    equal("fadt-pm1a-event", fadt.pm1a_event.into(), 0x600);
    equal("fadt-pm1a-control", fadt.pm1a_control.into(), 0x604);
    equal("fadt-pm-timer", fadt.pm_timer.into(), 0x608);
    equal("sci-enabled", fadt.enable().into(), 1);
    equal("s5", fadt.sleep_type(b"_S5_").map_or(0x100, u64::from), 0);
    holds("pm-timer-24-bits", inl(fadt.pm_timer) < 1 << 24, 0);
    // _HID of the PCI root, PNP0A03 in its compressed form.
    let root = (fadt.dsdt.0..fadt.dsdt.0 + fadt.dsdt.length())
        .any(|at| acpi::matches(at, &[0x41, 0xd0, 0x0a, 0x03]));
    holds("dsdt-pci-root", root, 0);
}

fn madt() {
    let cpus = acpi::processors().count() as u64;
    equal("madt-cpus", cpus, fw_cfg::number(fw_cfg::NB_CPUS) & 0xffff);
    let io_apic = acpi::madt_entries().find(|&at| read8(at) == 1);
    equal("madt-ioapic", io_apic.map_or(0, |at| read32(at + 4)).into(), 0xfec0_0000);
    equal("madt-irq0", acpi::isa_gsi(0).into(), 2);
    for irq in [5, 9, 10, 11] {
        equal("madt-pci-irq-flags", acpi::isa_flags(irq).map_or(0x100, u64::from), 0xd);
    }
    // Every processor's NMI is LINT1.
    let nmi = acpi::madt_entries().find(|&at| read8(at) == 4);
    equal("madt-lint1-nmi", nmi.map_or(0, |at| read8(at + 5)).into(), 1);
}

fn hpet_table() {
    let Some(table) = acpi::find(b"HPET") else { return fail("hpet-table", 0) };
    equal("hpet-table-id", read32(table.0 + 36).into(), hpet::read(hpet::CAPABILITIES).into());
    equal("hpet-table-address", read32(table.0 + 44).into(), hpet::BASE);
}

/// The 32-bit entry point (SMBIOS 3.0, section 5.2.1) and a walk to the end of its structures.
fn smbios() {
    let Some(anchor) = acpi::find_anchor(b"_SM_") else { return fail("smbios-anchor", 0) };
    equal("smbios-sum", acpi::sum(anchor, read8(anchor + 5).into()).into(), 0);
    equal("smbios-dmi-sum", acpi::sum(anchor + 16, 15).into(), 0);
    let (length, mut at) = (u64::from(read16(anchor + 22)), u64::from(read32(anchor + 24)));
    let end = at + length;
    let (mut count, mut kinds, mut terminated) = (0, 0u64, false);
    while at < end && !terminated {
        let kind = read8(at);
        count += 1;
        kinds |= 1 << kind.min(63);
        terminated = kind == 127;
        at += u64::from(read8(at + 1));
        while at < end && read16(at) != 0 {
            at += 1;
        }
        at += 2;
    }
    holds("smbios-terminated", terminated, at);
    equal("smbios-count", count, read16(anchor + 28).into());
    equal("smbios-length", at, end);
    // BIOS, system, chassis, processor, memory array, device, mapped address, boot, end.
    let wanted = [0, 1, 3, 4, 16, 17, 19, 32, 63].iter().fold(0, |set, kind| set | 1 << kind);
    equal("smbios-types", kinds & wanted, wanted);
}

/// MultiProcessor Specification 1.4.
fn mp_table() {
    let Some(pointer) = acpi::find_anchor(b"_MP_") else { return fail("mp-anchor", 0) };
    equal("mp-anchor-sum", acpi::sum(pointer, 16).into(), 0);
    let table = u64::from(read32(pointer + 4));
    equal("mp-signature", u64::from(acpi::matches(table, b"PCMP")), 1);
    equal("mp-sum", acpi::sum(table, read16(table + 4).into()).into(), 0);
    let mut at = table + 44;
    let mut cpus = 0;
    for _ in 0..read16(table + 34) {
        let cpu = read8(at) == 0;
        cpus += u64::from(cpu);
        at += if cpu { 20 } else { 8 };
    }
    // SeaBIOS lists one processor of each package.
    let all = fw_cfg::number(fw_cfg::NB_CPUS) & 0xffff;
    let leaf1 = cpuid(1, 0);
    let package = if leaf1.edx & 1 << 28 != 0 { u64::from(leaf1.ebx >> 16 & 0xff).max(1) } else { 1 };
    within("mp-cpus", cpus, all.div_ceil(package), all);
    equal("mp-length", at - table, read16(table + 4).into());
}
