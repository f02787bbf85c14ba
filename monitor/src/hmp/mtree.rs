//! `info mtree`: the tree of memory regions, and what shows of it (softmmu/memory.c, `mtree_info`).

use std::sync::Arc;

use backends::HostMemory;
use hw_core::{Device, SysBusDevice};
use hw_isa::IsaDevice;
use hw_pci::PciDevice;
use memory::{
    AddressSpace, FlatRange, FlatView, MemoryRegion, RegionKind, address_space_io, address_space_memory,
};

use qom::{Object, object_get_root};

use super::args::Args;
use super::session::{Session, out};
use super::x86::PAGE_SIZE;

/// Aliases of aliases and containers: no tree of ours is deeper.
const MAX_DEPTH: usize = 64;

pub(crate) fn info_mtree(mon: &mut Session, args: &Args) -> Result<(), String> {
    let spaces = [address_space_memory(), address_space_io()];
    let owners = args.is_set("owner").then(Owners::find);
    if args.is_set("flatview") {
        let has_kvm = object_get_root().child("accel").is_some_and(|accel| accel.is_a("kvm-accel"));
        for (number, space) in spaces.into_iter().enumerate() {
            let view = View { space, owners: owners.as_ref(), in_kvm: has_kvm && number == 0 };
            view.print(mon, number);
            if args.is_set("dispatch_tree") {
                view.print_dispatch(mon);
            }
            mon.print("\n");
        }
    } else {
        let with_disabled = args.is_set("disabled");
        let mut tree = Tree { mon, aliased: Vec::new(), with_disabled, owners: owners.as_ref() };
        for space in spaces {
            out!(tree.mon, "address-space: {}\n", space.name());
            tree.print(space.root(), 1, 0);
            tree.mon.print("\n");
        }
        tree.print_aliased();
    }
    Ok(())
}

/// Whose a region is: regions do not know, but who shows them does.
struct Owners(Vec<(MemoryRegion, String)>);

impl Owners {
    fn find() -> Owners {
        let mut owners = Owners(Vec::new());
        owners.add_all(&object_get_root());
        owners
    }

    fn add_all(&mut self, object: &Arc<dyn Object>) {
        let mut regions = Vec::new();
        regions.extend(object.cast::<SysBusDevice>().map(SysBusDevice::regions).into_iter().flatten());
        regions.extend(object.cast::<IsaDevice>().map(IsaDevice::regions).into_iter().flatten());
        regions.extend(object.cast::<PciDevice>().map(PciDevice::bar_regions).into_iter().flatten());
        regions.extend(object.cast::<HostMemory>().and_then(HostMemory::region));
        if !regions.is_empty() {
            let text = owner_text(object);
            regions.iter().for_each(|region| self.add(region, &text, 0));
        }
        for (_, child) in object.children() {
            self.add_all(&child);
        }
    }

    /// Adds a region and all that it holds.
    fn add(&mut self, region: &MemoryRegion, owner: &str, depth: usize) {
        self.0.push((region.clone(), owner.to_owned()));
        if depth < MAX_DEPTH {
            region.subregions().iter().for_each(|child| self.add(child, owner, depth + 1));
        }
    }

    /// What is printed of the owner; the board's own regions have but a place in the tree of objects.
    fn text(&self, region: &MemoryRegion) -> &str {
        let found = self.0.iter().find(|(known, _)| known == region);
        found.map_or(" parent:{obj path=/machine/unattached}", |(_, text)| text)
    }
}

/// An object as the owner of a region (mtree_expand_owner).
fn owner_text(object: &Arc<dyn Object>) -> String {
    let device = object.cast::<Device>();
    let kind = if device.is_some() { "dev" } else { "obj" };
    match device.and_then(Device::id) {
        Some(id) => format!(" owner:{{{kind} id={id}}}"),
        None => format!(" owner:{{{kind} path={}}}", object.canonical_path().unwrap_or_default()),
    }
}

/// What shows in an address space.
struct View<'a> {
    space: &'a AddressSpace,
    owners: Option<&'a Owners>,
    /// Whether KVM has a slot for each piece of memory.
    in_kvm: bool,
}

