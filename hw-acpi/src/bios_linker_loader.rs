//! The script over which a machine tells its firmware where to put tables and how to patch them.
//!
//! Tables hold pointers to each other and checksums over them, yet only the firmware knows where they will lie.
//! So the machine hands out blobs that hold offsets, and a script (fw_cfg file [`LOADER_FILE`]) of 128-byte
//! commands: allocate a blob, add a blob's address to a pointer, fix a checksum, tell the machine an address.
//!
//! Source followed: QEMU `hw/acpi/bios-linker-loader.c` (layout), SeaBIOS `src/fw/romfile_loader.c` (meaning).

use thiserror::Error;

/// fw_cfg name of the script.
pub const LOADER_FILE: &str = "etc/table-loader";
/// Bytes of one command.
pub const COMMAND_SIZE: usize = 128;
/// Bytes of a file name in a command, its terminating zero included.
pub const FILE_NAME_SIZE: usize = 56;

const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const WRITE_POINTER: u32 = 4;
const ZONE_HIGH: u8 = 1;
const ZONE_FSEG: u8 = 2;

/// Why 128 bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The command's number is none of the four.
    #[error("unknown loader command {0:#x}")]
    Unknown(u32),
    /// A file name is empty, not terminated or not ASCII.
    #[error("loader command {0:#x} has a malformed file name")]
    Name(u32),
    /// ALLOCATE names a zone that does not exist.
    #[error("unknown allocation zone {0}")]
    Zone(u8),
    /// An alignment that is not a power of two.
    #[error("alignment {0} is not a power of two")]
    Alignment(u32),
    /// A pointer of a size other than 1, 2, 4 and 8 bytes.
    #[error("pointer of {0} bytes")]
    PointerSize(u8),
}

/// Where the firmware is to allocate a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Below the top of the RAM under 4 GiB.
    High,
    /// The F segment, 0xf0000 to 0xfffff, where operating systems search for entry points.
    FSeg,
}

/// One command of the script. Offsets and lengths are bytes inside the named file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Load `file` into `zone`.
    Allocate {
        /// fw_cfg file to load.
        file: String,
        /// Alignment of its address, a power of two.
        align: u32,
        /// Where it goes.
        zone: Zone,
    },
    /// Add the address of `src_file` to the little-endian pointer in `dest_file`.
    AddPointer {
        /// File that holds the pointer.
        dest_file: String,
        /// File whose address is added.
        src_file: String,
        /// Place of the pointer in `dest_file`.
        offset: u32,
        /// Bytes of the pointer: 1, 2, 4 or 8.
        size: u8,
    },
    /// Set the byte at `offset` so that `length` bytes from `start` sum up to zero.
    AddChecksum {
        /// The file.
        file: String,
        /// Place of the checksum.
        offset: u32,
        /// First byte covered.
        start: u32,
        /// Bytes covered.
        length: u32,
    },
    /// Write the address of `src_file` plus `src_offset` back to the machine's fw_cfg file `dest_file`.
    WritePointer {
        /// Writable fw_cfg file.
        dest_file: String,
        /// File whose address is written.
        src_file: String,
        /// Place of the pointer in `dest_file`.
        dst_offset: u32,
        /// Added to the address.
        src_offset: u32,
        /// Bytes of the pointer: 1, 2, 4 or 8.
        size: u8,
    },
}

impl Command {
    /// The command as the firmware reads it. A name longer than [`FILE_NAME_SIZE`]` - 1` is cut.
    pub fn encode(&self) -> [u8; COMMAND_SIZE] {
        let mut entry = Entry::default();
        match self {
            Self::Allocate { file, align, zone } => {
                entry.u32(ALLOCATE).name(file).u32(*align).u8(match zone {
                    Zone::High => ZONE_HIGH,
                    Zone::FSeg => ZONE_FSEG,
                });
            }
            Self::AddPointer { dest_file, src_file, offset, size } => {
                entry.u32(ADD_POINTER).name(dest_file).name(src_file).u32(*offset).u8(*size);
            }
            Self::AddChecksum { file, offset, start, length } => {
                entry.u32(ADD_CHECKSUM).name(file).u32(*offset).u32(*start).u32(*length);
            }
            Self::WritePointer { dest_file, src_file, dst_offset, src_offset, size } => {
                entry.u32(WRITE_POINTER).name(dest_file).name(src_file);
                entry.u32(*dst_offset).u32(*src_offset).u8(*size);
            }
        }
        entry.bytes
    }

