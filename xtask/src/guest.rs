//! The userspace of the Linux guests: busybox, and an init that serves a shell or a script on ttyS0.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::console::{find, last_words};
use crate::initramfs::{AnonymousFile, Initramfs};
use crate::nested::Outcome;
use crate::test::root;

/// Brackets a script's output on the console.
pub const BEGIN_MARK: &str = "=== GUEST BEGIN\n";
/// See [`BEGIN_MARK`]; the exit status follows.
pub const END_MARK: &str = "=== GUEST END status=";
/// The shell is up when this is on the console.
pub const PROMPT: &str = "guest# ";

/// What busybox's init does.
const INITTAB: &str = "::sysinit:/etc/mounts\n::once:/etc/console\n";

const MOUNTS: &str = "#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
";

/// The session on ttyS0, after which the guest powers off.
///
/// The kernel hands parameters that it does not know to init as environment variables: `script=NAME` runs
/// one of the image's scripts, without it the console gets a shell; `TERM`, `LINES` and `COLUMNS` describe
/// the terminal.
fn console_script() -> String {
    let begin = BEGIN_MARK.trim_end();
    format!(
        "#!/bin/sh
export PATH=/bin HOME=/root PS1='{PROMPT}' TERM=${{TERM:-vt100}}
cd /root
if [ -n \"$script\" ]; then
    # Nothing is to mix with the script's output or change it.
    dmesg -n 1
    stty -F /dev/ttyS0 -opost -echo
    exec </dev/null >/dev/ttyS0 2>&1
    echo '{begin}'
    sh /etc/scripts/$script
    echo '{END_MARK}'$?
    # stty waits until all output is sent.
    stty -F /dev/ttyS0 sane
else
    echo \"$(uname -sr), $(nproc) CPUs, $(free -m | sed -n 's/^Mem: *\\([0-9]*\\).*/\\1/p') MiB; 'poweroff' ends it\"
    # A serial line does not know the size of the terminal at its other end.
    stty -F /dev/ttyS0 rows ${{LINES:-24}} columns ${{COLUMNS:-80}}
    setsid -c sh <>/dev/ttyS0 >&0 2>&1
fi
poweroff -f
"
    )
}

/// Loads all modules of the image, in order.
const LOAD: &str = "#!/bin/sh
for module in /lib/modules/*; do insmod $module || exit; done
";

/// The guests' initramfs, with scripts by name, and modules in the order in which the command `load` loads them.
pub fn initramfs(scripts: &[(&str, &str)], modules: &[PathBuf]) -> Result<AnonymousFile> {
    tree(scripts, modules)?.into_lz4()
}

/// The same before it is an image, for more to be added.
pub fn tree(scripts: &[(&str, &str)], modules: &[PathBuf]) -> Result<Initramfs> {
    let mut tree = Initramfs::with_busybox()?;
    tree.link("init", "bin/busybox");
    tree.text("etc/inittab", INITTAB);
    tree.text("etc/mounts", MOUNTS);
    tree.text("etc/console", &console_script());
    for (name, text) in scripts {
        tree.text(&format!("etc/scripts/{name}"), text);
    }
    tree.text("bin/load", LOAD);
    for (number, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        tree.file(&format!("lib/modules/{number:03}-{name}"), module)?;
    }
    Ok(tree)
}

/// The output and status of the script in what came from the console.
pub fn outcome(console: &[u8]) -> Result<Outcome> {
    let bracketed = || {
        let start = find(console, BEGIN_MARK.as_bytes())? + BEGIN_MARK.len();
        let length = find(&console[start..], END_MARK.as_bytes())?;
        let status = String::from_utf8_lossy(&console[start + length + END_MARK.len()..]).into_owned();
        Some((console[start..start + length].to_vec(), status))
    };
    let Some((output, status)) = bracketed() else {
        bail!("the guest did not come to its end; its last words: {}", last_words(console));
    };
    let status = status.lines().next().unwrap_or_default().trim();
    Ok(Outcome { output, status: status.parse().with_context(|| format!("exit status '{status}'"))? })
}

/// Builds bare-metal guests and puts them, in every kernel format, into a folder.
pub fn pack(names: &[&str], place: &Path) -> Result<()> {
    let folder = root()?.join("guests");
    let target = folder.join("target");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--target-dir"]).arg(&target);
    cargo.args(names.iter().flat_map(|name| ["--bin", name]));
    // Its configuration is in force there.
    let status = cargo.current_dir(folder).status().context("cargo")?;
    ensure!(status.success(), "the bare-metal guests: cargo build failed ({status})");
    let built = target.join("x86_64-unknown-linux-gnu/release");
    let guests: Vec<PathBuf> = names.iter().map(|name| built.join(name)).collect();
    pack::pack_files(&guests, place)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_what_lies_between_the_marks() {
        let console = b"boot noise\r\n=== GUEST BEGIN\na\nb=== GUEST END status=4\nPower down\r\n";
        let outcome = outcome(console).unwrap();
        assert_eq!((outcome.output.as_slice(), outcome.status), (&b"a\nb"[..], 4));
    }

    #[test]
    fn a_guest_that_died_is_an_error_with_its_last_words() {
        let error = outcome(b"=== GUEST BEGIN\nKernel panic").unwrap_err().to_string();
        assert!(error.contains("Kernel panic"), "{error}");
    }
}