impl View<'_> {
    /// mtree_print_flatview
    fn print(&self, mon: &mut Session, number: usize) {
        let (name, root) = (self.space.name(), self.space.root().name());
        out!(mon, "FlatView #{number}\n AS \"{name}\", root: {root}\n Root memory region: {root}\n");
        let view = self.space.view();
        if view.ranges().is_empty() {
            mon.print("  No rendered FlatView\n");
        }
        for range in view.ranges() {
            let (region, start, last) = (&range.region, range.start, range.last);
            let (priority, kind) = (region.priority(), range_type(range));
            out!(mon, "  {start:016x}-{last:016x} (prio {priority}, {kind}): {}", region.name());
            if range.offset > 0 {
                out!(mon, " @{:016x}", range.offset);
            }
            if let Some(owners) = self.owners {
                mon.print(owners.text(region));
            }
            let whole_pages = (start | last.wrapping_add(1)).is_multiple_of(PAGE_SIZE);
            mon.print(if self.in_kvm && whole_pages && range.readable_ram().is_some() {
                " KVM\n"
            } else {
                "\n"
            });
        }
    }

    /// What addresses are looked up in: there is no tree, only the list (mtree_print_dispatch).
    fn print_dispatch(&self, mon: &mut Session) {
        mon.print("  Dispatch\n    Physical sections\n");
        for (number, range) in self.space.view().ranges().iter().enumerate() {
            let (start, last, name) = (range.start, range.last, range.region.name());
            out!(mon, "      #{number} @{start:016x}..{last:016x} {name}\n");
        }
    }
}

fn range_type(range: &FlatRange) -> &'static str {
    match range.region.kind() {
        RegionKind::Ram(_) if range.readonly => "rom",
        RegionKind::Ram(_) => "ram",
        RegionKind::RomDevice(..) if range.romd_mode => "romd",
        RegionKind::RomDevice(..) | RegionKind::Io(_) | RegionKind::Container | RegionKind::Alias(_) => "i/o",
    }
}

/// What a region is, an alias what it shows (memory_region_type).
fn region_type(region: &MemoryRegion, depth: usize) -> &'static str {
    match region.kind() {
        RegionKind::Alias(target) if depth < MAX_DEPTH => region_type(target, depth + 1),
        RegionKind::Ram(_) | RegionKind::RomDevice(..) => {
            // A disabled region shows nothing.
            FlatView::render(region).ranges().first().map_or("ram", range_type)
        }
        _ => "i/o",
    }
}

struct Tree<'a> {
    mon: &'a mut Session,
    /// Regions that aliases lead to, in order of finding.
    aliased: Vec<MemoryRegion>,
    with_disabled: bool,
    owners: Option<&'a Owners>,
}

