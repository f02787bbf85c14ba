//! Opening, reading, writing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::fid::{Fid, Handle, Kind};
use super::{Call, Done, Fail, Server, Version, check_name, cred_of};
use crate::fs::{Entry, FsPath, Stat};
use crate::qid::Qid;
use crate::spec::{HEADER, LOCK_FLAG_BLOCK, LOCK_SUCCESS, LOCK_TYPE_UNLOCK, open};
use crate::wire::Writer;

/// Bytes that are copied at once.
const CHUNK: u64 = 256 << 10;
/// Bytes of a directory in one answer at most.
const MAX_READDIR: u32 = 1 << 20;
/// Bytes in front of what was read.
const DATA: u64 = HEADER as u64 + 4;
/// Bytes in front of what is to be written.
const WRITE_DATA: u64 = HEADER as u64 + 16;
/// Bytes of an entry of a directory beside its name.
const ENTRY: usize = 24;
/// How long to wait before trying once more what was interrupted.
const PAUSE: Duration = Duration::from_millis(1);

/// What of 9P2000.L's flags, which are Linux', is done as asked. It is the client that follows links and creates, and
/// the page cache of the host is used in any case.
fn linux_flags(flags: u32) -> OFlags {
    let done = OFlags::RWMODE
        | OFlags::EXCL
        | OFlags::TRUNC
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::DSYNC
        | OFlags::DIRECTORY
        | OFlags::NOFOLLOW
        | OFlags::NOATIME;
    let mut open = OFlags::from_bits_truncate(flags) & done;
    // As Linux' flag for this contains the one above.
    if flags & 0o4_000_000 != 0 {
        open |= OFlags::SYNC;
    }
    open
}

/// Those of 9P2000.u (`omode_to_uflags`).
pub(super) fn unix_flags(mode: u8) -> OFlags {
    let access = match mode & open::ACCESS {
        open::WRITE => OFlags::WRONLY,
        open::READ_WRITE => OFlags::RDWR,
        _ => OFlags::RDONLY,
    };
    let others =
        [(open::TRUNCATE, OFlags::TRUNC), (open::APPEND, OFlags::APPEND), (open::EXCLUSIVE, OFlags::EXCL)];
    others.iter().filter(|(bit, _)| mode & bit != 0).fold(access, |all, (_, flag)| all | *flag)
}

