//! `qcow2`: QEMU's image format (block/qcow2.c; docs/interop/qcow2.txt is the format's specification).
//!
//! Tables that change are kept in memory and written at a flush: counts of new clusters first, then the tables that
//! refer to them, then counts of those that nothing refers to any more. An image of version 3 is marked as dirty
//! while that can be in a state between, so that after a power failure its counts are made anew; one of version 2
//! has no mark, and waits for the disk between the steps instead. What ends the program alone loses nothing of
//! what a guest has flushed, either way.

mod cache;
mod check;
mod cluster;
mod create;
mod header;
mod populate;
mod refcount;
mod resize;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use qom::{Error, Result, bail};
use util::log::OsError;
use vm_memory::VolatileSlice;

use self::cache::TableCache;
pub use self::create::create;
use self::header::{Header, INCOMPAT_AT, INCOMPAT_CORRUPT, INCOMPAT_DIRTY, be64};
use self::refcount::Refcounts;
use crate::driver::{BlockDriver, Child, DebugEvent, ImageDetails, IoVec, iov_size, iov_slice};
use crate::filename::relative_to;
use crate::node::{BlockNode, Inherited, open_ref};
use crate::options::{BlockdevOptionsQcow2, BlockdevRefOrNull};

/// Most memory for tables of addresses where the user says nothing: enough for 256 GiB of 64 KiB clusters.
const L2_CACHE_SIZE: u64 = 32 << 20;
/// References that may wait to be given back before a flush is made.
const MAX_PENDING: usize = 4096;

/// An image.
pub struct Qcow2 {
    file: Child,
    backing: Option<Child>,
    header: Header,
    /// Another backing file than the image names was asked for.
    overridden: bool,
    /// Size of the disk in bytes.
    size: AtomicU64,
    read_only: bool,
    pass_discards: bool,
    state: Mutex<State>,
    /// Requests that know the place of their data: a cluster must not get another use meanwhile.
    placed: RwLock<()>,
    /// Marked as not closed properly.
    dirty: AtomicBool,
}

/// The tables.
struct State {
    /// Entries of the first table, as they are in the file.
    l1: Vec<u64>,
    l1_offset: u64,
    /// Numbers of entries that are not on disk.
    l1_dirty: Vec<usize>,
    l2: TableCache,
    refcounts: Refcounts,
    /// The compressed cluster that was read last: its entry, and what it holds.
    decompressed: Option<(u64, Vec<u8>)>,
    /// Freed by a flush that has not yet reached stable storage.
    freed: Vec<u64>,
}

/// The error for an image whose tables make no sense.
fn corrupt() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn failed(what: &str) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(format!("{what}: {}", OsError(error)))
}

