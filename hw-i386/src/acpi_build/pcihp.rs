//! Methods that plug and unplug PCI devices (QEMU `docs/specs/acpi_pci_hotplug.rst`).

use hw_acpi::aml::*;

use super::AcpiConfig;
use super::pci::{Bus, device_name, reserve};

/// PCI hotplug registers of the PIIX4 machines.
const BASE: u16 = 0xae00;
const LENGTH: u8 = 0x18;
/// Offsets of the registers: slots plugged and unplugged, eject, bus number and device index.
const STATUS: u16 = BASE;
const EJECT: u16 = BASE + 8;
const BUS_NUMBER: u16 = BASE + 0x10;
const FOREVER: u16 = 0xffff;
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
/// PCI firmware specification 3.1, 4.6: the `_DSM` that names devices.
const DSM_UUID: &str = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";
const DSM_FUNCTIONS: u8 = 0;
const DSM_NAME: u8 = 7;
const DSM_MIN_REVISION: u8 = 2;
/// What PIDX holds for a device without an index.
const NO_INDEX: u32 = u32::MAX;

/// Whether devices can come and go on any bus.
pub fn any(config: &AcpiConfig) -> bool {
    config.pci_hotplug || config.pci_devices.iter().any(|device| device.bridge.is_some())
}

fn registers(region: &str, base: u16, names: &[[u8; 4]]) -> Raw {
    let length = 4 * names.len() as u8;
    let mut objects = Raw::new();
    objects.push(&OpRegion::new(region.into(), OpRegionSpace::SystemIO, &base, &length));
    objects.push(&Field::new(
        region.into(),
        FieldAccessType::DWord,
        FieldLockRule::NoLock,
        FieldUpdateRule::WriteAsZeroes,
        names.iter().map(|&name| FieldEntry::Named(name, 32)).collect(),
    ));
    objects
}

/// Registers and the methods over them, for scope `\_SB.PCI0`.
pub fn methods() -> Raw {
    let mut objects = registers("PCST", STATUS, &[*b"PCIU", *b"PCID"]);
    objects.push(&registers("SEJ_", EJECT, &[*b"B0EJ"]));
    objects.push(&registers("BNMR", BUS_NUMBER, &[*b"BNUM", *b"PIDX"]));
    objects.push(&Mutex::new("BLCK".into(), 0));
    objects.push(&Method::new(
        "PCEJ".into(),
        2,
        false,
        vec![
            &Acquire::new("BLCK".into(), FOREVER),
            &Store::new(&Path::new("BNUM"), &Arg(0)),
            &ShiftLeft::new(&Path::new("B0EJ"), &ONE, &Arg(1)),
            &Release::new("BLCK".into()),
            &Return::new(&ZERO),
        ],
    ));
    objects.push(&Method::new(
        "AIDX".into(),
        2,
        false,
        vec![
            &Acquire::new("BLCK".into(), FOREVER),
            &Store::new(&Path::new("BNUM"), &Arg(0)),
            &ShiftLeft::new(&Path::new("PIDX"), &ONE, &Arg(1)),
            &Store::new(&Local(0), &Path::new("PIDX")),
            &Release::new("BLCK".into()),
            &Return::new(&Local(0)),
        ],
    ));
    objects.push(&device_specific());
    objects
}

/// Local2 = the acpi-index of the device that package Arg4 names by bus and slot, and whether it has one.
fn device_index() -> (Raw, Raw) {
    let part = |index: u8| {
        let mut part = Raw::new();
        part.push(&DeRefOf::new(&Index::new(&ZERO, &Arg(4), &index)));
        part
    };
    let mut load = Raw::new();
    load.push(&Store::new(&Local(2), &MethodCall::new("AIDX".into(), vec![&part(0), &part(1)])));
    let mut known = Raw::new();
    known.push(&LNot::new(&LOr::new(&Equal::new(&Local(2), &ZERO), &Equal::new(&Local(2), &NO_INDEX))));
    (load, known)
}

