//! What is known of files, by 9P2000.L.

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::{Call, Done, Server};
use crate::fs::{Cred, Stat};
use crate::spec::{IO_HEADER, attr, stats};

impl Server {
    /// `v9fs_getattr`.
    pub(super) fn getattr(&self, call: &mut Call<'_>) -> Done {
        let (number, _wanted) = (call.body.u32()?, call.body.u64()?);
        let fid = self.fid(number, Errno::NOENT)?;
        let stat = match self.file(&fid)? {
            Some(file) => self.stat_of(&fid, &file)?,
            None => self.driver.lstat(&fid.path())?,
        };
        let qid = self.qid(&stat)?;
        call.reply.u64(stats::BASIC);
        call.reply_qid(&qid);
        [stat.mode, stat.uid, stat.gid].into_iter().for_each(|value| call.reply.u32(value));
        let times = [stat.atime, stat.mtime, stat.ctime];
        let unit = self.io_unit(stat.blksize);
        let values = [stat.nlink, stat.rdev, stat.size, unit.into(), stat.blocks];
        values.into_iter().for_each(|value| call.reply.u64(value));
        for (seconds, ns) in times {
            call.reply.u64(seconds as u64);
            call.reply.u64(ns);
        }
        // Times of birth, generation and version are not known.
        [0; 4].into_iter().for_each(|value| call.reply.u64(value));
        Ok(())
    }

    /// `v9fs_setattr`.
    pub(super) fn setattr(&self, call: &mut Call<'_>) -> Done {
        let (number, valid, mode) = (call.body.u32()?, call.body.u32()?, call.body.u32()?);
        let (uid, gid, size) = (call.body.u32()?, call.body.u32()?, call.body.u64()?);
        let atime = (call.body.u64()?, call.body.u64()?);
        let mtime = (call.body.u64()?, call.body.u64()?);
        let fid = self.fid(number, Errno::INVAL)?;
        let path = fid.path();
        let has = |bits: u32| valid & bits != 0;
        if has(attr::MODE) {
            self.driver.chmod(&path, mode)?;
        }
        if has(attr::ATIME | attr::MTIME) {
            let times = Timestamps {
                last_access: time(has(attr::ATIME), has(attr::ATIME_SET), atime),
                last_modification: time(has(attr::MTIME), has(attr::MTIME_SET), mtime),
            };
            self.driver.set_times(&path, &times)?;
        }
        // The time of the change alone is set by setting nothing.
        if has(attr::UID | attr::GID) || valid & attr::MASK == attr::CTIME {
            let cred = Cred {
                uid: Some(uid).filter(|uid| has(attr::UID) && *uid != u32::MAX),
                gid: Some(gid).filter(|gid| has(attr::GID) && *gid != u32::MAX),
                ..Cred::default()
            };
            self.driver.chown(&path, &cred)?;
        }
        if has(attr::SIZE) {
            self.driver.truncate(&path, size)?;
        }
        Ok(())
    }

    /// `v9fs_statfs`.
    pub(super) fn statfs(&self, call: &mut Call<'_>) -> Done {
        let fid = self.fid(call.body.u32()?, Errno::NOENT)?;
        let stat = self.driver.statfs(&fid.path())?;
        // As large blocks as fit into a message.
        let data = u64::from(self.msize().saturating_sub(IO_HEADER));
        let factor = data.checked_div(stat.block_size).unwrap_or_default().max(1);
        call.reply.u32(stat.kind);
        call.reply.u32(stat.block_size.saturating_mul(factor) as u32);
        let values = [
            stat.blocks / factor,
            stat.free / factor,
            stat.available / factor,
            stat.files,
            stat.files_free,
            stat.id,
        ];
        values.into_iter().for_each(|value| call.reply.u64(value));
        call.reply.u32(stat.name_max);
        Ok(())
    }

    /// What is known of a file by its name.
    pub(super) fn lstat_fid(&self, fid: &super::Fid) -> Result<Stat, Errno> {
        self.driver.lstat(&fid.path())
    }
}

fn time(is_set: bool, is_given: bool, (seconds, ns): (u64, u64)) -> Timespec {
    match (is_set, is_given) {
        (false, _) => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        (true, false) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        (true, true) => Timespec { tv_sec: seconds as i64, tv_nsec: ns as i64 },
    }
}