impl Qcow2 {
    /// Opens an image.
    ///
    /// # Errors
    /// For the user.
    pub(crate) fn open(options: &BlockdevOptionsQcow2, mode: Inherited) -> Result<Self> {
        let file = open_ref(&options.file, Inherited { format_above: true, ..mode })?;
        let read_only = mode.read_only || file.is_read_only();
        // Its tables must not change under us, even when we only read.
        if !mode.force_share {
            file.driver().keep_writers_out(true)?;
        }
        let header = Header::read(&file)?;
        if header.incompatible & INCOMPAT_CORRUPT != 0 && !read_only {
            bail!("qcow2: Image is corrupt; cannot be opened read/write");
        }
        if header.has_bitmaps && !read_only {
            bail!("qcow2 images with bitmaps cannot be written yet");
        }
        if options.lazy_refcounts == Some(true) && header.version < 3 {
            bail!("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
        }
        let mut l1 = vec![0; header.l1_size as usize * 8];
        file.preadv_padded(header.l1_offset, &[VolatileSlice::from(&mut l1[..])])
            .map_err(failed("Could not read L1 table"))?;
        let refcounts =
            Refcounts::read(&file, &header).map_err(failed("Could not initialize refcount handling"))?;
        let l2_cache = options.l2_cache_size.unwrap_or(L2_CACHE_SIZE);
        let state = State {
            l1: (0..l1.len()).step_by(8).map(|at| be64(&l1, at)).collect(),
            l1_offset: header.l1_offset,
            l1_dirty: Vec::new(),
            l2: TableCache::new(l2_cache, header.cluster_size(), DebugEvent::L2Load),
            refcounts,
            decompressed: None,
            freed: Vec::new(),
        };
        let backing = open_backing(options, &header, &file, mode)
            .map_err(|error| error.prepend("Could not open backing file: "))?;
        let named = header.backing_file.as_ref().map(|name| relative_to(&file.filename(), name));
        let overridden = options.backing.is_some() && named != backing.as_ref().map(|node| node.filename());
        let image = Qcow2 {
            file: Child::new("file", file),
            backing: backing.map(|node| Child::new("backing", node)),
            overridden,
            size: AtomicU64::new(header.size),
            read_only,
            pass_discards: options.pass_discard_request.unwrap_or(mode.unmap),
            state: Mutex::new(state),
            placed: RwLock::new(()),
            dirty: AtomicBool::new(header.incompatible & INCOMPAT_DIRTY != 0),
            header,
        };
        if !read_only {
            image.clear_autoclear().map_err(failed("Could not update qcow2 header"))?;
            if image.dirty.load(Ordering::Relaxed) {
                image.repair().map_err(failed("Could not repair dirty image"))?;
            }
        }
        Ok(image)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn file(&self) -> &BlockNode {
        &self.file.node
    }

    fn disk_size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn cluster_size(&self) -> u64 {
        self.header.cluster_size()
    }

    /// Features that others must keep up to date are gone when this writes.
    fn clear_autoclear(&self) -> io::Result<()> {
        if self.header.autoclear != 0 {
            self.file().pwrite(88, &[0; 8])?;
        }
        Ok(())
    }

    /// Marks the image, or takes the mark away, on stable storage.
    fn mark_dirty(&self, dirty: bool) -> io::Result<()> {
        if self.header.version < 3 || self.dirty.load(Ordering::Acquire) == dirty {
            return Ok(());
        }
        let features = self.header.incompatible & !INCOMPAT_DIRTY | if dirty { INCOMPAT_DIRTY } else { 0 };
        self.file().pwrite(INCOMPAT_AT, &features.to_be_bytes())?;
        self.file().flush()?;
        self.dirty.store(dirty, Ordering::Release);
        Ok(())
    }

    /// Writes back all tables, in an order in which the program may end at any moment.
    fn write_back(&self, state: &mut State) -> io::Result<()> {
        let refers = state.l2.is_dirty() || !state.l1_dirty.is_empty();
        if !refers && !state.refcounts.is_dirty() && state.refcounts.pending() == 0 {
            return Ok(());
        }
        self.mark_dirty(true)?;
        let marked = self.header.version >= 3;
        if state.refcounts.is_dirty() {
            state.refcounts.write_back(self.file())?;
            if refers && !marked {
                self.file().flush()?;
            }
        }
        self.file().driver().debug_event(DebugEvent::L2Update);
        state.l2.write_back(self.file())?;
        for index in std::mem::take(&mut state.l1_dirty) {
            self.file().driver().debug_event(DebugEvent::L1Update);
            let entry = state.l1[index].to_be_bytes();
            let written = self.file().pwrite(state.l1_offset + index as u64 * 8, &entry);
            written.inspect_err(|_| state.l1_dirty.push(index))?;
        }
        if state.refcounts.pending() == 0 {
            return Ok(());
        }
        if !marked {
            self.file().flush()?;
        }
        // Those who still use what is to be given back, have it.
        let _all_done = self.placed.write();
        let freed = state.refcounts.apply_pending(self.file())?;
        state.freed.extend(freed);
        state.refcounts.write_back(self.file())
    }

    /// Brings everything to stable storage.
    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        self.write_back(&mut state)?;
        let freed = std::mem::take(&mut state.freed);
        drop(state);
        let done = self.file().flush();
        let mut state = self.state.lock();
        match &done {
            Ok(()) => {
                state.refcounts.settled(&freed);
                drop(state);
                self.discard_freed(&freed);
            }
            Err(_) => state.freed.extend(freed),
        }
        done
    }

    /// Gives room of clusters that are free back to the host, unless they have been taken again.
    fn discard_freed(&self, freed: &[u64]) {
        if !self.pass_discards {
            return;
        }
        let mut state = self.state.lock();
        for cluster in freed {
            if state.refcounts.get(self.file(), *cluster).is_ok_and(|count| count == 0) {
                // Room that is not given back is no error.
                let _ = self.file().pdiscard(cluster << self.header.cluster_bits, self.cluster_size());
            }
        }
    }

    /// Writes back where tables fill the memory that they may have.
    fn make_room(&self, state: &mut State) -> io::Result<()> {
        if state.refcounts.pending() > MAX_PENDING {
            self.write_back(state)?;
            self.file().flush()?;
            let freed = std::mem::take(&mut state.freed);
            state.refcounts.settled(&freed);
        } else if state.l2.is_full_of_dirty() || state.refcounts.is_full_of_dirty() {
            self.write_back(state)?;
        }
        Ok(())
    }
}

/// The backing file that the image in `file` names, and that file's format as the image has it.
///
/// # Errors
/// For the user: it is no image, or one that is not supported.
pub(crate) fn backing(file: &BlockNode) -> Result<(Option<String>, Option<String>)> {
    let header = Header::read(file)?;
    Ok((header.backing_file, header.backing_format))
}

/// Opens what has the data that the image does not have.
fn open_backing(
    options: &BlockdevOptionsQcow2,
    header: &Header,
    file: &BlockNode,
    mode: Inherited,
) -> Result<Option<std::sync::Arc<BlockNode>>> {
    let mode = Inherited { read_only: true, unmap: false, format_above: false, ..mode };
    match &options.backing {
        Some(BlockdevRefOrNull::Null(())) => Ok(None),
        Some(BlockdevRefOrNull::Reference(name)) if name.is_empty() => Ok(None),
        Some(BlockdevRefOrNull::Reference(name)) => crate::node::lookup(name).map(Some),
        Some(BlockdevRefOrNull::Definition(options)) => crate::node::open(options, mode).map(Some),
        None => match &header.backing_file {
            Some(name) => {
                let at = relative_to(&file.filename(), name);
                crate::filename::open(&at, header.backing_format.as_deref(), mode).map(Some)
            }
            None => Ok(None),
        },
    }
}

impl BlockDriver for Qcow2 {
    fn format_name(&self) -> &'static str {
        "qcow2"
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk_size())
    }

    fn allocation(&self, offset: u64, bytes: u64) -> io::Result<(bool, u64)> {
        self.own(offset, bytes)
    }

    fn populate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.populate_range(offset, bytes)
    }

    fn preadv(&self, offset: u64, to: IoVec<'_, '_>) -> io::Result<()> {
        let total = iov_size(to);
        let mut done = 0;
        while done < total {
            let mut state = self.state.lock();
            let (extent, bytes) = self.extent(&mut state, offset + done, total - done)?;
            let part = iov_slice(to, done, bytes);
            self.read_extent(state, extent, offset + done, &part)?;
            done += bytes;
        }
        Ok(())
    }

    fn try_preadv(&self, offset: u64, to: IoVec<'_, '_>) -> Option<io::Result<()>> {
        let bytes = iov_size(to);
        let mut state = self.state.try_lock()?;
        let place = self.cached_place(&mut state, offset, bytes, false)?;
        let _placed = self.placed.try_read()?;
        drop(state);
        self.file().try_preadv(place, to)
    }

    fn try_pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> Option<io::Result<()>> {
        let bytes = iov_size(from);
        let mut state = self.state.try_lock()?;
        let place = self.cached_place(&mut state, offset, bytes, true)?;
        let _placed = self.placed.try_read()?;
        drop(state);
        self.file().try_pwritev(place, from)
    }

    fn pwritev(&self, offset: u64, from: IoVec<'_, '_>) -> io::Result<()> {
        let total = iov_size(from);
        let mut done = 0;
        while done < total {
            let mut state = self.state.lock();
            let at = offset + done;
            let (extent, bytes) = self.extent(&mut state, at, total - done)?;
            let written = match extent {
                cluster::Extent::Data { place, copied: true } => {
                    let _placed = self.placed.read();
                    drop(state);
                    self.file().driver().debug_event(DebugEvent::WriteAio);
                    self.file().pwritev(place, &iov_slice(from, done, bytes))?;
                    bytes
                }
                _ => self.write_new(&mut state, at, &iov_slice(from, done, total - done))?,
            };
            done += written;
        }
        Ok(())
    }

    fn pwrite_zeroes(&self, offset: u64, bytes: u64, may_unmap: bool) -> io::Result<()> {
        self.by_clusters(offset, bytes, |first, count| self.zero_clusters(first, count, may_unmap))
    }

    fn pdiscard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        // Parts of clusters stay.
        let size = self.cluster_size();
        let end = if offset + bytes == self.length()? {
            (offset + bytes).next_multiple_of(size)
        } else {
            offset + bytes
        };
        let (first, last) = (offset.div_ceil(size), end / size);
        if first < last { self.discard_clusters(first, last - first) } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        self.sync()
    }

    fn flush_to_os(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        let mut state = self.state.lock();
        self.write_back(&mut state)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.resize(size)
    }

    fn children(&self) -> Vec<&Child> {
        let mut children = vec![&self.file];
        children.extend(&self.backing);
        children
    }

    fn filename(&self) -> Option<String> {
        if self.overridden { None } else { self.file().driver().filename() }
    }

    fn image_details(&self) -> ImageDetails {
        let compat = if self.header.version == 2 { "0.10" } else { "1.1" };
        let mut data = serde_json::json!({ "compat": compat, "compression-type": "zlib",
            "refcount-bits": 1u32 << self.header.refcount_order });
        if self.header.version >= 3 {
            data["lazy-refcounts"] = self.header.lazy_refcounts().into();
            data["corrupt"] = (self.header.incompatible & INCOMPAT_CORRUPT != 0).into();
            data["extended-l2"] = false.into();
        }
        ImageDetails {
            cluster_size: Some(self.cluster_size()),
            // QEMU's, which is about late reference counts that are not in force here.
            dirty: Some(false),
            backing_filename: self.header.backing_file.clone(),
            backing_format: self.header.backing_format.clone(),
            specific: Some(serde_json::json!({ "type": "qcow2", "data": data })),
        }
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        // Nobody is left to be told; an image that keeps its mark is repaired when it is next opened.
        if !self.read_only && self.sync().is_ok() {
            let _ = self.mark_dirty(false);
        }
    }
}
