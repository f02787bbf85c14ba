//! The header of an image (docs/interop/qcow2.txt, "Header", "Header extensions"). All numbers are big-endian.

use qom::{Result, bail};

use crate::node::BlockNode;

/// The first bytes: `QFI\xfb`.
pub const MAGIC: u32 = 0x5146_49fb;
/// An incompatible feature: reference counts may be wrong.
pub const INCOMPAT_DIRTY: u64 = 1;
/// The image is known to be corrupt, and is not to be written.
pub const INCOMPAT_CORRUPT: u64 = 1 << 1;
const INCOMPAT_DATA_FILE: u64 = 1 << 2;
const INCOMPAT_COMPRESSION: u64 = 1 << 3;
const INCOMPAT_EXTENDED_L2: u64 = 1 << 4;
/// A compatible feature: reference counts are written late, and the image is marked as dirty meanwhile.
const COMPAT_LAZY_REFCOUNTS: u64 = 1;
/// Where the incompatible features are in the header.
pub const INCOMPAT_AT: u64 = 72;
const AUTOCLEAR_AT: u64 = 88;
/// Where number of entries and place of the first table of addresses are.
pub const L1_AT: u64 = 36;
/// Where size of the disk is.
pub const SIZE_AT: u64 = 24;
/// Where place and size of the table of reference counts are.
pub const REFTABLE_AT: u64 = 48;
/// Length of the header of version 2.
const V2_LENGTH: usize = 72;
/// Length of the header of version 3 as this writes it.
pub const V3_LENGTH: usize = 104;
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;
/// Largest table of addresses, bytes (`QCOW_MAX_L1_SIZE`).
const MAX_L1_SIZE: u64 = 32 << 20;
/// Largest table of reference counts, bytes (`QCOW_MAX_REFTABLE_SIZE`).
const MAX_REFTABLE_SIZE: u64 = 8 << 20;
/// Longest name of a backing file, bytes.
const MAX_BACKING_NAME: u32 = 1023;

/// What the header says.
#[derive(Clone, Debug, Default)]
pub struct Header {
    pub version: u32,
    pub backing_file: Option<String>,
    pub backing_format: Option<String>,
    pub cluster_bits: u32,
    pub size: u64,
    pub l1_size: u32,
    pub l1_offset: u64,
    pub reftable_offset: u64,
    pub reftable_clusters: u32,
    pub nb_snapshots: u32,
    pub snapshots_offset: u64,
    pub incompatible: u64,
    pub compatible: u64,
    pub autoclear: u64,
    pub refcount_order: u32,
    pub has_bitmaps: bool,
}

/// The number at `at`; zero where the bytes end before it.
pub fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The number at `at`; zero where the bytes end before it.
pub fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn read_failed(error: std::io::Error) -> qom::Error {
    qom::Error::new(format!("Could not read qcow2 header: {}", util::log::OsError(error)))
}

impl Header {
    /// Reads and checks it.
    ///
    /// # Errors
    /// For the user: what is wrong with it, or what this cannot do.
    pub fn read(file: &BlockNode) -> Result<Self> {
        let mut bytes = vec![0; 112];
        let there = file.length().map_err(read_failed)?.min(bytes.len() as u64) as usize;
        file.pread(0, &mut bytes[..there]).map_err(read_failed)?;
        if be32(&bytes, 0) != MAGIC {
            bail!("Image is not in qcow2 format");
        }
        let mut header = Header {
            version: be32(&bytes, 4),
            cluster_bits: be32(&bytes, 20),
            size: be64(&bytes, SIZE_AT as usize),
            l1_size: be32(&bytes, L1_AT as usize),
            l1_offset: be64(&bytes, 40),
            reftable_offset: be64(&bytes, REFTABLE_AT as usize),
            reftable_clusters: be32(&bytes, 56),
            nb_snapshots: be32(&bytes, 60),
            snapshots_offset: be64(&bytes, 64),
            refcount_order: 4,
            ..Header::default()
        };
        if !(2..=3).contains(&header.version) {
            bail!("Unsupported qcow2 version {}", header.version);
        }
        if !(9..=21).contains(&header.cluster_bits) {
            bail!("Unsupported cluster size: 2^{}", header.cluster_bits);
        }
        let mut length = V2_LENGTH;
        if header.version == 3 {
            header.incompatible = be64(&bytes, INCOMPAT_AT as usize);
            header.compatible = be64(&bytes, 80);
            header.autoclear = be64(&bytes, AUTOCLEAR_AT as usize);
            header.refcount_order = be32(&bytes, 96);
            length = be32(&bytes, 100) as usize;
            if length < V3_LENGTH {
                bail!("qcow2 header too short");
            }
        }
        if length as u64 > header.cluster_size() {
            bail!("qcow2 header exceeds cluster size");
        }
        header.check_features(if length > V3_LENGTH { bytes[V3_LENGTH] } else { 0 })?;
        if be32(&bytes, 32) != 0 {
            bail!("encrypted qcow2 images are not supported yet");
        }
        header.check_tables()?;
        header.read_extensions(file, length, be64(&bytes, 8))?;
        header.read_backing(file, be64(&bytes, 8), be32(&bytes, 16))?;
        Ok(header)
    }

