//! Numbers of the protocol: types of messages, flags, limits.

/// Bytes in front of every message: its size, type and tag.
pub const HEADER: usize = 7;
/// Smallest maximum size of a message that a client may ask for (`P9_MIN_MSIZE`).
pub const MIN_MSIZE: u32 = 4096;
/// Bytes of a read's or write's message that are not data (`P9_IOHDRSZ`).
pub const IO_HEADER: u32 = 24;
/// Most names of a walk (`P9_MAXWELEM`).
pub const MAX_WALK: u16 = 16;
/// "No fid".
pub const NO_FID: u32 = u32::MAX;
/// Longest value of an extended attribute (Linux' `XATTR_SIZE_MAX`).
pub const XATTR_MAX: u64 = 65536;

/// Types of requests; that of a reply is one more.
pub mod message {
    #![allow(missing_docs)]
    pub const LERROR: u8 = 6;
    pub const STATFS: u8 = 8;
    pub const LOPEN: u8 = 12;
    pub const LCREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const MKNOD: u8 = 18;
    pub const RENAME: u8 = 20;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const SETATTR: u8 = 26;
    pub const XATTRWALK: u8 = 30;
    pub const XATTRCREATE: u8 = 32;
    pub const READDIR: u8 = 40;
    pub const FSYNC: u8 = 50;
    pub const LOCK: u8 = 52;
    pub const GETLOCK: u8 = 54;
    pub const LINK: u8 = 70;
    pub const MKDIR: u8 = 72;
    pub const RENAMEAT: u8 = 74;
    pub const UNLINKAT: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const ERROR: u8 = 106;
    pub const FLUSH: u8 = 108;
    pub const WALK: u8 = 110;
    pub const OPEN: u8 = 112;
    pub const CREATE: u8 = 114;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
    pub const STAT: u8 = 124;
    pub const WSTAT: u8 = 126;
}

/// Types of files in a qid.
pub mod qid_type {
    /// A directory.
    pub const DIR: u8 = 0x80;
    /// A symbolic link.
    pub const SYMLINK: u8 = 0x02;
}

/// Modes of files in 9P2000.u.
pub mod mode {
    #![allow(missing_docs)]
    pub const DIR: u32 = 0x8000_0000;
    pub const SYMLINK: u32 = 0x0200_0000;
    pub const LINK: u32 = 0x0100_0000;
    pub const DEVICE: u32 = 0x0080_0000;
    pub const NAMED_PIPE: u32 = 0x0020_0000;
    pub const SOCKET: u32 = 0x0010_0000;
    pub const SETUID: u32 = 0x0008_0000;
    pub const SETGID: u32 = 0x0004_0000;
    pub const STICKY: u32 = 0x0001_0000;
    /// What cannot be changed.
    pub const TYPES: u32 = DIR | SYMLINK | LINK | DEVICE | NAMED_PIPE | SOCKET;
}

/// How 9P2000.u opens files.
pub mod open {
    #![allow(missing_docs)]
    pub const ACCESS: u8 = 3;
    pub const WRITE: u8 = 1;
    pub const READ_WRITE: u8 = 2;
    pub const EXCLUSIVE: u8 = 0x04;
    pub const TRUNCATE: u8 = 0x10;
    pub const APPEND: u8 = 0x80;
}

/// What of a file is asked for and known, in 9P2000.L.
pub mod stats {
    /// All that a file system of Linux has, but for its time of birth, generation and version.
    pub const BASIC: u64 = 0x7ff;
}

/// What of a file is to be set, in 9P2000.L.
pub mod attr {
    #![allow(missing_docs)]
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const CTIME: u32 = 1 << 6;
    pub const ATIME_SET: u32 = 1 << 7;
    pub const MTIME_SET: u32 = 1 << 8;
    /// What there is to set.
    pub const MASK: u32 = 0x7f;
}

/// A flag of `unlinkat` in 9P2000.L: what is to be removed is a directory.
pub const AT_REMOVEDIR: u32 = 0x200;
/// The lock is held now.
pub const LOCK_SUCCESS: u8 = 0;
/// Nobody holds it.
pub const LOCK_TYPE_UNLOCK: u8 = 2;
/// Wait for the lock.
pub const LOCK_FLAG_BLOCK: u32 = 1;
