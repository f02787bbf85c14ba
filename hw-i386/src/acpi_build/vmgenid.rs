//! The SSDT of the VM generation ID (QEMU `docs/specs/vmgenid.txt`, `hw/acpi/vmgenid.c`).

use hw_acpi::aml::*;
use hw_acpi::bios_linker_loader::{Command, Zone};
use hw_acpi::tables::{HEADER_SIZE, TABLES_FILE, TableBlob};
use hw_acpi::vmgenid::{ADDR_FILE, GUID_FILE, GUID_OFFSET};

const STATUS_OK: u8 = 0xf;
/// Where the address in `VGIA` is, in the table's body: behind the name's opcode, the name and the number's opcode.
const VGIA_VALUE: u32 = 6;
/// Notification value of a device's own: the number changed.
const CHANGED: u8 = 0x80;
const PAGE: u32 = 4096;

fn device() -> Raw {
    let address = Path::new("VGIA");
    let part = |index: &dyn Aml, value: &dyn Aml| {
        let mut store = Raw::new();
        store.push(&Store::new(&Index::new(&ZERO, &Local(0), index), value));
        store
    };
    let mut device = Raw::new();
    device.push(&Device::new(
        "VGEN".into(),
        vec![
            &Name::new("_HID".into(), &"QEMUVGID"),
            &Name::new("_CID".into(), &"VM_Gen_Counter"),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Method::new(
                "_STA".into(),
                0,
                false,
                vec![
                    &Store::new(&Local(0), &STATUS_OK),
                    &If::new(&Equal::new(&address, &ZERO), vec![&Store::new(&Local(0), &ZERO)]),
                    &Return::new(&Local(0)),
                ],
            ),
            &Method::new(
                "ADDR".into(),
                0,
                false,
                vec![
                    &Store::new(&Local(0), &EmptyPackage(2)),
                    &part(&ZERO, &Add::new(&ZERO, &address, &(GUID_OFFSET as u8))),
                    &part(&ONE, &ZERO),
                    &Return::new(&Local(0)),
                ],
            ),
        ],
    ));
    device
}

/// SSDT. The firmware allocates the number's memory, patches its address into the table, and tells the machine where
/// the number itself is.
pub fn vmgenid(blob: &mut TableBlob) -> u32 {
    // The name's value is four bytes whatever it is.
    let mut aml = Raw(b"\x08VGIA\x0c\0\0\0\0".to_vec());
    aml.push(&Scope::new("\\_SB_".into(), vec![&device()]));
    let device = Path::new("\\_SB_.VGEN");
    let notify = Notify::new(&device, &CHANGED);
    aml.push(&Method::new("\\_GPE._E05".into(), 0, false, vec![&notify]));
    blob.named_table(*b"SSDT", *b"VMGENID\0", &aml.0, |start| {
        vec![
            Command::Allocate { file: GUID_FILE.to_owned(), align: PAGE, zone: Zone::High },
            Command::WritePointer {
                dest_file: ADDR_FILE.to_owned(),
                src_file: GUID_FILE.to_owned(),
                dst_offset: 0,
                src_offset: GUID_OFFSET as u32,
                size: 8,
            },
            Command::AddPointer {
                dest_file: TABLES_FILE.to_owned(),
                src_file: GUID_FILE.to_owned(),
                offset: start + HEADER_SIZE as u32 + VGIA_VALUE,
                size: 4,
            },
        ]
    })
}
