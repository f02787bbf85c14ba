//! Whose memory regions and interrupt lines are whose. They know nothing of objects; who shows them does.
//!
//! In QEMU they are objects below their owners. Here some that stand for them are put there when somebody looks at the
//! tree of objects ([`complete_tree`]). Source: QEMU `softmmu/memory.c`, `hw/core/irq.c`, `hw/core/gpio.c`.

use std::sync::{Arc, OnceLock};

use backends::HostMemory;
use hw_core::{Device, SysBusDevice};
use hw_isa::IsaDevice;
use hw_pci::PciDevice;
use memory::{MemoryRegion, RegionKind, get_system_io, get_system_memory};
use qom::path::ResolveError;
use qom::{Class, Object, ObjectBase, PropertyInfo, Value, object_get_root, object_resolve_path};

/// Aliases of aliases and containers: no tree of ours is deeper.
pub(crate) const MAX_DEPTH: usize = 64;
/// Where what the board made has its place.
const UNATTACHED: &str = "/machine/unattached";

/// A memory region in the tree of objects.
#[derive(Object)]
#[object(name = "memory-region", parent = ObjectBase, class_init = region_class_init)]
pub struct RegionObject {
    parent: ObjectBase,
    region: OnceLock<MemoryRegion>,
}

/// An interrupt input in the tree of objects.
#[derive(Object)]
#[object(name = "irq", parent = ObjectBase)]
pub struct IrqObject {
    parent: ObjectBase,
}
qom::type_init!(RegionObject, IrqObject);

fn region_class_init(class: &mut Class) {
    let mut add = |name: &str, kind: &str, get: fn(&MemoryRegion) -> Value| {
        class.add_property(PropertyInfo {
            get: Some(Arc::new(move |object| {
                let region = object.cast::<RegionObject>().and_then(|shown| shown.region.get());
                Ok(region.map_or(Value::Null, get))
            })),
            ..PropertyInfo::new(name, kind)
        });
    };
    add("addr", "uint64", |region| region.address().into());
    add("size", "uint64", |region| u64::try_from(region.size()).unwrap_or(u64::MAX).into());
    add("priority", "uint32", |region| region.priority().into());
}

/// Calls `visit` for each object of the tree, parents first.
pub(crate) fn visit_devices(object: &Arc<dyn Object>, visit: &mut dyn FnMut(&Arc<dyn Object>)) {
    visit(object);
    object.children().iter().for_each(|(_, child)| visit_devices(child, visit));
}

/// The regions that an object shows itself.
fn regions_of(object: &Arc<dyn Object>) -> Vec<MemoryRegion> {
    let mut regions = Vec::new();
    regions.extend(object.cast::<SysBusDevice>().map(SysBusDevice::regions).into_iter().flatten());
    regions.extend(object.cast::<IsaDevice>().map(IsaDevice::regions).into_iter().flatten());
    regions.extend(object.cast::<PciDevice>().map(PciDevice::bar_regions).into_iter().flatten());
    regions.extend(object.cast::<HostMemory>().and_then(HostMemory::region));
    regions
}

/// Adds a region and all that it holds.
fn add_all(region: &MemoryRegion, to: &mut Vec<MemoryRegion>, depth: usize) {
    to.push(region.clone());
    if depth < MAX_DEPTH {
        region.subregions().iter().for_each(|child| add_all(child, to, depth + 1));
    }
}

/// Who has which regions.
pub(crate) struct Owners(Vec<(Arc<dyn Object>, Vec<MemoryRegion>)>);

impl Owners {
    pub(crate) fn find() -> Owners {
        let mut owners = Vec::new();
        visit_devices(&object_get_root(), &mut |object| {
            let mut regions = Vec::new();
            regions_of(object).iter().for_each(|region| add_all(region, &mut regions, 0));
            if !regions.is_empty() {
                owners.push((object.clone(), regions));
            }
        });
        Owners(owners)
    }

