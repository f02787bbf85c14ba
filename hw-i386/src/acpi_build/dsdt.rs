//! The DSDT: what there is on the board, as AML.

use hw_acpi::aml::*;

use super::{AcpiConfig, cpus, memory, pci, pcihp};

/// QEMU's debug console.
const DEBUG_PORT: u16 = 0x402;
const NEW_LINE: u8 = 10;
const HPET_BASE: u32 = 0xfed0_0000;
const HPET_LENGTH: u16 = 0x400;
/// The longest clock period that the HPET specification allows, in femtoseconds (2.3.4).
const HPET_MAX_PERIOD: u32 = 100_000_000;
const FW_CFG_BASE: u16 = 0x510;
/// Selector, data and the 64-bit DMA address.
const FW_CFG_LENGTH: u8 = 12;
const STATUS_OK: u8 = 0xf;
const STATUS_HIDDEN: u8 = 0xb;
/// SLP_TYPx of S3 and S5 in the PIIX4 of QEMU.
const SLP_TYP_S3: u8 = 1;
const SLP_TYP_S5: u8 = 0;

/// DBUG writes its argument, in hexadecimal, and a new line to the debug console.
fn debug() -> Raw {
    let mut aml = Raw::new();
    aml.push(&OpRegion::new("DBG_".into(), OpRegionSpace::SystemIO, &DEBUG_PORT, &ONE));
    aml.push(&Field::new(
        "DBG_".into(),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        vec![FieldEntry::Named(*b"DBGB", 8)],
    ));
    // The string's last byte is its terminating zero.
    aml.push(&Method::new(
        "DBUG".into(),
        1,
        false,
        vec![
            &ToHexString::new(&Arg(0), &Local(0)),
            &ToBuffer::new(&Local(0), &Local(0)),
            &Subtract::new(&Local(1), &SizeOf::new(&Local(0)), &ONE),
            &Store::new(&Local(2), &ZERO),
            &While::new(
                &LessThan::new(&Local(2), &Local(1)),
                vec![
                    &Store::new(&Path::new("DBGB"), &DeRefOf::new(&Index::new(&ZERO, &Local(0), &Local(2)))),
                    &Increment::new(&Local(2)),
                ],
            ),
            &Store::new(&Path::new("DBGB"), &NEW_LINE),
        ],
    ));
    aml
}

/// Whether the HPET is there: a vendor and a period that can be.
fn hpet_status() -> Raw {
    let mut method = Raw::new();
    method.push(&Method::new(
        "_STA".into(),
        0,
        false,
        vec![
            &ShiftRight::new(&Local(0), &Path::new("VEND"), &16u8),
            &If::new(
                &LOr::new(&Equal::new(&Local(0), &ZERO), &Equal::new(&Local(0), &0xffffu16)),
                vec![&Return::new(&ZERO)],
            ),
            &Store::new(&Local(1), &Path::new("PRD_")),
            &If::new(
                &LOr::new(&Equal::new(&Local(1), &ZERO), &GreaterThan::new(&Local(1), &HPET_MAX_PERIOD)),
                vec![&Return::new(&ZERO)],
            ),
            &Return::new(&STATUS_OK),
        ],
    ));
    method
}

fn hpet() -> Raw {
    let mut device = Raw::new();
    device.push(&Device::new(
        "HPET".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0103")),
            &Name::new("_UID".into(), &ZERO),
            &OpRegion::new("HPTM".into(), OpRegionSpace::SystemMemory, &HPET_BASE, &HPET_LENGTH),
            &Field::new(
                "HPTM".into(),
                FieldAccessType::DWord,
                FieldLockRule::Lock,
                FieldUpdateRule::Preserve,
                vec![FieldEntry::Named(*b"VEND", 32), FieldEntry::Named(*b"PRD_", 32)],
            ),
            &hpet_status(),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&Memory32Fixed::new(false, HPET_BASE, HPET_LENGTH.into())]),
            ),
        ],
    ));
    device
}

fn fw_cfg() -> Raw {
    let mut device = Raw::new();
    let ports = IO::new(FW_CFG_BASE, FW_CFG_BASE, 1, FW_CFG_LENGTH);
    device.push(&Device::new(
        "FWCF".into(),
        vec![
            &Name::new("_HID".into(), &"QEMU0002"),
            &Name::new("_STA".into(), &STATUS_HIDDEN),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports])),
        ],
    ));
    device
}

/// The sleeping states (ACPI 6.4, 7.4.2), for the root scope.
fn sleep_states(config: &AcpiConfig) -> Raw {
    let states = [("_S3_", config.s3.then_some(SLP_TYP_S3)), ("_S4_", config.s4), ("_S5_", Some(SLP_TYP_S5))];
    let mut aml = Raw::new();
    for (name, value) in states {
        if let Some(value) = value {
            aml.push(&Name::new(name.into(), &Package::new(vec![&value, &value, &ZERO, &ZERO])));
        }
    }
    aml
}

/// What `\_SB.PCI0` has.
fn root_bus(config: &AcpiConfig) -> Raw {
    let mut aml = Raw::new();
    if pcihp::any(config) {
        aml.push(&pcihp::methods());
    }
    aml.push(&pci::routing_table());
    aml.push(&pci::resources(config));
    aml.push(&pci::gpe_registers());
    if pcihp::any(config) {
        aml.push(&pcihp::resources());
    }
    if config.fw_cfg {
        aml.push(&fw_cfg());
    }
    aml
}

/// The body of the DSDT.
pub fn dsdt(config: &AcpiConfig) -> Vec<u8> {
    let mut aml = debug();
    let mut system_bus = Raw::new();
    system_bus.push(&pci::root(config.pci_root_uid));
    system_bus.push(&pci::links());
    if config.hpet {
        system_bus.push(&hpet());
    }
    aml.push(&Scope::new("\\_SB_".into(), vec![&system_bus]));
    aml.push(&Scope::new("\\_SB_.PCI0".into(), vec![&root_bus(config)]));
    aml.push(&Scope::new("_GPE".into(), vec![&Name::new("_HID".into(), &"ACPI0006")]));
    aml.push(&cpus::cpus(config));
    if config.memory_slots > 0 {
        aml.push(&memory::memory(config.memory_slots));
    }
    aml.push(&sleep_states(config));
    let bus = pci::Bus::root(config).objects(&pcihp::SlotMethods::new());
    aml.push(&Scope::new("\\_SB_.PCI0".into(), vec![&bus]));
    if pcihp::any(config) {
        aml.push(&pcihp::event());
    }
    aml.0
}
