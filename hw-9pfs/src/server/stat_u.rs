//! What is known of files, by 9P2000.u.

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, major, minor};
use rustix::io::Errno;

use super::fid::{Fid, Kind};
use super::{Call, Done, Fail, Server, Version};
use crate::fs::{Cred, FsPath, Stat};
use crate::spec::{HEADER, mode};
use crate::wire::{Reader, Truncated, Writer};

/// Bytes of a file's description without its strings, but with their lengths.
const STAT: usize = 61;
/// Bytes of the largest answer of a directory.
const MAX_READ: usize = 1 << 20;

/// What a client wants a file to be; all ones and empty strings leave it as it is.
struct Wanted<'a> {
    /// Kind, device and file, which cannot be chosen.
    identity: (u16, u32, u8, u32, u64),
    mode: u32,
    atime: u32,
    mtime: u32,
    length: u64,
    name: &'a [u8],
    /// Owner, group and who wrote it last, as names.
    owners: [&'a [u8]; 3],
    uid: u32,
    gid: u32,
    muid: u32,
}

impl<'a> Wanted<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Truncated> {
        let _size = body.u16()?;
        let identity = (body.u16()?, body.u32()?, body.u8()?, body.u32()?, body.u64()?);
        let (mode, atime, mtime, length) = (body.u32()?, body.u32()?, body.u32()?, body.u64()?);
        let name = body.string()?;
        let owners = [body.string()?, body.string()?, body.string()?];
        let _extension = body.string()?;
        let (uid, gid, muid) = (body.u32()?, body.u32()?, body.u32()?);
        Ok(Wanted { identity, mode, atime, mtime, length, name, owners, uid, gid, muid })
    }

    /// Then what was written is to be on the disk (`donttouch_stat`).
    fn is_nothing(&self) -> bool {
        self.identity == (u16::MAX, u32::MAX, u8::MAX, u32::MAX, u64::MAX)
            && [self.mode, self.atime, self.mtime, self.uid, self.gid, self.muid] == [u32::MAX; 6]
            && self.length == u64::MAX
            && self.name.is_empty()
            && self.owners.iter().all(|name| name.is_empty())
    }
}

/// Bits of a mode, in both notations.
const BITS: [(u32, u32); 3] = [(mode::SETUID, 0o4000), (mode::SETGID, 0o2000), (mode::STICKY, 0o1000)];
/// Types of files, in both notations.
const TYPES: [(u32, u32); 6] = [
    (mode::DIR, Stat::DIR),
    (mode::SYMLINK, Stat::SYMLINK),
    (mode::SOCKET, Stat::SOCKET),
    (mode::NAMED_PIPE, Stat::PIPE),
    (mode::DEVICE, Stat::CHAR),
    (mode::DEVICE, Stat::BLOCK),
];

/// A mode as 9P2000.u has it (`stat_to_v9mode`).
fn to_unix(stat: &Stat) -> u32 {
    let kind = TYPES.iter().find(|(_, kind)| stat.is(*kind)).map_or(0, |(bit, _)| *bit);
    BITS.iter()
        .filter(|(_, bit)| stat.mode & bit != 0)
        .fold(stat.mode & 0o777 | kind, |all, (bit, _)| all | bit)
}

/// The permissions in one (`v9mode_to_mode`).
fn permissions(mode: u32) -> u32 {
    BITS.iter().filter(|(bit, _)| mode & bit != 0).fold(mode & 0o777, |all, (_, bit)| all | bit)
}

fn time(seconds: u32) -> Timespec {
    match seconds {
        u32::MAX => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        seconds => Timespec { tv_sec: seconds.into(), tv_nsec: 0 },
    }
}

impl Server {
    /// A file's description (`stat_to_v9stat`).
    fn describe(&self, path: &FsPath, name: &[u8], stat: &Stat) -> Result<Vec<u8>, Errno> {
        let qid = self.qid(stat)?;
        let extension = if stat.is(Stat::SYMLINK) {
            self.driver.readlink(path)?
        } else if stat.is(Stat::CHAR) || stat.is(Stat::BLOCK) {
            let kind = if stat.is(Stat::CHAR) { 'c' } else { 'b' };
            format!("{kind} {} {}", major(stat.rdev), minor(stat.rdev)).into_bytes()
        } else if stat.is(Stat::DIR) || stat.is(Stat::FILE) {
            format!("HARDLINKCOUNT {}", stat.nlink).into_bytes()
        } else {
            Vec::new()
        };
        let mut text = Writer::default();
        text.u16((STAT + name.len() + extension.len()).min(u16::MAX.into()) as u16);
        text.u16(0);
        text.u32(0);
        text.u8(qid.kind);
        text.u32(qid.version);
        text.u64(qid.path);
        let times = [to_unix(stat), stat.atime.0 as u32, stat.mtime.0 as u32];
        times.into_iter().for_each(|value| text.u32(value));
        text.u64(stat.size);
        text.string(name);
        (0..3).for_each(|_| text.string(b""));
        text.string(&extension);
        [stat.uid, stat.gid, 0].into_iter().for_each(|value| text.u32(value));
        Ok(text.finish(0, 0, 0).split_off(HEADER))
    }