/// Calls `f` again while it is interrupted and the client still wants it.
fn again<R>(call: &Call<'_>, mut f: impl FnMut() -> Result<R, Errno>) -> Result<R, Errno> {
    loop {
        match f() {
            Err(Errno::INTR) if !call.cancelled.load(Ordering::Acquire) => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

impl Server {
    /// The open file of a fid, if it is open.
    pub(super) fn file(&self, fid: &Fid) -> Result<Option<Arc<Handle>>, Errno> {
        let state = fid.state.lock();
        if let Kind::File(Some(file), _) | Kind::Directory(Some(file), _) = &state.kind {
            return Ok(Some(file.clone()));
        }
        drop(state);
        let _names = self.names.read_recursive();
        self.fids.file(fid, &*self.driver)
    }

    fn throttle(&self, is_write: bool, bytes: u32) {
        if let Some(group) = &self.options.throttle {
            let (done, wait) = mpsc::channel();
            let owner = std::ptr::from_ref(self).addr();
            group.pass(owner, is_write, (bytes.into(), 1), move || {
                let _ = done.send(());
            });
            // Dropped unsent with the group.
            let _ = wait.recv();
        }
    }

    /// Lets requests that wait for their turn go: somebody waits for their end.
    pub fn release(&self) {
        if let Some(group) = &self.options.throttle {
            group.release(std::ptr::from_ref(self).addr());
        }
    }

    fn block_size(&self, path: &FsPath) -> u64 {
        self.driver.statfs(path).map_or(0, |stat| stat.block_size)
    }

    /// `v9fs_open`.
    pub(super) fn open(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let flags = match self.version() {
            Version::Linux => linux_flags(call.body.u32()?),
            _ => unix_flags(call.body.u8()?),
        };
        let fid = self.fid(number, Errno::NOENT)?;
        if !fid.is_closed() {
            return Err(Errno::INVAL.into());
        }
        let path = fid.path();
        let stat = self.driver.lstat(&path)?;
        let qid = self.qid(&stat)?;
        if stat.is(Stat::DIR) {
            let directory = self.fids.opened(self.driver.open_dir(&path)?)?;
            fid.set_kind(Kind::Directory(Some(directory), 0));
            call.reply_qid(&qid);
            call.reply.u32(0);
            return Ok(());
        }
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::APPEND | OFlags::TRUNC);
        if self.options.read_only && writes {
            return Err(Errno::ROFS.into());
        }
        let file = self.fids.opened(self.driver.open(&path, flags)?)?;
        self.set_file(&fid, file, flags, None);
        call.reply_qid(&qid);
        call.reply.u32(self.io_unit(self.block_size(&path)));
        Ok(())
    }

    fn set_file(&self, fid: &Fid, file: Arc<Handle>, flags: OFlags, path: Option<FsPath>) {
        let mut state = fid.state.lock();
        state.kind = Kind::File(Some(file), flags);
        // It would not be there a second time.
        state.keep_open |= flags.contains(OFlags::EXCL);
        if let Some(path) = path {
            state.path = path;
        }
    }

    /// Makes a file in a fid's directory, which the fid is then (`v9fs_co_open2`).
    pub(super) fn create_file(
        &self,
        fid: &Fid,
        name: &[u8],
        flags: OFlags,
        (gid, mode): (u32, u32),
    ) -> Result<(Qid, FsPath), Errno> {
        let directory = fid.path();
        let cred = cred_of(fid.uid, gid, mode & 0o7777);
        let file = self.driver.create(&directory, name, flags, &cred)?;
        let (path, qid) = self.new_file(&directory, name)?;
        let file = self.fids.opened(file)?;
        self.set_file(fid, file, flags, Some(path.clone()));
        Ok((qid, path))
    }

    /// `v9fs_lcreate`.
    pub(super) fn lcreate(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let (flags, mode, gid) = (call.body.u32()?, call.body.u32()?, call.body.u32()?);
        check_name(name, Errno::EXIST)?;
        let fid = self.fid(number, Errno::NOENT)?;
        if !fid.is_closed() {
            return Err(Errno::INVAL.into());
        }
        let (qid, path) = self.create_file(&fid, name, linux_flags(flags), (gid, mode))?;
        call.reply_qid(&qid);
        call.reply.u32(self.io_unit(self.block_size(&path)));
        Ok(())
    }

    /// `v9fs_read`.
    pub(super) fn read(&self, call: &mut Call<'_>) -> Done {
        let (number, offset, count) = (call.body.u32()?, call.body.u64()?, call.body.u32()?);
        let fid = self.fid(number, Errno::INVAL)?;
        let state = fid.state.lock();
        match &state.kind {
            Kind::None => Err(Errno::INVAL.into()),
            Kind::Xattr(xattr) => {
                let data = xattr.read(offset, count);
                call.reply.u32(data.len() as u32);
                call.reply.bytes(data);
                Ok(())
            }
            Kind::Directory(..) => {
                drop(state);
                self.read_directory_u(call, &fid, offset, count)
            }
            Kind::File(..) => {
                drop(state);
                self.read_file(call, &fid, offset, count)
            }
        }
    }

    fn read_file(&self, call: &mut Call<'_>, fid: &Fid, offset: u64, count: u32) -> Done {
        call.check_room(DATA + u64::from(count))?;
        let file = self.file(fid)?.ok_or(Errno::INVAL)?;
        self.throttle(false, count);
        let mut buffer = vec![0; u64::from(count).min(CHUNK) as usize];
        let mut total = 0u64;
        while total < count.into() {
            let wanted = (u64::from(count) - total).min(CHUNK) as usize;
            let place = buffer.get_mut(..wanted).unwrap_or_default();
            let at = offset.checked_add(total).ok_or(Errno::INVAL)?;
            let len = again(call, || file.read_at(place, at))?;
            call.message.write(DATA + total, place.get(..len).unwrap_or_default());
            total += len as u64;
            if len == 0 {
                break;
            }
            call.check_cancelled()?;
        }
        call.reply.u32(total as u32);
        call.further = total as usize;
        Ok(())
    }

    /// `v9fs_write`.
    pub(super) fn write(&self, call: &mut Call<'_>) -> Done {
        let (number, offset, count) = (call.body.u32()?, call.body.u64()?, call.body.u32()?);
        let (needed, there) = (WRITE_DATA + u64::from(count), call.message.readable_len());
        if there < needed {
            let kind = call.kind;
            let why = format!("VirtFS request type {kind} needs {needed} bytes, buffer has {there}");
            return Err(Fail::Broken(super::Broken(why)));
        }
        let fid = self.fid(number, Errno::INVAL)?;
        let mut state = fid.state.lock();
        match &mut state.kind {
            Kind::Xattr(xattr) => {
                let room = xattr.room(offset, count)?;
                call.message.read(WRITE_DATA, room);
                call.reply.u32(room.len() as u32);
                Ok(())
            }
            Kind::File(..) => {
                drop(state);
                self.write_file(call, &fid, offset, count)
            }
            Kind::None | Kind::Directory(..) => Err(Errno::INVAL.into()),
        }
    }

    fn write_file(&self, call: &mut Call<'_>, fid: &Fid, offset: u64, count: u32) -> Done {
        let file = self.file(fid)?.ok_or(Errno::INVAL)?;
        self.throttle(true, count);
        let mut buffer = vec![0; u64::from(count).min(CHUNK) as usize];
        let mut total = 0u64;
        loop {
            let wanted = (u64::from(count) - total).min(CHUNK) as usize;
            let data = buffer.get_mut(..wanted).unwrap_or_default();
            call.message.read(WRITE_DATA + total, data);
            let at = offset.checked_add(total).ok_or(Errno::INVAL)?;
            let len = again(call, || file.write_at(data, at))?;
            total += len as u64;
            if len == 0 || total >= count.into() {
                break;
            }
            call.check_cancelled()?;
        }
        call.reply.u32(total as u32);
        Ok(())
    }

    /// `v9fs_readdir`.
    pub(super) fn readdir(&self, call: &mut Call<'_>) -> Done {
        let (number, position, count) = (call.body.u32()?, call.body.u64()?, call.body.u32()?);
        let most = count.min(self.msize().saturating_sub(DATA as u32)).min(MAX_READDIR) as usize;
        let fid = self.fid(number, Errno::INVAL)?;
        if !matches!(fid.state.lock().kind, Kind::Directory(..)) {
            return Err(Errno::NOTDIR.into());
        }
        if self.version() != Version::Linux {
            return Err(Errno::OPNOTSUPP.into());
        }
        let directory = self.file(&fid)?.ok_or(Errno::INVAL)?;
        let (path, remaps) = (fid.path(), self.qids.lock().remaps());
        let mut entries = Writer::default();
        let mut result = Ok(());
        let mut add = |entry: Entry<'_>| {
            if entries.len() - HEADER + ENTRY + entry.name.len() > most {
                return false;
            }
            result = call.check_cancelled();
            // The number is all that clients look at here, and it is known without a look at the file.
            let qid = match remaps {
                false => Ok(Qid { path: entry.ino, ..Qid::default() }),
                true => self.driver.child(&path, entry.name).and_then(|path| {
                    let stat = self.driver.lstat(&path)?;
                    self.qid(&stat)
                }),
            };
            match qid {
                Ok(qid) => {
                    entries.u8(qid.kind);
                    entries.u32(qid.version);
                    entries.u64(qid.path);
                }
                Err(error) => result = Err(error.into()),
            }
            entries.u64(entry.next);
            entries.u8(entry.kind);
            entries.string(entry.name);
            result.is_ok()
        };
        directory.read_dir(position, &mut add)?;
        result?;
        let entries = entries.finish(0, 0, 0);
        let entries = entries.get(HEADER..).unwrap_or_default();
        call.reply.u32(entries.len() as u32);
        call.reply.bytes(entries);
        Ok(())
    }

    /// `v9fs_fsync`.
    pub(super) fn fsync(&self, call: &mut Call<'_>) -> Done {
        let (number, data_only) = (call.body.u32()?, call.body.u32()?);
        let fid = self.fid(number, Errno::NOENT)?;
        let file = self.file(&fid)?.ok_or(Errno::BADF)?;
        Ok(file.sync(data_only != 0)?)
    }

    /// The client's kernel keeps the locks of its programs; nobody else has any (`v9fs_lock`).
    pub(super) fn lock(&self, call: &mut Call<'_>) -> Done {
        let (number, _kind, flags) = (call.body.u32()?, call.body.u8()?, call.body.u32()?);
        let (_start, _length, _process) = (call.body.u64()?, call.body.u64()?, call.body.u32()?);
        let _client = call.body.string()?;
        if flags & !LOCK_FLAG_BLOCK != 0 {
            return Err(Errno::INVAL.into());
        }
        self.stat_open(number)?;
        call.reply.u8(LOCK_SUCCESS);
        Ok(())
    }

    /// `v9fs_getlock`.
    pub(super) fn getlock(&self, call: &mut Call<'_>) -> Done {
        let (number, _kind) = (call.body.u32()?, call.body.u8()?);
        let (start, length, process) = (call.body.u64()?, call.body.u64()?, call.body.u32()?);
        let client = call.body.string()?;
        self.stat_open(number)?;
        call.reply.u8(LOCK_TYPE_UNLOCK);
        call.reply.u64(start);
        call.reply.u64(length);
        call.reply.u32(process);
        call.reply.string(client);
        Ok(())
    }

    /// What is known of the file that a fid has open (`v9fs_co_fstat`).
    fn stat_open(&self, number: u32) -> Result<Stat, Fail> {
        let fid = self.fid(number, Errno::NOENT)?;
        let file = self.file(&fid)?.ok_or(Errno::BADF)?;
        Ok(self.stat_of(&fid, &file)?)
    }

    /// The same of an open file; some can only say by its name.
    pub(super) fn stat_of(&self, fid: &Fid, file: &Handle) -> Result<Stat, Errno> {
        match file.stat() {
            Err(Errno::OPNOTSUPP) => match self.driver.lstat(&fid.path()) {
                Err(Errno::NOENT) => Err(Errno::OPNOTSUPP),
                stat => stat,
            },
            stat => stat,
        }
    }
}
