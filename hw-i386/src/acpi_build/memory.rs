//! Memory modules, and the methods that plug and unplug them (QEMU `docs/specs/acpi_mem_hotplug.rst`).

use hw_acpi::aml::*;

/// Memory hotplug registers of the PIIX4 machines.
const HOTPLUG_BASE: u16 = 0xa00;
const HOTPLUG_LENGTH: u8 = 24;
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
const STATUS_OK: u8 = 0xf;
/// `_STA` of the container: present, enabled, working, not shown.
const STATUS_HIDDEN: u8 = 0xb;
const FOREVER: u16 = 0xffff;
/// Bits before the flags among the registers.
const FLAGS_AT: usize = 160;
/// Fields of a QWord memory descriptor (ACPI 6.4, 6.4.3.5.1): minimum, maximum and length, in two halves.
const MR64_FIELDS: [(&str, u8); 6] =
    [("MINL", 14), ("MINH", 18), ("LENL", 38), ("LENH", 42), ("MAXL", 22), ("MAXH", 26)];
/// Fields of a DWord memory descriptor.
const MR32_FIELDS: [(&str, u8); 3] = [("MIN_", 10), ("MAX_", 14), ("LEN_", 22)];

fn store(to: &str, value: &dyn Aml) -> Raw {
    let mut store = Raw::new();
    store.push(&Store::new(&Path::new(to), value));
    store
}

fn module_name(slot: u32) -> String {
    format!("MP{slot:02X}")
}

/// The device that owns the registers.
fn registers() -> Raw {
    let mut device = Raw::new();
    let ports = IO::new(HOTPLUG_BASE, HOTPLUG_BASE, 0, HOTPLUG_LENGTH);
    device.push(&Device::new(
        "\\_SB_.PCI0.MHPD".into(),
        vec![
            &Name::new("_HID".into(), &"PNP0A06"),
            &Name::new("_UID".into(), &"Memory hotplug resources"),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports])),
            &OpRegion::new("HPMR".into(), OpRegionSpace::SystemIO, &HOTPLUG_BASE, &HOTPLUG_LENGTH),
        ],
    ));
    device
}

fn field(access: FieldAccessType, update: FieldUpdateRule, entries: Vec<FieldEntry>) -> Field {
    Field::new("\\_SB_.PCI0.MHPD.HPMR".into(), access, FieldLockRule::NoLock, update, entries)
}

fn fields() -> Raw {
    use FieldEntry::{Named, Reserved};
    let dwords = |names: &[[u8; 4]]| names.iter().map(|name| Named(*name, 32)).collect();
    let mut fields = Raw::new();
    fields.push(&field(
        FieldAccessType::DWord,
        FieldUpdateRule::Preserve,
        dwords(&[*b"MRBL", *b"MRBH", *b"MRLL", *b"MRLH", *b"MPX_"]),
    ));
    let flags = [*b"MES_", *b"MINS", *b"MRMV", *b"MEJ_"].map(|name| Named(name, 1));
    let flags = std::iter::once(Reserved(FLAGS_AT)).chain(flags).collect();
    fields.push(&field(FieldAccessType::Byte, FieldUpdateRule::WriteAsZeroes, flags));
    fields.push(&field(
        FieldAccessType::DWord,
        FieldUpdateRule::Preserve,
        dwords(&[*b"MSEL", *b"MOEV", *b"MOSC"]),
    ));
    fields
}

/// A method that has the registers for itself while `body` runs, on the slot that its first argument names.
fn of_slot(name: &str, args: u8, serialized: bool, body: Vec<&dyn Aml>) -> Raw {
    let acquire = Acquire::new("MLCK".into(), FOREVER);
    let select = store("MSEL", &ToInteger::new(&ZERO, &Arg(0)));
    let mut children: Vec<&dyn Aml> = vec![&acquire, &select];
    children.extend(body);
    let mut method = Raw::new();
    method.push(&Method::new(name.into(), args, serialized, children));
    method
}

