//! Processors, and the methods that plug and unplug them (QEMU `docs/specs/acpi_cpu_hotplug.rst`).

use hw_acpi::aml::*;

use super::fixed::{madt_cpu, needs_x2apic};
use super::{AcpiConfig, AcpiCpu};

/// CPU hotplug registers of the PIIX4 machines.
const HOTPLUG_BASE: u16 = 0xaf00;
const HOTPLUG_LENGTH: u8 = 12;
// Commands in CCMD: what the next access to CDAT means.
const NEXT_CPU_WITH_EVENT: u8 = 0;
const OST_EVENT: u8 = 1;
const OST_STATUS: u8 = 2;
// Notification values (ACPI 6.4, 5.6.6).
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;
const STATUS_OK: u8 = 0xf;
const APIC_ENABLED: u32 = 1;
const FOREVER: u16 = 0xffff;

/// A register of the block, from wherever it is used.
fn register(name: &str) -> Path {
    format!("\\_SB_.PCI0.PRES.{name}").as_str().into()
}

fn set(name: &str, value: &dyn Aml) -> Raw {
    let mut store = Raw::new();
    store.push(&Store::new(&register(name), value));
    store
}

/// A method that has the register block for itself while `body` runs.
fn locked(name: &str, args: u8, body: Vec<&dyn Aml>) -> Raw {
    let acquire = Acquire::new(register("CPLK"), FOREVER);
    let release = Release::new(register("CPLK"));
    let mut children: Vec<&dyn Aml> = vec![&acquire];
    children.extend(body);
    children.push(&release);
    let mut method = Raw::new();
    method.push(&Method::new(name.into(), args, true, children));
    method
}

fn cpu_name(uid: usize) -> String {
    format!("C{uid:03X}")
}

/// The device that owns the registers.
fn registers() -> Raw {
    use FieldEntry::{Named, Reserved};
    let flags = [*b"CPEN", *b"CINS", *b"CRMV", *b"CEJ0", *b"CEJF"].map(|name| Named(name, 1));
    let mut bytes = vec![Reserved(32)];
    bytes.extend(flags);
    bytes.extend([Reserved(3), Named(*b"CCMD", 8)]);
    let dwords = vec![Named(*b"CSEL", 32), Reserved(32), Named(*b"CDAT", 32)];
    let mut device = Raw::new();
    device.push(&Device::new(
        "PRES".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A06")),
            &Name::new("_UID".into(), &"CPU Hotplug resources"),
            &Mutex::new("CPLK".into(), 0),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&IO::new(HOTPLUG_BASE, HOTPLUG_BASE, 1, HOTPLUG_LENGTH)]),
            ),
            &OpRegion::new("PRST".into(), OpRegionSpace::SystemIO, &HOTPLUG_BASE, &HOTPLUG_LENGTH),
            &Field::new(
                "PRST".into(),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::WriteAsZeroes,
                bytes,
            ),
            &Field::new(
                "PRST".into(),
                FieldAccessType::DWord,
                FieldLockRule::NoLock,
                FieldUpdateRule::Preserve,
                dwords,
            ),
            &Method::new("_INI".into(), 0, true, vec![&set("CSEL", &ZERO)]),
        ],
    ));
    device
}

/// CTFY: tells the operating system about the CPU of that number. AML cannot index devices.
fn notify(cpus: usize) -> Raw {
    let mut body = Raw::new();
    for uid in 0..cpus {
        let name: Path = cpu_name(uid).as_str().into();
        body.push(&If::new(&Equal::new(&Arg(0), &(uid as u16)), vec![&Notify::new(&name, &Arg(1))]));
    }
    let mut method = Raw::new();
    method.push(&Method::new("CTFY".into(), 2, false, vec![&body]));
    method
}

/// CSCN: asks the registers for CPUs with an event until there is none.
fn scan() -> Raw {
    let event = |flag: &str, value: u8| {
        let mut body = Raw::new();
        body.push(&MethodCall::new("CTFY".into(), vec![&register("CDAT"), &value]));
        body.push(&set(flag, &ONE));
        body.push(&Store::new(&Local(0), &ONE));
        body
    };
    let inserted = event("CINS", DEVICE_CHECK);
    let removed = event("CRMV", EJECT_REQUEST);
    locked(
        "CSCN",
        0,
        vec![
            &Store::new(&Local(0), &ONE),
            &While::new(
                &Equal::new(&Local(0), &ONE),
                vec![
                    &Store::new(&Local(0), &ZERO),
                    &set("CCMD", &NEXT_CPU_WITH_EVENT),
                    &If::new(&Equal::new(&register("CINS"), &ONE), vec![&inserted]),
                    &Else::new(vec![&If::new(&Equal::new(&register("CRMV"), &ONE), vec![&removed])]),
                ],
            ),
        ],
    )
}

