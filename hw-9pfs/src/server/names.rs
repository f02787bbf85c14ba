//! Making, renaming and removing files.

use rustix::fs::makedev;
use rustix::io::Errno;

use super::fid::{Fid, Kind};
use super::{Call, Done, Server, check_name, cred_of};
use crate::fs::{Cred, FsPath, Stat};
use crate::spec::{AT_REMOVEDIR, NO_FID, mode};

/// Permissions of a symbolic link.
const LINK_MODE: u32 = 0o777;

impl Server {
    fn make(
        &self,
        call: &mut Call<'_>,
        fid: &Fid,
        name: &[u8],
        make: impl FnOnce(&FsPath) -> Result<(), Errno>,
    ) -> Done {
        let directory = fid.path();
        make(&directory)?;
        let (_, qid) = self.new_file(&directory, name)?;
        call.reply_qid(&qid);
        Ok(())
    }

    /// `v9fs_mkdir`.
    pub(super) fn mkdir(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let (mode, gid) = (call.body.u32()?, call.body.u32()?);
        check_name(name, Errno::EXIST)?;
        let fid = self.fid(number, Errno::NOENT)?;
        let cred = cred_of(fid.uid, gid, mode);
        self.make(call, &fid, name, |directory| self.driver.mkdir(directory, name, &cred))
    }

    /// `v9fs_mknod`.
    pub(super) fn mknod(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let (mode, major, minor) = (call.body.u32()?, call.body.u32()?, call.body.u32()?);
        let gid = call.body.u32()?;
        check_name(name, Errno::EXIST)?;
        let fid = self.fid(number, Errno::NOENT)?;
        let cred = Cred { rdev: Some(makedev(major, minor)), ..cred_of(fid.uid, gid, mode) };
        self.make(call, &fid, name, |directory| self.driver.mknod(directory, name, &cred))
    }

    /// `v9fs_symlink`.
    pub(super) fn symlink(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let (name, target) = (call.body.string()?, call.body.string()?);
        let gid = call.body.u32()?;
        check_name(name, Errno::EXIST)?;
        let fid = self.fid(number, Errno::INVAL)?;
        let cred = cred_of(fid.uid, gid, LINK_MODE);
        self.make(call, &fid, name, |directory| self.driver.symlink(target, directory, name, &cred))
    }

    /// `v9fs_link`.
    pub(super) fn link(&self, call: &mut Call<'_>) -> Done {
        let (directory, old) = (call.body.u32()?, call.body.u32()?);
        let name = call.body.string()?;
        check_name(name, Errno::EXIST)?;
        let directory = self.fid(directory, Errno::NOENT)?;
        let old = self.fid(old, Errno::NOENT)?;
        Ok(self.driver.link(&old.path(), &directory.path(), name)?)
    }

    /// `v9fs_readlink`.
    pub(super) fn readlink(&self, call: &mut Call<'_>) -> Done {
        let fid = self.fid(call.body.u32()?, Errno::NOENT)?;
        call.reply.string(&self.driver.readlink(&fid.path())?);
        Ok(())
    }

    /// Takes a file away and lets the fid go in any case (`v9fs_remove`).
    pub(super) fn remove(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let fid = self.fid(number, Errno::INVAL)?;
        let removed = if self.driver.is_path_based() {
            let path = fid.path();
            self.fids.keep_open(&path, &*self.driver).and_then(|()| self.driver.remove(&path))
        } else {
            Err(Errno::OPNOTSUPP)
        };
        self.fids.remove(number);
        Ok(removed?)
    }

