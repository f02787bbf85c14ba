//! Addresses for PCI functions: each base address register's size is asked for, and each gets a place in the
//! windows of the host bridge, where SeaBIOS would put it.
//!
//! Source followed: SeaBIOS `src/fw/pciinit.c`.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;

use hw_pci::PciDevice;
use hw_pci::spec::{BAR_IO, BAR_MEM_64, BAR_PREFETCH, BASE_ADDRESS_0, NUM_BARS, ROM_ADDRESS};
use qom::Object;

/// Least size that memory is given out in, so that no page is shared.
const MEMORY_MIN: u64 = 4096;
/// Where I/O ports are given out while they fit, and where when they do not.
const IO_WINDOWS: [Range<u64>; 2] = [0xc000..0x1_0000, 0x1000..0xa000];
/// Bits of a register that are no address, by what it decodes.
const IO_FLAGS: u32 = 0x3;
const MEMORY_FLAGS: u32 = 0xf;
const ROM_FLAGS: u32 = 0x7ff;

/// Where the host bridge forwards memory accesses to the bus.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Below 4 GiB.
    pub memory: Range<u64>,
    /// Above all memory, for 64-bit registers that do not fit below.
    pub memory64: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Io,
    Memory,
    Prefetch,
}

/// What one register decodes.
#[derive(Clone, Copy, Debug)]
struct Region {
    /// Which of the functions it belongs to.
    function: usize,
    /// The register.
    at: usize,
    space: Space,
    size: u64,
    is_64bit: bool,
}

/// Gives every base address register of `functions` an address. What finds no room is left at 0, which decodes
/// nothing.
pub fn assign_addresses(functions: &[Arc<dyn Object>], windows: &Windows) {
    let functions: Vec<&PciDevice> = functions.iter().filter_map(|o| o.cast::<PciDevice>()).collect();
    let mut regions: Vec<Region> =
        functions.iter().enumerate().flat_map(|(number, function)| probe(number, function)).collect();
    // The largest first, so that all that follow are aligned where the one before ends.
    regions.sort_by_key(|region| Reverse(room(region)));
    for (region, address) in place(&regions, windows) {
        let Some(function) = functions.get(region.function) else { continue };
        function.config_write(region.at, address as u32, 4);
        if region.is_64bit {
            function.config_write(region.at + 4, (address >> 32) as u32, 4);
        }
    }
}

/// The regions of a function's registers.
fn probe(number: usize, function: &PciDevice) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut bar = 0;
    while bar < NUM_BARS {
        let at = BASE_ADDRESS_0 + 4 * bar;
        bar += 1;
        let flags = function.config_read(at, 4);
        let (space, fixed) = match (flags & BAR_IO != 0, flags & BAR_PREFETCH != 0) {
            (true, _) => (Space::Io, IO_FLAGS),
            (false, false) => (Space::Memory, MEMORY_FLAGS),
            (false, true) => (Space::Prefetch, MEMORY_FLAGS),
        };
        let is_64bit = space != Space::Io && flags & BAR_MEM_64 != 0 && bar < NUM_BARS;
        let mut address = u64::from(settable(function, at) & !fixed);
        if is_64bit {
            address |= u64::from(settable(function, at + 4)) << 32;
            bar += 1;
        }
        regions.extend(size(address).map(|size| Region { function: number, at, space, size, is_64bit }));
    }
    let rom = size(u64::from(settable(function, ROM_ADDRESS) & !ROM_FLAGS));
    let (at, space, is_64bit) = (ROM_ADDRESS, Space::Memory, false);
    regions.extend(rom.map(|size| Region { function: number, at, space, size, is_64bit }));
    regions
}

/// The bits of a register that can be set.
fn settable(function: &PciDevice, at: usize) -> u32 {
    let old = function.config_read(at, 4);
    function.config_write(at, u32::MAX, 4);
    let ones = function.config_read(at, 4);
    function.config_write(at, old, 4);
    ones
}

/// How much a register decodes of whose address these bits can be set; `None` when there is no such register.
fn size(address: u64) -> Option<u64> {
    (address != 0).then(|| 1 << address.trailing_zeros())
}

/// Places for the regions that fit, largest first.
fn place(regions: &[Region], windows: &Windows) -> Vec<(Region, u64)> {
    let of = |space| -> Vec<Region> { regions.iter().filter(|r| r.space == space).copied().collect() };
    let mut placed = Vec::new();
    let io = of(Space::Io);
    let window = IO_WINDOWS.into_iter().find(|w| sum(&io) <= w.end - w.start).unwrap_or(0..0);
    fill(&io, window, &mut placed);
    let (mut memory, mut prefetch) = (of(Space::Memory), of(Space::Prefetch));
    if below(&memory, &prefetch, windows.memory.end).is_none_or(|(start, _)| start < windows.memory.start) {
        let is_64bit = |region: &Region| region.is_64bit;
        let wide: Vec<Region> =
            regions.iter().filter(|r| r.space != Space::Io && is_64bit(r)).copied().collect();
        fill(&wide, windows.memory64.clone(), &mut placed);
        memory.retain(|region| !is_64bit(region));
        prefetch.retain(|region| !is_64bit(region));
    }
    // The smaller kind lies at the top of the window, the larger below it.
    let (upper, lower) = match sum(&memory) < sum(&prefetch) {
        true => (memory, prefetch),
        false => (prefetch, memory),
    };
    match below(&lower, &upper, windows.memory.end) {
        Some((start, middle)) if start >= windows.memory.start => {
            fill(&lower, start..middle, &mut placed);
            fill(&upper, middle..windows.memory.end, &mut placed);
        }
        // Not all of it fits: what does, by size.
        _ => {
            let mut all = [lower, upper].concat();
            all.sort_by_key(|region| Reverse(room(region)));
            fill(&all, windows.memory.clone(), &mut placed);
        }
    }
    placed
}

/// What a region takes up.
fn room(region: &Region) -> u64 {
    match region.space {
        Space::Io => region.size,
        Space::Memory | Space::Prefetch => region.size.max(MEMORY_MIN),
    }
}

fn sum(regions: &[Region]) -> u64 {
    regions.iter().fold(0, |sum, region| sum.saturating_add(room(region)))
}

/// Where two lists start that lie one below the other and end at `end`.
fn below(lower: &[Region], upper: &[Region], end: u64) -> Option<(u64, u64)> {
    let start = |regions: &[Region], end: u64| -> Option<u64> {
        let align = regions.first().map_or(1, room);
        Some(end.checked_sub(sum(regions))? / align * align)
    };
    let middle = start(upper, end)?;
    Some((start(lower, middle)?, middle))
}

/// Puts regions, largest first, into a window one after the other; what does not fit is left out.
fn fill(regions: &[Region], window: Range<u64>, placed: &mut Vec<(Region, u64)>) {
    let mut next = window.start;
    for region in regions {
        let size = room(region);
        let Some(address) = next.checked_next_multiple_of(size) else { continue };
        if address.checked_add(size).is_some_and(|end| end <= window.end) {
            placed.push((*region, address));
            next = address + size;
        }
    }
}
