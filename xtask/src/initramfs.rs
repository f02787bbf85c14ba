//! initramfs images: a tree of files, kept in memory and written as a newc cpio archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cpio::newc::{Builder, ModeFileType, trailer};
use rustix::fs::MemfdFlags;

#[derive(Clone)]
enum Node {
    Folder,
    File { contents: Vec<u8>, mode: u32 },
    Link(String),
}

/// The tree, by path without a leading slash. Parents come before children in a sorted map, as the
/// kernel's unpacker wants them.
#[derive(Clone, Default)]
pub struct Initramfs {
    nodes: BTreeMap<String, Node>,
}

impl Initramfs {
    /// A tree with busybox under all its names in `/bin`, and the empty folders that a Linux mounts on.
    pub fn with_busybox() -> Result<Self> {
        let mut tree = Self::default();
        for folder in ["dev", "proc", "sys", "tmp", "root", "etc", "run"] {
            tree.folder(folder);
        }
        let busybox = crate::deps::busybox()?;
        tree.file("bin/busybox", &busybox)?;
        let names = Command::new(&busybox).arg("--list").output().context("busybox")?.stdout;
        for name in String::from_utf8_lossy(&names).lines() {
            tree.link(&format!("bin/{name}"), "busybox");
        }
        Ok(tree)
    }

    /// Adds an empty folder, and those above it.
    pub fn folder(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Folder);
        }
        self.nodes.entry(path.to_owned()).or_insert(Node::Folder);
    }

    fn insert(&mut self, path: &str, node: Node) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Adds an executable script or a text.
    pub fn text(&mut self, path: &str, contents: &str) {
        self.insert(path, Node::File { contents: contents.as_bytes().to_vec(), mode: 0o755 });
    }

    /// Adds a symbolic link unless something of that name is there.
    pub fn link(&mut self, path: &str, target: &str) {
        if !self.nodes.contains_key(path) {
            self.insert(path, Node::Link(target.to_owned()));
        }
    }

    /// Adds a file of this machine with its permissions, or a folder with all that is in it.
    pub fn file(&mut self, path: &str, source: &Path) -> Result<()> {
        let reading = || format!("{}", source.display());
        let metadata = std::fs::metadata(source).with_context(reading)?;
        if metadata.is_dir() {
            self.folder(path);
            for entry in std::fs::read_dir(source).with_context(reading)? {
                let entry = entry.with_context(reading)?;
                self.file(&format!("{path}/{}", entry.file_name().to_string_lossy()), &entry.path())?;
            }
            return Ok(());
        }
        let contents = std::fs::read(source).with_context(reading)?;
        self.insert(path, Node::File { contents, mode: metadata.permissions().mode() & 0o777 });
        Ok(())
    }

    /// Adds a program where this machine has it, with the shared libraries it needs.
    pub fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        self.file(path, source)?;
        for library in shared_libraries(source)? {
            let place = path_in_tree(&library)?;
            if !self.nodes.contains_key(&place) {
                self.file(&place, &library)?;
            }
        }
        Ok(())
    }

    /// Writes the archive.
    pub fn write_cpio<W: Write>(&self, mut out: W) -> Result<()> {
        for (number, (path, node)) in self.nodes.iter().enumerate() {
            let (mode, kind, contents) = match node {
                Node::Folder => (0o755, ModeFileType::Directory, &[][..]),
                Node::File { contents, mode } => (*mode, ModeFileType::Regular, contents.as_slice()),
                Node::Link(target) => (0o777, ModeFileType::Symlink, target.as_bytes()),
            };
            let size =
                u32::try_from(contents.len()).with_context(|| format!("{path} is too large for cpio"))?;
            let entry = Builder::new(path).ino(u32::try_from(number)?).mode(mode).set_mode_file_type(kind);
            let mut writer = entry.write(&mut out, size);
            writer.write_all(contents)?;
            writer.finish()?;
        }
        trailer(out)?;
        Ok(())
    }

    /// The archive as a nameless file in memory, compressed as `lz4 -l` (the format the kernel knows).
    ///
    /// Nameless, so that nothing is left behind however this program ends.
    pub fn into_lz4(self) -> Result<AnonymousFile> {
        let file = AnonymousFile::new("initramfs")?;
        let mut lz4 = Command::new("lz4")
            .args(["-l", "-1", "-q", "-c"])
            .stdin(Stdio::piped())
            .stdout(file.handle()?)
            .spawn()
            .context("lz4")?;
        let pipe = lz4.stdin.take().context("lz4 has no stdin")?;
        self.write_cpio(std::io::BufWriter::new(pipe))?;
        let status = lz4.wait()?;
        ensure!(status.success(), "lz4 failed ({status})");
        Ok(file)
    }
}

/// A file without a name, which child processes reach by [`AnonymousFile::path`].
pub struct AnonymousFile(OwnedFd);

impl AnonymousFile {
    /// An empty one; the name is for `/proc` only.
    pub fn new(name: &str) -> Result<Self> {
        // Not close-on-exec: children inherit it, which is what makes the path work for them.
        Ok(Self(rustix::fs::memfd_create(name, MemfdFlags::empty())?))
    }

    /// A second handle, to write it.
    pub fn handle(&self) -> Result<std::fs::File> {
        Ok(self.0.try_clone()?.into())
    }

    /// A path that is good in this process and its children.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// A path of this machine as one in the tree.
pub fn path_in_tree(path: &Path) -> Result<String> {
    ensure!(
        !path.components().any(|part| part == Component::ParentDir),
        "{}: '..' in a path",
        path.display()
    );
    let Some(text) = path.to_str() else { bail!("{}: not UTF-8", path.display()) };
    Ok(text.trim_start_matches('/').to_owned())
}

/// Whether a file is an ELF image.
pub fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// The shared libraries, loader included, of a program; none for a static one or a script.
fn shared_libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    if !is_elf(program) {
        return Ok(BTreeSet::new());
    }
    // ldd fails for a static program, and that is fine.
    let listing = Command::new("ldd").arg(program).output().context("ldd")?;
    let listing = String::from_utf8_lossy(&listing.stdout);
    let missing = listing.lines().find(|line| line.contains("not found"));
    ensure!(missing.is_none(), "{}: {}", program.display(), missing.unwrap_or_default().trim());
    Ok(listing.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_lists_parents_before_children() {
        let mut tree = Initramfs::default();
        tree.text("usr/bin/hello", "#!/bin/sh\n");
        tree.link("init", "usr/bin/hello");
        let mut archive = Vec::new();
        tree.write_cpio(&mut archive).unwrap();
        let mut names = Vec::new();
        let mut rest = archive.as_slice();
        loop {
            let reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push(reader.entry().name().to_owned());
            rest = reader.finish().unwrap();
        }
        assert_eq!(names, ["init", "usr", "usr/bin", "usr/bin/hello"]);
    }

    #[test]
    fn a_dynamic_program_brings_its_loader() {
        // Every system has this one; our own programs are static.
        let libraries = shared_libraries(Path::new("/usr/bin/env")).unwrap();
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("ld-linux")), "{libraries:?}");
    }
}