    fn check_features(&self, compression: u8) -> Result<()> {
        if self.incompatible & INCOMPAT_EXTENDED_L2 != 0 {
            bail!("qcow2 images with extended_l2 are not supported yet");
        }
        if self.incompatible & INCOMPAT_DATA_FILE != 0 {
            bail!("qcow2 images with an external data file are not supported yet");
        }
        if compression != 0 {
            bail!("qcow2 images with another compression type than zlib are not supported yet");
        }
        let known = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_COMPRESSION;
        if self.incompatible & !known != 0 {
            bail!(
                "Unsupported qcow2 feature(s): Unknown incompatible feature: {:x}",
                self.incompatible & !known
            );
        }
        if self.refcount_order > 6 {
            bail!("Reference count entry width too large; may not exceed 64 bits");
        }
        Ok(())
    }

    fn check_tables(&self) -> Result<()> {
        let cluster_mask = self.cluster_size() - 1;
        let table = |what: &str, offset: u64, bytes: u64, limit: u64| {
            if bytes > limit {
                bail!("{what} table is too large");
            }
            if offset & cluster_mask != 0 || offset.checked_add(bytes).is_none_or(|end| end > i64::MAX as u64)
            {
                bail!("{what} table offset invalid");
            }
            Ok(())
        };
        let reftable = u64::from(self.reftable_clusters) << self.cluster_bits;
        if reftable == 0 {
            bail!("Image does not contain a reference count table");
        }
        table("Reference count", self.reftable_offset, reftable, MAX_REFTABLE_SIZE)?;
        table("Active L1", self.l1_offset, u64::from(self.l1_size) * 8, MAX_L1_SIZE)?;
        if self.size > crate::node::MAX_LENGTH {
            bail!("Image is too big");
        }
        if u64::from(self.l1_size) < self.l1_needed(self.size) {
            bail!("L1 table is too small");
        }
        Ok(())
    }

    fn read_extensions(&mut self, file: &BlockNode, length: usize, backing_at: u64) -> Result<()> {
        let end = if backing_at == 0 { self.cluster_size() } else { backing_at.min(self.cluster_size()) };
        let mut bytes = vec![0; end.saturating_sub(length as u64) as usize];
        file.preadv_padded(length as u64, &[vm_memory::VolatileSlice::from(&mut bytes[..])])
            .map_err(read_failed)?;
        let mut at = 0;
        while at + 8 <= bytes.len() {
            let (kind, len) = (be32(&bytes, at), be32(&bytes, at + 4) as usize);
            let Some(data) = bytes.get(at + 8..).and_then(|rest| rest.get(..len)) else {
                bail!("Header extension too large");
            };
            match kind {
                EXTENSION_END => break,
                EXTENSION_BACKING_FORMAT => {
                    self.backing_format = Some(String::from_utf8_lossy(data).into_owned());
                }
                EXTENSION_BITMAPS => self.has_bitmaps = self.autoclear & 1 != 0,
                _ => {}
            }
            at += 8 + len.next_multiple_of(8);
        }
        Ok(())
    }

    fn read_backing(&mut self, file: &BlockNode, at: u64, len: u32) -> Result<()> {
        if at == 0 {
            return Ok(());
        }
        if len > MAX_BACKING_NAME || u64::from(len) > self.cluster_size().saturating_sub(at) {
            bail!("Backing file name too long");
        }
        let mut name = vec![0; len as usize];
        file.pread(at, &mut name).map_err(|_| qom::Error::new("Could not read backing file name"))?;
        match String::from_utf8(name) {
            Ok(name) => self.backing_file = Some(name),
            Err(_) => bail!("Backing file name is not UTF-8"),
        }
        Ok(())
    }

    /// Size of a cluster in bytes.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of the first table for a disk of `size` bytes.
    pub fn l1_needed(&self, size: u64) -> u64 {
        size.div_ceil(1 << (2 * self.cluster_bits - 3))
    }

    /// Whether the image asks for late reference counts.
    pub fn lazy_refcounts(&self) -> bool {
        self.compatible & COMPAT_LAZY_REFCOUNTS != 0
    }
}
