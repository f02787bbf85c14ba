//! libguestfs makes a machine of its own, the appliance, with whatever QEMU is there, and works on disk images in it.
//!
//! Debian's runs in the nested machine, with this project's program as its QEMU. The appliance is made here, of
//! this machine's files, and is on a disk of the nested machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, quote, retry};
use crate::vmm::Vmm;
use crate::{console, deps, image};

/// What `cargo xtask test NAME` picks, by its whole name: it takes too long to be among those that always run.
pub const NAME: &str = "libguestfs";

const PACKAGES: &[&str] = &["libguestfs-tools", "kmod"];
/// What libguestfs' packages say that an appliance is made of.
const SUPERMIN: &str = "/usr/lib/x86_64-linux-gnu/guestfs/supermin.d";
/// What the nested machine needs of it; libguestfs asks a machine with firmware what QEMU can do.
const FILES: [&str; 4] = [
    "/usr/bin/libguestfs-test-tool",
    "/usr/bin/guestfish",
    "/usr/bin/qemu-img",
    "/usr/share/seabios/bios-256k.bin",
];
/// The size of the disk with the appliance, most of which is a hole.
const DISK: &str = "6G";
const TIME: Duration = Duration::from_secs(1800);

/// libguestfs' own test; a disk that is made, filled and looked at again, read-only, by another machine.
const SCRIPT: &str = r#"set -e
mkdir -p /tmp/disk; mount -o ro /dev/vda /tmp/disk
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_PATH=/tmp/disk LIBGUESTFS_CACHEDIR=/tmp TMPDIR=/tmp
libguestfs-test-tool -t 400 > /tmp/log 2>&1 || { cat /tmp/log; exit 1; }
grep '^===== TEST FINISHED OK =====' /tmp/log
seq 1000000 > /tmp/numbers
guestfish --network << 'END'
disk-create /tmp/disk.qcow2 qcow2 256M
add /tmp/disk.qcow2 format:qcow2 label:first discard:besteffort
sparse /tmp/disk.raw 64M
run
part-disk /dev/sda gpt
mkfs ext4 /dev/disk/guestfs/first1
mount /dev/sda1 /
upload /tmp/numbers /numbers
write /hello guestfish-42
fstrim /
pvcreate /dev/sdb
vgcreate vg /dev/sdb
lvcreate vol vg 32
list-devices
lvs
debug sh "ip -4 -oneline address"
END
look() { guestfish --ro << 'END'
add /tmp/disk.qcow2 format:qcow2 readonly:true
run
mount-ro /dev/sda1 /
cat /hello
checksum sha256 /numbers
END
}
look > /tmp/seen; cat /tmp/seen
[ "$(cat /tmp/seen)" = "guestfish-42
90433fcbd9e16297e6a7c1dacb1056394743194776e52f78ebf0a44b80b6b14f" ]
qemu-img check /tmp/disk.qcow2
"#;

/// Whether a command line picks it.
pub fn is_wanted(filters: &[String]) -> bool {
    filters.iter().any(|filter| filter == NAME)
}

/// Runs it and says on stdout how it went; its name if it failed.
pub fn run(vmm: &Vmm) -> Result<Option<&'static str>> {
    deps::ensure_installed(&[PACKAGES, image::PACKAGES].concat())?;
    let folder = tempfile::tempdir_in(deps::cache()?)?;
    let disk = disk(folder.path())?;
    let mut nest = Nest::new()?;
    vmm.carry_into(&mut nest)?;
    for file in FILES {
        nest.carry(Path::new(file), None)?;
    }
    nest.modules("virtio_pci,virtio_blk").drive(&disk).timeout(TIME);
    let program = vmm.program.to_string_lossy();
    let outcome = retry(|| nest.attempt(&format!("export LIBGUESTFS_HV={}\n{SCRIPT}", quote(&program))))?;
    if outcome.status == 0 {
        println!("PASS {NAME}");
        return Ok(None);
    }
    println!("FAIL {NAME}: status {}\n{}", outcome.status, console::last_words(&outcome.output));
    Ok(Some(NAME))
}

/// A disk with the appliance in the form that libguestfs takes from elsewhere ("fixed").
fn disk(place: &Path) -> Result<PathBuf> {
    let (appliance, disk) = (place.join("appliance"), place.join("disk.ext4"));
    let kernel = Kernel::fetch(Flavour::Cloud)?;
    kernel.depmod()?;
    let modules = kernel.modules_folder()?;
    // It copies what this folder is, too.
    std::fs::create_dir_all("/lib/modules").context("/lib/modules")?;
    image::run(
        Command::new("supermin")
            .args(["--build", "--copy-kernel", "-f", "ext2", "--host-cpu", "x86_64", SUPERMIN, "-o"])
            .arg(&appliance)
            .env("SUPERMIN_KERNEL", kernel.vmlinuz()?)
            .env("SUPERMIN_KERNEL_VERSION", modules.file_name().unwrap_or_default())
            .env("SUPERMIN_MODULES", &modules),
    )?;
    std::fs::write(appliance.join("README.fixed"), "by cargo xtask test libguestfs\n")?;
    image::file_system(&appliance, &disk, DISK)?;
    std::fs::remove_dir_all(&appliance)?;
    Ok(disk)
}
