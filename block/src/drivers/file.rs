//! `file` and `host_device`: files and devices of the host (block/file-posix.c).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use qom::{Error, Result, bail};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate};
use rustix::io::Errno;
use util::log::OsError;
use vm_memory::VolatileSlice;

use crate::aio::Queue;
use crate::backend::{Completion, Op, Request, Submitted};
use crate::driver::{BlockDriver, IoVec, iov_copy_from, iov_copy_to, iov_size};
use crate::gate::Gate;
use crate::node::Inherited;
use crate::options::{BlockdevAioOptions, BlockdevOptionsFile, OnOffAuto};
use crate::{lock, sys};

/// Alignment of memory and offsets where the page cache is not used: no disk's sector is larger.
const DIRECT_ALIGNMENT: u64 = 4096;
/// Most of a new file that gets zeroes of its own, bytes.
const FIRST_BLOCK: u64 = 4096;

/// A file or device of the host.
pub struct FilePosix {
    format_name: &'static str,
    path: String,
    file: Arc<File>,
    /// Where the user does not want threads to wait.
    queue: Option<Queue>,
    /// Reads and writes go around the page cache and must be aligned.
    direct: bool,
    read_only: bool,
    is_device: bool,
    locking: bool,
    extent: Arc<Extent>,
    /// The file is in the host's memory: nothing has to be waited for.
    in_memory: bool,
    /// The host's file system cannot read, or write, without waiting.
    read_waits: AtomicBool,
    write_waits: AtomicBool,
    /// Nor make holes.
    no_holes: AtomicBool,
    discards: Discards,
}

/// What ends of writes on other threads change.
struct Extent {
    length: AtomicU64,
    /// Writes of parts of sectors are reads and writes of whole ones, which other writes must not come between.
    writes: Arc<Gate>,
}

impl Extent {
    fn grown(&self, end: u64) {
        self.length.fetch_max(end, Ordering::Release);
    }
}

/// Discards that were carried out, or not (`BlockStatsSpecificFile`).
#[derive(Default)]
struct Discards {
    done: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

impl FilePosix {
    /// Opens it; also gives whether it can only be read.
    pub(crate) fn open(
        format_name: &'static str,
        options: &BlockdevOptionsFile,
        mode: Inherited,
    ) -> Result<(Self, bool)> {
        let path = options.filename.clone();
        if path.is_empty() {
            bail!("The '{format_name}' block driver requires a file name");
        }
        let no_aio = |aio| matches!(aio, Some(BlockdevAioOptions::Native)) && !mode.cache.direct;
        if no_aio(options.aio) {
            bail!("aio=native was specified, but it requires cache.direct=on, which was not specified.");
        }
        let (file, read_only) = open_host(&path, mode).map_err(|error| match error.raw_os_error() {
            Some(libc::EISDIR) => not_regular(&path),
            _ => Error::new(format!("Could not open '{path}': {}", OsError(error))),
        })?;
        let kind = file.metadata().map_err(|e| could_not_stat(&e))?.file_type();
        let is_device = kind.is_block_device() || kind.is_char_device();
        match format_name {
            "file" if !kind.is_file() => return Err(not_regular(&path)),
            "host_device" if !is_device => {
                bail!("'host_device' driver requires '{path}' to be either a character or block device")
            }
            _ => {}
        }
        let length = measure(&file).map_err(|e| could_not_stat(&e))?;
        let file = Arc::new(file);
        let queue = Queue::new(options.aio.unwrap_or(BlockdevAioOptions::Threads), &file)?;
        let locking = options.locking != Some(OnOffAuto::Off) && !mode.force_share;
        let this = FilePosix {
            format_name,
            path,
            direct: mode.cache.direct,
            read_only,
            is_device,
            locking,
            queue,
            extent: Arc::new(Extent { length: AtomicU64::new(length), writes: Arc::default() }),
            in_memory: is_in_memory(&file),
            read_waits: AtomicBool::new(mode.cache.direct),
            write_waits: AtomicBool::new(mode.cache.direct),
            no_holes: AtomicBool::new(false),
            discards: Discards::default(),
            file,
        };
        this.lock(0)?;
        Ok((this, read_only))
    }

    /// Locks the file against those who may not write, too: `unshared`.
    fn lock(&self, unshared: u32) -> Result<()> {
        if !self.locking {
            return Ok(());
        }
        let held = if self.read_only { 0 } else { lock::WRITE };
        lock::lock(&self.file, &self.path, lock::CONSISTENT_READ | held, unshared)
    }

