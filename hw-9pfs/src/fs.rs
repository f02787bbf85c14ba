//! What a file system must be able to do to be shared (`FileOperations`).

use rustix::fs::{OFlags, Timestamps};
use rustix::io::Errno;

/// How operations end.
pub type Result<T> = std::result::Result<T, Errno>;

/// Longest path of a file, as for the host's calls.
const PATH_MAX: usize = 4096;

/// A path below the shared folder, which is the empty one: names with `/` between them, none of them `.` or `..`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsPath(Vec<u8>);

impl FsPath {
    /// For the host's calls, relative to the shared folder.
    pub fn as_bytes(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }

    /// Whether it is the shared folder.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it is in, and its name there; the shared folder is in itself, as `.`.
    pub fn split(&self) -> (FsPath, &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            _ if self.0.is_empty() => (FsPath::default(), b"."),
            None => (FsPath::default(), &self.0),
            Some(at) => {
                let (directory, name) = self.0.split_at(at);
                (FsPath(directory.to_vec()), name.get(1..).unwrap_or_default())
            }
        }
    }

    /// What `name` is in this directory; `..` of the shared folder is that folder.
    ///
    /// # Errors
    /// When that is no name, or makes the path too long.
    pub fn join(&self, name: &[u8]) -> Result<FsPath> {
        match name {
            b"." => Ok(self.clone()),
            b".." => Ok(self.split().0),
            _ if name.is_empty() || name.contains(&b'/') || name.contains(&0) => Err(Errno::NOENT),
            _ if self.0.len() + 1 + name.len() >= PATH_MAX => Err(Errno::NAMETOOLONG),
            _ if self.0.is_empty() => Ok(FsPath(name.to_vec())),
            _ => Ok(FsPath([&self.0, name].join(&b'/'))),
        }
    }

    /// The names on the way.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Where it is when `from`, which it is or is below, is at `to` now; `None` where it is elsewhere
    /// (`v9fs_path_is_ancestor`, `v9fs_fix_path`).
    pub fn moved(&self, from: &FsPath, to: &FsPath) -> Option<FsPath> {
        let rest = self.0.strip_prefix(&from.0[..])?;
        (rest.is_empty() || rest.starts_with(b"/")).then(|| FsPath([&to.0[..], rest].concat()))
    }
}

/// What is known of a file (`struct stat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The device it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u64,
    /// Whose it is.
    pub uid: u32,
    /// Whose group's.
    pub gid: u32,
    /// The device that it stands for.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes that are best read at once.
    pub blksize: u64,
    /// What it takes, in units of 512 bytes.
    pub blocks: u64,
    /// Last read; seconds and ns.
    pub atime: (i64, u64),
    /// Last written.
    pub mtime: (i64, u64),
    /// Last changed.
    pub ctime: (i64, u64),
}

/// The type of a file in its mode.
const TYPE: u32 = 0o170_000;

impl Stat {
    /// Whether its type is one of [`Stat::DIR`] and those below it.
    pub fn is(&self, kind: u32) -> bool {
        self.mode & TYPE == kind
    }

    /// A directory.
    pub const DIR: u32 = 0o040_000;
    /// A regular file.
    pub const FILE: u32 = 0o100_000;
    /// A symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// A socket.
    pub const SOCKET: u32 = 0o140_000;
    /// A pipe with a name.
    pub const PIPE: u32 = 0o010_000;
    /// A device that reads and writes characters.
    pub const CHAR: u32 = 0o020_000;
    /// A device that reads and writes blocks.
    pub const BLOCK: u32 = 0o060_000;

    /// Whether it is the same file.
    pub fn is_same(&self, other: &Stat) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// What is known of a file system (`struct statfs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// What kind it is.
    pub kind: u32,
    /// Bytes of a block.
    pub block_size: u64,
    /// Blocks.
    pub blocks: u64,
    /// Those that are free.
    pub free: u64,
    /// Those of them that everybody may use.
    pub available: u64,
    /// Files there can be.
    pub files: u64,
    /// Files there can still be.
    pub files_free: u64,
    /// Which one it is.
    pub id: u64,
    /// Longest name.
    pub name_max: u32,
}

/// What a file is to have (`FsCred`); nothing is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cred {
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Type and permissions.
    pub mode: Option<u32>,
    /// The device that it stands for.
    pub rdev: Option<u64>,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The file's number.
    pub ino: u64,
    /// Where the next entry is.
    pub next: u64,
    /// The file's type as the host's directories have it; 0: unknown.
    pub kind: u8,
    /// Its name.
    pub name: &'a [u8],
}

/// A file or directory that is open. Any thread may call, several at once.
pub trait OpenFile: Send + Sync {
    /// Reads at `offset`; 0 bytes at the end.
    ///
    /// # Errors
    /// What the host says; likewise below.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;

    /// Writes at `offset`.
    ///
    /// # Errors
    /// What the host says.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<usize>;

    /// What is known of it. `EOPNOTSUPP`: only by its name.
    ///
    /// # Errors
    /// What the host says.
    fn stat(&self) -> Result<Stat>;

    /// Has what was written be on the disk; with `data_only` without what is known of the file.
    ///
    /// # Errors
    /// What the host says.
    fn sync(&self, data_only: bool) -> Result<()>;

    /// Gives the entries of a directory from `position` on, 0 or an entry's [`next`](Entry::next), until `each` is
    /// false.
    ///
    /// # Errors
    /// What the host says.
    fn read_dir(&self, position: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()>;
}

/// A file that was opened.
pub type Opened = Box<dyn OpenFile>;

/// A file system. Any thread may call, several at once. What is not there is refused unless a driver says otherwise.
#[allow(unused_variables)]
pub trait FsDriver: Send + Sync {
    /// Whether files can be renamed under the server, by their paths (`V9FS_PATHNAME_FSCONTEXT`).
    fn is_path_based(&self) -> bool;

