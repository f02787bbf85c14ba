//! Debian as people run it: installed on a disk, booted to systemd's login, given a package over the network, and
//! powered off; its disk is then looked at from outside.
//!
//! The nested machine has a disk of its own with the images, so that what the guest wrote outlives it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Step::{Expect, Type};
use super::{PLAIN, Scenario};
use crate::deps;
use crate::image::{self, file_system, fsck, run};
use crate::initramfs::{AnonymousFile, Initramfs};
use crate::kernel::{Flavour, Kernel};
use crate::nested::Nest;

/// What making Debian's disk takes, besides the packages of the harness.
const PACKAGES: &[&str] = &["mmdebstrap"];
/// What is installed in it.
const INSTALLED: &str = "--include=systemd-sysv,udev,iproute2";
/// The package that the guest installs.
const PACKAGE: &str = "hello";
/// Sizes of the guest's disk, and of the nested machine's.
const GUEST_DISK: &str = "1G";
const L1_DISK: &str = "3G";
/// The guest's initramfs.
pub(super) const INITRD: &str = "initrd-debian";
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net"];

/// Mounts the root file system once the disk is there, and becomes its init.
const INIT: &str = "#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
for module in /lib/modules/*; do insmod $module; done
until [ -b /dev/$disk ]; do sleep 1; done
mount -t ext4 /dev/$disk /root && exec switch_root /root /sbin/init
";

/// An address from the user-mode network, and L1's server as the only source of packages.
const CONFIGURATION: [(&str, &str); 3] = [
    ("etc/hostname", "guest\n"),
    ("etc/systemd/network/all.network", "[Match]\nType=ether\n[Network]\nDHCP=yes\n"),
    ("etc/apt/sources.list", "deb [trusted=yes] http://10.0.2.2:8080/ ./\n"),
];

/// The server of packages, and a fresh overlay for the scenario `$NAME`: each may be there already, from another attempt.
const BEFORE: &str = "mkdir -p /tmp/disk; mountpoint -q /tmp/disk || mount /dev/vda /tmp/disk
httpd -p 127.0.0.1:8080 -h /guest/packages
cp /tmp/disk/fresh.qcow2 /tmp/disk/$NAME.qcow2
";
/// What the guest wrote is on L1's disk.
const AFTER: &str = "sync; umount /tmp/disk\n";

const STEPS: &[super::Step] = &[
    Expect("guest login: "),
    Type("root\n"),
    Expect("root@guest:~# "),
    Type("until ip -4 address | grep 'inet 10.0.2.15'; do sleep 1; done\n"),
    Expect("root@guest:~# "),
    Type("apt-get -q update && apt-get -q -y install hello && hello -g installed-$((40 + 2))\n"),
    Expect("installed-42"),
    Expect("root@guest:~# "),
    Type("seq 1000000 > contents; sync; sha256sum contents; systemctl poweroff\n"),
    // Of the same numbers, made elsewhere.
    Expect("90433fcbd9e16297e6a7c1dacb1056394743194776e52f78ebf0a44b80b6b14f"),
];

/// All of them.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "debian-virtio-blk",
        arguments: &[
            "-smp",
            "2",
            "-drive",
            "file=/tmp/disk/debian-virtio-blk.qcow2,format=qcow2,if=none,id=d0",
            "-device",
            "virtio-blk-pci,drive=d0",
            "-netdev",
            "user,id=n0",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
        ],
        append: "disk=vda",
        ..DEBIAN
    },
    Scenario {
        name: "debian-virtio-scsi",
        arguments: &[
            "-smp",
            "2",
            "-drive",
            "file=/tmp/disk/debian-virtio-scsi.qcow2,format=qcow2,if=none,id=d0",
            "-device",
            "virtio-scsi-pci,id=s0",
            "-device",
            "scsi-hd,bus=s0.0,drive=d0",
            "-netdev",
            "user,id=n0",
            "-device",
            "virtio-net-pci,netdev=n0,romfile=",
        ],
        append: "disk=sda",
        ..DEBIAN
    },
];

const DEBIAN: Scenario = Scenario {
    before: BEFORE,
    after: AFTER,
    initrd: INITRD,
    steps: STEPS,
    by_name: true,
    patience: 4,
    ..PLAIN
};

/// The disk of the nested machine, and what else the scenarios need.
pub(super) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Makes Debian, and the disk with it.
    fn make() -> Result<Self> {
        deps::ensure_installed(&[PACKAGES, image::PACKAGES].concat())?;
        // Whole disks are too large for where temporary files often are: memory.
        let folder = tempfile::tempdir_in(deps::cache()?)?;
        let disk = Self { folder };
        let images = disk.path("images");
        std::fs::create_dir(&images)?;
        let root = debian(disk.folder.path())?;
        file_system(&root, &images.join("debian.raw"), GUEST_DISK)?;
        std::fs::remove_dir_all(&root)?;
        run(Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "debian.raw", "fresh.qcow2"])
            .current_dir(&images))?;
        file_system(&images, &disk.image(), L1_DISK)?;
        std::fs::create_dir(disk.packages())?;
        packages(&disk.packages())?;
        Ok(disk)
    }

    /// The same, and carries into a nested machine what the scenarios need.
    pub(super) fn carried_into(nest: &mut Nest) -> Result<Self> {
        let disk = Self::make()?;
        nest.carry(&Self::initramfs()?.path(), Some("/guest/initrd-debian"))?;
        nest.carry(&disk.packages(), Some("/guest/packages"))?;
        nest.modules("virtio_pci,virtio_blk").drive(&disk.image());
        Ok(disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The image of the disk.
    fn image(&self) -> PathBuf {
        self.path("disk.ext4")
    }

    /// The folder that L1 serves.
    fn packages(&self) -> PathBuf {
        self.path("packages")
    }

    /// The guest's initramfs.
    fn initramfs() -> Result<AnonymousFile> {
        let mut tree = Initramfs::with_busybox()?;
        tree.text("init", INIT);
        let modules = Kernel::fetch(Flavour::Cloud)?.modules(&MODULES.map(str::to_owned))?;
        for (number, module) in modules.iter().enumerate() {
            tree.file(&format!("lib/modules/{number:03}"), module)?;
        }
        tree.into_lz4()
    }

    /// Checks what a scenario's guest left: the image is sound, and the file system and its files are as they must be.
    pub(super) fn check(&self, scenario: &str) -> Result<()> {
        let images = self.path("images");
        let overlay = format!("{scenario}.qcow2");
        let dump = format!("dump /{overlay} {overlay}");
        // As a mount would, it first carries out what the journal has.
        fsck(&self.image())?;
        run(Command::new("debugfs").args(["-R", &dump]).arg(self.image()).current_dir(&images))?;
        run(Command::new("qemu-img").args(["check", &overlay]).current_dir(&images))?;
        let raw = images.join(format!("{scenario}.raw"));
        run(Command::new("qemu-img")
            .args(["convert", "-O", "raw", &overlay])
            .arg(&raw)
            .current_dir(&images))?;
        fsck(&raw)?;
        for file in ["/root/contents", "/usr/bin/hello"] {
            let dump = format!("dump {file} found");
            run(Command::new("debugfs").args(["-R", &dump]).arg(&raw).current_dir(&images))?;
            let found = std::fs::read(images.join("found"))?;
            let good = match file {
                "/root/contents" => found == numbers(),
                _ => found == std::fs::read(deps::unpacked(PACKAGE)?.join("usr/bin/hello"))?,
            };
            ensure!(good, "{scenario}: {file} is not what the guest wrote");
        }
        Ok(std::fs::remove_file(raw)?)
    }
}

/// What `seq 1000000` prints.
fn numbers() -> Vec<u8> {
    (1..=1_000_000).map(|n| format!("{n}\n")).collect::<String>().into_bytes()
}

/// A Debian in a folder.
fn debian(place: &Path) -> Result<PathBuf> {
    let root = place.join("root");
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", INSTALLED])
        .args(["--customize-hook=chroot \"$1\" passwd -q -d root"])
        .args(["--customize-hook=chroot \"$1\" systemctl -q enable systemd-networkd", "bookworm"])
        .arg(&root))?;
    for (name, text) in CONFIGURATION {
        std::fs::write(root.join(name), text).context(name)?;
    }
    Ok(root)
}

/// A source of packages for apt with the package that the guest installs.
fn packages(place: &Path) -> Result<()> {
    let archive = deps::download(PACKAGE, place)?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let size = std::fs::metadata(&archive)?.len();
    let control = text_of(Command::new("dpkg-deb").arg("-f").arg(&archive))?;
    let sum = text_of(Command::new("sha256sum").arg(&archive))?;
    let sum = sum.split(' ').next().unwrap_or_default();
    let entry = format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n", control.trim_end());
    Ok(std::fs::write(place.join("Packages"), entry)?)
}

fn text_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    ensure!(output.status.success(), "{name} failed ({})", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
