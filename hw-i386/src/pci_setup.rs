//! Addresses for PCI functions: each base address register's size is asked for, and each gets a place in the
//! windows of the host bridge, where SeaBIOS would put it.
//!
//! Source followed: SeaBIOS `src/fw/pciinit.c`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hw_pci::spec::{
    BAR_IO, BAR_MEM_64, BAR_PREFETCH, BASE_ADDRESS_0, CAP_ID_VENDOR, NUM_BARS, NUM_BARS_BRIDGE, PRIMARY_BUS,
    ROM_ADDRESS, ROM_ADDRESS_BRIDGE, SECONDARY_BUS, SUBORDINATE_BUS,
};
use hw_pci::{BridgeWindows, PciBridge, PciBus, PciDevice};
use qom::Object;

/// Least size that memory is given out in, so that no page is shared.
const MEMORY_MIN: u64 = 4096;
/// Where I/O ports are given out while they fit, and where when they do not.
const IO_WINDOWS: [Range<u64>; 2] = [0xc000..0x1_0000, 0x1000..0xa000];
/// Bits of a register that are no address, by what it decodes.
const IO_FLAGS: u32 = 0x3;
const MEMORY_FLAGS: u32 = 0xf;
const ROM_FLAGS: u32 = 0x7ff;
/// Least size of a bridge's windows (`PCI_BRIDGE_IO_MIN`, `PCI_BRIDGE_MEM_MIN`).
const BRIDGE_IO_MIN: u64 = 0x1000;
const BRIDGE_MEMORY_MIN: u64 = 0x20_0000;
/// The vendor's capability of QEMU's bridges that says what to keep free behind them: its type, and where its
/// registers are (QEMU `docs/pcie_pci_bridge.txt`).
const RESERVE_TYPE: u8 = 1;
const RESERVE_BUSES: usize = 4;
const RESERVE_IO: usize = 8;
const RESERVE_MEMORY: usize = 16;
const RESERVE_PREF32: usize = 20;
const RESERVE_PREF64: usize = 24;

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

/// What one register decodes, or a bridge's window.
#[derive(Clone, Copy, Debug)]
struct Region {
    /// Which of the functions it belongs to.
    function: usize,
    /// The register; a bridge's windows have none here.
    at: Option<usize>,
    space: Space,
    size: u64,
    /// Addresses are multiples of this power of two.
    align: u64,
    is_64bit: bool,
}

/// A bus with what its functions and the buses below them decode, in the order in which it gets its place.
struct Survey {
    functions: Vec<Arc<dyn Object>>,
    regions: Vec<Region>,
    /// By the bridge that leads there.
    below: BTreeMap<usize, Survey>,
}

/// Gives every bus below `root` its number, and every bridge those of the buses that it leads to
/// (`pci_bios_init_bus`). Bridges that there is no number for lead nowhere.
pub fn number_buses(root: &Arc<PciBus>) {
    number_bridges(root, &mut 0);
}

fn number_bridges(bus: &Arc<PciBus>, last: &mut u8) {
    for object in bus.devices() {
        let Some(bridge) = object.cast::<PciBridge>() else { continue };
        let (Some(below), Some(number)) = (bridge.secondary_bus(), last.checked_add(1)) else { continue };
        *last = number;
        bridge.config_write(PRIMARY_BUS, bus.number().into(), 1);
        bridge.config_write(SECONDARY_BUS, number.into(), 1);
        number_bridges(&below, last);
        let reserved = reservations(bridge).map_or(0, |reserved| reserved.buses);
        *last = (*last).max(number.saturating_add(reserved));
        bridge.config_write(SUBORDINATE_BUS, (*last).into(), 1);
    }
}

/// What QEMU's bridges ask the firmware to keep free behind them; 0 where they do not.
struct Reservations {
    buses: u8,
    io: u64,
    memory: u64,
    prefetch: u64,
}

