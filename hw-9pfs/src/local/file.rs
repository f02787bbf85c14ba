//! Files that are open.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::fs::{self, FileType, RawDir, SeekFrom};
use rustix::io::Errno;

use super::{LocalOptions, SecurityModel, attributes};
use crate::fs::{Entry, OpenFile, Result, Stat, StatFs};

/// Bytes of a directory that are asked for at once.
const DIRECTORY_BUFFER: usize = 8192;

/// A file or directory of the host.
pub(super) struct LocalFile {
    fd: OwnedFd,
    options: LocalOptions,
    /// A directory's position is the descriptor's: one at a time.
    position: Mutex<()>,
}

impl LocalFile {
    pub fn new(fd: OwnedFd, options: &LocalOptions) -> Self {
        LocalFile { fd, options: *options, position: Mutex::default() }
    }
}

impl OpenFile for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        rustix::io::pread(&self.fd, buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        let len = rustix::io::pwrite(&self.fd, data, offset)?;
        if self.options.writeout {
            fs::fdatasync(&self.fd)?;
        }
        Ok(len)
    }

    fn stat(&self) -> Result<Stat> {
        if self.options.model == SecurityModel::MappedFile {
            return Err(Errno::OPNOTSUPP);
        }
        let mut stat = stat_of(&fs::fstat(&self.fd)?);
        if self.options.model == SecurityModel::MappedXattr {
            attributes::apply_open(&self.fd, &mut stat);
        }
        Ok(stat)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        if data_only { fs::fdatasync(&self.fd) } else { fs::fsync(&self.fd) }
    }

    fn read_dir(&self, position: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let _one = self.position.lock();
        // More than a signed number is no position.
        let position = i64::try_from(position).map_err(|_| Errno::INVAL)?;
        fs::seek(&self.fd, SeekFrom::Start(position as u64))?;
        let mut buffer = [MaybeUninit::uninit(); DIRECTORY_BUFFER];
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if self.options.model == SecurityModel::MappedFile && attributes::is_metadata(name) {
                continue;
            }
            let kind = match entry.file_type() {
                // What the host says is not what the guest made of it.
                _ if self.options.model.is_mapped() => 0,
                FileType::Unknown => 0,
                kind => (kind.as_raw_mode() >> 12) as u8,
            };
            let next = entry.next_entry_cookie();
            if !each(Entry { ino: entry.ino(), next, kind, name }) {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[allow(clippy::unnecessary_cast)]
pub(super) fn stat_of(stat: &fs::Stat) -> Stat {
    Stat {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        mode: stat.st_mode as u32,
        nlink: stat.st_nlink as u64,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u64,
        size: stat.st_size as u64,
        blksize: stat.st_blksize as u64,
        blocks: stat.st_blocks as u64,
        atime: (stat.st_atime as i64, stat.st_atime_nsec as u64),
        mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
    }
}

#[allow(clippy::unnecessary_cast)]
pub(super) fn statfs_of(fd: &OwnedFd) -> Result<StatFs> {
    let stat = fs::fstatfs(fd)?;
    Ok(StatFs {
        kind: stat.f_type as u32,
        block_size: stat.f_bsize as u64,
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        id: fs::fstatvfs(fd)?.f_fsid,
        name_max: stat.f_namelen as u32,
    })
}
