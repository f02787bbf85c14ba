//! Devices on the ISA bus.

use hw_acpi::aml::*;

/// A floppy drive as its `_FDI` describes it (ACPI 6.4, 9.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloppyDrive {
    /// Type in the CMOS: 4 for 1.44 MB, 5 for 2.88 MB.
    pub kind: u8,
    /// Highest cylinder.
    pub max_cylinder: u16,
    /// Highest sector of a track.
    pub max_sector: u8,
    /// Highest head.
    pub max_head: u8,
}

/// A device on the ISA bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsaDevice {
    /// Keyboard of the i8042.
    Keyboard,
    /// Mouse of the i8042.
    Mouse,
    /// Floppy controller at 0x3f0 and its drives A and B.
    Floppy([Option<FloppyDrive>; 2]),
    /// Parallel port LPT`number`.
    Parallel {
        /// 1 to 3.
        number: u8,
        /// First port.
        iobase: u16,
        /// Interrupt.
        irq: u8,
    },
    /// Serial port COM`number`.
    Serial {
        /// 1 to 4.
        number: u8,
        /// First port.
        iobase: u16,
        /// Interrupt.
        irq: u8,
    },
    /// MC146818 real-time clock at 0x70.
    Rtc,
    /// `pvpanic`.
    PvPanic {
        /// Its port.
        ioport: u16,
    },
}

/// `_STA`: present, enabled, shown, working.
const STATUS_OK: u8 = 0xf;
/// What a floppy drive's BIOS parameter table says for 1.44 MB media (`_FDI`, disk_specify and following).
const FLOPPY_PARAMETERS: [u8; 11] = [0xaf, 0x02, 0x25, 0x02, 0x12, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 0x08];
/// `_FDE`: no tape drive is known.
const NO_TAPE: u32 = 2;

/// A device with a PnP id, the extra objects and the resources given.
fn device(name: &str, id: &str, extra: &dyn Aml, resources: Vec<&dyn Aml>) -> Raw {
    let mut device = Raw::new();
    device.push(&Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new(id)),
            extra,
            &Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
        ],
    ));
    device
}

fn status() -> Name {
    Name::new("_STA".into(), &STATUS_OK)
}

fn unit_and_status(number: u8) -> Raw {
    let mut objects = Raw::new();
    objects.push(&Name::new("_UID".into(), &number));
    objects.push(&status());
    objects
}

/// The byte in which a guest says that it panicked, with methods to read and write it (`build_pvpanic_isa_aml`).
fn pvpanic(ioport: u16) -> Raw {
    let (region, byte) = ("PEOR", FieldEntry::Named(*b"PEPT", 8));
    let field = Field::new(
        region.into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        vec![byte],
    );
    let byte = || Path::new("PEPT");
    let mut device = Raw::new();
    device.push(&Device::new(
        "PEVT".into(),
        vec![
            &Name::new("_HID".into(), &"QEMU0001"),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&IO::new(ioport, ioport, 1, 1)])),
            &OpRegion::new(region.into(), OpRegionSpace::SystemIO, &ioport, &ONE),
            &field,
            &status(),
            &Method::new(
                "RDPT".into(),
                0,
                false,
                vec![&Store::new(&Local(0), &byte()), &Return::new(&Local(0))],
            ),
            &Method::new("WRPT".into(), 1, false, vec![&Store::new(&byte(), &Arg(0))]),
        ],
    ));
    device
}

fn floppy(drives: &[Option<FloppyDrive>; 2]) -> Raw {
    let mut objects = Raw::new();
    let mut present = Vec::new();
    for (number, (name, drive)) in (0u8..).zip(["FLPA", "FLPB"].into_iter().zip(drives)) {
        present.extend_from_slice(&u32::from(drive.is_some()).to_le_bytes());
        let Some(drive) = drive else { continue };
        let mut info = PackageBuilder::new();
        info.add_element(&number);
        info.add_element(&drive.kind);
        info.add_element(&drive.max_cylinder);
        info.add_element(&drive.max_sector);
        info.add_element(&drive.max_head);
        FLOPPY_PARAMETERS.iter().for_each(|parameter| info.add_element(parameter));
        objects.push(&Device::new(
            name.into(),
            vec![&Name::new("_ADR".into(), &number), &Name::new("_FDI".into(), &info)],
        ));
    }
    present.extend_from_slice(&[0; 8]);
    present.extend_from_slice(&NO_TAPE.to_le_bytes());
    objects.push(&Name::new("_FDE".into(), &BufferData::new(present)));
    let ports = [IO::new(0x3f2, 0x3f2, 0, 4), IO::new(0x3f7, 0x3f7, 0, 1)];
    device("FDC0", "PNP0700", &objects, vec![&ports[0], &ports[1], &IrqNoFlags(6), &IsaDma(2)])
}

impl Aml for IsaDevice {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let aml = match self {
            Self::Keyboard => device(
                "KBD_",
                "PNP0303",
                &status(),
                vec![&IO::new(0x60, 0x60, 1, 1), &IO::new(0x64, 0x64, 1, 1), &IrqNoFlags(1)],
            ),
            Self::Mouse => device("MOU_", "PNP0F13", &status(), vec![&IrqNoFlags(12)]),
            Self::Floppy(drives) => floppy(drives),
            Self::Parallel { number, iobase, irq } => device(
                &format!("LPT{number}"),
                "PNP0400",
                &unit_and_status(*number),
                vec![&IO::new(*iobase, *iobase, 8, 8), &IrqNoFlags(*irq)],
            ),
            Self::Serial { number, iobase, irq } => device(
                &format!("COM{number}"),
                "PNP0501",
                &unit_and_status(*number),
                vec![&IO::new(*iobase, *iobase, 0, 8), &IrqNoFlags(*irq)],
            ),
            Self::Rtc => {
                device("RTC_", "PNP0B00", &Raw::new(), vec![&IO::new(0x70, 0x70, 1, 8), &IrqNoFlags(8)])
            }
            Self::PvPanic { ioport } => pvpanic(*ioport),
        };
        aml.to_aml_bytes(sink);
    }
}