fn reservations(bridge: &PciDevice) -> Option<Reservations> {
    bridge.with_config(|config| {
        let at = config.find_capability(CAP_ID_VENDOR).filter(|at| config.u8(at + 3) == RESERVE_TYPE)?;
        let dword = |offset| Some(config.u32(at + offset)).filter(|value| *value != u32::MAX);
        let size = |offset| u64::from(dword(offset).unwrap_or(0));
        let prefetch = match dword(RESERVE_PREF64) {
            Some(low) => u64::from(config.u32(at + RESERVE_PREF64 + 4)) << 32 | u64::from(low),
            None => size(RESERVE_PREF32),
        };
        let buses = dword(RESERVE_BUSES).map_or(0, |buses| buses.min(0xff) as u8);
        Some(Reservations { buses, io: size(RESERVE_IO), memory: size(RESERVE_MEMORY), prefetch })
    })
}

/// Gives every base address register and every bridge's window at and below `root` an address. What finds no room is
/// left at 0, or closed: it decodes nothing.
pub fn assign_addresses(root: &PciBus, windows: &Windows) {
    let survey = survey(root);
    let placed = place(&survey.regions, windows);
    apply(&survey, &placed);
}

fn survey(bus: &PciBus) -> Survey {
    let mut survey = Survey { functions: bus.devices(), regions: Vec::new(), below: BTreeMap::new() };
    for (number, object) in survey.functions.iter().enumerate() {
        let Some(function) = object.cast::<PciDevice>() else { continue };
        survey.regions.extend(probe(number, function));
        if let Some(below) = object.cast::<PciBridge>().and_then(PciBridge::secondary_bus) {
            let below = self::survey(&below);
            survey.regions.extend(bridge_windows(number, function, &below));
            survey.below.insert(number, below);
        }
    }
    // The largest first, so that all that follow are aligned where the one before ends.
    survey.regions.sort_by_key(|region| Reverse((region.align, region.size)));
    survey
}

/// The windows of a bridge, with room for a device that comes later.
fn bridge_windows(number: usize, bridge: &PciDevice, below: &Survey) -> [Region; 3] {
    let reserved = reservations(bridge);
    [Space::Io, Space::Memory, Space::Prefetch].map(|space| {
        let inside = of(&below.regions, space);
        let (least, reserved) = match (space, &reserved) {
            (Space::Io, reserved) => (BRIDGE_IO_MIN, reserved.as_ref().map_or(0, |r| r.io)),
            (Space::Memory, reserved) => (BRIDGE_MEMORY_MIN, reserved.as_ref().map_or(0, |r| r.memory)),
            (Space::Prefetch, reserved) => (BRIDGE_MEMORY_MIN, reserved.as_ref().map_or(0, |r| r.prefetch)),
        };
        let align = inside.first().map_or(least, |region| region.align.max(least));
        let wanted = sum(&inside).max(reserved).max(1);
        let size = wanted.checked_next_multiple_of(align).unwrap_or(wanted);
        let is_64bit = space == Space::Prefetch && inside.iter().all(|region| region.is_64bit);
        Region { function: number, at: None, space, size, align, is_64bit }
    })
}

/// Writes addresses into registers, and goes on behind the bridges.
fn apply(survey: &Survey, placed: &[(Region, u64)]) {
    let device = |number: usize| survey.functions.get(number)?.cast::<PciDevice>();
    for (region, address) in placed {
        let (Some(function), Some(at)) = (device(region.function), region.at) else { continue };
        function.config_write(at, *address as u32, 4);
        if region.is_64bit {
            function.config_write(at + 4, (*address >> 32) as u32, 4);
        }
    }
    for (number, below) in &survey.below {
        let Some(bridge) = device(*number) else { continue };
        let windows = [Space::Io, Space::Memory, Space::Prefetch].map(|space| {
            let is_window =
                |region: &Region| region.at.is_none() && region.function == *number && region.space == space;
            let (region, address) = placed.iter().find(|(region, _)| is_window(region))?;
            Some((space, *address..*address + region.size))
        });
        let ends = windows.each_ref().map(|w| w.as_ref().map(|(_, range)| (range.start, range.end - 1)));
        let [io, memory, prefetch] = ends;
        BridgeWindows::set(bridge, io, memory, prefetch);
        let mut inside = Vec::new();
        for (space, range) in windows.into_iter().flatten() {
            fill(&of(&below.regions, space), range, &mut inside);
        }
        apply(below, &inside);
    }
}

