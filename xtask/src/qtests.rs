//! `cargo xtask qtests`: QEMU's own qtest programs, built from Debian's source package, against this project's
//! binary.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::deps;
use crate::vmm::Vmm;

/// What `cargo xtask qtests` takes.
pub const USAGE: &str = "\
cargo xtask qtests [OPTION]... [NAME]...
Builds QEMU's own qtest programs from Debian's source package (some minutes the first time) and runs them, unchanged,
against the release binary. NAMEs are programs of QEMU's tests/qtest, such as rtc-test.
  --vmm FILE                runs them on another program
  --list                    lists the programs that run where none is named
";

/// Programs that this machine has the devices and commands for.
const PROGRAMS: [&str; 27] = [
    "boot-order-test",
    "cpu-plug-test",
    "device-introspect-test",
    "device-plug-test",
    "drive_del-test",
    "endianness-test",
    "fw_cfg-test",
    "hd-geo-test",
    "i440fx-test",
    "ide-test",
    "machine-none-test",
    "numa-test",
    "pvpanic-pci-test",
    "pvpanic-test",
    "qmp-cmd-test",
    "qmp-test",
    "qom-test",
    "qos-test",
    "readconfig-test",
    "rtc-test",
    "test-filter-mirror",
    "test-filter-redirector",
    "test-hmp",
    "test-netfilter",
    "test-x86-cpuid-compat",
    "vmgenid-test",
    "wdt_ib700-test",
];
/// Those of them that look at more where they may take longer; `qos-test` counts tests with folders of the host to it.
const SLOW: [&str; 4] = ["device-introspect-test", "qom-test", "qos-test", "test-hmp"];
/// Where `qos-test` has the tests of a PC's PCI devices.
const QOS_ROOT: &str = "/x86_64/pc/i440FX-pcihost/pci-bus-pc/pci-bus/";
/// Which of those there it is to run: it has tests of devices that this machine does not have, and runs all unless told.
const QOS_PATHS: [&str; 35] = [
    "virtio-9p-pci/pci-device/pci-device-tests",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/local",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/attach",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/flush",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/lopen",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/readdir",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/version",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/walk",
    "virtio-9p-pci/virtio-9p/virtio-9p-tests/synth/write",
    "virtio-9p-pci/virtio/virtio-tests",
    "virtio-balloon-pci/pci-device/pci-device-tests",
    "virtio-balloon-pci/virtio/virtio-tests",
    "virtio-blk-pci/virtio-blk-pci-tests",
    "virtio-blk-pci/virtio-blk/virtio-blk-tests",
    "virtio-net-pci/virtio-net-pci-tests",
    "virtio-net-pci/virtio-net/virtio-net-tests/announce-self",
    "virtio-net-pci/virtio-net/virtio-net-tests/basic",
    "virtio-net-pci/virtio-net/virtio-net-tests/large_tx",
    "virtio-net-pci/virtio-net/virtio-net-tests/rx_stop_cont",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/connect-fail",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/flags-mismatch",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/multiqueue",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/read-guest-mem/memfd",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/read-guest-mem/memfile",
    "virtio-net-pci/virtio-net/virtio-net-tests/vhost-user/reconnect",
    "virtio-rng-pci/pci-device/pci-device-tests",
    "virtio-rng-pci/virtio-rng-pci-tests",
    "virtio-rng-pci/virtio/virtio-tests",
    "virtio-scsi-pci/pci-device/pci-device-tests",
    "virtio-scsi-pci/virtio-scsi-pci-tests",
    "virtio-scsi-pci/virtio-scsi/virtio-scsi-tests",
    "virtio-serial-pci/pci-device/pci-device-tests",
    "virtio-serial-pci/virtio-serial/virtio-serial-tests",
    "virtio-serial-pci/virtio/virtio-tests",
];
/// What `hd-geo-test` is to run: the tests of disks that are there.
const GEOMETRY_PATHS: [&str; 10] = [
    "ide",
    "ide/device/mbr",
    "ide/device/user",
    "ide/drive",
    "ide/drive/mbr",
    "override/ide",
    "override/scsi_hot_unplug",
    "override/virtio_blk",
    "override/virtio_hot_unplug",
    "override/zero_chs",
];
/// What the build needs; libfdt and pixman for the configuration, which insists on them, libattr and libcap-ng for the
/// tests of 9P.
const BUILD: [&str; 12] = [
    "dpkg-dev",
    "gcc",
    "libattr1-dev",
    "libc6-dev",
    "libcap-ng-dev",
    "libfdt-dev",
    "libglib2.0-dev",
    "libpixman-1-dev",
    "meson",
    "ninja-build",
    "pkg-config",
    "python3",
];
/// Where Debian's package `qemu-utils` has the program that some tests make images with.
const QEMU_IMG: &str = "/usr/bin/qemu-img";
/// No program takes longer, unless it hangs.
const PATIENCE: &str = "600";