    /// What `name` is in `directory`, if it may be named; whether it is there does not matter (`name_to_path`).
    ///
    /// # Errors
    /// Why not; likewise below.
    fn child(&self, directory: &FsPath, name: &[u8]) -> Result<FsPath>;

    /// What is known of a file, not what it links to.
    ///
    /// # Errors
    /// Why not.
    fn lstat(&self, path: &FsPath) -> Result<Stat>;

    /// Opens a file.
    ///
    /// # Errors
    /// Why not.
    fn open(&self, path: &FsPath, flags: OFlags) -> Result<Opened>;

    /// Opens a directory.
    ///
    /// # Errors
    /// Why not.
    fn open_dir(&self, path: &FsPath) -> Result<Opened>;

    /// What is known of the file system there.
    ///
    /// # Errors
    /// Why not.
    fn statfs(&self, path: &FsPath) -> Result<StatFs>;

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// Why not.
    fn readlink(&self, path: &FsPath) -> Result<Vec<u8>> {
        Err(Errno::NOSYS)
    }

    /// Makes and opens a file.
    ///
    /// # Errors
    /// Why not.
    fn create(&self, directory: &FsPath, name: &[u8], flags: OFlags, cred: &Cred) -> Result<Opened> {
        Err(Errno::NOSYS)
    }

    /// Makes a file that stands for something else.
    ///
    /// # Errors
    /// Why not.
    fn mknod(&self, directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Why not.
    fn mkdir(&self, directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Why not.
    fn symlink(&self, target: &[u8], directory: &FsPath, name: &[u8], cred: &Cred) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// Why not.
    fn link(&self, path: &FsPath, directory: &FsPath, name: &[u8]) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Makes a file shorter or longer.
    ///
    /// # Errors
    /// Why not.
    fn truncate(&self, path: &FsPath, size: u64) -> Result<()> {
        Err(Errno::NOSYS)
    }

    /// Changes type and permissions.
    ///
    /// # Errors
    /// Why not.
    fn chmod(&self, path: &FsPath, mode: u32) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Changes whose a file is.
    ///
    /// # Errors
    /// Why not.
    fn chown(&self, path: &FsPath, cred: &Cred) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Changes times.
    ///
    /// # Errors
    /// Why not.
    fn set_times(&self, path: &FsPath, times: &Timestamps) -> Result<()> {
        Ok(())
    }

    /// Gives a file another name instead of the one it has.
    ///
    /// # Errors
    /// Why not.
    fn rename(&self, from: (&FsPath, &[u8]), to: (&FsPath, &[u8])) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Takes a name away.
    ///
    /// # Errors
    /// Why not.
    fn unlink(&self, directory: &FsPath, name: &[u8], is_directory: bool) -> Result<()> {
        Err(Errno::PERM)
    }

    /// Takes a file or directory away.
    ///
    /// # Errors
    /// Why not.
    fn remove(&self, path: &FsPath) -> Result<()> {
        Err(Errno::PERM)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// Why not.
    fn get_xattr(&self, path: &FsPath, name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::NOTSUP)
    }

    /// The names of all, each with a 0 behind it.
    ///
    /// # Errors
    /// Why not.
    fn list_xattr(&self, path: &FsPath) -> Result<Vec<u8>> {
        Err(Errno::NOTSUP)
    }

    /// Sets one. `flags`: 1: it must not be there, 2: it must be.
    ///
    /// # Errors
    /// Why not.
    fn set_xattr(&self, path: &FsPath, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        Err(Errno::NOTSUP)
    }

    /// Takes one away.
    ///
    /// # Errors
    /// Why not.
    fn remove_xattr(&self, path: &FsPath, name: &[u8]) -> Result<()> {
        Err(Errno::NOTSUP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> FsPath {
        names.iter().fold(FsPath::default(), |path, name| path.join(name.as_bytes()).unwrap())
    }

    #[test]
    fn no_name_leads_out() {
        assert!(path(&[".."]).is_root());
        assert!(path(&["a", "..", "..", ".."]).is_root());
        assert_eq!(path(&["a", ".", "b", ".."]), path(&["a"]));
        for name in ["/", "/etc", "a/b", "../a", "", "a\0"] {
            assert_eq!(path(&["a"]).join(name.as_bytes()), Err(Errno::NOENT), "{name:?}");
        }
    }

    #[test]
    fn paths_have_an_end() {
        let mut deep = FsPath::default();
        let error = loop {
            match deep.join(&[b'x'; 200]) {
                Ok(deeper) => deep = deeper,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::NAMETOOLONG);
        assert!(deep.as_bytes().len() < PATH_MAX);
    }

    #[test]
    fn what_moves_takes_along_what_is_below() {
        let (from, to) = (path(&["a", "b"]), path(&["c"]));
        assert_eq!(path(&["a", "b"]).moved(&from, &to), Some(path(&["c"])));
        assert_eq!(path(&["a", "b", "d"]).moved(&from, &to), Some(path(&["c", "d"])));
        assert_eq!(path(&["a", "bc"]).moved(&from, &to), None);
        assert_eq!(path(&["a"]).moved(&from, &to), None);
    }

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        assert_eq!(path(&[]).split(), (path(&[]), &b"."[..]));
        assert_eq!(path(&["a"]).split(), (path(&[]), &b"a"[..]));
        assert_eq!(path(&["a", "b"]).split(), (path(&["a"]), &b"b"[..]));
        assert_eq!(path(&["a", "b"]).names().collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
