//! The PCI root bus, its resources and its interrupt routing.

use hw_acpi::aml::*;

use super::{AcpiConfig, fixed, pcihp};

/// A function that the tables describe: function 0 of a slot, or a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciDevice {
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
    /// A VGA device: it stays as it is in sleeping states.
    pub display: bool,
    /// The device can be unplugged.
    pub hotpluggable: bool,
    /// The bus below it, for a bridge behind which devices can come and go.
    pub bridge: Option<PciBridge>,
}

/// The bus below a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PciBridge {
    /// The number that the hotplug registers know it by.
    pub hotplug_number: u8,
    /// What is on it now.
    pub devices: Vec<PciDevice>,
}

/// Inputs of the I/O APIC that a link can be routed to.
const LINK_IRQS: [u32; 3] = [5, 10, 11];
/// The link that is hard-wired to the SCI, for the PIIX4's power management.
const SCI_LINK_IRQS: [u32; 1] = [9];
/// Links of the PIIX3, in the order of its route registers.
const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];
/// PIRQRC in the PIIX3's configuration space: four route registers, one a byte.
const PIRQ_ROUTE: u8 = 0x60;
/// A route register's bit that disconnects the link.
const PIRQ_DISABLED: u8 = 0x80;
// `_STA` of a link: present, shown, working; and enabled.
const LINK_DISABLED: u8 = 0x09;
const LINK_ENABLED: u8 = 0x0b;
/// `_STA` of a device that only reserves resources: present, enabled, working.
const RESERVED: u8 = 0x0b;
/// Offset of the interrupt's number in the extended interrupt descriptor.
const DESCRIPTOR_INTERRUPT: u8 = 5;

/// Name of a device: its device and function number.
pub fn device_name(slot: u8, function: u8) -> String {
    format!("S{:02X}_", slot << 3 | function)
}

/// PCI0, without what later scopes add to it.
pub fn root(uid: u8) -> Raw {
    let mut root = Raw::new();
    root.push(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_ADR".into(), &ZERO),
            &Name::new("_UID".into(), &uid),
        ],
    ));
    root
}

/// `_PRT`: pin p of slot s is wired to link (s + p - 1) mod 4, as on the i440FX boards, but INTA# of slot 1, the
/// PIIX4's power management, to the SCI.
pub fn routing_table() -> Raw {
    let mut table = PackageBuilder::new();
    let links = LINKS.map(Path::new);
    let sci_link = Path::new("LNKS");
    for slot in 0..32u32 {
        for pin in 0..4u8 {
            let wire = (slot as usize + usize::from(pin) + LINKS.len() - 1) % LINKS.len();
            let link = if (slot, pin) == (1, 0) { &sci_link } else { &links[wire] };
            let address = slot << 16 | 0xffff;
            table.add_element(&Package::new(vec![&address, &pin, link, &ZERO]));
        }
    }
    let mut name = Raw::new();
    name.push(&Name::new("_PRT".into(), &table));
    name
}

/// A shared level-triggered active-high interrupt with several choices: `acpi_tables` has but one.
struct Interrupts<'a>(&'a [u32]);

impl Aml for Interrupts<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x89);
        sink.word(2 + 4 * self.0.len() as u16);
        sink.byte(1 << 0 | 1 << 3);
        sink.byte(self.0.len() as u8);
        self.0.iter().for_each(|&irq| sink.dword(irq));
    }
}

/// What all links share: IQST gives the `_STA`, IQCR the `_CRS` for a route register's value.
fn link_methods() -> Raw {
    let mut methods = Raw::new();
    methods.push(&Method::new(
        "IQST".into(),
        1,
        false,
        vec![
            &If::new(&And::new(&ZERO, &Arg(0), &PIRQ_DISABLED), vec![&Return::new(&LINK_DISABLED)]),
            &Return::new(&LINK_ENABLED),
        ],
    ));
    methods.push(&Method::new(
        "IQCR".into(),
        1,
        true,
        vec![
            &Name::new("PRR0".into(), &ResourceTemplate::new(vec![&Interrupts(&[0])])),
            &CreateDWordField::new(&Path::new("PRRI"), &Path::new("PRR0"), &DESCRIPTOR_INTERRUPT),
            &If::new(&LessThan::new(&Arg(0), &PIRQ_DISABLED), vec![&Store::new(&Path::new("PRRI"), &Arg(0))]),
            &Return::new(&Path::new("PRR0")),
        ],
    ));
    methods
}