/// `cargo xtask qtests`.
pub fn command(mut args: Args) -> Result<u8> {
    let mut vmm = None;
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--vmm" => vmm = Some(args.value(&option)?),
            "--list" => {
                PROGRAMS.iter().for_each(|name| println!("{name}"));
                return Ok(0);
            }
            other => return Err(Args::unknown("qtests", other)),
        }
    }
    let mut names = args.rest();
    if names.is_empty() {
        names.extend(PROGRAMS.map(str::to_owned));
    }
    deps::ensure_installed(&[&BUILD[..], &["qemu-utils", "seabios"]].concat())?;
    let vmm = Vmm::chosen(vmm.as_deref())?;
    let build = built(&names)?;
    // QEMU's library tells the target from the program's name.
    let folder = tempfile::tempdir()?;
    let binary = folder.path().join("qemu-system-x86_64");
    symlink(&vmm.program, &binary)?;
    let mut total = Tally::default();
    for name in &names {
        let tally = run(&build, name, &binary)?;
        println!("{name}: {} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
        tally.failed.iter().for_each(|line| println!("  {line}"));
        total.add(tally);
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed.len(), total.skipped);
    Ok(u8::from(!total.failed.is_empty()))
}

/// How tests ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    skipped: usize,
    /// A line for each.
    failed: Vec<String>,
}

impl Tally {
    /// Counts what a program said by the Test Anything Protocol, and how it ended.
    fn of(output: &str, success: bool) -> Self {
        let mut tally = Tally::default();
        for line in output.lines() {
            if line.starts_with("not ok ") || line.starts_with("Bail out!") {
                tally.failed.push(line.to_owned());
            } else if line.starts_with("ok ") && line.contains("# SKIP") {
                tally.skipped += 1;
            } else if line.starts_with("ok ") {
                tally.passed += 1;
            }
        }
        // qos-test has a plan for each path that it was given, and goes on counting.
        let mut plans =
            output.lines().filter_map(|line| line.strip_prefix("1..")?.trim().parse::<usize>().ok());
        let planned = plans.next_back();
        let done = tally.passed + tally.skipped + tally.failed.len();
        if !success && tally.failed.is_empty() {
            tally.failed.push("the program failed".to_owned());
        } else if tally.failed.is_empty() && planned != Some(done) {
            tally.failed.push(format!("{done} tests ended of {}", planned.unwrap_or_default()));
        }
        tally
    }

    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failed.extend(other.failed);
    }
}

fn run(build: &Path, name: &str, binary: &Path) -> Result<Tally> {
    eprintln!("xtask: {name}");
    let output = Command::new("timeout")
        .args(["-k", "5", PATIENCE])
        .arg(build.join("tests/qtest").join(name))
        // Go on after a failure.
        .arg("-k")
        .args(arguments(name))
        .current_dir(build)
        .env("QTEST_QEMU_BINARY", binary)
        .env("QTEST_QEMU_IMG", QEMU_IMG)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| name.to_owned())?;
    Ok(Tally::of(&String::from_utf8_lossy(&output.stdout), output.status.success()))
}

/// What a program is told to run of its tests.
fn arguments(name: &str) -> Vec<String> {
    let slow = SLOW.contains(&name).then_some(["-m".to_owned(), "slow".to_owned()]);
    let (root, paths): (_, &[&str]) = match name {
        "qos-test" => (QOS_ROOT, &QOS_PATHS),
        "hd-geo-test" => ("/x86_64/hd-geo/", &GEOMETRY_PATHS),
        _ => ("", &[]),
    };
    let paths = paths.iter().flat_map(|path| ["-p".to_owned(), format!("{root}{path}")]);
    slow.into_iter().flatten().chain(paths).collect()
}

/// Builds programs; gives the folder they are built in.
fn built(names: &[String]) -> Result<PathBuf> {
    // QEMU's own choice of features: what the tests expect of some commands depends on it.
    let targets: Vec<_> = names.iter().map(|name| format!("tests/qtest/{name}")).collect();
    build("build-virtfs", &["--enable-virtfs"], &targets)
}

/// Builds QEMU's system emulator with little but the accelerator `qtest`, and gives it.
pub fn built_qemu() -> Result<PathBuf> {
    deps::ensure_installed(&BUILD)?;
    let features = ["--without-default-features", "--disable-tcg", "--enable-kvm", "--disable-werror"];
    let name = "qemu-system-x86_64";
    Ok(build("build-system", &features, &[name.to_owned()])?.join(name))
}