    fn is_aligned(&self, offset: u64, iov: IoVec<'_, '_>) -> bool {
        let mask = DIRECT_ALIGNMENT - 1;
        let part = |p: &VolatileSlice<'_>| (p.ptr_guard().as_ptr() as u64 | p.len() as u64) & mask == 0;
        offset & mask == 0 && iov.iter().all(part)
    }

    /// Calls `work` with aligned memory for the aligned range around `bytes` from `offset`, and where in it they are.
    fn bounced<R>(
        &self,
        offset: u64,
        bytes: u64,
        work: impl FnOnce(u64, &mut [u8], usize) -> io::Result<R>,
    ) -> io::Result<R> {
        let start = offset & !(DIRECT_ALIGNMENT - 1);
        let len = (offset + bytes).next_multiple_of(DIRECT_ALIGNMENT) - start;
        let mut memory = vec![0u8; (len + DIRECT_ALIGNMENT) as usize];
        let at = memory.as_ptr().align_offset(DIRECT_ALIGNMENT as usize);
        let memory = memory.get_mut(at..at + len as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        work(start, memory, (offset - start) as usize)
    }

    /// Writes part of sectors: whole ones are read and written, with nobody else at it.
    fn write_unaligned(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        let (bytes, length) = (iov_size(from), self.length()?);
        self.bounced(offset, bytes, |start, memory, at| {
            let whole = VolatileSlice::from(&mut *memory);
            if at != 0 || !bytes.is_multiple_of(DIRECT_ALIGNMENT) {
                sys::preadv(self.file.as_fd(), start, &[whole])?;
            }
            iov_copy_to(from, &mut memory[at..at + bytes as usize]);
            sys::pwritev(self.file.as_fd(), start, &[VolatileSlice::from(&mut *memory)])
        })?;
        if !self.is_device && offset + bytes > length {
            // The rest of the last sector is not part of the file.
            self.file.set_len(offset + bytes)?;
        }
        Ok(())
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        if self.no_holes.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, bytes) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS | Errno::INVAL) => {
                self.no_holes.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn could_not_stat(error: &io::Error) -> Error {
    Error::new(format!("Could not stat file: {}", error.to_string().split(" (os").next().unwrap_or_default()))
}

/// What came of a call that does not wait: all, or nothing; `waits` is noted where the host cannot do that at all.
fn at_once(moved: io::Result<usize>, bytes: u64, waits: &AtomicBool) -> Option<io::Result<()>> {
    match moved {
        Ok(moved) if moved as u64 == bytes => Some(Ok(())),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            waits.store(true, Ordering::Relaxed);
            None
        }
        _ => None,
    }
}

/// Whether a file is in a file system that has no disk.
fn is_in_memory(file: &File) -> bool {
    /// `linux/magic.h`.
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    rustix::fs::fstatfs(file).is_ok_and(|fs| matches!(fs.f_type, TMPFS_MAGIC | RAMFS_MAGIC))
}

fn not_regular(path: &str) -> Error {
    Error::new(format!("'file' driver requires '{path}' to be a regular file"))
}

/// Opens for reading and writing, or only for reading where that was asked for or is all that is allowed.
fn open_host(path: &str, mode: Inherited) -> io::Result<(File, bool)> {
    let open = |write: bool| {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        if mode.cache.direct {
            options.custom_flags(OFlags::DIRECT.bits() as i32);
        }
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        util::fdset::open(path, access, &options)
    };
    if mode.read_only {
        return Ok((open(false)?, true));
    }
    match open(true) {
        Ok(file) => Ok((file, false)),
        Err(error) => {
            let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS));
            if refused && mode.auto_read_only { Ok((open(false)?, true)) } else { Err(error) }
        }
    }
}

/// Size in bytes; a device's is where its end is.
fn measure(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_char_device() {
        return Ok(0);
    }
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    Ok(rustix::fs::seek(file, SeekFrom::End(0))?)
}

