//! The rows of `cargo xtask bench` about disks: what requests cost, what devices cost at the start and in memory.
//!
//! The images are files of ext4 on a loop device in the nested machine's memory: they go through a page cache and a
//! file system as people's do, and no disk's speed is measured. The guest is `guests/src/bin/disk.rs`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench::{
    BARE_METAL, Bench, MEGABYTE, MILLION, OURS, PC, PLACE, QUIET, Row, Samples, Subject, Target, idle, linux,
    timed,
};
use crate::guest;
use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, quote_all};

/// Bytes of the images.
const SIZE: u32 = 16 << 20;
/// Requests of each kind and run.
const REQUESTS: u32 = 128;
const FORMATS: [&str; 2] = ["raw", "qcow2"];
/// At 8 disks and 4 networks a start takes at most this many times as long as without.
const DEVICES_AT_MOST: f64 = 1.2;
/// What a guest's shell is told, so that disk and network are used.
const USE_DEVICES: &str =
    "load; dd if=/dev/vda of=/dev/null bs=64k; ifconfig eth0 up; udhcpc -n -q -t 2; sync";
/// Where the images are.
const DISKS: &str = "/disks";
/// Makes their file system; by its path, as busybox has another of this name.
const MKE2FS: &str = "/usr/sbin/mke2fs";

/// At most this part of QEMU's cycles is 1.2 times its rate.
const FASTER: Target = Target::Ratio(0.833);
const NOT_SLOWER: Target = Target::Ratio(1.0);

const fn load(title: &'static str, key: &'static str, target: Target) -> Row {
    Row { title, key, scale: 1.0, unit: "", target, in_microvm: false }
}

/// The rows.
pub const ROWS: &[Row] = &[
    load("raw, 4 KiB read at random, depth 1", "disk-raw cycles read1", FASTER),
    load("raw, 4 KiB read at random, depth 32", "disk-raw cycles read32", FASTER),
    load("raw, 4 KiB written at random, depth 1", "disk-raw cycles write1", NOT_SLOWER),
    load("raw, 4 KiB written at random, depth 32", "disk-raw cycles write32", NOT_SLOWER),
    load("raw, 128 KiB read in order, depth 4", "disk-raw cycles readseq", NOT_SLOWER),
    load("raw, 128 KiB written in order, depth 4", "disk-raw cycles writeseq", NOT_SLOWER),
    load("qcow2, 4 KiB read at random, depth 1", "disk-qcow2 cycles read1", NOT_SLOWER),
    load("qcow2, 4 KiB read at random, depth 32", "disk-qcow2 cycles read32", NOT_SLOWER),
    load("qcow2, 4 KiB written at random, depth 1", "disk-qcow2 cycles write1", NOT_SLOWER),
    load("qcow2, 4 KiB written at random, depth 32", "disk-qcow2 cycles write32", NOT_SLOWER),
    load("qcow2, 128 KiB read in order, depth 4", "disk-qcow2 cycles readseq", NOT_SLOWER),
    load("qcow2, 128 KiB written in order, depth 4", "disk-qcow2 cycles writeseq", NOT_SLOWER),
    Row {
        title: "exec to the guest's first instruction, 8 disks and 4 networks",
        key: "devices first",
        scale: MILLION,
        unit: "M",
        target: NOT_SLOWER,
        in_microvm: false,
    },
    Row {
        title: "memory beyond the guest's own, a disk and a network used, PSS",
        key: "idle-devices pss",
        scale: MEGABYTE,
        unit: "MB",
        // 12 MiB.
        target: Target::Value(12.58),
        in_microvm: false,
    },
];

/// Carries in what the guests of the first rows need.
pub fn carry(nest: &mut Nest, guests: &Path) -> Result<()> {
    nest.modules("loop").carry(Path::new(MKE2FS), None)?;
    nest.carry(&guests.join("disk.pvh"), Some(&format!("{PLACE}/disk.pvh")))?;
    let raw = guests.join("disk.raw");
    // Each sector says which it is.
    let sectors = (0..SIZE / 512).flat_map(|sector| sector.to_le_bytes().repeat(128));
    std::fs::write(&raw, sectors.collect::<Vec<u8>>())?;
    let qcow2 = guests.join("disk.qcow2");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &qcow2]);
    ensure!(convert.status().context("qemu-img")?.success(), "qemu-img convert failed");
    for format in FORMATS {
        let name = format!("disk.{format}");
        nest.carry(&guests.join(&name), Some(&format!("{PLACE}/{name}")))?;
    }
    Ok(())
}

