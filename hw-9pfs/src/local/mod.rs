//! A folder of the host (hw/9pfs/9p-local.c).
//!
//! No path leads out of it: directories are reached from the folder's descriptor by `openat2`, which follows no
//! symbolic link and goes up nowhere, and what is done to a file is done by its name in the descriptor of its directory.
//! Somebody who moves files or puts links there meanwhile gets errors out of it.

mod attributes;
mod file;
mod xattr;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid};
use rustix::io::Errno;

use crate::fs::{Cred, FsDriver, FsPath, Opened, Result, Stat, StatFs};
use file::LocalFile;

/// How owners and permissions that the guest sets are kept (`security_model`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityModel {
    /// As the host's, as far as it lets this program.
    None,
    /// As the host's.
    Passthrough,
    /// In extended attributes.
    MappedXattr,
    /// In files of a folder with a name of its own.
    MappedFile,
}

impl SecurityModel {
    /// Whether the host does not see what the guest sets.
    pub fn is_mapped(self) -> bool {
        matches!(self, SecurityModel::MappedXattr | SecurityModel::MappedFile)
    }
}

/// How a folder is shared.
#[derive(Clone, Copy, Debug)]
pub struct LocalOptions {
    /// How owners and permissions are kept.
    pub model: SecurityModel,
    /// Permissions of files on the host, where those the guest sets are kept elsewhere.
    pub fmode: u32,
    /// The same of directories.
    pub dmode: u32,
    /// A write ends when it is on the disk.
    pub writeout: bool,
}

/// A folder that is shared.
pub struct LocalFs {
    root: OwnedFd,
    options: LocalOptions,
}

/// Longest target of a symbolic link.
const LINK_MAX: usize = 4096;
/// How often a way is looked up again while somebody renames files on it.
const TRIES: usize = 16;

/// Opens `path` below `directory`: without going up, over symbolic links, or to one unless `flags` take it as itself.
fn open_beneath(directory: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        opened = fs::openat2(&directory, path, flags, mode, resolve);
        // The kernel could not tell whether a rename led out.
        if opened.as_ref().err() != Some(&Errno::AGAIN) {
            break;
        }
    }
    opened
}

/// A directory, to name files in (`openat_dir`).
fn open_directory(directory: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    open_beneath(directory, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
}

/// A file or directory to read or write (`openat_file`). Opening a device or pipe would act on the host, so it is
/// refused: the guest's own kernel serves those.
fn open_file(directory: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
    let safe = flags | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = match open_beneath(&directory, path, safe, mode) {
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => {
            open_beneath(&directory, path, safe - OFlags::NOATIME, mode)?
        }
        opened => opened?,
    };
    let kind = FileType::from_raw_mode(fs::fstat(&fd)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Err(Errno::NXIO);
    }
    fs::fcntl_setfl(&fd, flags & (OFlags::APPEND | OFlags::NOATIME | OFlags::NONBLOCK))
        // What is not ours may not be read without a trace.
        .or_else(|_| fs::fcntl_setfl(&fd, flags & (OFlags::APPEND | OFlags::NONBLOCK)))?;
    Ok(fd)
}

/// A path to `name` itself in an open directory, for calls that take none.
fn proc_path(directory: impl AsFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).as_bytes(), name].concat()
}

fn chmod_nofollow(directory: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<()> {
    let fd = open_beneath(directory, name, OFlags::PATH, Mode::empty())?;
    if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode & 0o7777))
}

/// Nobody is all ones for the host, too.
fn owner(cred: &Cred) -> (Option<Uid>, Option<Gid>) {
    let there = |id: &u32| *id != u32::MAX;
    (cred.uid.filter(there).map(Uid::from_raw), cred.gid.filter(there).map(Gid::from_raw))
}