    fn owner(&self, region: &MemoryRegion) -> Option<&Arc<dyn Object>> {
        let found = self.0.iter().find(|(_, regions)| regions.contains(region));
        found.map(|(owner, _)| owner)
    }

    /// What is printed of the owner; the board's own regions have but a place in the tree of objects.
    pub(crate) fn text(&self, region: &MemoryRegion) -> String {
        let owner = self.owner(region);
        owner.map_or_else(|| format!(" parent:{{obj path={UNATTACHED}}}"), owner_text)
    }

    /// The regions of the board's own, as they are found from the roots.
    fn ownerless(&self) -> Vec<MemoryRegion> {
        let mut all = Vec::new();
        [get_system_memory(), get_system_io()].iter().for_each(|root| add_all(root, &mut all, 0));
        let mut at = 0;
        while let Some(region) = all.get(at).cloned() {
            if let RegionKind::Alias(target) = region.kind()
                && !all.contains(target)
            {
                add_all(target, &mut all, 0);
            }
            at += 1;
        }
        all.retain(|region| self.owner(region).is_none());
        all
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

/// Puts regions and interrupt inputs into the tree of objects, and takes those out that are gone.
pub(crate) fn complete_tree() {
    let owners = Owners::find();
    let mut devices = Vec::new();
    visit_devices(&object_get_root(), &mut |object| devices.push(object.clone()));
    for object in &devices {
        let found = owners.0.iter().find(|(owner, _)| Arc::ptr_eq(owner, object));
        show_regions(object, found.map_or(&[], |(_, regions)| regions));
        show_inputs(object);
    }
    if let Ok(place) = object_resolve_path(UNATTACHED) {
        show_regions(&place, &owners.ownerless());
    }
}

fn show_regions(object: &Arc<dyn Object>, wanted: &[MemoryRegion]) {
    let mut shown = Vec::new();
    for (_, child) in object.children() {
        match child.cast::<RegionObject>().and_then(|shown| shown.region.get()) {
            Some(region) if wanted.contains(region) => shown.push(region.clone()),
            Some(_) => child.unparent(),
            None => {}
        }
    }
    for region in wanted.iter().filter(|region| !shown.contains(region)) {
        let Ok(child) = qom::object_new("memory-region") else { return };
        if let Some(place) = child.cast::<RegionObject>() {
            let _ = place.region.set(region.clone());
        }
        // A place that is taken in between is nobody's mistake.
        let _ = object.property_add_child(&format!("{}[*]", escape(region.name())), &child);
    }
}

fn show_inputs(object: &Arc<dyn Object>) {
    for (name, lines) in object.cast::<Device>().map(Device::gpio_ins).unwrap_or_default() {
        let name = if name.is_empty() { "unnamed-gpio-in" } else { &name };
        for number in 0..lines.len() {
            let name = format!("{name}[{number}]");
            if object.child(&name).is_none()
                && let Ok(child) = qom::object_new("irq")
            {
                let _ = object.property_add_child(&name, &child);
            }
        }
    }
}

/// A region's name as a part of a path (memory_region_escape_name).
fn escape(name: &str) -> String {
    let escaped = |c: char| match c {
        '/' | '[' | '\\' | '@' => format!("\\x{:02x}", u32::from(c)),
        other => other.to_string(),
    };
    name.chars().map(escaped).collect()
}

/// The object of a path, which may be a region or an interrupt input.
pub(crate) fn resolve(path: &str) -> Result<Arc<dyn Object>, ResolveError> {
    object_resolve_path(path).or_else(|error| match error {
        ResolveError::NotFound => {
            complete_tree();
            object_resolve_path(path)
        }
        other => Err(other),
    })
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_are_parts_of_paths() {
        assert_eq!(escape("/rom@etc/acpi[0]"), "\\x2from\\x40etc\\x2facpi\\x5b0]");
        assert_eq!(escape("bus master"), "bus master");
    }
}