/// A link whose route is in field `register`.
fn link(name: &str, uid: u8, register: &str) -> Raw {
    let route = || Path::new(register);
    let mut device = Raw::new();
    device.push(&Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C0F")),
            &Name::new("_UID".into(), &uid),
            &Name::new("_PRS".into(), &ResourceTemplate::new(vec![&Interrupts(&LINK_IRQS)])),
            &Method::new(
                "_STA".into(),
                0,
                false,
                vec![&Return::new(&MethodCall::new("IQST".into(), vec![&route()]))],
            ),
            &Method::new("_DIS".into(), 0, false, vec![&Or::new(&route(), &route(), &PIRQ_DISABLED)]),
            &Method::new(
                "_CRS".into(),
                0,
                false,
                vec![&Return::new(&MethodCall::new("IQCR".into(), vec![&route()]))],
            ),
            &Method::new(
                "_SRS".into(),
                1,
                false,
                vec![
                    &CreateDWordField::new(&Path::new("PRRI"), &Arg(0), &DESCRIPTOR_INTERRUPT),
                    &Store::new(&route(), &Path::new("PRRI")),
                ],
            ),
        ],
    ));
    device
}

/// The link that cannot be routed.
fn sci_link() -> Raw {
    let mut device = Raw::new();
    device.push(&Device::new(
        "LNKS".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C0F")),
            &Name::new("_UID".into(), &4u8),
            &Name::new("_PRS".into(), &ResourceTemplate::new(vec![&Interrupts(&SCI_LINK_IRQS)])),
            &Method::new("_STA".into(), 0, false, vec![&Return::new(&LINK_ENABLED)]),
            &Method::new("_DIS".into(), 0, false, vec![]),
            &Method::new("_CRS".into(), 0, false, vec![&Return::new(&Path::new("_PRS"))]),
            &Method::new("_SRS".into(), 1, false, vec![]),
        ],
    ));
    device
}

/// All interrupt links, for scope `\_SB`.
pub fn links() -> Raw {
    let mut links = link_methods();
    for (uid, name) in (0u8..).zip(LINKS) {
        links.push(&link(name, uid, &format!("PRQ{uid}")));
    }
    links.push(&sci_link());
    links
}

/// `_CRS` of the root bus: what it hands on to the devices below it.
pub fn resources(config: &AcpiConfig) -> Raw {
    let cacheable = AddressSpaceCacheable::Cacheable;
    // `check` has made sure that the window ends below 4 GiB.
    let (start, last) = (config.pci_hole.start as u32, (config.pci_hole.end - 1) as u32);
    let mut windows = Raw::new();
    windows.push(&AddressSpace::<u16>::new_bus_number(0, 0xff));
    windows.push(&IO::new(0xcf8, 0xcf8, 1, 8));
    windows.push(&AddressSpace::<u16>::new_io(0, 0xcf7, None));
    windows.push(&AddressSpace::<u16>::new_io(0xd00, 0xffff, None));
    windows.push(&AddressSpace::<u32>::new_memory(cacheable, true, 0xa_0000, 0xb_ffff, None));
    let uncacheable = AddressSpaceCacheable::NotCacheable;
    windows.push(&AddressSpace::<u32>::new_memory(uncacheable, true, start, last, None));
    if let Some(hole) = &config.pci_hole64 {
        windows.push(&AddressSpace::<u64>::new_memory(cacheable, true, hole.start, hole.end - 1, None));
    }
    let mut name = Raw::new();
    name.push(&Name::new("_CRS".into(), &ResourceTemplate::new(vec![&windows])));
    name
}

/// A device that only keeps ports from being given to others.
pub fn reserve(name: &str, uid: &'static str, base: u16, length: u8) -> Raw {
    let mut device = Raw::new();
    device.push(&Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &"PNP0A06"),
            &Name::new("_UID".into(), &uid),
            &Name::new("_STA".into(), &RESERVED),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(base, base, 1, length)])),
        ],
    ));
    device
}

/// The device that owns the general-purpose event registers.
pub fn gpe_registers() -> Raw {
    reserve("GPE0", "GPE0 resources", fixed::GPE0_BASE, fixed::GPE0_LENGTH)
}