/// MSCN: goes through all slots and tells of what came and what is to go.
fn scan() -> Raw {
    let event = |flag: &str, value: u8| {
        let mut body = Raw::new();
        body.push(&MethodCall::new("MTFY".into(), vec![&Local(0), &value]));
        body.push(&store(flag, &ONE));
        body
    };
    let (inserted, removed) = (event("MINS", DEVICE_CHECK), event("MRMV", EJECT_REQUEST));
    let mut method = Raw::new();
    method.push(&Method::new(
        "MSCN".into(),
        0,
        false,
        vec![
            &If::new(&Equal::new(&Path::new("MDNR"), &ZERO), vec![&Return::new(&ZERO)]),
            &Store::new(&Local(0), &ZERO),
            &Acquire::new("MLCK".into(), FOREVER),
            &While::new(
                &LessThan::new(&Local(0), &Path::new("MDNR")),
                vec![
                    &store("MSEL", &Local(0)),
                    &If::new(&Equal::new(&Path::new("MINS"), &ONE), vec![&inserted]),
                    &Else::new(vec![&If::new(&Equal::new(&Path::new("MRMV"), &ONE), vec![&removed])]),
                    &Add::new(&Local(0), &Local(0), &ONE),
                ],
            ),
            &Release::new("MLCK".into()),
            &Return::new(&ONE),
        ],
    ));
    method
}

/// MCRS: where the module lies, with 64 bits unless it lies below 4 GiB.
fn resources() -> Raw {
    let cacheable = AddressSpaceCacheable::Cacheable;
    let release = Release::new("MLCK".into());
    let (path64, path32) = (Path::new("MR64"), Path::new("MR32"));
    let wide = AddressSpace::<u64>::new_memory(cacheable, true, 0, u64::MAX - 1, None);
    let wide = Name::new("MR64".into(), &ResourceTemplate::new(vec![&wide]));
    let mut body = Raw::new();
    body.push(&wide);
    for (name, at) in MR64_FIELDS {
        body.push(&CreateDWordField::new(&Path::new(name), &path64, &at));
    }
    for (to, from) in [("MINH", "MRBH"), ("MINL", "MRBL"), ("LENH", "MRLH"), ("LENL", "MRLL")] {
        body.push(&store(to, &Path::new(from)));
    }
    // 64-bit sums of halves: MAX = MIN + LEN - 1.
    body.push(&Add::new(&Path::new("MAXL"), &Path::new("MINL"), &Path::new("LENL")));
    body.push(&Add::new(&Path::new("MAXH"), &Path::new("MINH"), &Path::new("LENH")));
    body.push(&If::new(
        &LessThan::new(&Path::new("MAXL"), &Path::new("MINL")),
        vec![&Add::new(&Path::new("MAXH"), &Path::new("MAXH"), &ONE)],
    ));
    body.push(&If::new(
        &LessThan::new(&Path::new("MAXL"), &ONE),
        vec![&Subtract::new(&Path::new("MAXH"), &Path::new("MAXH"), &ONE)],
    ));
    body.push(&Subtract::new(&Path::new("MAXL"), &Path::new("MAXL"), &ONE));
    let narrow = AddressSpace::<u32>::new_memory(cacheable, true, 0, u32::MAX - 1, None);
    let mut low = Raw::new();
    low.push(&Name::new("MR32".into(), &ResourceTemplate::new(vec![&narrow])));
    for (name, at) in MR32_FIELDS {
        low.push(&CreateDWordField::new(&Path::new(name), &path32, &at));
    }
    for (to, from) in [("MIN_", "MINL"), ("MAX_", "MAXL"), ("LEN_", "LENL")] {
        low.push(&store(to, &Path::new(from)));
    }
    low.push(&release);
    low.push(&Return::new(&path32));
    body.push(&If::new(&Equal::new(&Path::new("MAXH"), &ZERO), vec![&low]));
    of_slot("MCRS", 1, true, vec![&body, &release, &Return::new(&path64)])
}