impl Tree<'_> {
    /// Prints `region`, which lies in a container at `base`, and what it holds.
    fn print(&mut self, region: &MemoryRegion, level: usize, base: u64) {
        if level > MAX_DEPTH || self.mon.is_full() {
            return;
        }
        let start = base.wrapping_add(region.address());
        let enabled = region.is_enabled();
        if let RegionKind::Alias(target) = region.kind()
            && !self.aliased.contains(target)
        {
            self.aliased.push(target.clone());
        }
        if enabled || self.with_disabled {
            self.print_line(region, level, start);
        }
        let mut children = region.subregions();
        // By address; where two are at one, the one that covers first.
        children.sort_by_key(|child| (child.address(), std::cmp::Reverse(child.priority())));
        for child in &children {
            self.print(child, level + 1, start);
        }
    }

    fn print_line(&mut self, region: &MemoryRegion, level: usize, start: u64) {
        let last = |start: u64| start.wrapping_add((region.size() as u64).wrapping_sub(1));
        let (priority, kind) = (region.priority(), region_type(region, 0));
        out!(self.mon, "{:indent$}{start:016x}-{:016x} ", "", last(start), indent = 2 * level);
        match region.kind() {
            RegionKind::Alias(target) => {
                let (name, of, offset) = (region.name(), target.name(), region.alias_offset());
                let end = last(offset);
                out!(self.mon, "(prio {priority}, {kind}): alias {name} @{of} {offset:016x}-{end:016x}");
            }
            _ => out!(self.mon, "(prio {priority}, {kind}): {}", region.name()),
        }
        self.mon.print(if region.is_enabled() { "" } else { " [disabled]" });
        self.mon.print(self.owners.map_or("", |owners| owners.text(region)));
        self.mon.print("\n");
    }

    /// Prints what aliases led to, which may lead on.
    fn print_aliased(&mut self) {
        let mut at = 0;
        while let Some(region) = self.aliased.get(at).cloned() {
            out!(self.mon, "memory-region: {}\n", region.name());
            self.print(&region, 1, 0);
            self.mon.print("\n");
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use memory::RamBlock;

    use super::*;

    fn ram(name: &str, size: u64) -> MemoryRegion {
        MemoryRegion::ram(name, RamBlock::anonymous(name, size).unwrap())
    }

    /// RAM seen through an alias, a hole of another kind in it, ROM above.
    fn board() -> MemoryRegion {
        let root = MemoryRegion::container("system", 1 << 64);
        let pc_ram = ram("pc.ram", 0x10_0000);
        root.add_subregion(0, &MemoryRegion::alias("ram-below-4g", &pc_ram, 0, 0x10_0000));
        let pci = MemoryRegion::container("pci", 1 << 64);
        root.add_subregion_overlap(0, &pci, -1);
        pci.add_subregion(
            0xfffc_0000,
            &MemoryRegion::rom("pc.bios", RamBlock::anonymous("b", 0x4_0000).unwrap()),
        );
        root.add_subregion_overlap(0xa_0000, &ram("vga", 0x2_0000), 1);
        let hidden = ram("hidden", 0x1000);
        hidden.set_enabled(false);
        root.add_subregion(0x5000_0000, &hidden);
        root
    }

    #[test]
    fn the_flat_view_shows_ranges_with_priority_and_offset() {
        let space = AddressSpace::new("memory", &board());
        let mut mon = Session::default();
        let view = View { space: &space, owners: None, in_kvm: false };
        view.print(&mut mon, 1);
        view.print_dispatch(&mut mon);
        assert_eq!(
            mon.into_text(),
            "FlatView #1\n AS \"memory\", root: system\n Root memory region: system\n\
             \x20 0000000000000000-000000000009ffff (prio 0, ram): pc.ram\n\
             \x20 00000000000a0000-00000000000bffff (prio 1, ram): vga\n\
             \x20 00000000000c0000-00000000000fffff (prio 0, ram): pc.ram @00000000000c0000\n\
             \x20 00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\n\
             \x20 Dispatch\n    Physical sections\n\
             \x20     #0 @0000000000000000..000000000009ffff pc.ram\n\
             \x20     #1 @00000000000a0000..00000000000bffff vga\n\
             \x20     #2 @00000000000c0000..00000000000fffff pc.ram\n\
             \x20     #3 @00000000fffc0000..00000000ffffffff pc.bios\n"
        );
    }

    #[test]
    fn the_tree_shows_containers_and_aliases_but_no_disabled_regions() {
        let mut mon = Session::default();
        let mut tree = Tree { mon: &mut mon, aliased: Vec::new(), with_disabled: false, owners: None };
        tree.print(&board(), 1, 0);
        tree.print_aliased();
        assert_eq!(
            mon.into_text(),
            "  0000000000000000-ffffffffffffffff (prio 0, i/o): system\n\
             \x20   0000000000000000-00000000000fffff (prio 0, ram): alias ram-below-4g @pc.ram \
             0000000000000000-00000000000fffff\n\
             \x20   0000000000000000-ffffffffffffffff (prio -1, i/o): pci\n\
             \x20     00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios\n\
             \x20   00000000000a0000-00000000000bffff (prio 1, ram): vga\n\
             memory-region: pc.ram\n  0000000000000000-00000000000fffff (prio 0, ram): pc.ram\n\n"
        );
    }
}