/// Builds targets in a folder of the source; gives the folder.
fn build(folder: &str, features: &[&str], targets: &[String]) -> Result<PathBuf> {
    let build = source()?.join(folder);
    if !build.join("build.ninja").is_file() {
        fs::create_dir_all(&build)?;
        let mut configure = Command::new("../configure");
        configure.args(["--target-list=x86_64-softmmu", "--meson=/usr/bin/meson", "--disable-docs"]);
        step(configure.args(features).current_dir(&build), "configure")?;
    }
    step(Command::new("ninja").args(targets).current_dir(&build), "ninja")?;
    Ok(build)
}

/// QEMU's source as Debian has it, in the cache.
fn source() -> Result<PathBuf> {
    let place = deps::cache()?.join("qemu-source");
    let tree = place.join("tree");
    if tree.is_dir() {
        return Ok(tree);
    }
    fs::create_dir_all(place.join("lists/partial"))?;
    fs::create_dir_all(place.join("archives/partial"))?;
    fs::write(place.join("sources.list"), source_lines()?)?;
    let option = |name: &str, file: &str| format!("{name}={}", place.join(file).display());
    let options = [
        option("Dir::Etc::sourcelist", "sources.list"),
        "Dir::Etc::sourceparts=-".to_owned(),
        option("Dir::State::lists", "lists"),
        option("Dir::Cache::archives", "archives"),
        "Dir::Cache::srcpkgcache=".to_owned(),
        "Dir::Cache::pkgcache=".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(options.iter().flat_map(|option| ["-o", option])).args(arguments).current_dir(&place);
        step(&mut command, "apt-get")
    };
    apt_get(&["update", "-q"])?;
    apt_get(&["source", "-q", "--download-only", "qemu"])?;
    let description = fs::read_dir(&place)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "dsc"))
        .context("apt-get source left no description of the package")?;
    // Unpacked aside, so that what is there is whole.
    let aside = place.join("unpacking");
    let _ = fs::remove_dir_all(&aside);
    let mut unpack = Command::new("dpkg-source");
    unpack.arg("-x").arg(description).arg(&aside).current_dir(&place);
    step(&mut unpack, "dpkg-source")?;
    fs::rename(&aside, &tree)?;
    Ok(tree)
}

/// Where this machine has its packages from, as places of source packages.
fn source_lines() -> Result<String> {
    let format = "$(REPO_URI) $(BASE_URI) $(COMPONENT) $(ORIGIN)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Identifier: Packages"])
        .output()
        .context("apt-get")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = listing.lines().filter_map(source_line).collect();
    lines.dedup();
    if lines.is_empty() {
        bail!("apt has no lists of Debian's packages; run this as root, then try again:\n  apt-get update");
    }
    Ok(lines.concat())
}

/// The place of source packages beside one of Debian's binary packages.
fn source_line(target: &str) -> Option<String> {
    let [repository, base, component, "Debian"] = target.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let suite = base.strip_prefix(repository)?.strip_prefix("dists/")?.trim_end_matches('/');
    Some(format!("deb-src {repository} {suite} {component}\n"))
}

/// Runs a command with its chatter on stderr.
fn step(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("{name} cannot be run"))?;
    ensure!(status.success(), "{name} failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_how_they_ended() {
        let tally = Tally::of("# x\n1..4\nok 1 /a\nnot ok 2 /b\nok 3 /c # SKIP no\nok 4 /d\n", false);
        assert_eq!((tally.passed, tally.skipped, tally.failed), (2, 1, vec!["not ok 2 /b".to_owned()]));
        assert_eq!(Tally::of("1..2\nok 1 /a\nBail out! x\n", false).failed, ["Bail out! x"]);
    }

    #[test]
    fn sources_are_where_packages_are() {
        let target = "http://a/security/ http://a/security/dists/stable-security/ main Debian";
        let line = source_line(target);
        assert_eq!(line.as_deref(), Some("deb-src http://a/security/ stable-security main\n"));
        assert_eq!(source_line("http://a/ http://a/dists/x/ main Other"), None);
    }

    #[test]
    fn a_program_that_ends_early_has_failed() {
        assert_eq!(Tally::of("1..2\nok 1 /a\n", true).failed, ["1 tests ended of 2"]);
        assert_eq!(Tally::of("", false).failed, ["the program failed"]);
        assert_eq!(Tally::of("", true).failed, ["0 tests ended of 0"]);
        assert!(Tally::of("1..1\nok 1 /a\n", true).failed.is_empty());
    }
}
