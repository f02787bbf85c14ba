//! A virtio device's PCI functions, as types under QEMU's names.
//!
//! Source: QEMU `hw/virtio/virtio-pci.c` (`virtio_pci_types_register`).

use std::sync::Arc;

use hw_core::machine::current_machine;
use hw_core::{DeviceCategory, DeviceClass, Machine};
use hw_pci::spec::MSIX_CONTROL_TABLE_SIZE;
use hw_pci::{ConventionalPciDevice, PciDeviceClass, PciExpressDevice, add_bus_interface};
use qom::property::{OnOffAuto, field};
use qom::{Class, Object, Property, PropertyInfo, Result, TypeInfo};

use super::VirtIOPciProxy;
use crate::spec::QUEUE_MAX;

/// The number of vectors that leaves it to the device.
pub const VECTORS_UNSPECIFIED: u32 = u32::MAX;

/// Types that have a choice of interfaces in their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variants {
    /// There are none.
    None,
    /// `NAME-non-transitional`: the modern interface only.
    NonTransitional,
    /// `NAME-transitional`, which has both interfaces, too.
    All,
}

impl Variants {
    /// The ends of the types' names, and what their property `disable-legacy` is.
    fn suffixes(self) -> &'static [(&'static str, OnOffAuto)] {
        const BOTH: [(&str, OnOffAuto); 2] =
            [("transitional", OnOffAuto::Off), ("non-transitional", OnOffAuto::On)];
        match self {
            Variants::None => &[],
            Variants::NonTransitional => &BOTH[1..],
            Variants::All => &BOTH,
        }
    }
}

/// What [`VirtioPciType::register`] makes PCI functions of.
#[derive(Clone, Copy)]
pub struct VirtioPciType {
    /// The name of the type, such as `virtio-rng-pci`.
    pub name: &'static str,
    /// The type of the device behind it, such as `virtio-rng-device`. Its properties are the function's, too.
    pub backend: &'static str,
    /// PCI device id while there is a legacy interface ([`spec::pci`](crate::spec::pci)); 0 where there never is.
    pub device_id: u16,
    /// PCI base class and sub-class.
    pub class_id: u16,
    /// Where `-device help` lists it.
    pub category: DeviceCategory,
    /// Which types there are beside it.
    pub variants: Variants,
    /// The default of the property `ioeventfd`; without the property it is off.
    pub ioeventfd: Option<bool>,
    /// The default of the property `vectors`; without the property there is no MSI-X.
    pub vectors: Option<u32>,
    /// Whether there is a property `class` to choose another PCI class by.
    pub has_class: bool,
    /// How many vectors there are where [`VECTORS_UNSPECIFIED`] leaves it to the device, whose properties are set.
    pub default_vectors: fn(&dyn Object) -> u32,
    /// Called before the device is realized, to settle properties that depend on the transport.
    pub prepare: Option<fn(&VirtIOPciProxy, &Arc<dyn Object>) -> Result<()>>,
}