/// The methods that the modules' own methods call.
fn methods() -> Raw {
    let release = Release::new("MLCK".into());
    let mut methods = Raw::new();
    methods.push(&Method::new(
        "_STA".into(),
        0,
        false,
        vec![
            &If::new(&Equal::new(&Path::new("MDNR"), &ZERO), vec![&Return::new(&ZERO)]),
            &Return::new(&STATUS_HIDDEN),
        ],
    ));
    methods.push(&Mutex::new("MLCK".into(), 0));
    methods.push(&scan());
    methods.push(&of_slot(
        "MRST",
        1,
        false,
        vec![
            &Store::new(&Local(0), &ZERO),
            &If::new(&Equal::new(&Path::new("MES_"), &ONE), vec![&Store::new(&Local(0), &STATUS_OK)]),
            &release,
            &Return::new(&Local(0)),
        ],
    ));
    methods.push(&resources());
    methods.push(&of_slot(
        "MPXM",
        1,
        false,
        vec![&Store::new(&Local(0), &Path::new("MPX_")), &release, &Return::new(&Local(0))],
    ));
    methods.push(&of_slot(
        "MOST",
        4,
        false,
        vec![&store("MOEV", &Arg(1)), &store("MOSC", &Arg(2)), &release],
    ));
    methods.push(&of_slot("MEJ0", 2, false, vec![&store("MEJ_", &ONE), &release]));
    methods
}

/// A method of a module, which hands its own arguments on behind the slot's number.
fn forward(name: &str, args: u8, to: &str, returns: bool) -> Raw {
    let uid = Path::new("_UID");
    let own: Vec<_> = (0..args).map(Arg).collect();
    let mut arguments: Vec<&dyn Aml> = vec![&uid];
    arguments.extend(own.iter().map(|arg| arg as &dyn Aml));
    let call = MethodCall::new(to.into(), arguments);
    let mut method = Raw::new();
    if returns {
        method.push(&Method::new(name.into(), args, false, vec![&Return::new(&call)]));
    } else {
        method.push(&Method::new(name.into(), args, false, vec![&call]));
    }
    method
}

fn module(slot: u32) -> Raw {
    let uid = format!("0x{slot:02X}");
    let mut module = Raw::new();
    module.push(&Device::new(
        module_name(slot).as_str().into(),
        vec![
            &Name::new("_UID".into(), &uid),
            &Name::new("_HID".into(), &EISAName::new("PNP0C80")),
            &forward("_CRS", 0, "MCRS", true),
            &forward("_STA", 0, "MRST", true),
            &forward("_PXM", 0, "MPXM", true),
            &forward("_OST", 3, "MOST", false),
            &forward("_EJ0", 1, "MEJ0", false),
        ],
    ));
    module
}

/// MTFY: tells the operating system about the module of that slot.
fn notify(slots: u32) -> Raw {
    let mut body = Raw::new();
    for slot in 0..slots {
        let name: Path = module_name(slot).as_str().into();
        body.push(&If::new(&Equal::new(&Arg(0), &slot), vec![&Notify::new(&name, &Arg(1))]));
    }
    let mut method = Raw::new();
    method.push(&Method::new("MTFY".into(), 2, false, vec![&body]));
    method
}

/// The registers, a device for each slot, and the event that they change.
pub fn memory(slots: u32) -> Raw {
    let mut children = Raw::new();
    children.push(&Name::new("_HID".into(), &"PNP0A06"));
    children.push(&Name::new("_UID".into(), &"DIMM devices"));
    children.push(&Name::new("MDNR".into(), &slots));
    children.push(&fields());
    children.push(&methods());
    (0..slots).for_each(|slot| children.push(&module(slot)));
    children.push(&notify(slots));
    let mut aml = registers();
    aml.push(&Device::new("\\_SB_.MHPC".into(), vec![&children]));
    aml.push(&Method::new(
        "\\_GPE._E03".into(),
        0,
        false,
        vec![&MethodCall::new("\\_SB_.MHPC.MSCN".into(), vec![])],
    ));
    aml
}