/// Route registers of the PIIX3 as fields PRQ0 to PRQ3 of `\_SB`, and the devices behind it.
fn isa_bridge(config: &AcpiConfig) -> Raw {
    let region = format!("PCI0.{}.P40C", device_name(config.isa_bridge_slot, 0));
    let routes = [*b"PRQ0", *b"PRQ1", *b"PRQ2", *b"PRQ3"].map(|name| FieldEntry::Named(name, 8));
    let mut bridge = Raw::new();
    bridge.push(&OpRegion::new("P40C".into(), OpRegionSpace::PCIConfig, &PIRQ_ROUTE, &4u8));
    bridge.push(&Scope::new(
        "\\_SB_".into(),
        vec![&Field::new(
            region.as_str().into(),
            FieldAccessType::Byte,
            FieldLockRule::NoLock,
            FieldUpdateRule::Preserve,
            routes.to_vec(),
        )],
    ));
    config.isa_devices.iter().for_each(|device| bridge.push(device));
    bridge
}

/// Methods that keep a display powered: `_S1D` to `_S3D` return D0.
fn display() -> Raw {
    let mut methods = Raw::new();
    for name in ["_S1D", "_S2D", "_S3D"] {
        methods.push(&Method::new(name.into(), 0, false, vec![&Return::new(&ZERO)]));
    }
    methods
}

/// A bus as the tables describe it.
pub struct Bus<'a> {
    /// The number that the hotplug registers know it by, if devices can come and go.
    pub hotplug_number: Option<u8>,
    /// What is on it.
    pub devices: &'a [PciDevice],
    /// The slot of the ISA bridge and what that has, on the root bus.
    isa: Option<(u8, Raw)>,
}

impl<'a> Bus<'a> {
    /// The root bus.
    pub fn root(config: &'a AcpiConfig) -> Self {
        let hotplug_number = config.pci_hotplug.then_some(0);
        let isa = Some((config.isa_bridge_slot, isa_bridge(config)));
        Bus { hotplug_number, devices: &config.pci_devices, isa }
    }

    fn below(bridge: &'a PciBridge) -> Self {
        Bus { hotplug_number: Some(bridge.hotplug_number), devices: &bridge.devices, isa: None }
    }

    /// Whether a slot's device can be unplugged, or one can be plugged into it.
    pub fn ejectable(&self, slot: u8) -> bool {
        let mut devices = self.devices.iter().filter(|device| (device.slot, device.function) == (slot, 0));
        let isa = self.isa.as_ref().is_some_and(|(bridge, _)| *bridge == slot);
        self.hotplug_number.is_some() && !isa && devices.all(|device| device.hotpluggable)
    }

    /// Everything in the bus's scope: its devices, and what tells of their coming and going
    /// (`build_append_pci_bus_devices`).
    pub fn objects(&self, methods: &pcihp::SlotMethods) -> Raw {
        let mut objects = Raw::new();
        if let Some(number) = self.hotplug_number {
            objects.push(&Name::new("BSEL".into(), &number));
        }
        for slot in 0..32 {
            for function in 0..8 {
                objects.push(&self.device(slot, function, methods));
            }
        }
        objects.push(&pcihp::notify(self));
        objects
    }

    /// A device, or with hotplug an empty slot.
    fn device(&self, slot: u8, function: u8, methods: &pcihp::SlotMethods) -> Raw {
        let device = self.devices.iter().find(|device| (device.slot, device.function) == (slot, function));
        let isa = self.isa.as_ref().filter(|(bridge, _)| (*bridge, 0) == (slot, function));
        let empty = function == 0 && self.hotplug_number.is_some();
        if device.is_none() && isa.is_none() && !empty {
            return Raw::new();
        }
        let mut objects = Raw::new();
        objects.push(&Name::new("_ADR".into(), &(u32::from(slot) << 16 | u32::from(function))));
        if self.hotplug_number.is_some() {
            objects.push(&methods.slot(slot));
        }
        if let Some((_, isa)) = isa {
            objects.push(isa);
        }
        if device.is_some_and(|device| device.display) {
            objects.push(&display());
        }
        if let Some(bridge) = device.and_then(|device| device.bridge.as_ref()) {
            objects.push(&Bus::below(bridge).objects(methods));
        }
        if function == 0 && self.ejectable(slot) {
            objects.push(&methods.eject(slot));
        }
        let mut described = Raw::new();
        described.push(&Device::new(device_name(slot, function).as_str().into(), vec![&objects]));
        described
    }
}
