//! Kernel and initrd files: opened once, read by position, never as a whole.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::sync::Arc;

use super::RomSource;

/// An open file with its length at the time.
#[derive(Debug, Clone)]
pub(super) struct Image {
    file: Arc<File>,
    /// Length in bytes.
    pub len: u64,
}

impl Image {
    /// Opens a regular file or a block device.
    ///
    /// Others are refused: they cannot be read again at a reset.
    pub fn open(path: &str) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(io::Error::other("Is a directory"));
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file: Arc::new(file), len })
    }

    /// Fills `buf` from `offset`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// `len` bytes at `offset` as the content of a ROM; none where the file is shorter.
    pub fn source(&self, offset: u64, len: u64) -> Option<RomSource> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| RomSource::File { file: Arc::clone(&self.file), offset, len })
    }
}

/// The little-endian `u16` at `offset`, 0 past the end.
pub(super) fn le16(bytes: &[u8], offset: usize) -> u16 {
    field(bytes, offset).map_or(0, u16::from_le_bytes)
}

/// The little-endian `u32` at `offset`, 0 past the end.
pub(super) fn le32(bytes: &[u8], offset: usize) -> u32 {
    field(bytes, offset).map_or(0, u32::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
