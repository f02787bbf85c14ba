//! A file system that is made up (hw/9pfs/9p-synth.c): an empty root, and under the qtest accelerator the files that
//! QEMU's tests look for.

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::fs::{Entry, FsDriver, FsPath, OpenFile, Opened, Result, Stat, StatFs};
use crate::spec::MAX_WALK;

/// How many files there are in the directory to read.
const READDIR_FILES: usize = 100;
/// The file system's kind and block size.
const KIND: u32 = 0xabcd;
const BLOCK_SIZE: u64 = 512;
const NAME_MAX: usize = 255;

/// What a file does when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Refuse,
    /// A byte at a time.
    Take,
    /// The same while the byte is 0; anything else never ends.
    Flush,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    parent: usize,
    mode: u32,
    nlink: u64,
    write: Write,
}

/// The file system; a file's number is its place in the list.
#[derive(Clone, Debug)]
pub struct SynthFs(Vec<Node>);

impl SynthFs {
    /// An empty one, or with the files for tests.
    pub fn new(with_test_files: bool) -> SynthFs {
        let root =
            Node { name: "/".to_owned(), parent: 0, mode: Stat::DIR | 0o555, nlink: 3, write: Write::Refuse };
        let mut fs = SynthFs(vec![root]);
        if with_test_files {
            let mut directory = 0;
            for n in 0..MAX_WALK {
                directory = fs.add_directory(directory, format!("WALK{n}"));
            }
            fs.add_file(0, "LOPEN".to_owned(), Write::Refuse);
            fs.add_file(0, "WRITE".to_owned(), Write::Take);
            fs.add_file(0, "FLUSH".to_owned(), Write::Flush);
            let directory = fs.add_directory(0, "ReadDirDir".to_owned());
            (0..READDIR_FILES).for_each(|n| fs.add_file(directory, format!("ReadDirFile{n}"), Write::Refuse));
        }
        fs
    }

    fn add_directory(&mut self, parent: usize, name: String) -> usize {
        if let Some(parent) = self.0.get_mut(parent) {
            parent.nlink += 1;
        }
        self.0.push(Node { name, parent, mode: Stat::DIR | 0o500, nlink: 2, write: Write::Refuse });
        self.0.len() - 1
    }

    fn add_file(&mut self, parent: usize, name: String, write: Write) {
        self.0.push(Node { name, parent, mode: Stat::FILE, nlink: 1, write });
    }

    fn children(&self, parent: usize) -> impl Iterator<Item = (usize, &Node)> {
        // The root is in itself.
        self.0.iter().enumerate().skip(1).filter(move |(_, node)| node.parent == parent)
    }

    fn find(&self, path: &FsPath) -> Result<(usize, &Node)> {
        let number = path.names().try_fold(0, |parent, name| {
            let found = self.children(parent).find(|(_, node)| node.name.as_bytes() == name);
            found.map(|(number, _)| number).ok_or(Errno::NOENT)
        })?;
        Ok((number, self.0.get(number).ok_or(Errno::NOENT)?))
    }
}

fn stat(number: usize, node: &Node) -> Stat {
    Stat { ino: number as u64, mode: node.mode, nlink: node.nlink, ..Stat::default() }
}

impl FsDriver for SynthFs {
    fn is_path_based(&self) -> bool {
        false
    }

    fn child(&self, directory: &FsPath, name: &[u8]) -> Result<FsPath> {
        if matches!(name, b"." | b"..") {
            return Err(Errno::INVAL);
        }
        let path = directory.join(name)?;
        self.find(&path)?;
        Ok(path)
    }

    fn lstat(&self, path: &FsPath) -> Result<Stat> {
        self.find(path).map(|(number, node)| stat(number, node))
    }

    fn open(&self, path: &FsPath, _flags: OFlags) -> Result<Opened> {
        let (number, node) = self.find(path)?;
        let mut entries: Vec<(usize, String)> =
            self.children(number).map(|(number, node)| (number, node.name.clone())).collect();
        // The latest is in front.
        entries.reverse();
        entries.push((number, ".".to_owned()));
        entries.push((node.parent, "..".to_owned()));
        Ok(Box::new(SynthFile { stat: stat(number, node), write: node.write, entries }))
    }

    fn open_dir(&self, path: &FsPath) -> Result<Opened> {
        self.open(path, OFlags::RDONLY)
    }

    fn statfs(&self, _path: &FsPath) -> Result<StatFs> {
        Ok(StatFs {
            kind: KIND,
            block_size: BLOCK_SIZE,
            files: self.0.len() as u64 - 1,
            name_max: NAME_MAX as u32,
            ..StatFs::default()
        })
    }
}

struct SynthFile {
    stat: Stat,
    write: Write,
    entries: Vec<(usize, String)>,
}

impl OpenFile for SynthFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Errno::PERM)
    }

    fn write_at(&self, data: &[u8], _offset: u64) -> Result<usize> {
        match (self.write, data.first()) {
            (Write::Refuse, _) => Err(Errno::PERM),
            (_, None) => Ok(0),
            // Until the request is flushed.
            (Write::Flush, Some(byte)) if *byte != 0 => Err(Errno::INTR),
            _ => Ok(1),
        }
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.stat)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn read_dir(&self, position: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        let skip = usize::try_from(position).unwrap_or(usize::MAX);
        for (at, (number, name)) in self.entries.iter().enumerate().skip(skip) {
            let entry = Entry { ino: *number as u64, next: at as u64 + 1, kind: 0, name: name.as_bytes() };
            if !each(entry) {
                break;
            }
        }
        Ok(())
    }
}
