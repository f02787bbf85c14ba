//! Beginning, walking, ending.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::fid::{Fid, Kind};
use super::{Call, Done, Server, Version, check_name};
use crate::fs::FsPath;
use crate::spec::{MAX_WALK, MIN_MSIZE};

/// What clients that were not told otherwise use at most, which makes them slow.
const SMALL_MSIZE: u32 = 8192;

impl Server {
    /// Agrees on a protocol and forgets all there was (`v9fs_version`).
    pub(super) fn agree(&self, call: &mut Call<'_>) -> Done {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let msize = call.body.u32()?;
        let (version, name): (_, &[u8]) = match call.body.string()? {
            b"9P2000.u" => (Some(Version::Unix), b"9P2000.u"),
            b"9P2000.L" => (Some(Version::Linux), b"9P2000.L"),
            _ => (None, b"unknown"),
        };
        self.reset();
        if let Some(version) = version {
            *self.version.lock() = version;
            if msize < MIN_MSIZE {
                util::error_report!(
                    "9pfs: Client requested msize < minimum msize ({MIN_MSIZE}) supported by this server."
                );
                return Err(Errno::MSGSIZE.into());
            }
            self.msize.store(msize, Ordering::Release);
            if msize <= SMALL_MSIZE && !self.options.quiet && !WARNED.swap(true, Ordering::AcqRel) {
                util::warn_report!(
                    "9p: degraded performance: a reasonable high msize should be chosen on \
                     client/guest side (chosen msize is <= 8192)."
                );
            }
        }
        call.reply.u32(msize);
        call.reply.string(name);
        Ok(())
    }

    /// Gives a fid for the shared folder (`v9fs_attach`).
    pub(super) fn attach(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let _auth = call.body.u32()?;
        let (_user, _name) = (call.body.string()?, call.body.string()?);
        let uid = call.body.u32()?;
        let path = FsPath::default();
        let root = self.driver.lstat(&path).map_err(|_| Errno::INVAL)?;
        let qid = self.qid(&root).map_err(|_| Errno::INVAL)?;
        self.fids.insert(number, Fid::new(uid, path))?;
        *self.root.lock() = root;
        call.reply_qid(&qid);
        Ok(())
    }

    /// Goes down by names, and gives a fid for where they lead (`v9fs_walk`). Where not all of them lead somewhere, it
    /// tells how far, and there is no fid.
    pub(super) fn walk(&self, call: &mut Call<'_>) -> Done {
        let (number, new) = (call.body.u32()?, call.body.u32()?);
        let count = call.body.u16()?;
        if count > MAX_WALK {
            return Err(Errno::INVAL.into());
        }
        let mut names = Vec::new();
        for _ in 0..count {
            let name = call.body.string()?;
            // Here directories' own names are names.
            check_name(name, Errno::EXIST).or_else(|e| if e == Errno::EXIST { Ok(()) } else { Err(e) })?;
            names.push(name);
        }
        let fid = self.fid(number, Errno::NOENT)?;
        let mut path = fid.path();
        let mut stat = self.driver.lstat(&path)?;
        let mut qid = self.qid(&stat)?;
        let root = *self.root.lock();
        let mut qids = Vec::new();
        for name in names {
            call.check_cancelled()?;
            if name != b".." || !stat.is_same(&root) {
                let step = self.driver.child(&path, name).and_then(|next| {
                    let stat = self.driver.lstat(&next)?;
                    Ok((next, stat, self.qid(&stat)?))
                });
                match step {
                    Ok(step) => (path, stat, qid) = step,
                    Err(error) if qids.is_empty() => return Err(error.into()),
                    Err(_) => break,
                }
            }
            qids.push(qid);
        }
        if qids.len() == usize::from(count) {
            if number == new {
                let mut state = fid.state.lock();
                if !matches!(state.kind, Kind::None) {
                    return Err(Errno::INVAL.into());
                }
                state.path = path;
            } else {
                self.fids.insert(new, Fid::new(fid.uid, path))?;
            }
        }
        call.reply.u16(qids.len() as u16);
        qids.iter().for_each(|qid| call.reply_qid(qid));
        Ok(())
    }

    /// Lets a fid go; the value of an attribute is set then (`v9fs_clunk`).
    pub(super) fn clunk(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let fid = self.fids.remove(number).ok_or(Errno::NOENT)?;
        let state = fid.state.lock();
        match &state.kind {
            Kind::Xattr(xattr) => Ok(self.set_xattr(&state.path, xattr)?),
            _ => Ok(()),
        }
    }
}