impl VirtioPciType {
    /// Registers the types; for a function that `type_init!` calls.
    pub fn register(self) {
        let name = self.name;
        let base: &'static str = match self.variants {
            Variants::None => format!("{name}-base-type").leak(),
            _ => format!("{name}-base").leak(),
        };
        qom::type_register(
            TypeInfo::new(base, "virtio-pci", move |c| self.base_class_init(c)).with_abstract(),
        );
        qom::type_register(TypeInfo::new(name, base, generic_class_init));
        for (suffix, disable_legacy) in self.variants.suffixes() {
            qom::type_register(TypeInfo::new(format!("{name}-{suffix}"), base, move |class| {
                bus_interfaces(class, *disable_legacy != OnOffAuto::Off);
                class.set_instance_init(move |object| {
                    if let Some(proxy) = object.cast::<VirtIOPciProxy>() {
                        proxy.disable_legacy.set(*disable_legacy);
                    }
                });
            }));
        }
    }

    fn base_class_init(self, class: &mut Class) {
        class.get_mut::<DeviceClass>().category = Some(self.category);
        let pci = class.get_mut::<PciDeviceClass>();
        (pci.device_id, pci.class_id) = (self.device_id, self.class_id);
        *class.get_mut::<VirtioPciClass>() =
            VirtioPciClass { default_vectors: Some(self.default_vectors), prepare: self.prepare };
        type P = VirtIOPciProxy;
        if self.has_class {
            class.add_property(field::<P, _>("class", "", false, |p| &p.class_code, &Property::new(0)));
        }
        if let Some(on) = self.ioeventfd {
            let default = Property::new(on);
            class.add_property(field::<P, _>("ioeventfd", "on/off", false, |p| &p.ioeventfd, &default));
        }
        if let Some(vectors) = self.vectors {
            let default = Property::new(vectors);
            class.add_property(field::<P, _>("vectors", "", false, |p| &p.nvectors, &default));
        }
        alias_all_properties(class, self.backend);
        class.set_instance_init(move |object| {
            let Some(proxy) = object.cast::<VirtIOPciProxy>() else { return };
            proxy.ioeventfd.set(self.ioeventfd.unwrap_or_default());
            proxy.nvectors.set(self.vectors.unwrap_or_default());
            proxy.init_backend(object, self.backend);
        });
    }
}

/// What differs between the types' classes.
#[derive(Clone, Default)]
pub(super) struct VirtioPciClass {
    pub default_vectors: Option<fn(&dyn Object) -> u32>,
    pub prepare: Option<fn(&VirtIOPciProxy, &Arc<dyn Object>) -> Result<()>>,
}

/// Transitional functions are for conventional PCI only.
fn bus_interfaces(class: &mut Class, express: bool) {
    add_bus_interface::<ConventionalPciDevice>(class);
    if express {
        add_bus_interface::<PciExpressDevice>(class);
    }
}

fn generic_class_init(class: &mut Class) {
    bus_interfaces(class, true);
    type P = VirtIOPciProxy;
    let (legacy, modern) = (Property::new(OnOffAuto::Auto), Property::new(false));
    let legacy = field::<P, _>("disable-legacy", "on/off/auto", false, |p| &p.disable_legacy, &legacy);
    class.add_property(legacy);
    class.add_property(field::<P, _>("disable-modern", "", false, |p| &p.disable_modern, &modern));
}

/// Makes the properties of the device behind a function the function's (`qdev_alias_all_properties`).
fn alias_all_properties(class: &mut Class, backend: &'static str) {
    let Some(backend) = qom::class_by_name(backend) else { return };
    let device = qom::class_by_name("device");
    for property in backend.properties() {
        let of_every_device = device.is_some_and(|device| device.property(&property.name).is_some());
        let is_state = property.type_name == "DeviceState";
        if of_every_device || is_state || property.set.is_none() && property.get.is_none() {
            continue;
        }
        let (get, set) = (property.name.clone(), property.name.clone());
        class.add_property(PropertyInfo {
            get: property.get.is_some().then(|| -> qom::types::Getter {
                Arc::new(move |object| behind(object)?.property_get(&get))
            }),
            set: property.set.is_some().then(|| -> qom::types::Setter {
                Arc::new(move |object, input| behind(object)?.property_set(&set, input))
            }),
            ..property.clone()
        });
    }
}

fn behind(object: &dyn Object) -> Result<Arc<dyn Object>> {
    match object.cast::<VirtIOPciProxy>().and_then(VirtIOPciProxy::backend) {
        Some(backend) => Ok(backend),
        None => qom::bail!("'{}' has no device behind it", object.type_name()),
    }
}

/// As many queues as there are CPUs, each with a vector of its own beside the `fixed` queues' and the
/// configuration's (`virtio_pci_optimal_num_queues`).
pub fn optimal_num_queues(fixed: u16) -> u16 {
    let cpus = current_machine().and_then(|machine| Some(machine.cast::<Machine>()?.config().smp.cpus));
    let cpus = u16::try_from(cpus.unwrap_or(1)).unwrap_or(u16::MAX);
    cpus.min(MSIX_CONTROL_TABLE_SIZE.saturating_sub(fixed)).min(QUEUE_MAX.saturating_sub(fixed))
}
