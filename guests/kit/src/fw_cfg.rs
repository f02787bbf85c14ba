//! QEMU's firmware configuration device (docs/specs/fw_cfg.rst).

use core::sync::atomic::{Ordering, compiler_fence};

use crate::io::{inb, insb, outl, outw};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// The DMA address register, big-endian, high half first.
pub const DMA: u16 = 0x514;
/// Key: "QEMU".
pub const SIGNATURE: u16 = 0x00;
/// Key: feature bits.
pub const ID: u16 = 0x01;
/// Key: bytes of RAM.
pub const RAM_SIZE: u16 = 0x03;
/// Key: processors at start.
pub const NB_CPUS: u16 = 0x05;
/// Key: the file directory.
pub const FILE_DIR: u16 = 0x19;

const DMA_READ: u32 = 1 << 1;
const DMA_SELECT: u32 = 1 << 3;

/// A file of the directory.
#[derive(Clone, Copy)]
pub struct File {
    /// Bytes.
    pub size: u32,
    /// Key.
    pub key: u16,
    /// Name, padded with zeroes.
    pub name: [u8; 56],
}

impl File {
    /// The name without its padding.
    pub fn name(&self) -> &[u8] {
        self.name.split(|&b| b == 0).next().unwrap_or(&[])
    }
}

/// Selects a key, at its beginning.
pub fn select(key: u16) {
    outw(SELECTOR, key);
}

/// Reads bytes of the selected key through the data port, one by one.
pub fn read_bytes<const N: usize>() -> [u8; N] {
    core::array::from_fn(|_| inb(DATA))
}

/// Reads bytes of the selected key through the data port with one `rep insb`.
pub fn read_string(to: &mut [u8]) {
    insb(DATA, to);
}

/// Selects a key and reads a little-endian number.
pub fn number(key: u16) -> u64 {
    select(key);
    u64::from_le_bytes(read_bytes())
}

/// Number of files in the directory.
pub fn file_count() -> u32 {
    select(FILE_DIR);
    u32::from_be_bytes(read_bytes())
}

/// Finds a file in the directory.
pub fn find(name: &str) -> Option<File> {
    let count = file_count();
    (0..count).map(|_| next_file()).find(|file| file.name() == name.as_bytes())
}

/// Reads the directory's next entry; [`file_count`] goes before the first.
pub fn next_file() -> File {
    let mut entry = [0; 64];
    read_string(&mut entry);
    let [s0, s1, s2, s3, k0, k1, _, _, name @ ..] = entry;
    File { size: u32::from_be_bytes([s0, s1, s2, s3]), key: u16::from_be_bytes([k0, k1]), name }
}

/// Reads the beginning of a key by DMA; the control word the device left, 0 when all went well.
pub fn dma_read(key: u16, to: &mut [u8]) -> u32 {
    #[repr(C)]
    struct Access {
        control: u32,
        length: u32,
        address: u64,
    }
    let mut access = Access {
        control: (u32::from(key) << 16 | DMA_SELECT | DMA_READ).to_be(),
        length: (to.len() as u32).to_be(),
        address: (to.as_mut_ptr() as u64).to_be(),
    };
    let at = (&raw mut access) as u64;
    compiler_fence(Ordering::SeqCst);
    outl(DMA, ((at >> 32) as u32).to_be());
    outl(DMA + 4, (at as u32).to_be());
    compiler_fence(Ordering::SeqCst);
    // SAFETY: `access` lives; the device wrote its control word.
    u32::from_be(unsafe { (&raw const access.control).read_volatile() })
}
