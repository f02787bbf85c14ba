//! PCI configuration, the i440FX host bridge with its shadow RAM, PIIX3 and PIIX4.

use kit::boot::BootInfo;
use kit::check::{equal, holds, within};
use kit::io::{inb, inl, outb, outl, read32, write32};
use kit::pci::{self, Function};
use kit::say;

const HOST_BRIDGE: Function = Function::new(0, 0);
const ISA_BRIDGE: Function = Function::new(1, 0);
const POWER: Function = Function::new(1, 3);
/// 82441FX PAM registers, data sheet section 3.2.14: a nibble for each segment, bit 0 read and
/// bit 1 write enable.
const PAM0: u8 = 0x59;
const PAM1: u8 = 0x5a;

pub fn check(info: &BootInfo) {
    mechanism();
    identities();
    shadow_ram("shadow-c0000", 0xc_0000, PAM1, 0, info);
    shadow_ram("shadow-f0000", 0xf_0000, PAM0, 4, info);
    power_management();
    interrupt_routing();
}

fn mechanism() {
    outl(pci::ADDRESS, 0x8000_1234);
    equal("pci-address-readback", inl(pci::ADDRESS).into(), 0x8000_1234);
    // Byte accesses to 0xcf9 are the reset register, not part of the address.
    equal("reset-control-idle", (inb(0xcf9) & 4).into(), 0);
    outl(pci::ADDRESS, 0);
    equal("pci-disabled", inl(pci::DATA).into(), 0xffff_ffff);
    equal("pci-no-device", Function::new(31, 7).read32(0).into(), 0xffff_ffff);
}

fn identities() {
    equal("host-bridge-id", HOST_BRIDGE.read32(0).into(), 0x1237_8086);
    equal("host-bridge-id-high-half", HOST_BRIDGE.read16(2).into(), 0x1237);
    equal("host-bridge-class", HOST_BRIDGE.read16(0x0a).into(), 0x0600);
    equal("host-bridge-subsystem", HOST_BRIDGE.read32(0x2c).into(), 0x1100_1af4);
    equal("isa-bridge-id", ISA_BRIDGE.read32(0).into(), 0x7000_8086);
    equal("isa-bridge-class", ISA_BRIDGE.read16(0x0a).into(), 0x0601);
    equal("isa-bridge-multifunction", ISA_BRIDGE.read8(0x0e).into(), 0x80);
    equal("power-id", POWER.read32(0).into(), 0x7113_8086);
    equal("power-class", POWER.read16(0x0a).into(), 0x0680);
    say!("ide ", u64::from(pci::find(0x7010_8086).is_some()));
    // Identities are read-only.
    HOST_BRIDGE.write32(0, 0);
    equal("host-bridge-id-read-only", HOST_BRIDGE.read32(0).into(), 0x1237_8086);
}

/// Goes through each setting of a segment and restores it.
fn shadow_ram(name: &str, at: u64, register: u8, shift: u8, info: &BootInfo) {
    let saved = HOST_BRIDGE.read8(register);
    let set = |nibble: u8| HOST_BRIDGE.write8(register, saved & !(3 << shift) | nibble << shift);
    set(3);
    let original = read32(at);
    write32(at, 0x1234_5678);
    let read_write = read32(at);
    set(1);
    write32(at, 0xffff_ffff);
    let read_only = read32(at);
    set(0);
    write32(at, 0xffff_ffff);
    let off = read32(at);
    // What a read gives here is left open: QEMU reads the RAM, the chip would not.
    set(2);
    write32(at, 0x9abc_def0);
    set(3);
    let written_behind = read32(at);
    write32(at, original);
    HOST_BRIDGE.write8(register, saved);
    let restored = HOST_BRIDGE.read8(register);
    say!("pam ", name);
    equal("shadow-read-write", read_write.into(), 0x1234_5678);
    // QEMU lets writes to a read-only alias of RAM through when they come as exits.
    if info.flag("strict") {
        equal("shadow-read-only", read_only.into(), 0x1234_5678);
    }
    holds("shadow-off-reads-elsewhere", off != 0x1234_5678, off.into());
    equal("shadow-write-only-writes", written_behind.into(), 0x9abc_def0);
    equal("shadow-register-readback", restored.into(), saved.into());
}

/// PIIX4 function 3: the power-management base and its enable bit (data sheet section 7.1).
fn power_management() {
    let base = POWER.read32(0x40);
    equal("pm-base", base.into(), 0x601);
    equal("pm-region-enabled", (POWER.read8(0x80) & 1).into(), 1);
    // SCI is IRQ 9.
    equal("pm-interrupt-line", POWER.read8(0x3c).into(), 9);
}

/// PIRQ routing (PIIX3 data sheet section 2.2.12) as SeaBIOS leaves it, and ELCR with it.
fn interrupt_routing() {
    for (register, irq) in [(0x60, 10), (0x61, 10), (0x62, 11), (0x63, 11)] {
        equal("pirq-route", ISA_BRIDGE.read8(register).into(), irq);
    }
    within("elcr-pirqs-level", (inb(0x4d1) & 0x0c).into(), 0x0c, 0x0c);
    outb(0xcf9, 0x00);
    equal("reset-control-readback", inb(0xcf9).into(), 0);
}