    /// `v9fs_unlinkat`.
    pub(super) fn unlinkat(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let flags = call.body.u32()?;
        check_name(name, if name == b"." { Errno::INVAL } else { Errno::NOTEMPTY })?;
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::INVAL.into());
        }
        let fid = self.fid(number, Errno::INVAL)?;
        let directory = fid.path();
        let path = self.driver.child(&directory, name)?;
        self.fids.keep_open(&path, &*self.driver)?;
        Ok(self.driver.unlink(&directory, name, flags & AT_REMOVEDIR != 0)?)
    }

    /// `v9fs_rename`.
    pub(super) fn rename(&self, call: &mut Call<'_>) -> Done {
        let (number, directory) = (call.body.u32()?, call.body.u32()?);
        let name = call.body.string()?;
        check_name(name, Errno::ISDIR)?;
        let fid = self.fid(number, Errno::NOENT)?;
        if !fid.is_closed() {
            return Err(Errno::INVAL.into());
        }
        if !self.driver.is_path_based() {
            return Err(Errno::OPNOTSUPP.into());
        }
        let _names = self.names.write();
        let directory = match directory {
            NO_FID => None,
            number => Some(self.fid(number, Errno::NOENT)?.path()),
        };
        Ok(self.rename_to(&fid, directory, name)?)
    }

    /// Renames a fid's file, into another directory perhaps; while nobody looks up paths (`v9fs_complete_rename`).
    pub(super) fn rename_to(&self, fid: &Fid, directory: Option<FsPath>, name: &[u8]) -> Result<(), Errno> {
        let path = fid.path();
        let (old, old_name) = path.split();
        let directory = directory.unwrap_or_else(|| old.clone());
        let new = self.driver.child(&directory, name)?;
        self.driver.rename((&old, old_name), (&directory, name))?;
        self.fids.moved(&path, &new);
        Ok(())
    }

    /// `v9fs_renameat`.
    pub(super) fn renameat(&self, call: &mut Call<'_>) -> Done {
        let old = call.body.u32()?;
        let old_name = call.body.string()?;
        let new = call.body.u32()?;
        let new_name = call.body.string()?;
        check_name(old_name, Errno::ISDIR)?;
        check_name(new_name, Errno::ISDIR)?;
        let _names = self.names.write();
        let old = self.fid(old, Errno::NOENT)?.path();
        let new = match new {
            NO_FID => old.clone(),
            number => self.fid(number, Errno::NOENT)?.path(),
        };
        self.driver.rename((&old, old_name), (&new, new_name))?;
        if self.driver.is_path_based() {
            let (from, to) = (self.driver.child(&old, old_name)?, self.driver.child(&new, new_name)?);
            self.fids.moved(&from, &to);
        }
        Ok(())
    }

    /// Makes any kind of file by 9P2000.u; the fid is the new file then (`v9fs_create`).
    pub(super) fn create(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let (perm, how) = (call.body.u32()?, call.body.u8()?);
        let extension = call.body.string()?;
        check_name(name, Errno::EXIST)?;
        let fid = self.fid(number, Errno::INVAL)?;
        if !fid.is_closed() {
            return Err(Errno::INVAL.into());
        }
        let special = mode::DIR | mode::SYMLINK | mode::LINK | mode::DEVICE | mode::NAMED_PIPE | mode::SOCKET;
        let (qid, path) = if perm & special == 0 {
            self.create_file(&fid, name, super::io::unix_flags(how), (u32::MAX, perm))?
        } else {
            self.make_special(&fid, name, perm, extension)?;
            let (path, qid) = self.new_file(&fid.path(), name)?;
            if perm & mode::DIR != 0 {
                let directory = self.fids.opened(self.driver.open_dir(&path)?)?;
                fid.set_kind(Kind::Directory(Some(directory), 0));
            }
            fid.state.lock().path = path.clone();
            (qid, path)
        };
        let block_size = self.driver.statfs(&path).map_or(0, |stat| stat.block_size);
        call.reply_qid(&qid);
        call.reply.u32(self.io_unit(block_size));
        Ok(())
    }

    fn make_special(&self, fid: &Fid, name: &[u8], perm: u32, extension: &[u8]) -> Result<(), Errno> {
        let directory = fid.path();
        let text = String::from_utf8_lossy(extension);
        let cred = |kind: u32| cred_of(fid.uid, u32::MAX, kind | perm & 0o777);
        let node = |kind, rdev| self.driver.mknod(&directory, name, &Cred { rdev, ..cred(kind) });
        if perm & mode::DIR != 0 {
            return self.driver.mkdir(&directory, name, &cred(0));
        }
        if perm & mode::SYMLINK != 0 {
            let cred = cred_of(fid.uid, u32::MAX, LINK_MODE);
            return self.driver.symlink(extension, &directory, name, &cred);
        }
        if perm & mode::LINK != 0 {
            let number = text.trim_end_matches('\0').trim().parse().map_err(|_| Errno::INVAL)?;
            let old = self.fids.get(number).ok_or(Errno::INVAL)?;
            return self.driver.link(&old.path(), &directory, name);
        }
        if perm & mode::DEVICE != 0 {
            let (kind, rdev) = device(&text).ok_or(Errno::IO)?;
            return node(kind, Some(rdev));
        }
        let kind = if perm & mode::NAMED_PIPE != 0 { Stat::PIPE } else { Stat::SOCKET };
        node(kind, Some(0))
    }
}

/// A device by its kind and numbers: `c 1 3`.
fn device(text: &str) -> Option<(u32, u64)> {
    let mut words = text.split_whitespace();
    let kind = match words.next()? {
        "c" => Stat::CHAR,
        "b" => Stat::BLOCK,
        _ => return None,
    };
    let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((kind, makedev(major, minor)))
}
