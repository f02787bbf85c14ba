//! `info mtree`: the tree of memory regions, and what shows of it (softmmu/memory.c, `mtree_info`).

use hw_core::cpu::cpu_list;
use hw_pci::PciDevice;
use memory::{
    AddressSpace, FlatRange, FlatView, MemoryRegion, RegionKind, address_space_io, address_space_memory,
};

use qom::object_get_root;

use super::args::Args;
use super::session::{Session, out};
use super::x86::PAGE_SIZE;
use crate::regions::{MAX_DEPTH, Owners, visit_devices};

pub(crate) fn info_mtree(mon: &mut Session, args: &Args) -> Result<(), String> {
    let owners = args.is_set("owner").then(Owners::find);
    if args.is_set("flatview") {
        let has_kvm = object_get_root().child("accel").is_some_and(|accel| accel.is_a("kvm-accel"));
        for (number, (seen_by, space)) in Spaces::find().views().into_iter().enumerate() {
            let view = View { seen_by, space, owners: owners.as_ref(), in_kvm: has_kvm && number == 0 };
            view.print(mon, number);
            if args.is_set("dispatch_tree") {
                view.print_dispatch(mon);
            }
            mon.print("\n");
        }
    } else {
        let with_disabled = args.is_set("disabled");
        let mut tree = Tree { mon, aliased: Vec::new(), with_disabled, owners: owners.as_ref() };
        for (names, root) in Spaces::find().trees() {
            names.iter().for_each(|name| out!(tree.mon, "address-space: {name}\n"));
            tree.print(&root, 1, 0);
            tree.mon.print("\n");
        }
        tree.print_aliased();
    }
    Ok(())
}

/// Who has an address space of their own: each CPU's is everybody's, each PCI function's is empty or everybody's.
struct Spaces {
    cpus: Vec<String>,
    /// By name, and whether they master the bus.
    functions: Vec<(String, bool)>,
}

/// What a function's address space has for its root.
const BUS_MASTER: &str = "bus master container";

impl Spaces {
    fn find() -> Spaces {
        let mut functions = Vec::new();
        visit_devices(&object_get_root(), &mut |object| {
            if let Some(function) = object.cast::<PciDevice>() {
                functions.push((object.type_name().to_owned(), function.is_bus_master()));
            }
        });
        let cpus = (0..cpu_list().len()).map(|index| format!("cpu-memory-{index}")).collect();
        Spaces { cpus, functions }
    }

    /// The trees, each with the names of the spaces that have it.
    fn trees(self) -> Vec<(Vec<String>, MemoryRegion)> {
        let _transaction = memory::transaction();
        let mut names = self.cpus;
        names.push(address_space_memory().name().to_owned());
        let io = address_space_io();
        let mut trees = vec![
            (names, address_space_memory().root().clone()),
            (vec![io.name().to_owned()], io.root().clone()),
        ];
        trees.extend(self.functions.into_iter().map(|(name, is_master)| (vec![name], bus_master(is_master))));
        trees
    }

    /// What shows, each with the names of the spaces that show it and of their roots; nothing for functions that may
    /// not master the bus.
    fn views(self) -> Vec<(Vec<(String, String)>, Option<&'static AddressSpace>)> {
        let (memory, io): (&AddressSpace, &AddressSpace) = (address_space_memory(), address_space_io());
        let of = |space: &AddressSpace| (space.name().to_owned(), space.root().name().to_owned());
        let root = memory.root().name();
        let mut everybody: Vec<_> = self.cpus.into_iter().map(|name| (name, root.to_owned())).collect();
        everybody.push(of(memory));
        let (masters, others): (Vec<_>, Vec<_>) =
            self.functions.into_iter().partition(|(_, is_master)| *is_master);
        let with_root = |(name, _)| (name, BUS_MASTER.to_owned());
        everybody.extend(masters.into_iter().map(with_root));
        let others: Vec<_> = others.into_iter().map(with_root).collect();
        let mut views = vec![(everybody, Some(memory)), (vec![of(io)], Some(io))];
        views.extend((!others.is_empty()).then_some((others, None)));
        views
    }
}

/// The root of a function's address space, as QEMU has it.
fn bus_master(enabled: bool) -> MemoryRegion {
    let root = MemoryRegion::container(BUS_MASTER, 1 << 64);
    let system = address_space_memory().root();
    let alias = MemoryRegion::alias("bus master", system, 0, u64::MAX);
    alias.set_size(system.size());
    alias.set_enabled(enabled);
    root.add_subregion(0, &alias);
    root
}

/// What shows in address spaces.
struct View<'a> {
    /// Who sees it: the address spaces' names and those of their roots.
    seen_by: Vec<(String, String)>,
    /// Nothing where there is none.
    space: Option<&'a AddressSpace>,
    owners: Option<&'a Owners>,
    /// Whether KVM has a slot for each piece of memory.
    in_kvm: bool,
}

impl View<'_> {
    /// mtree_print_flatview
    fn print(&self, mon: &mut Session, number: usize) {
        out!(mon, "FlatView #{number}\n");
        self.seen_by.iter().for_each(|(name, root)| out!(mon, " AS \"{name}\", root: {root}\n"));
        let root = self.space.map_or("(none)", |space| space.root().name());
        out!(mon, " Root memory region: {root}\n");
        let view = self.space.map(AddressSpace::view).filter(|view| !view.ranges().is_empty());
        let Some(view) = view else { return mon.print("  No rendered FlatView\n") };
        for range in view.ranges() {
            let (region, start, last) = (&range.region, range.start, range.last);
            let (priority, kind) = (region.priority(), range_type(range));
            out!(mon, "  {start:016x}-{last:016x} (prio {priority}, {kind}): {}", region.name());
            if range.offset > 0 {
                out!(mon, " @{:016x}", range.offset);
            }
            if let Some(owners) = self.owners {
                mon.print(&owners.text(region));
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
        let view = self.space.map(AddressSpace::view);
        let ranges = view.iter().flat_map(|view| view.ranges());
        for (number, range) in ranges.enumerate() {
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
        self.mon.print(&self.owners.map_or_else(String::new, |owners| owners.text(region)));
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
        let seen_by = vec![("memory".to_owned(), "system".to_owned())];
        let view = View { seen_by, space: Some(&space), owners: None, in_kvm: false };
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