impl LocalFs {
    /// Opens a folder.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(path: &Path, options: LocalOptions) -> Result<LocalFs> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(LocalFs { root: fs::open(path.as_os_str().as_bytes(), flags, Mode::empty())?, options })
    }

    fn directory(&self, path: &FsPath) -> Result<OwnedFd> {
        open_directory(&self.root, path.as_bytes())
    }

    /// The directory that a file is in, and its name there.
    fn place<'a>(&self, path: &'a FsPath) -> Result<(OwnedFd, &'a [u8])> {
        let (directory, name) = path.split();
        Ok((self.directory(&directory)?, name))
    }

    fn maps_files(&self) -> bool {
        self.options.model == SecurityModel::MappedFile
    }

    /// Names that stand for what is known of other files are not the guest's to use.
    fn check_name(&self, name: &[u8]) -> Result<()> {
        if self.maps_files() && attributes::is_metadata(name) { Err(Errno::INVAL) } else { Ok(()) }
    }

    /// Notes what the guest said of a new file; without success the file goes again.
    fn set_cred(&self, directory: &OwnedFd, name: &[u8], cred: &Cred, flags: AtFlags) -> Result<()> {
        let result = match self.options.model {
            model if model.is_mapped() => attributes::store(model, directory.as_fd(), name, cred),
            model => pass_through(model, directory.as_fd(), name, cred),
        };
        if result.is_err() {
            let _ = fs::unlinkat(directory, name, flags);
        }
        result
    }

    /// Does to the file that keeps what is known of another what was done to that one.
    fn with_metadata(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
        act: impl Fn(&OwnedFd, &[u8], &OwnedFd, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if !self.maps_files() {
            return Ok(());
        }
        let new = attributes::metadata_folder(to.0.as_fd(), true)?;
        let old = match attributes::metadata_folder(from.0.as_fd(), false) {
            // Nothing is known of it.
            Err(Errno::NOENT) => return Ok(()),
            old => old?,
        };
        match act(&old, from.1, &new, to.1) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }

    /// Forgets what is kept of a file that goes (`local_unlinkat_common`).
    fn drop_metadata(&self, directory: &OwnedFd, name: &[u8], is_directory: bool) -> Result<()> {
        if is_directory {
            let folder = open_directory(directory, name)?;
            attributes::unless_missing(fs::unlinkat(
                folder,
                attributes::METADATA_FOLDER,
                AtFlags::REMOVEDIR,
            ))?;
        }
        match attributes::metadata_folder(directory.as_fd(), false) {
            Ok(folder) => attributes::unless_missing(fs::unlinkat(folder, name, AtFlags::empty())),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The file gets the owner and permissions themselves (`local_set_cred_passthrough`).
fn pass_through(model: SecurityModel, directory: BorrowedFd<'_>, name: &[u8], cred: &Cred) -> Result<()> {
    let (uid, gid) = owner(cred);
    let owned = fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    if model != SecurityModel::None {
        owned?;
    }
    match cred.mode {
        Some(mode) => chmod_nofollow(directory, name, mode),
        None => Ok(()),
    }
}

impl FsDriver for LocalFs {
    fn is_path_based(&self) -> bool {
        true
    }

    fn child(&self, directory: &FsPath, name: &[u8]) -> Result<FsPath> {
        self.check_name(name)?;
        directory.join(name)
    }

    fn lstat(&self, path: &FsPath) -> Result<Stat> {
        let (directory, name) = self.place(path)?;
        let mut stat = file::stat_of(&fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?);
        attributes::apply(self.options.model, directory.as_fd(), name, &mut stat);
        Ok(stat)
    }

    fn open(&self, path: &FsPath, flags: OFlags) -> Result<Opened> {
        let fd = open_file(&self.root, path.as_bytes(), flags, Mode::empty())?;
        Ok(Box::new(LocalFile::new(fd, &self.options)))
    }

    fn open_dir(&self, path: &FsPath) -> Result<Opened> {
        self.open(path, OFlags::DIRECTORY | OFlags::RDONLY)
    }

    fn statfs(&self, path: &FsPath) -> Result<StatFs> {
        file::statfs_of(&open_file(&self.root, path.as_bytes(), OFlags::RDONLY, Mode::empty())?)
    }

    fn readlink(&self, path: &FsPath) -> Result<Vec<u8>> {
        if self.options.model.is_mapped() {
            let fd = open_file(&self.root, path.as_bytes(), OFlags::RDONLY, Mode::empty())?;
            let mut target = vec![0; LINK_MAX];
            let len = rustix::io::read(fd, &mut target[..])?;
            target.truncate(len);
            return Ok(target);
        }
        let (directory, name) = self.place(path)?;
        Ok(fs::readlinkat(directory, name, Vec::new())?.into_bytes())
    }

    fn create(&self, directory: &FsPath, name: &[u8], flags: OFlags, cred: &Cred) -> Result<Opened> {
        self.check_name(name)?;
        let directory = self.directory(directory)?;
        let mapped = self.options.model.is_mapped();
        let mode = if mapped { self.options.fmode } else { cred.mode.unwrap_or_default() };
        let fd = open_file(&directory, name, flags | OFlags::CREATE, Mode::from_raw_mode(mode & 0o7777))?;
        let kind = if mapped { Stat::FILE } else { 0 };
        let cred = Cred { mode: cred.mode.map(|mode| mode | kind), ..*cred };
        self.set_cred(&directory, name, &cred, AtFlags::empty())?;
        Ok(Box::new(LocalFile::new(fd, &self.options)))
    }

    fn mknod(&self, directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        self.check_name(name)?;
        let directory = self.directory(directory)?;
        let mode = cred.mode.unwrap_or_default();
        let (kind, mode, dev) = match self.options.model.is_mapped() {
            true => (FileType::RegularFile, self.options.fmode, 0),
            false => (FileType::from_raw_mode(mode), mode, cred.rdev.unwrap_or_default()),
        };
        // No type is a regular file's.
        let kind = if kind == FileType::Unknown { FileType::RegularFile } else { kind };
        fs::mknodat(&directory, name, kind, Mode::from_raw_mode(mode & 0o7777), dev)?;
        self.set_cred(&directory, name, cred, AtFlags::empty())
    }

    fn mkdir(&self, directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        self.check_name(name)?;
        let directory = self.directory(directory)?;
        let mapped = self.options.model.is_mapped();
        let mode = if mapped { self.options.dmode } else { cred.mode.unwrap_or_default() };
        fs::mkdirat(&directory, name, Mode::from_raw_mode(mode & 0o7777))?;
        let kind = if mapped { Stat::DIR } else { 0 };
        let cred = Cred { mode: cred.mode.map(|mode| mode | kind), ..*cred };
        self.set_cred(&directory, name, &cred, AtFlags::REMOVEDIR)
    }

    fn symlink(&self, target: &[u8], directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        self.check_name(name)?;
        let directory = self.directory(directory)?;
        if self.options.model.is_mapped() {
            let mode = Mode::from_raw_mode(self.options.fmode);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
            let fd = open_file(&directory, name, flags, mode)?;
            if rustix::io::write(fd, target) != Ok(target.len()) {
                let _ = fs::unlinkat(&directory, name, AtFlags::empty());
                return Err(Errno::IO);
            }
            let cred = Cred { mode: Some(cred.mode.unwrap_or(0o777) | Stat::SYMLINK), ..*cred };
            return self.set_cred(&directory, name, &cred, AtFlags::empty());
        }
        fs::symlinkat(target, &directory, name)?;
        // A link has no permissions of its own.
        self.set_cred(&directory, name, &Cred { mode: None, ..*cred }, AtFlags::empty())
    }

    fn link(&self, path: &FsPath, directory: &FsPath, name: &[u8]) -> Result<()> {
        self.check_name(name)?;
        let (old, old_name) = self.place(path)?;
        let new = self.directory(directory)?;
        let link = |old: &OwnedFd, from: &[u8], new: &OwnedFd, to: &[u8]| {
            fs::linkat(old, from, new, to, AtFlags::empty())
        };
        link(&old, old_name, &new, name)?;
        self.with_metadata((&old, old_name), (&new, name), link).inspect_err(|_| {
            let _ = fs::unlinkat(&new, name, AtFlags::empty());
        })
    }

    fn truncate(&self, path: &FsPath, size: u64) -> Result<()> {
        fs::ftruncate(open_file(&self.root, path.as_bytes(), OFlags::WRONLY, Mode::empty())?, size)
    }

    fn chmod(&self, path: &FsPath, mode: u32) -> Result<()> {
        let (directory, name) = self.place(path)?;
        if self.options.model.is_mapped() {
            let cred = Cred { mode: Some(mode), ..Cred::default() };
            return attributes::store(self.options.model, directory.as_fd(), name, &cred);
        }
        chmod_nofollow(directory.as_fd(), name, mode)
    }

    fn chown(&self, path: &FsPath, cred: &Cred) -> Result<()> {
        let (directory, name) = self.place(path)?;
        let (uid, gid) = owner(cred);
        // With neither, the time of the change is what is asked for.
        if self.options.model.is_mapped() && (uid.is_some() || gid.is_some()) {
            return attributes::store(self.options.model, directory.as_fd(), name, cred);
        }
        fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_times(&self, path: &FsPath, times: &Timestamps) -> Result<()> {
        let (directory, name) = self.place(path)?;
        fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn rename(&self, from: (&FsPath, &[u8]), to: (&FsPath, &[u8])) -> Result<()> {
        self.check_name(from.1)?;
        self.check_name(to.1)?;
        let (old, new) = (self.directory(from.0)?, self.directory(to.0)?);
        let rename = |old: &OwnedFd, from: &[u8], new: &OwnedFd, to: &[u8]| fs::renameat(old, from, new, to);
        rename(&old, from.1, &new, to.1)?;
        self.with_metadata((&old, from.1), (&new, to.1), rename).inspect_err(|_| {
            let _ = fs::renameat(&new, to.1, &old, from.1);
        })
    }

    fn unlink(&self, directory: &FsPath, name: &[u8], is_directory: bool) -> Result<()> {
        self.check_name(name)?;
        let directory = self.directory(directory)?;
        if self.maps_files() {
            self.drop_metadata(&directory, name, is_directory)?;
        }
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        fs::unlinkat(directory, name, flags)
    }

    fn remove(&self, path: &FsPath) -> Result<()> {
        let (directory, name) = path.split();
        let stat = fs::statat(self.directory(&directory)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.unlink(&directory, name, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    fn get_xattr(&self, path: &FsPath, name: &[u8]) -> Result<Vec<u8>> {
        let host = xattr::host_name(self.options.model, name, Errno::NODATA)?;
        let (directory, file) = self.place(path)?;
        xattr::get(directory.as_fd(), file, &host)
    }

    fn list_xattr(&self, path: &FsPath) -> Result<Vec<u8>> {
        let (directory, file) = self.place(path)?;
        let names = xattr::list(directory.as_fd(), file)?;
        Ok(xattr::guest_names(self.options.model, &names))
    }

    fn set_xattr(&self, path: &FsPath, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        let host = xattr::host_name(self.options.model, name, Errno::ACCESS)?;
        let (directory, file) = self.place(path)?;
        xattr::set(directory.as_fd(), file, &host, value, flags)
    }

    fn remove_xattr(&self, path: &FsPath, name: &[u8]) -> Result<()> {
        let host = xattr::host_name(self.options.model, name, Errno::ACCESS)?;
        let (directory, file) = self.place(path)?;
        match xattr::remove(directory.as_fd(), file, &host) {
            // An access control list that is not there can be taken away.
            Err(Errno::NODATA) if self.options.model == SecurityModel::MappedXattr && host != name => Ok(()),
            result => result,
        }
    }
}
