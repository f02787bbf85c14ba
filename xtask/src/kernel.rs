//! Debian's kernels: fetched as packages, never installed; their modules; and the `vmlinux` inside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::{deps, image};

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `linux-image-cloud-amd64`: small and quick to boot.
    Cloud,
    /// `linux-image-amd64`: all drivers.
    Generic,
}

impl std::str::FromStr for Flavour {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cloud" => Ok(Self::Cloud),
            "generic" => Ok(Self::Generic),
            other => bail!("no kernel '{other}': 'cloud' or 'generic'"),
        }
    }
}

/// An unpacked kernel package.
pub struct Kernel {
    root: PathBuf,
}

impl Kernel {
    /// Fetches the kernel unless the cache has one.
    pub fn fetch(flavour: Flavour) -> Result<Self> {
        if let Some(root) = newest_cached(flavour)? {
            return Ok(Self { root });
        }
        let meta = match flavour {
            Flavour::Cloud => "linux-image-cloud-amd64",
            Flavour::Generic => "linux-image-amd64",
        };
        Ok(Self { root: deps::unpacked(&deps::first_dependency(meta)?)? })
    }

    /// The bzImage.
    pub fn vmlinuz(&self) -> Result<PathBuf> {
        let boot = self.root.join("boot");
        for entry in std::fs::read_dir(&boot).with_context(|| format!("{}", boot.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")) {
                return Ok(path);
            }
        }
        bail!("no vmlinuz in {}", boot.display())
    }

    /// The ELF kernel, which has a PVH entry, unpacked from the bzImage next to it.
    pub fn vmlinux(&self) -> Result<PathBuf> {
        let vmlinux = self.root.join("boot/vmlinux");
        if !vmlinux.exists() {
            deps::ensure_installed(deps::KERNEL)?;
            let bzimage = self.vmlinuz()?;
            let payload = payload(&std::fs::read(&bzimage)?)
                .with_context(|| format!("{}", bzimage.display()))?
                .to_vec();
            let mut file = tempfile::NamedTempFile::new_in(self.root.join("boot"))?;
            unlz4(payload, file.reopen()?)?;
            ensure!(crate::initramfs::is_elf(file.path()), "{}: no ELF inside", bzimage.display());
            file.flush()?;
            file.persist(&vmlinux)?;
        }
        Ok(vmlinux)
    }

    /// The files of modules and of those they depend on, in the order to load them.
    ///
    /// Modules built into the kernel are left out.
    pub fn modules(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        find_modules(&self.root.join("lib/modules"), &mut files)?;
        let mut ordered = Vec::new();
        for name in names {
            self.add_module(name, &files, &mut ordered)?;
        }
        Ok(ordered)
    }

    fn add_module(&self, name: &str, files: &[PathBuf], ordered: &mut Vec<PathBuf>) -> Result<()> {
        let wanted = name.replace('-', "_");
        let Some(file) = files.iter().find(|file| module_name(file) == wanted) else {
            ensure!(self.is_builtin(&wanted)?, "the kernel package has no module '{name}'");
            return Ok(());
        };
        if ordered.contains(file) {
            return Ok(());
        }
        let contents = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
        for dependency in dependencies(&contents) {
            self.add_module(&dependency, files, ordered)?;
        }
        ordered.push(file.clone());
        Ok(())
    }

    /// The folder with its modules; its name is the kernel's version.
    pub fn modules_folder(&self) -> Result<PathBuf> {
        let all = self.root.join("lib/modules");
        let first = std::fs::read_dir(&all).with_context(|| format!("{}", all.display()))?.next();
        Ok(first.with_context(|| format!("no modules in {}", all.display()))??.path())
    }

    /// Has `depmod` write down in that folder what its modules need, as the package does where it is installed.
    pub fn depmod(&self) -> Result<()> {
        let folder = self.modules_folder()?;
        let version = folder.file_name().unwrap_or_default();
        image::run(Command::new("/sbin/depmod").arg("-b").arg(&self.root).arg(version))
    }

    fn is_builtin(&self, wanted: &str) -> Result<bool> {
        let list = std::fs::read_to_string(self.modules_folder()?.join("modules.builtin"))?;
        Ok(list.lines().any(|line| module_name(Path::new(line)) == wanted))
    }
}

/// What was fetched before is used again: a test's kernel changes when the cache is emptied.
fn newest_cached(flavour: Flavour) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(deps::cache()?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_cloud = name.ends_with("-cloud-amd64");
        if name.starts_with("linux-image-")
            && name.ends_with("-amd64")
            && is_cloud == (flavour == Flavour::Cloud)
        {
            found.push((std::fs::metadata(&path)?.modified()?, path));
        }
    }
    Ok(found.into_iter().max().map(|(_, path)| path))
}

fn find_modules(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_modules(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            files.push(path);
        }
    }
    Ok(())
}

/// The name the kernel has for a module's file: `kvm_amd` for `…/kvm-amd.ko`.
fn module_name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// The `depends=` entry of a module's `.modinfo` section, which is a list of NUL-ended strings.
fn dependencies(module: &[u8]) -> Vec<String> {
    let entry = module.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(entry.unwrap_or_default());
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The compressed kernel in a bzImage (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`,
/// `payload_length`), without the uncompressed size that the build appends to it.
fn payload(bzimage: &[u8]) -> Result<&[u8]> {
    const SETUP_SECTS: usize = 0x1f1;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    const SIZE_FIELD: usize = 4;
    const LZ4_LEGACY_MAGIC: &[u8] = &[0x02, 0x21, 0x4c, 0x18];

    let field = |at: usize| -> Option<usize> {
        let bytes = bzimage.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = usize::from(*bzimage.get(SETUP_SECTS).context("too short for a bzImage")?);
    let offset = field(PAYLOAD_OFFSET).context("too short for a bzImage")?;
    let length = field(PAYLOAD_LENGTH).context("too short for a bzImage")?;
    let start = (sectors + 1) * 512 + offset;
    let payload =
        bzimage.get(start..start + length.saturating_sub(SIZE_FIELD)).context("truncated bzImage")?;
    ensure!(payload.starts_with(LZ4_LEGACY_MAGIC), "the payload is not LZ4");
    Ok(payload)
}

fn unlz4(compressed: Vec<u8>, out: std::fs::File) -> Result<()> {
    let mut lz4 = Command::new("lz4")
        .args(["-d", "-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .context("lz4")?;
    lz4.stdin.take().context("lz4 has no stdin")?.write_all(&compressed)?;
    let status = lz4.wait()?;
    ensure!(status.success(), "lz4 failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_names_dependencies() {
        let module = b"\x7fELF\0license=GPL\0depends=irqbypass,kvm\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["irqbypass", "kvm"]);
        assert!(dependencies(b"license=GPL\0depends=\0").is_empty());
    }

    #[test]
    fn payload_is_found_behind_the_setup_sectors() {
        let mut image = vec![0; 0x1000];
        image[0x1f1] = 3;
        image[0x248..0x24c].copy_from_slice(&0x10u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&12u32.to_le_bytes());
        image[0x810..0x814].copy_from_slice(&[0x02, 0x21, 0x4c, 0x18]);
        assert_eq!(payload(&image).unwrap(), [0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0]);
        image[0x810] = 0;
        assert!(payload(&image).is_err());
        assert!(payload(&image[..0x812]).is_err());
    }
}