/// Carries in the Linux guest with the devices' drivers.
pub fn carry_linux(nest: &mut Nest) -> Result<()> {
    let drivers = ["virtio_pci", "virtio_blk", "virtio_net"].map(str::to_owned);
    let modules = Kernel::fetch(Flavour::Cloud)?.modules(&drivers)?;
    nest.carry(&guest::initramfs(&[], &modules)?.path(), Some(&format!("{PLACE}/drivers")))?;
    Ok(())
}

/// Measures what the rows say.
pub fn measure(bench: &Bench, runs: u32, samples: &mut Samples) {
    let subjects: Vec<&Subject> =
        bench.subjects.iter().filter(|one| [PC, OURS].contains(&one.name)).collect();
    for _ in 0..runs {
        for subject in &subjects {
            Bench::nested(&bench.clocked, &(file_system() + &requests(subject)), samples);
            Bench::nested(&bench.clocked, &(file_system() + &start(subject)), samples);
        }
    }
    for subject in subjects {
        let kernel = format!("{PLACE}/vmlinux");
        let initrd = format!("{PLACE}/drivers");
        let devices = devices("raw", 1, 1);
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        let line = subject.line(&[&linux(&kernel, &initrd, QUIET)[..], &devices].concat());
        let script = format!("mkdir {DISKS}; truncate -s 16M {DISKS}/0\n");
        let script = script + &subject.heading("idle-devices") + &idle(&quote_all(&line), USE_DEVICES);
        Bench::nested(&bench.plain, &script, samples);
    }
}

/// What is compared with a row of its own, not with QEMU.
pub fn summary(samples: &Samples) -> Option<String> {
    let first = |key| {
        let row = Row { title: "", key, scale: MILLION, unit: "", target: Target::None, in_microvm: false };
        samples.median(OURS, &row)
    };
    let ratio = first("devices first")? / first("first first")?;
    Some(format!(
        "{OURS}: a start with 8 disks and 4 networks takes {ratio:.3} times one with none (at most {DEVICES_AT_MOST})"
    ))
}

/// The commands that make the images' file system.
fn file_system() -> String {
    format!(
        "truncate -s 160M /loop; losetup /dev/loop0 /loop\n\
         {MKE2FS} -q -t ext4 -E lazy_itable_init=0 /dev/loop0 && mkdir {DISKS} && mount /dev/loop0 {DISKS}\n"
    )
}

/// The commands that run the disk guest on each format.
fn requests(subject: &Subject) -> String {
    let mut script = String::new();
    let kernel = format!("{PLACE}/disk.pvh");
    let count = format!("n={REQUESTS}");
    for format in FORMATS {
        let devices = devices(format, 1, 0);
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        let line = subject.line(&[BARE_METAL, &["-kernel", &kernel, "-append", &count], &devices].concat());
        script += &format!("cp {PLACE}/disk.{format} {DISKS}/0; sync\n");
        script += &subject.heading(&format!("disk-{format}"));
        script += &format!("{} </dev/null\n", quote_all(&line));
    }
    script
}

/// The commands that time a start with many devices, and one without.
fn start(subject: &Subject) -> String {
    let kernel = format!("{PLACE}/first.pvh");
    let mut script = format!("for i in 0 1 2 3 4 5 6 7; do truncate -s 16M {DISKS}/$i; done\n");
    for (heading, devices) in [("first", Vec::new()), ("devices", devices("raw", 8, 4))] {
        let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
        let line = subject.line(&[BARE_METAL, &["-kernel", &kernel], &devices].concat());
        script += &subject.heading(heading);
        script += &timed("--status 1 --output F", &line);
    }
    script
}

/// The options for so many disks and networks.
fn devices(format: &str, disks: u32, networks: u32) -> Vec<String> {
    let mut words = Vec::new();
    for i in 0..disks {
        words.extend(["-drive".to_owned(), format!("if=none,id=d{i},format={format},file={DISKS}/{i}")]);
        words.extend(["-device".to_owned(), format!("virtio-blk-pci,drive=d{i}")]);
    }
    for i in 0..networks {
        words.extend(["-netdev".to_owned(), format!("user,id=n{i}")]);
        words.extend(["-device".to_owned(), format!("virtio-net-pci,netdev=n{i},romfile=")]);
    }
    words
}
