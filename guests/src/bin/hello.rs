//! Prints what the loader handed over.
#![no_std]
#![no_main]

use kit::boot::BootInfo;
use kit::io::{read8, read64, write64};
use kit::paging::map_gigabyte;
use kit::print::Hex;
use kit::{acpi, check, say};

kit::guest!(main);

fn main(info: &BootInfo) {
    say!("boot ", info.protocol.name());
    say!("cmdline [", info.cmdline.as_bytes(), "]");
    for range in info.memory.as_slice() {
        say!(
            "memory ",
            Hex(range.base),
            " ",
            Hex(range.base.wrapping_add(range.length).wrapping_sub(1)),
            " type ",
            u64::from(range.kind)
        );
    }
    say!("ram ", info.ram().map(|range| range.length).sum::<u64>());
    say!("modules ", info.modules.as_slice().len() as u64);
    for module in info.modules.as_slice() {
        say!(
            "module size ",
            module.length,
            " fnv ",
            Hex(fnv(module.base, module.length)),
            " [",
            module.cmdline.as_bytes(),
            "]"
        );
    }
    check_ranges(info);
    if info.rsdp != 0 {
        check::equal("rsdp-from-loader", info.rsdp, acpi::rsdp().unwrap_or(0));
    }
    high_memory(info);
}

/// FNV-1a, 32 bits, of bytes in memory.
fn fnv(base: u64, length: u64) -> u64 {
    let hash = (base..base + length)
        .fold(0x811c_9dc5_u32, |hash, at| (hash ^ u32::from(read8(at))).wrapping_mul(0x0100_0193));
    hash.into()
}

/// The map must have RAM, and no two ranges may overlap.
fn check_ranges(info: &BootInfo) {
    let ranges = info.memory.as_slice();
    let overlaps = ranges
        .iter()
        .enumerate()
        .flat_map(|(i, a)| ranges.iter().skip(i + 1).map(move |b| (a, b)))
        .filter(|(a, b)| a.base < b.base.wrapping_add(b.length) && b.base < a.base.wrapping_add(a.length))
        .count();
    check::equal("memory-map-overlaps", overlaps as u64, 0);
    check::holds("memory-map-has-1m", info.ram().any(|r| r.base == 0x10_0000), 0);
    // Modules must lie in RAM.
    let outside = info
        .modules
        .as_slice()
        .iter()
        .filter(|m| !info.ram().any(|r| m.base >= r.base && m.base + m.length <= r.base + r.length))
        .count();
    check::equal("modules-outside-ram", outside as u64, 0);
}

/// Writes and reads back the first and last words of all RAM from 4 GiB.
fn high_memory(info: &BootInfo) {
    let mut bytes = 0;
    for range in info.ram().filter(|range| range.base >= 1 << 32) {
        bytes += range.length;
        for at in [range.base, range.base + range.length - 8] {
            map_gigabyte(at);
            write64(at, at ^ 0x5a5a_5a5a_5a5a_5a5a);
        }
        for at in [range.base, range.base + range.length - 8] {
            check::equal("high-ram-word", read64(at), at ^ 0x5a5a_5a5a_5a5a_5a5a);
        }
    }
    say!("high-ram ", bytes);
}
