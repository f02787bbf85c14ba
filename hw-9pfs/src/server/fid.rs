//! Fids: the guest's names for files. There may be more of them than the host lets a program have files open: files that
//! nobody used for a while are closed, and opened again when they are used (`v9fs_reclaim_fd`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::fs::{FsDriver, FsPath, OpenFile, Opened, Result};

/// Most fids of a device.
const MAX_FIDS: usize = 1 << 16;
/// Most of them that are the value of an extended attribute, which takes memory.
const MAX_XATTRS: usize = 256;
/// Files that are left to the rest of the program.
const OTHERS: u64 = 400;

/// Files that are open, of all devices.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// How many files may be open before some are closed, and how many are then.
fn limits() -> (u64, u64) {
    static LIMITS: OnceLock<(u64, u64)> = OnceLock::new();
    *LIMITS.get_or_init(|| {
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        (most - OTHERS.min(most / 3), most / 2)
    })
}

/// An open file, which counts.
pub(super) struct Handle(Opened);

impl std::ops::Deref for Handle {
    type Target = dyn OpenFile;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The value of an extended attribute.
pub(super) struct Xattr {
    /// The attribute that is set when the fid goes; none: it is only read.
    pub set: Option<(Vec<u8>, u32)>,
    pub value: Vec<u8>,
    /// Bytes that were written.
    pub written: u64,
    _permit: Arc<()>,
}

/// What a fid is open as. A file that is not there was closed meanwhile.
pub(super) enum Kind {
    None,
    File(Option<Arc<Handle>>, OFlags),
    /// With where to go on reading, by 9P2000.u.
    Directory(Option<Arc<Handle>>, u64),
    Xattr(Xattr),
}

pub(super) struct FidState {
    pub path: FsPath,
    pub kind: Kind,
    /// Since it was last looked at whether it is used.
    used: bool,
    /// It cannot be opened again.
    pub keep_open: bool,
}

pub(super) struct Fid {
    /// Who attached.
    pub uid: u32,
    pub state: Mutex<FidState>,
}

impl Fid {
    pub fn new(uid: u32, path: FsPath) -> Fid {
        let state = FidState { path, kind: Kind::None, used: true, keep_open: false };
        Fid { uid, state: Mutex::new(state) }
    }

    pub fn path(&self) -> FsPath {
        self.state.lock().path.clone()
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state.lock().kind, Kind::None)
    }

    /// The fid is open now, as `kind`.
    pub fn set_kind(&self, kind: Kind) {
        self.state.lock().kind = kind;
    }
}

/// All fids of a device.
#[derive(Default)]
pub(super) struct Fids {
    table: Mutex<HashMap<u32, Arc<Fid>>>,
    xattrs: Arc<()>,
}

impl Fids {
    pub fn get(&self, number: u32) -> Option<Arc<Fid>> {
        let fid = self.table.lock().get(&number).cloned()?;
        fid.state.lock().used = true;
        Some(fid)
    }

    /// Adds one.
    ///
    /// # Errors
    /// When there is one of that number, or there are too many.
    pub fn insert(&self, number: u32, fid: Fid) -> Result<Arc<Fid>> {
        let mut table = self.table.lock();
        if table.contains_key(&number) {
            return Err(Errno::INVAL);
        }
        if table.len() >= MAX_FIDS {
            return Err(Errno::NFILE);
        }
        let fid = Arc::new(fid);
        table.insert(number, fid.clone());
        Ok(fid)
    }

    pub fn remove(&self, number: u32) -> Option<Arc<Fid>> {
        self.table.lock().remove(&number)
    }

    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.table.lock());
        drop(all);
    }

    /// As they are now. No fid is locked while the table is.
    fn all(&self) -> Vec<Arc<Fid>> {
        self.table.lock().values().cloned().collect()
    }

    /// The value of an attribute, if there are not too many.
    pub fn xattr(&self, value: Vec<u8>, set: Option<(Vec<u8>, u32)>) -> Result<Xattr> {
        let permit = self.xattrs.clone();
        if Arc::strong_count(&permit) > MAX_XATTRS + 1 {
            return Err(Errno::NOMEM);
        }
        Ok(Xattr { set, value, written: 0, _permit: permit })
    }

    /// Counts a file that was opened, and closes others if there are too many.
    ///
    /// # Errors
    /// When there are too many all the same.
    pub fn opened(&self, file: Opened) -> Result<Arc<Handle>> {
        OPEN.fetch_add(1, Ordering::AcqRel);
        let handle = Arc::new(Handle(file));
        let (most, at_once) = limits();
        if OPEN.load(Ordering::Acquire) > most {
            self.reclaim(at_once);
            if OPEN.load(Ordering::Acquire) > most {
                return Err(Errno::NFILE);
            }
        }
        Ok(handle)
    }

    fn reclaim(&self, most: u64) {
        let mut closed = 0;
        // The first look marks what is not used, the second may find it so still.
        for fid in self.all().iter().chain(&self.all()) {
            if closed >= most {
                break;
            }
            let Some(mut state) = fid.state.try_lock() else { continue };
            if state.keep_open || std::mem::take(&mut state.used) {
                continue;
            }
            if let Kind::File(file, _) | Kind::Directory(file, _) = &mut state.kind
                && file.as_ref().is_some_and(|file| Arc::strong_count(file) == 1)
            {
                *file = None;
                closed += 1;
            }
        }
    }

    /// The file of a fid, opened again if it was closed (`v9fs_reopen_fid`). `None`: the fid is not open.
    pub fn file(&self, fid: &Fid, driver: &dyn FsDriver) -> Result<Option<Arc<Handle>>> {
        let mut state = fid.state.lock();
        state.used = true;
        let opened = match &state.kind {
            Kind::None | Kind::Xattr(_) => return Ok(None),
            Kind::File(Some(file), _) | Kind::Directory(Some(file), _) => return Ok(Some(file.clone())),
            // What was to be done once is not done again.
            Kind::File(None, flags) => {
                driver.open(&state.path, *flags - (OFlags::TRUNC | OFlags::EXCL | OFlags::CREATE))?
            }
            Kind::Directory(None, _) => driver.open_dir(&state.path)?,
        };
        let opened = self.opened(opened)?;
        if let Kind::File(file, _) | Kind::Directory(file, _) = &mut state.kind {
            *file = Some(opened.clone());
        }
        Ok(Some(opened))
    }

    /// Files at `path` lose their name: those that are open stay so from now on (`v9fs_mark_fids_unreclaim`).
    ///
    /// # Errors
    /// When one that was closed meanwhile cannot be opened again.
    pub fn keep_open(&self, path: &FsPath, driver: &dyn FsDriver) -> Result<()> {
        for fid in self.all() {
            let mut state = fid.state.lock();
            if state.path == *path {
                state.keep_open = true;
                drop(state);
                self.file(&fid, driver)?;
            }
        }
        Ok(())
    }

    /// What was at `from` is at `to` now (`v9fs_fix_fid_paths`).
    pub fn moved(&self, from: &FsPath, to: &FsPath) {
        for fid in self.all() {
            let mut state = fid.state.lock();
            if let Some(path) = state.path.moved(from, to) {
                state.path = path;
            }
        }
    }
}
