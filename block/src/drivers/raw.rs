//! `raw`: what the file has is the disk, or a part of it (block/raw-format.c).

use std::io;

use qom::{Result, bail};

use crate::backend::{Completion, Op, Request, Submitted};
use crate::driver::{BlockDriver, Child, DebugEvent, ImageDetails, IoVec, iov_copy_to};
use crate::node::{Inherited, open_ref};
use crate::options::BlockdevOptionsRaw;

/// Size of a sector in bytes, which sizes are multiples of.
const SECTOR: u64 = 512;

/// The disk is a range of the file.
pub struct Raw {
    file: Child,
    offset: u64,
    /// `None`: up to the file's end.
    size: Option<u64>,
    /// The format was guessed: a guest must not write what would make the next guess another one.
    probed: bool,
}

impl Raw {
    pub(crate) fn open(options: &BlockdevOptionsRaw, mode: Inherited) -> Result<Self> {
        let file = open_ref(&options.file, Inherited { probed: false, ..mode })?;
        let Ok(offset) = u64::try_from(options.offset.unwrap_or(0)) else {
            bail!("Parameter 'offset' expects a size")
        };
        let size = match options.size.map(u64::try_from).transpose() {
            Ok(size) => size,
            Err(_) => bail!("Parameter 'size' expects a size"),
        };
        let whole = file.length().map_err(|e| {
            qom::Error::new(format!("Could not refresh total sector count: {}", util::log::OsError(e)))
        })?;
        if offset > whole {
            bail!("Offset ({offset}) cannot be greater than size of the containing file ({whole})");
        }
        if let Some(size) = size
            && size > whole - offset
        {
            bail!(
                "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the actual size of \
                 the containing file ({whole})"
            );
        }
        if size.is_some_and(|size| size % SECTOR != 0) {
            bail!("Specified size is not multiple of {SECTOR}");
        }
        Ok(Raw { file: Child::new("file", file), offset, size, probed: mode.probed })
    }

    /// Whether the file can only be read.
    pub(crate) fn is_read_only(&self) -> bool {
        self.file.node.is_read_only()
    }
}

impl BlockDriver for Raw {
    fn format_name(&self) -> &'static str {
        "raw"
    }

    fn length(&self) -> io::Result<u64> {
        match self.size {
            Some(size) => Ok(size),
            None => Ok(self.file.node.length()?.saturating_sub(self.offset)),
        }
    }

    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        self.file.node.driver().debug_event(DebugEvent::ReadAio);
        self.file.node.preadv(self.offset + offset, to)
    }

    fn try_preadv(&self, offset: u64, to: IoVec<'_, '_>) -> Option<io::Result<()>> {
        self.file.node.try_preadv(self.offset + offset, to)
    }

    fn try_pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> Option<io::Result<()>> {
        let first_sector = self.probed && offset < SECTOR;
        (!first_sector).then(|| self.file.node.try_pwritev(self.offset + offset, from))?
    }

    fn has_queue(&self) -> bool {
        self.file.node.driver().has_queue()
    }

    fn submit(&self, offset: u64, request: Request, done: Completion) -> Submitted {
        if self.probed && request.op == Op::Write && offset < SECTOR {
            return Err((request, done));
        }
        self.file.node.submit(self.offset + offset, request, done)
    }

    fn never_waits(&self) -> bool {
        self.file.node.driver().never_waits()
    }

    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        if self.probed && offset < SECTOR {
            let mut first = [0; SECTOR as usize];
            self.file.node.pread(0, &mut first)?;
            iov_copy_to(from, &mut first[offset as usize..]);
            if crate::filename::format_of(&first) != "raw" {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        }
        self.file.node.driver().debug_event(DebugEvent::WriteAio);
        self.file.node.pwritev(self.offset + offset, from)
    }

    fn allocation(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        self.file.node.driver().allocation(self.offset + offset, bytes)
    }

    fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.node.populate(self.offset + offset, bytes)
    }

    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        self.file.node.pwrite_zeroes(self.offset + offset, bytes, may_unmap)
    }

    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.node.pdiscard(self.offset + offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.node.flush()
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if self.size.is_some() {
            bail!("Cannot resize fixed-size raw disks");
        }
        let Some(end) = size.checked_add(self.offset) else {
            bail!("Disk size too large for the chosen offset")
        };
        self.file.node.truncate(end)
    }

    fn children(&self) -> Vec<&Child> {
        vec![&self.file]
    }

    fn filename(&self) -> Option<String> {
        (self.offset == 0 && self.size.is_none()).then(|| self.file.node.driver().filename())?
    }

    fn debug_event(&self, event: DebugEvent) {
        self.file.node.driver().debug_event(event);
    }

    fn image_details(&self) -> ImageDetails {
        self.file.node.driver().image_details()
    }
}