    /// `v9fs_stat`.
    pub(super) fn stat(&self, call: &mut Call<'_>) -> Done {
        let fid = self.fid(call.body.u32()?, Errno::NOENT)?;
        let path = fid.path();
        let stat = self.lstat_fid(&fid)?;
        let text = self.describe(&path, path.split().1, &stat)?;
        call.reply.u16(0);
        call.reply.bytes(&text);
        Ok(())
    }

    /// `v9fs_wstat`.
    pub(super) fn wstat(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let _size = call.body.u16()?;
        let wanted = Wanted::read(&mut call.body)?;
        let fid = self.fid(number, Errno::INVAL)?;
        if wanted.is_nothing() {
            let file = self.file(&fid)?.ok_or(Errno::BADF)?;
            return Ok(file.sync(false)?);
        }
        let names = self.names.read();
        self.change(&fid, &wanted)?;
        drop(names);
        if !wanted.name.is_empty() {
            super::check_name(wanted.name, Errno::ISDIR)?;
            if !self.driver.is_path_based() {
                return Err(Errno::OPNOTSUPP.into());
            }
            let _names = self.names.write();
            self.rename_to(&fid, None, wanted.name)?;
        }
        if wanted.length != u64::MAX {
            let _names = self.names.read();
            self.driver.truncate(&fid.path(), wanted.length)?;
        }
        Ok(())
    }

    fn change(&self, fid: &Fid, wanted: &Wanted<'_>) -> Result<(), Errno> {
        let path = fid.path();
        if wanted.mode != u32::MAX {
            let stat = self.driver.lstat(&path)?;
            if wanted.mode & mode::TYPES != to_unix(&stat) & mode::TYPES {
                return Err(Errno::IO);
            }
            self.driver.chmod(&path, stat.mode & !0o7777 | permissions(wanted.mode))?;
        }
        if wanted.mtime != u32::MAX || wanted.atime != u32::MAX {
            let times = Timestamps { last_access: time(wanted.atime), last_modification: time(wanted.mtime) };
            self.driver.set_times(&path, &times)?;
        }
        if wanted.gid != u32::MAX || wanted.uid != u32::MAX {
            let said = |id: u32| Some(id).filter(|id| *id != u32::MAX);
            let cred = Cred { uid: said(wanted.uid), gid: said(wanted.gid), ..Cred::default() };
            self.driver.chown(&path, &cred)?;
        }
        Ok(())
    }

    /// Descriptions of a directory's files, from where the last read ended, or from the start
    /// (`v9fs_do_readdir_with_stat`).
    pub(super) fn read_directory_u(&self, call: &mut Call<'_>, fid: &Fid, offset: u64, count: u32) -> Done {
        if self.version() != Version::Unix {
            return Err(Errno::OPNOTSUPP.into());
        }
        let directory = self.file(fid)?.ok_or(Errno::INVAL)?;
        let _names = self.names.read();
        let path = fid.path();
        let most = (count as usize).min(MAX_READ);
        let mut position = match &fid.state.lock().kind {
            Kind::Directory(_, position) if offset > 0 => *position,
            _ => 0,
        };
        let mut data = Vec::new();
        let mut result = Ok(());
        directory.read_dir(position, &mut |entry| {
            let described = call.check_cancelled().and_then(|()| {
                let file = self.driver.child(&path, entry.name)?;
                let stat = self.driver.lstat(&file)?;
                Ok::<_, Fail>(self.describe(&file, entry.name, &stat)?)
            });
            match described {
                Ok(text) if data.len() + text.len() > most => return false,
                Ok(text) => data.extend(text),
                Err(error) => result = Err(error),
            }
            position = entry.next;
            result.is_ok()
        })?;
        result?;
        if let Kind::Directory(_, place) = &mut fid.state.lock().kind {
            *place = position;
        }
        call.reply.u32(data.len() as u32);
        call.reply.bytes(&data);
        Ok(())
    }
}