/// PDSM: `_DSM` of all slots. Function 0 says which functions there are, 7 the device's index.
fn device_specific() -> Raw {
    let (load, known) = device_index();
    let supported = 1u8 << DSM_FUNCTIONS | 1 << DSM_NAME;
    let mut method = Raw::new();
    method.push(&Method::new(
        "PDSM".into(),
        5,
        true,
        vec![
            &If::new(
                &Equal::new(&Arg(2), &DSM_FUNCTIONS),
                vec![
                    &Store::new(&Local(0), &BufferData::new(vec![0])),
                    &If::new(&NotEqual::new(&Arg(0), &Uuid::new(DSM_UUID)), vec![&Return::new(&Local(0))]),
                    &If::new(&LessThan::new(&Arg(1), &DSM_MIN_REVISION), vec![&Return::new(&Local(0))]),
                    &load,
                    &If::new(&known, vec![&Store::new(&Index::new(&ZERO, &Local(0), &ZERO), &supported)]),
                    &Return::new(&Local(0)),
                ],
            ),
            &If::new(
                &Equal::new(&Arg(2), &DSM_NAME),
                vec![
                    &load,
                    &Store::new(&Local(0), &EmptyPackage(2)),
                    &If::new(
                        &known,
                        vec![
                            &Store::new(&Index::new(&ZERO, &Local(0), &ZERO), &Local(2)),
                            &Store::new(&Index::new(&ZERO, &Local(0), &ONE), &""),
                        ],
                    ),
                    &Return::new(&Local(0)),
                ],
            ),
        ],
    ));
    method
}

/// Methods that are the same in all slots, made once: there are dozens of slots, and each machine's start waits for them.
pub struct SlotMethods {
    dsm: Raw,
    eject: Raw,
}

impl SlotMethods {
    /// `_DSM` and `_EJ0`.
    pub fn new() -> Self {
        let (mut dsm, mut eject) = (Raw::new(), Raw::new());
        let arguments: Vec<&dyn Aml> = vec![&Arg(0), &Arg(1), &Arg(2), &Arg(3), &Local(0)];
        dsm.push(&Method::new(
            "_DSM".into(),
            4,
            true,
            vec![
                &Store::new(&Local(0), &Package::new(vec![&Path::new("BSEL"), &Path::new("ASUN")])),
                &Return::new(&MethodCall::new("PDSM".into(), arguments)),
            ],
        ));
        eject.push(&Method::new(
            "_EJ0".into(),
            1,
            false,
            vec![&MethodCall::new("PCEJ".into(), vec![&Path::new("BSEL"), &Path::new("_SUN")])],
        ));
        SlotMethods { dsm, eject }
    }

    /// What a slot has because of hotplug.
    pub fn slot(&self, slot: u8) -> Raw {
        let mut objects = Raw::new();
        objects.push(&Name::new("ASUN".into(), &slot));
        objects.push(&self.dsm);
        objects
    }

    /// What a slot has whose device can be unplugged.
    pub fn eject(&self, slot: u8) -> Raw {
        let mut objects = Raw::new();
        objects.push(&Name::new("_SUN".into(), &slot));
        objects.push(&self.eject);
        objects
    }
}

/// DVNT tells the operating system of the slots in mask Arg0, PCNT of all that changed on this bus and on those below it.
pub fn notify(bus: &Bus<'_>) -> Raw {
    let mut methods = Raw::new();
    let mut changed = Raw::new();
    if let Some(number) = bus.hotplug_number {
        let mut body = Raw::new();
        for slot in (0..32u8).filter(|&slot| bus.ejectable(slot)) {
            let name: Path = device_name(slot, 0).as_str().into();
            body.push(&If::new(
                &And::new(&ZERO, &Arg(0), &(1u32 << slot)),
                vec![&Notify::new(&name, &Arg(1))],
            ));
        }
        methods.push(&Method::new("DVNT".into(), 2, false, vec![&body]));
        changed.push(&Store::new(&Path::new("BNUM"), &number));
        changed.push(&MethodCall::new("DVNT".into(), vec![&Path::new("PCIU"), &DEVICE_CHECK]));
        changed.push(&MethodCall::new("DVNT".into(), vec![&Path::new("PCID"), &EJECT_REQUEST]));
    }
    for bridge in bus.devices.iter().filter(|device| device.bridge.is_some()) {
        // ^Sxx_.PCNT: a name of two segments is not looked for further up.
        changed.0.push(b'^');
        changed.push(&Path::new(&format!("{}.PCNT", device_name(bridge.slot, bridge.function))));
    }
    if !changed.0.is_empty() {
        methods.push(&Method::new("PCNT".into(), 0, false, vec![&changed]));
    }
    methods
}

/// The general-purpose event of PCI hotplug.
pub fn event() -> Raw {
    let lock = "\\_SB_.PCI0.BLCK";
    let mut method = Raw::new();
    method.push(&Method::new(
        "\\_GPE._E01".into(),
        0,
        false,
        vec![
            &Acquire::new(lock.into(), FOREVER),
            &MethodCall::new("\\_SB_.PCI0.PCNT".into(), vec![]),
            &Release::new(lock.into()),
        ],
    ));
    method
}

/// The device that owns the registers.
pub fn resources() -> Raw {
    reserve("PHPR", "PCI Hotplug resources", BASE, LENGTH)
}