/// The regions of a function's registers.
fn probe(number: usize, function: &PciDevice) -> Vec<Region> {
    let mut regions = Vec::new();
    let (bars, rom) = match function.with_config(|config| config.is_bridge()) {
        true => (NUM_BARS_BRIDGE, ROM_ADDRESS_BRIDGE),
        false => (NUM_BARS, ROM_ADDRESS),
    };
    let mut bar = 0;
    while bar < bars {
        let at = BASE_ADDRESS_0 + 4 * bar;
        bar += 1;
        let flags = function.config_read(at, 4);
        let (space, fixed) = match (flags & BAR_IO != 0, flags & BAR_PREFETCH != 0) {
            (true, _) => (Space::Io, IO_FLAGS),
            (false, false) => (Space::Memory, MEMORY_FLAGS),
            (false, true) => (Space::Prefetch, MEMORY_FLAGS),
        };
        let is_64bit = space != Space::Io && flags & BAR_MEM_64 != 0 && bar < bars;
        let mut address = u64::from(settable(function, at) & !fixed);
        if is_64bit {
            address |= u64::from(settable(function, at + 4)) << 32;
            bar += 1;
        }
        regions.extend(size(address).map(|size| region(number, at, space, size, is_64bit)));
    }
    let decoded = size(u64::from(settable(function, rom) & !ROM_FLAGS));
    regions.extend(decoded.map(|size| region(number, rom, Space::Memory, size, false)));
    regions
}

/// What a register of `size` bytes takes up.
fn region(function: usize, at: usize, space: Space, size: u64, is_64bit: bool) -> Region {
    let room = if space == Space::Io { size } else { size.max(MEMORY_MIN) };
    Region { function, at: Some(at), space, size: room, align: room, is_64bit }
}

fn of(regions: &[Region], space: Space) -> Vec<Region> {
    regions.iter().filter(|region| region.space == space).copied().collect()
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
    let mut placed = Vec::new();
    let io = of(regions, Space::Io);
    let window = IO_WINDOWS.into_iter().find(|w| sum(&io) <= w.end - w.start).unwrap_or(0..0);
    fill(&io, window, &mut placed);
    let (mut memory, mut prefetch) = (of(regions, Space::Memory), of(regions, Space::Prefetch));
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
            all.sort_by_key(|region| Reverse((region.align, region.size)));
            fill(&all, windows.memory.clone(), &mut placed);
        }
    }
    placed
}

fn sum(regions: &[Region]) -> u64 {
    regions.iter().fold(0, |sum, region| sum.saturating_add(region.size))
}

/// Where two lists start that lie one below the other and end at `end`.
fn below(lower: &[Region], upper: &[Region], end: u64) -> Option<(u64, u64)> {
    let start = |regions: &[Region], end: u64| -> Option<u64> {
        let align = regions.first().map_or(1, |region| region.align);
        Some(end.checked_sub(sum(regions))? / align * align)
    };
    let middle = start(upper, end)?;
    Some((start(lower, middle)?, middle))
}

/// Puts regions, largest first, into a window one after the other; what does not fit is left out.
fn fill(regions: &[Region], window: Range<u64>, placed: &mut Vec<(Region, u64)>) {
    let mut next = window.start;
    for region in regions {
        let size = region.size;
        let Some(address) = next.checked_next_multiple_of(region.align) else { continue };
        if address.checked_add(size).is_some_and(|end| end <= window.end) {
            placed.push((*region, address));
            next = address + size;
        }
    }
}
