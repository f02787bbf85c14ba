//! Extended attributes (9p-xattr.c): the guest has `user.*` and access control lists, under names of the host's that
//! depend on the security model.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

use super::{SecurityModel, proc_path};
use crate::fs::Result;
use crate::spec::XATTR_MAX;

/// What is kept for the guest, where owners and permissions are kept so.
const PRIVATE: &[u8] = b"user.virtfs.";
const USER: &[u8] = b"user.";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// The host's name for the guest's; `private` is the error for those that the guest cannot reach.
pub(super) fn host_name(model: SecurityModel, name: &[u8], private: Errno) -> Result<Cow<'_, [u8]>> {
    let mapped = model == SecurityModel::MappedXattr;
    if name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if name.starts_with(USER) {
        return if mapped && name.starts_with(PRIVATE) { Err(private) } else { Ok(Cow::Borrowed(name)) };
    }
    match ACLS.iter().find(|acl| name.starts_with(acl)) {
        Some(acl) if mapped => Ok(Cow::Owned([PRIVATE, acl].concat())),
        Some(_) if model == SecurityModel::None => Err(Errno::NOTSUP),
        Some(_) => Ok(Cow::Borrowed(name)),
        None => Err(Errno::OPNOTSUPP),
    }
}

/// Of the host's names, each with a 0 behind it, those that the guest has.
pub(super) fn guest_names(model: SecurityModel, names: &[u8]) -> Vec<u8> {
    let mapped = model == SecurityModel::MappedXattr;
    let mut list = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        let shown = match name.strip_prefix(PRIVATE) {
            Some(rest) if mapped => Some(rest).filter(|rest| ACLS.contains(rest)),
            _ if name.starts_with(USER) => Some(name),
            _ => Some(name).filter(|name| ACLS.contains(name) && !mapped && model != SecurityModel::None),
        };
        if let Some(shown) = shown {
            list.extend(shown);
            list.push(0);
        }
    }
    list
}

pub(super) fn get(directory: BorrowedFd<'_>, file: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let mut value = vec![0; XATTR_MAX as usize];
    let len = fs::lgetxattr(&proc_path(directory, file)[..], name, &mut value[..])?;
    value.truncate(len);
    value.shrink_to_fit();
    Ok(value)
}

pub(super) fn list(directory: BorrowedFd<'_>, file: &[u8]) -> Result<Vec<u8>> {
    let mut names = vec![0; XATTR_MAX as usize];
    let len = fs::llistxattr(&proc_path(directory, file)[..], &mut names[..])?;
    names.truncate(len);
    Ok(names)
}

pub(super) fn set(
    directory: BorrowedFd<'_>,
    file: &[u8],
    name: &[u8],
    value: &[u8],
    flags: u32,
) -> Result<()> {
    let flags = XattrFlags::from_bits_truncate(flags) & (XattrFlags::CREATE | XattrFlags::REPLACE);
    fs::lsetxattr(&proc_path(directory, file)[..], name, value, flags)
}

pub(super) fn remove(directory: BorrowedFd<'_>, file: &[u8], name: &[u8]) -> Result<()> {
    fs::lremovexattr(&proc_path(directory, file)[..], name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_the_guest_is_hidden_from_it() {
        let names = b"user.virtfs.uid\0user.virtfs.system.posix_acl_access\0user.a\0security.x\0";
        let shown = |model| guest_names(model, names);
        assert_eq!(shown(SecurityModel::MappedXattr), b"system.posix_acl_access\0user.a\0");
        assert_eq!(
            shown(SecurityModel::Passthrough),
            b"user.virtfs.uid\0user.virtfs.system.posix_acl_access\0user.a\0"
        );
        let name = |model, name| host_name(model, name, Errno::ACCESS);
        assert_eq!(name(SecurityModel::MappedXattr, b"user.virtfs.uid"), Err(Errno::ACCESS));
        assert_eq!(
            name(SecurityModel::MappedXattr, b"system.posix_acl_default").unwrap(),
            &b"user.virtfs.system.posix_acl_default"[..]
        );
        assert_eq!(name(SecurityModel::None, b"system.posix_acl_access"), Err(Errno::NOTSUP));
        assert_eq!(name(SecurityModel::Passthrough, b"security.capability"), Err(Errno::OPNOTSUPP));
        assert_eq!(name(SecurityModel::Passthrough, b"trusted.x"), Err(Errno::OPNOTSUPP));
    }
}
