//! Extended attributes: their values are read and written like files.

use rustix::io::Errno;

use super::fid::{Fid, Kind, Xattr};
use super::{Call, Done, Server};
use crate::fs::{FsPath, Result};
use crate::spec::XATTR_MAX;

/// The attribute must not be there, or must be.
const KNOWN_FLAGS: u32 = 3;

impl Server {
    /// Gives a fid for reading an attribute, or the list of all (`v9fs_xattrwalk`).
    pub(super) fn xattrwalk(&self, call: &mut Call<'_>) -> Done {
        let (number, new) = (call.body.u32()?, call.body.u32()?);
        let name = call.body.string()?;
        let fid = self.fid(number, Errno::NOENT)?;
        if self.fids.get(new).is_some() {
            return Err(Errno::INVAL.into());
        }
        let path = fid.path();
        let value = match name {
            b"" => self.driver.list_xattr(&path)?,
            name => self.driver.get_xattr(&path, name)?,
        };
        call.reply.u64(value.len() as u64);
        let xattr = self.fids.xattr(value, None)?;
        let fid = Fid::new(fid.uid, path);
        fid.set_kind(Kind::Xattr(xattr));
        self.fids.insert(new, fid)?;
        Ok(())
    }

    /// Makes a fid the value of an attribute, which is then written and set when the fid goes (`v9fs_xattrcreate`).
    pub(super) fn xattrcreate(&self, call: &mut Call<'_>) -> Done {
        let number = call.body.u32()?;
        let name = call.body.string()?;
        let (size, flags) = (call.body.u64()?, call.body.u32()?);
        if flags & !KNOWN_FLAGS != 0 {
            return Err(Errno::INVAL.into());
        }
        if size > XATTR_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let fid = self.fid(number, Errno::INVAL)?;
        let xattr = self.fids.xattr(vec![0; size as usize], Some((name.to_vec(), flags)))?;
        let mut state = fid.state.lock();
        if !matches!(state.kind, Kind::None) {
            return Err(Errno::INVAL.into());
        }
        state.kind = Kind::Xattr(xattr);
        Ok(())
    }

    /// Sets an attribute whose value was written (`v9fs_xattr_fid_clunk`).
    pub(super) fn set_xattr(&self, path: &FsPath, xattr: &Xattr) -> Result<()> {
        let Some((name, flags)) = &xattr.set else { return Ok(()) };
        match xattr.value.len() as u64 {
            len if len != xattr.written => Err(Errno::INVAL),
            0 => self.driver.remove_xattr(path, name),
            _ => self.driver.set_xattr(path, name, &xattr.value, *flags),
        }
    }
}

impl Xattr {
    /// `count` bytes from `offset`, as many as there are.
    pub(super) fn read(&self, offset: u64, count: u32) -> &[u8] {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.value.get(offset..));
        let rest = rest.unwrap_or_default();
        rest.get(..count as usize).unwrap_or(rest)
    }

    /// Where `count` bytes at `offset` go, as far as there is room; they count as written.
    ///
    /// # Errors
    /// When that is beyond the value.
    pub(super) fn room(&mut self, offset: u64, count: u32) -> Result<&mut [u8]> {
        let offset = usize::try_from(offset).map_err(|_| Errno::NOSPC)?;
        let room = self.value.get_mut(offset..).ok_or(Errno::NOSPC)?;
        let len = room.len().min(count as usize);
        self.written = self.written.saturating_add(len as u64);
        Ok(room.get_mut(..len).unwrap_or_default())
    }
}