/// The methods that the processors' own methods call.
fn methods(cpus: usize) -> Raw {
    let mut methods = notify(cpus);
    methods.push(&Method::new(
        "CSTA".into(),
        1,
        true,
        vec![
            &Acquire::new(register("CPLK"), FOREVER),
            &set("CSEL", &Arg(0)),
            &Store::new(&Local(0), &ZERO),
            &If::new(&Equal::new(&register("CPEN"), &ONE), vec![&Store::new(&Local(0), &STATUS_OK)]),
            &Release::new(register("CPLK")),
            &Return::new(&Local(0)),
        ],
    ));
    methods.push(&locked("CEJ0", 1, vec![&set("CSEL", &Arg(0)), &set("CEJ0", &ONE)]));
    methods.push(&scan());
    methods.push(&locked(
        "COST",
        4,
        vec![
            &set("CSEL", &Arg(0)),
            &set("CCMD", &OST_EVENT),
            &set("CDAT", &Arg(1)),
            &set("CCMD", &OST_STATUS),
            &set("CDAT", &Arg(2)),
        ],
    ));
    methods
}

fn processor(uid: usize, cpu: &AcpiCpu, hotplug: bool) -> Raw {
    // `check` bounds the number of CPUs to 12 bits.
    let number = uid as u16;
    let mut objects = Raw::new();
    if hotplug {
        objects.push(&Method::new(
            "_STA".into(),
            0,
            true,
            vec![&Return::new(&MethodCall::new("CSTA".into(), vec![&number]))],
        ));
    }
    let entry = madt_cpu(number.into(), cpu.apic_id, APIC_ENABLED);
    objects.push(&Name::new("_MAT".into(), &BufferData::new(entry)));
    if hotplug {
        if uid != 0 {
            let eject = MethodCall::new("CEJ0".into(), vec![&number]);
            objects.push(&Method::new("_EJ0".into(), 1, false, vec![&eject]));
        }
        let arguments: Vec<&dyn Aml> = vec![&number, &Arg(0), &Arg(1), &Arg(2)];
        objects.push(&Method::new("_OST".into(), 3, true, vec![&MethodCall::new("COST".into(), arguments)]));
    }
    if let Some(node) = cpu.node {
        objects.push(&Name::new("_PXM".into(), &node));
    }
    let name = cpu_name(uid);
    let mut processor = Raw::new();
    if needs_x2apic(cpu) || uid > usize::from(u8::MAX) {
        processor.push(&Device::new(
            name.as_str().into(),
            vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &number), &objects],
        ));
    } else {
        processor.push(&Processor::new(&name, uid as u8, vec![&objects]));
    }
    processor
}

/// The container of the processors, and the event that they change.
pub fn cpus(config: &AcpiConfig) -> Raw {
    let hotplug = config.cpu_hotplug;
    let mut children = Raw::new();
    children.push(&Name::new("_HID".into(), &"ACPI0010"));
    children.push(&Name::new("_CID".into(), &EISAName::new("PNP0A05")));
    if hotplug {
        children.push(&methods(config.cpus.len()));
    }
    for (uid, cpu) in config.cpus.iter().enumerate().filter(|(_, cpu)| hotplug || cpu.present) {
        children.push(&processor(uid, cpu, hotplug));
    }
    let mut aml = Raw::new();
    if hotplug {
        aml.push(&Scope::new("\\_SB_.PCI0".into(), vec![&registers()]));
    }
    aml.push(&Scope::new("\\_SB_".into(), vec![&Device::new("CPUS".into(), vec![&children])]));
    if hotplug {
        aml.push(&Method::new(
            "\\_GPE._E02".into(),
            0,
            false,
            vec![&MethodCall::new("\\_SB_.CPUS.CSCN".into(), vec![])],
        ));
    }
    aml
}