    /// Reads one command; `None` is the zero that pads the script.
    pub fn decode(bytes: &[u8; COMMAND_SIZE]) -> Result<Option<Self>, CommandError> {
        let mut entry = Entry { bytes: *bytes, at: 0 };
        let number = entry.take_u32();
        let bad_name = CommandError::Name(number);
        Ok(Some(match number {
            0 => return Ok(None),
            ALLOCATE => {
                let file = entry.take_name().ok_or(bad_name)?;
                let align = entry.take_u32();
                if align != 0 && !align.is_power_of_two() {
                    return Err(CommandError::Alignment(align));
                }
                let zone = match entry.take_u8() {
                    ZONE_HIGH => Zone::High,
                    ZONE_FSEG => Zone::FSeg,
                    other => return Err(CommandError::Zone(other)),
                };
                Self::Allocate { file, align, zone }
            }
            ADD_POINTER => Self::AddPointer {
                dest_file: entry.take_name().ok_or(bad_name.clone())?,
                src_file: entry.take_name().ok_or(bad_name)?,
                offset: entry.take_u32(),
                size: entry.take_pointer_size()?,
            },
            ADD_CHECKSUM => Self::AddChecksum {
                file: entry.take_name().ok_or(bad_name)?,
                offset: entry.take_u32(),
                start: entry.take_u32(),
                length: entry.take_u32(),
            },
            WRITE_POINTER => Self::WritePointer {
                dest_file: entry.take_name().ok_or(bad_name.clone())?,
                src_file: entry.take_name().ok_or(bad_name)?,
                dst_offset: entry.take_u32(),
                src_offset: entry.take_u32(),
                size: entry.take_pointer_size()?,
            },
            other => return Err(CommandError::Unknown(other)),
        }))
    }
}

/// A command's bytes, filled or read from front to back. The fields of every command fit.
struct Entry {
    bytes: [u8; COMMAND_SIZE],
    at: usize,
}

impl Default for Entry {
    fn default() -> Self {
        Self { bytes: [0; COMMAND_SIZE], at: 0 }
    }
}

impl Entry {
    fn put(&mut self, value: &[u8], width: usize) -> &mut Self {
        self.bytes[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += width;
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value], 1)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes(), 4)
    }

    fn name(&mut self, name: &str) -> &mut Self {
        let name = name.as_bytes();
        self.put(&name[..name.len().min(FILE_NAME_SIZE - 1)], FILE_NAME_SIZE)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        value
    }

    fn take_u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn take_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn take_name(&mut self) -> Option<String> {
        let field: [u8; FILE_NAME_SIZE] = self.take();
        let end = field.iter().position(|&byte| byte == 0)?;
        let name = std::str::from_utf8(&field[..end]).ok()?;
        (end > 0 && name.is_ascii()).then(|| name.to_owned())
    }

    fn take_pointer_size(&mut self) -> Result<u8, CommandError> {
        match self.take_u8() {
            size @ (1 | 2 | 4 | 8) => Ok(size),
            other => Err(CommandError::PointerSize(other)),
        }
    }
}

/// The script under construction.
#[derive(Debug, Clone, Default)]
pub struct BiosLinker {
    commands: Vec<Command>,
}

impl BiosLinker {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command. A file is allocated before other commands name it, and a checksum comes after the
    /// pointers it covers: commands run in their order.
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// The script, padded with zeros to a multiple of `align` bytes.
    pub fn script(&self, align: usize) -> Vec<u8> {
        let mut script: Vec<u8> = self.commands.iter().flat_map(Command::encode).collect();
        script.resize(script.len().next_multiple_of(align.max(1)), 0);
        script
    }
}