impl BlockDriver for FilePosix {
    fn format_name(&self) -> &'static str {
        self.format_name
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.extent.length.load(Ordering::Acquire))
    }

    fn is_growable(&self) -> bool {
        !self.is_device
    }

    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        if !self.direct || self.is_aligned(offset, to) {
            return sys::preadv(self.file.as_fd(), offset, to);
        }
        self.bounced(offset, iov_size(to), |start, memory, at| {
            sys::preadv(self.file.as_fd(), start, &[VolatileSlice::from(&mut *memory)])?;
            iov_copy_from(to, &memory[at..]);
            Ok(())
        })
    }

    fn try_preadv(&self, offset: u64, to: IoVec<'_, '_>) -> Option<io::Result<()>> {
        if self.read_waits.load(Ordering::Relaxed) {
            return None;
        }
        if self.in_memory {
            return Some(self.preadv(offset, to));
        }
        at_once(sys::preadv_nowait(self.file.as_fd(), offset, to), iov_size(to), &self.read_waits)
    }

    fn try_pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> Option<io::Result<()>> {
        if self.write_waits.load(Ordering::Relaxed) {
            return None;
        }
        if self.in_memory {
            return Some(self.pwritev(offset, from));
        }
        let bytes = iov_size(from);
        let done = at_once(sys::pwritev_nowait(self.file.as_fd(), offset, from), bytes, &self.write_waits);
        done.inspect(|_| self.extent.grown(offset + bytes))
    }

    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        let write = || sys::pwritev(self.file.as_fd(), offset, from);
        match (self.direct, self.is_aligned(offset, from)) {
            (false, _) => write()?,
            (true, true) => self.extent.writes.together(write)?,
            (true, false) => self.extent.writes.alone(|| self.write_unaligned(offset, from))?,
        }
        self.extent.grown(offset + iov_size(from));
        Ok(())
    }

    fn has_queue(&self) -> bool {
        self.queue.is_some()
    }

    fn submit(&self, offset: u64, request: Request, done: Completion) -> Submitted {
        let Some(queue) = &self.queue else { return Err((request, done)) };
        if self.direct && !self.is_aligned(offset, &request.memory.parts()) {
            return Err((request, done));
        }
        if request.op != Op::Write {
            return queue.submit(offset, request, Box::new(|_| {}), done);
        }
        // One that the queue does not take is out again before somebody carries it out who enters anew.
        let Some(entered) = self.extent.writes.try_enter() else { return Err((request, done)) };
        let (extent, end) = (self.extent.clone(), offset + request.bytes);
        let written = move |result: &io::Result<()>| {
            if result.is_ok() {
                extent.grown(end);
            }
            drop(entered);
        };
        queue.submit(offset, request, Box::new(written), done)
    }

    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        let end = offset + bytes;
        if may_unmap && end <= self.length()? && self.punch(offset, bytes)? {
            return Ok(());
        }
        let zero = || fallocate(&self.file, FallocateFlags::ZERO_RANGE, offset, bytes);
        match self.extent.writes.alone(zero) {
            Ok(()) => self.extent.grown(end),
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS | Errno::INVAL) => {
                return crate::driver::write_zeroes_as_data(self, offset, bytes);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let done = self.punch(offset, bytes);
        let Discards { done: count, bytes: total, failed } = &self.discards;
        if matches!(done, Ok(true)) {
            count.fetch_add(1, Ordering::Relaxed);
            total.fetch_add(bytes, Ordering::Relaxed);
        } else {
            failed.fetch_add(1, Ordering::Relaxed);
        }
        done.map(drop)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if self.is_device {
            let there = measure(&self.file).map_err(|e| could_not_stat(&e))?;
            self.extent.length.store(there, Ordering::Release);
            return match size.cmp(&there) {
                std::cmp::Ordering::Greater => bail!("Cannot grow device files"),
                _ => Ok(()),
            };
        }
        self.file
            .set_len(size)
            .map_err(|e| Error::new(format!("Failed to resize the file: {}", OsError(e))))?;
        let was_empty = self.extent.length.swap(size, Ordering::AcqRel) == 0;
        if size > 0 && was_empty {
            // By a block that is there the next to open the file finds out what alignment direct I/O needs.
            let mut zeroes = vec![0; size.min(FIRST_BLOCK) as usize];
            let _ = self.pwritev(0, &[VolatileSlice::from(&mut zeroes[..])]);
        }
        Ok(())
    }

    fn filename(&self) -> Option<String> {
        Some(self.path.clone())
    }

    fn allocated_size(&self) -> Option<u64> {
        self.file.metadata().ok().map(|m| m.blocks() * 512)
    }

    fn specific_stats(&self) -> Option<serde_json::Value> {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Discards { done, bytes, failed } = &self.discards;
        Some(serde_json::json!({ "driver": self.format_name, "discard-nb-ok": value(done),
            "discard-nb-failed": value(failed), "discard-bytes-ok": value(bytes) }))
    }

    fn image_details(&self) -> crate::driver::ImageDetails {
        crate::driver::ImageDetails { dirty: Some(false), ..Default::default() }
    }

    fn keep_writers_out(&self, resizers: bool) -> Result<()> {
        let resize = if resizers { lock::RESIZE } else { 0 };
        self.lock(lock::WRITE | resize)
    }
}
