//! Debian packages: installing the programs the chores call, and unpacking files of packages that are
//! not installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What the nested harness runs: QEMU with its firmware, and the kernel's compression.
pub const NESTED: &[&str] = &["qemu-system-x86", "qemu-utils", "seabios", "lz4"];
/// Unpacking kernels needs this one.
pub const KERNEL: &[&str] = &["lz4"];
/// Clients of the program in its own tests: of the monitor's socket, a debugger, libvirt; and what [`python`] needs.
pub const CLIENTS: &[&str] = &["socat", "gdb", "python3-venv", "libvirt-clients", "libvirt-daemon"];
/// What Linux guests and the machine around them use of networks.
pub const NETWORK: &[&str] = &["dropbear-bin", "iperf3", "openssh-client", "passt", "tcpdump"];
/// Clients in Python, from PyPI.
const PYTHON: &[&str] = &["qemu.qmp==0.0.6"];
/// Compiles libFuzzer.
pub const FUZZ: &[&str] = &["g++"];
/// Disassembles ACPI tables (`iasl`).
pub const ACPI: &[&str] = &["acpica-tools"];
/// What tests call to make bridges and file systems: not every Debian has them.
pub const SYSTEM: &[&str] = &["iproute2", "e2fsprogs"];

/// How often something is fetched, and the pauses in between: a network that fails for a moment is no failure.
const FETCHES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(20);

/// Makes sure that Debian packages are installed.
///
/// As root it installs what is missing; for anyone else the error is the command to run as root.
pub fn ensure_installed(packages: &[&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !rustix::process::geteuid().is_root() {
        bail!(
            "Debian packages are missing; run this as root, then try again:\n  apt-get update && {install}"
        );
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(missing);
    patiently(PAUSE, || {
        apt_get(&["update", "-q"])?;
        apt_get(&arguments)
    })
}

/// Tries again, a few times, what needs the network.
fn patiently<T>(pause: Duration, mut fetch: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..FETCHES {
        match fetch() {
            Ok(fetched) => return Ok(fetched),
            Err(error) => eprintln!("xtask: trying once more in {} s: {error:#}", pause.as_secs()),
        }
        std::thread::sleep(pause);
    }
    fetch()
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let listing = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .context("dpkg-query: is this a Debian machine?")?;
    let listing = String::from_utf8_lossy(&listing.stdout);
    let installed = |package: &&str| listing.lines().any(|line| line == format!("{package} installed"));
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

/// Runs apt-get with its chatter on stderr, where it does not mix with a chore's own output.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        // Another program may be installing something.
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("apt-get")?;
    ensure!(status.success(), "apt-get {} failed ({status})", arguments.join(" "));
    Ok(())
}

/// The folder where fetched packages are kept: `$XDG_CACHE_HOME/softmmu` or `~/.cache/softmmu`.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let cache = base.join("softmmu");
    std::fs::create_dir_all(&cache).with_context(|| format!("{}", cache.display()))?;
    Ok(cache)
}

/// The files of a Debian package, unpacked in the cache and not installed; needs no root.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let cache = cache()?;
    let place = cache.join(package);
    if place.is_dir() {
        return Ok(place);
    }
    // Another xtask may be at it too: unpack aside, then move the whole into place.
    let aside = tempfile::tempdir_in(&cache)?;
    let root = aside.path().join("root");
    let archive = download(package, aside.path())?;
    let status = Command::new("dpkg").arg("-x").args([&archive, &root]).status().context("dpkg")?;
    ensure!(status.success(), "dpkg -x {} failed ({status})", archive.display());
    if let Err(error) = std::fs::rename(&root, &place)
        && !place.is_dir()
    {
        return Err(error).with_context(|| format!("{}", place.display()));
    }
    Ok(place)
}

/// Fetches a Debian package into a folder that has no other: its file.
pub fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    eprintln!("xtask: fetching {package}");
    let mut lists_are_old = false;
    patiently(PAUSE, || {
        if lists_are_old && rustix::process::geteuid().is_root() {
            apt_get(&["update", "-q"])?;
        }
        // Old lists may name a file that is no longer there.
        lists_are_old = true;
        require_lists(package)?;
        let status = Command::new("apt-get")
            .args(["download", "-q", "-o", "APT::Sandbox::User=root", package])
            .current_dir(folder)
            .stdout(std::io::stderr())
            .status()
            .context("apt-get")?;
        ensure!(status.success(), "apt-get download {package} failed ({status})");
        Ok(())
    })?;
    only_file_with(folder, ".deb")
}

/// The package that a meta package (such as `linux-image-cloud-amd64`) stands for today.
pub fn first_dependency(meta: &str) -> Result<String> {
    require_lists(meta)?;
    let output = Command::new("apt-cache").args(["depends", meta]).output().context("apt-cache")?;
    let output = String::from_utf8_lossy(&output.stdout);
    let dependency = output.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    dependency.map(str::to_owned).with_context(|| format!("apt-cache names no dependency of {meta}"))
}

/// A fresh image comes without apt's package lists.
fn require_lists(package: &str) -> Result<()> {
    let known = Command::new("apt-cache").args(["show", package]).output().context("apt-cache")?;
    if known.status.success() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!("apt does not know {package}; run this as root, then try again:\n  apt-get update");
    }
    apt_get(&["update", "-q"])
}

fn only_file_with(folder: &Path, suffix: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(suffix) {
            return Ok(path);
        }
    }
    bail!("no *{suffix} in {}", folder.display())
}

/// Debian's static busybox, the userspace of every guest.
pub fn busybox() -> Result<PathBuf> {
    Ok(unpacked("busybox-static")?.join("bin/busybox"))
}

/// A Python that has [`PYTHON`], in an environment of its own in the cache.
pub fn python() -> Result<PathBuf> {
    let place = cache()?.join("python");
    let program = place.join("bin/python");
    let wanted = PYTHON.join("\n");
    let note = place.join("installed");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    eprintln!("xtask: installing {}", PYTHON.join(" "));
    let run = |command: &mut Command, what: &str| -> Result<()> {
        let status = command.stdout(std::io::stderr()).status().with_context(|| what.to_owned())?;
        ensure!(status.success(), "{what} failed ({status})");
        Ok(())
    };
    patiently(PAUSE, || {
        run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&place), "python3 -m venv")?;
        run(Command::new(&program).args(["-m", "pip", "install", "-q"]).args(PYTHON), "pip install")
    })?;
    std::fs::write(note, wanted)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_for_a_moment_is_tried_again_and_what_fails_for_good_fails() {
        let mut tries = 0;
        let mut fetch = |works_at: u32| {
            tries = 0;
            let fetched = patiently(Duration::ZERO, || {
                tries += 1;
                ensure!(tries >= works_at, "try {tries}");
                Ok(tries)
            });
            (fetched.map_err(|error| error.to_string()), tries)
        };
        assert_eq!(fetch(1), (Ok(1), 1));
        assert_eq!(fetch(3), (Ok(3), 3));
        assert_eq!(fetch(99), (Err(format!("try {FETCHES}")), FETCHES));
    }
}
