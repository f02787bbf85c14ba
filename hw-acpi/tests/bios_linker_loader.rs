//! The loader script's layout, as a firmware reads it, and what is refused.

use hw_acpi::bios_linker_loader::{BiosLinker, COMMAND_SIZE, Command, CommandError, Zone};
use proptest::prelude::*;

fn name(text: &str) -> String {
    text.to_owned()
}

#[test]
fn allocate_is_laid_out_as_firmware_reads_it() {
    let command = Command::Allocate { file: name("etc/acpi/rsdp"), align: 16, zone: Zone::FSeg };
    let bytes = command.encode();
    assert_eq!(bytes[..4], 1u32.to_le_bytes());
    assert_eq!(&bytes[4..18], b"etc/acpi/rsdp\0");
    assert_eq!(bytes[60..65], [16, 0, 0, 0, 2]);
    assert!(bytes[65..].iter().all(|&byte| byte == 0));
}

#[test]
fn pointer_and_checksum_are_laid_out_as_firmware_reads_them() {
    let add = Command::AddPointer { dest_file: name("a"), src_file: name("b"), offset: 0x1234, size: 8 };
    let bytes = add.encode();
    assert_eq!((bytes[0], bytes[4], bytes[60]), (2, b'a', b'b'));
    assert_eq!(bytes[116..121], [0x34, 0x12, 0, 0, 8]);

    let sum = Command::AddChecksum { file: name("a"), offset: 9, start: 0x40, length: 0x101 };
    let bytes = sum.encode();
    assert_eq!(bytes[0], 3);
    assert_eq!(bytes[60..72], [9, 0, 0, 0, 0x40, 0, 0, 0, 1, 1, 0, 0]);

    let (dest_file, src_file) = (name("a"), name("b"));
    let write = Command::WritePointer { dest_file, src_file, dst_offset: 1, src_offset: 2, size: 4 };
    let bytes = write.encode();
    assert_eq!(bytes[0], 4);
    assert_eq!(bytes[116..125], [1, 0, 0, 0, 2, 0, 0, 0, 4]);
}

#[test]
fn script_is_padded() {
    let mut linker = BiosLinker::new();
    linker.push(Command::AddChecksum { file: name("a"), offset: 0, start: 0, length: 0 });
    assert_eq!(linker.script(1).len(), COMMAND_SIZE);
    assert_eq!(linker.script(4096).len(), 4096);
    assert_eq!(BiosLinker::new().script(4096).len(), 0);
}

fn broken(change: impl Fn(&mut [u8; COMMAND_SIZE])) -> CommandError {
    let allocate = Command::Allocate { file: name("file"), align: 64, zone: Zone::High };
    let mut bytes = allocate.encode();
    change(&mut bytes);
    Command::decode(&bytes).unwrap_err()
}

#[test]
fn malformed_commands_are_refused() {
    assert_eq!(broken(|bytes| bytes[0] = 9), CommandError::Unknown(9));
    assert_eq!(broken(|bytes| bytes[4] = 0), CommandError::Name(1));
    assert_eq!(broken(|bytes| bytes[4..60].fill(b'x')), CommandError::Name(1));
    assert_eq!(broken(|bytes| bytes[4] = 0xff), CommandError::Name(1));
    assert_eq!(broken(|bytes| bytes[60] = 48), CommandError::Alignment(48));
    assert_eq!(broken(|bytes| bytes[64] = 3), CommandError::Zone(3));
    let mut bytes =
        Command::AddPointer { dest_file: name("a"), src_file: name("b"), offset: 0, size: 4 }.encode();
    bytes[120] = 3;
    assert_eq!(Command::decode(&bytes), Err(CommandError::PointerSize(3)));
    assert_eq!(Command::decode(&[0; COMMAND_SIZE]), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(kind in 0u32..6, rest in proptest::collection::vec(any::<u8>(), COMMAND_SIZE - 4)) {
        let mut bytes = [0; COMMAND_SIZE];
        bytes[..4].copy_from_slice(&kind.to_le_bytes());
        bytes[4..].copy_from_slice(&rest);
        if let Ok(Some(command)) = Command::decode(&bytes) {
            prop_assert_eq!(Command::decode(&command.encode()), Ok(Some(command)));
        }
    }

    #[test]
    fn commands_survive_encoding(
        dest_file in "[a-z/]{1,55}", src_file in "[a-z/]{1,55}", offset: u32, size in 0u32..4,
    ) {
        let command = Command::AddPointer { dest_file, src_file, offset, size: 1 << size };
        prop_assert_eq!(Command::decode(&command.encode()), Ok(Some(command)));
    }
}
