//! The nested harness: a level-1 Linux (L1) whose `/dev/kvm` is true SVM with nested paging, which QEMU's
//! TCG emulates. Where the local KVM cannot run Linux, L1's can.
//!
//! L1 has two serial ports: the kernel and the harness talk on ttyS0, the command's terminal is ttyS1, so
//! that what a command prints is not mixed with anything.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::console::{Console, last_words, tied};
use crate::deps;
use crate::initramfs::{AnonymousFile, Initramfs, path_in_tree};
use crate::kernel::{Flavour, Kernel};
use crate::terminal::Terminal;

/// Written to L1's ttyS0, with the command's exit status, when the command is done.
const END_MARK: &str = "=== NEST END status=";
/// Where a command starts in L1.
const WORKING_FOLDER: &str = "root";
/// Arguments of `stty` for a terminal that changes nothing, even when a VMM switches output processing on.
pub const RAW_TERMINAL: &str = "raw -echo -onlcr";
const SCRIPT: &str = "etc/nest/script";
const MODULES: &str = "etc/nest/modules";

/// A level-1 machine to be.
pub struct Nest {
    tree: Initramfs,
    kernel: Flavour,
    modules: Vec<String>,
    drive: Option<PathBuf>,
    smp: u32,
    memory_mib: u32,
    icount: bool,
    timeout: Duration,
}

/// What a command in L1 came to.
#[derive(Debug)]
pub struct Outcome {
    /// All it printed, to stdout and stderr.
    pub output: Vec<u8>,
    /// Its exit status.
    pub status: u8,
}

impl Nest {
    /// A machine with 2 CPUs, 4 GiB, `/dev/kvm`, and busybox for userspace.
    pub fn new() -> Result<Self> {
        deps::ensure_installed(deps::NESTED)?;
        Ok(Self {
            tree: Initramfs::with_busybox()?,
            kernel: Flavour::Cloud,
            modules: vec!["kvm-amd".to_owned()],
            drive: None,
            smp: 2,
            memory_mib: 4096,
            icount: false,
            timeout: Duration::from_secs(600),
        })
    }

    /// Takes another kernel than the cloud kernel.
    pub fn kernel(&mut self, flavour: Flavour) -> &mut Self {
        self.kernel = flavour;
        self
    }

    /// Loads more modules, by name; those they depend on come along.
    pub fn modules(&mut self, names: &str) -> &mut Self {
        self.modules.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        self
    }

    /// Gives it a raw image as its disk `vda`, for which it needs the module `virtio_blk`.
    pub fn drive(&mut self, image: &Path) -> &mut Self {
        self.drive = Some(image.to_owned());
        self
    }

    /// Sets the number of CPUs.
    pub fn smp(&mut self, cpus: u32) -> &mut Self {
        self.smp = cpus;
        self
    }

    /// Sets the size of memory.
    pub fn memory_mib(&mut self, size: u32) -> &mut Self {
        self.memory_mib = size;
        self
    }

    /// Makes L1's clock count instructions instead of time: for measurements that do not depend on the
    /// load of this machine. One CPU, and slower.
    pub fn icount(&mut self) -> &mut Self {
        self.icount = true;
        self
    }

    /// Sets how long one attempt may take.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = timeout;
        self
    }

    /// Carries a file or folder in: to `place`, or to where it is here. A relative place is one in the
    /// working folder of the command. Programs bring their shared libraries.
    pub fn carry(&mut self, source: &Path, place: Option<&str>) -> Result<&mut Self> {
        let place = path_in_l1(place.map_or(source, Path::new))?;
        // Not only for programs marked so: a library that is loaded at run time needs its own, too.
        self.tree.program(&place, source)?;
        Ok(self)
    }

    /// Carries a text in.
    pub fn text(&mut self, place: &str, contents: &str) -> Result<&mut Self> {
        self.tree.text(&path_in_l1(Path::new(place))?, contents);
        Ok(self)
    }

    /// Runs a shell script; see [`retry`] for what becomes of an L1 that hangs or ends without its end mark.
    pub fn run(&self, script: &str) -> Result<Outcome> {
        retry(|| self.attempt(script))
    }

    /// Runs a shell script, once.
    pub fn attempt(&self, script: &str) -> Result<Outcome> {
        let mut output = Vec::new();
        let (_, log) = self.start(script)?.console.drain(&mut |bytes| output.extend(bytes))?;
        Ok(Outcome { status: status_in(&log)?, output })
    }

    /// Starts a shell script whose terminal the caller holds.
    pub fn start(&self, script: &str) -> Result<Running> {
        self.start_for(script, self.timeout)
    }

    /// The same, with an attempt's time of its own.
    pub fn start_for(&self, script: &str, timeout: Duration) -> Result<Running> {
        let initrd = self.image(script, RAW_TERMINAL, "")?;
        let console = Console::spawn(&mut self.qemu(&initrd)?, timeout)?;
        Ok(Running { console, _initrd: initrd })
    }

    /// Runs a shell script on this program's terminal; its exit status.
    pub fn interact(&self, script: &str) -> Result<u8> {
        let terminal = Terminal::of_program();
        let initrd = self.image(script, &terminal.stty(), &terminal.variables().join(" "))?;
        let child = self.qemu(&initrd)?.stderr(Stdio::piped()).spawn().context("qemu-system-x86_64")?;
        let output = child.wait_with_output()?;
        terminal.restore();
        status_in(&output.stderr)
    }

    /// The initramfs: what the caller added, the modules, the script and an init that runs it.
    fn image(&self, script: &str, stty: &str, export: &str) -> Result<AnonymousFile> {
        let mut tree = self.tree.clone();
        let mut list = String::new();
        for module in Kernel::fetch(self.kernel)?.modules(&self.modules)? {
            let place = format!("lib/modules/{}", module.file_name().unwrap_or_default().to_string_lossy());
            tree.file(&place, &module)?;
            list += &format!("/{place}\n");
        }
        tree.text(MODULES, &list);
        tree.text(SCRIPT, script);
        tree.text("init", &init_script(stty, export));
        tree.into_lz4()
    }

    fn qemu(&self, initrd: &AnonymousFile) -> Result<Command> {
        let mut command = tied("qemu-system-x86_64");
        command.args(["-cpu", "max,+svm"]);
        let smp = if self.icount {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
            1
        } else {
            command.args(["-accel", "tcg"]);
            self.smp
        };
        command
            .args(["-smp", &smp.to_string(), "-m", &self.memory_mib.to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-chardev", "file,id=log,path=/dev/stderr", "-serial", "chardev:log"])
            .args(["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"])
            .arg("-kernel")
            .arg(Kernel::fetch(self.kernel)?.vmlinuz()?)
            .arg("-initrd")
            .arg(initrd.path())
            // The kernel gives up where its timer's interrupts come late, as on a busy machine.
            .args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check"]);
        if let Some(image) = &self.drive {
            command.arg("-drive").arg(format!("file={},format=raw,if=virtio", image.display()));
        }
        Ok(command)
    }
}

/// An L1 that runs a script.
pub struct Running {
    /// The script's terminal.
    pub console: Console,
    /// QEMU reads it when it pleases.
    _initrd: AnonymousFile,
}

/// Tries what needs a nested machine until it works, a few times: with QEMU 7.2, L1 now and then takes an
/// interrupt right after VMRUN, where GIF is clear and GS is still the guest's, and panics; or it hangs, or its
/// guest does.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    const RETRIES: u32 = 4;
    for _ in 0..RETRIES {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => {
                let error = format!("{error:#}");
                let reason = error.lines().next().unwrap_or_default();
                eprintln!("xtask: the nested machine failed, trying once more: {reason}");
            }
        }
    }
    attempt()
}

fn path_in_l1(path: &Path) -> Result<String> {
    let inside = path_in_tree(path)?;
    Ok(if path.is_absolute() {
        inside
    } else {
        format!("{WORKING_FOLDER}/{}", inside.trim_start_matches("./"))
    })
}

fn init_script(stty: &str, export: &str) -> String {
    format!(
        "#!/bin/sh
export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin HOME=/root {export}
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/net /dev/pts
mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
ip link set lo up
for module in $(cat /{MODULES}); do insmod $module; done
# Guests may be given more memory than this machine has.
echo 1 > /proc/sys/vm/overcommit_memory
cd /{WORKING_FOLDER}
stty -F /dev/ttyS1 {stty}
# stty waits until all output is sent: what is not when the session's leader ends is lost.
setsid -c sh -c 'sh /{SCRIPT}; status=$?; stty sane; exit $status' <>/dev/ttyS1 >&0 2>&1
status=$?
echo '{END_MARK}'$status
poweroff -f
"
    )
}

/// The exit status that L1 reported.
fn status_in(log: &[u8]) -> Result<u8> {
    let text = String::from_utf8_lossy(log);
    let Some((_, status)) = text.rsplit_once(END_MARK) else {
        bail!("the nested machine ended without its end mark; its last words: {}", last_words(log));
    };
    let status = status.lines().next().unwrap_or_default().trim();
    status.parse().with_context(|| format!("exit status '{status}'"))
}

/// A word for the shell.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Words for the shell.
pub fn quote_all<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

/// What `cargo xtask nested` takes.
pub const USAGE: &str = "\
cargo xtask nested [OPTION]... -- CMD [ARG]...
Runs a command in a nested machine with a true /dev/kvm, prints what it prints, exits with its status.
Files named by CMD and ARGs are carried in: an absolute path stays the same there, a relative one is
relative to the command's working folder.
  --file SRC[=DEST]         carries another file or folder in
  --smp N, --mem MIB        the machine's size (2 CPUs, 4096 MiB)
  --kernel cloud|generic    Debian's kernel (cloud)
  --mods A,B                loads modules beyond kvm-amd
  --icount                  the machine's clock counts instructions; 1 CPU
  --timeout SECONDS         how long one attempt may take (600; no limit with --interactive)
  --interactive             connects this terminal to the command's
";

/// `cargo xtask nested`.
pub fn command(mut args: Args) -> Result<u8> {
    let mut nest = Nest::new()?;
    let mut interactive = false;
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--file" => {
                let value = args.value(&option)?;
                let (source, place) = match value.split_once('=') {
                    Some((source, place)) => (source, Some(place)),
                    None => (value.as_str(), None),
                };
                nest.carry(Path::new(source), place)?;
            }
            "--smp" => {
                nest.smp(args.parsed(&option)?);
            }
            "--mem" => {
                nest.memory_mib(args.parsed(&option)?);
            }
            "--kernel" => {
                nest.kernel(args.parsed(&option)?);
            }
            "--mods" => {
                nest.modules(&args.value(&option)?);
            }
            "--icount" => {
                nest.icount();
            }
            "--timeout" => {
                nest.timeout(Duration::from_secs(args.parsed(&option)?));
            }
            "--interactive" => interactive = true,
            other => return Err(Args::unknown("nested", other)),
        }
    }
    let words = args.rest();
    ensure!(!words.is_empty(), "no command given\n{USAGE}");
    for word in words.iter().filter(|word| is_file_to_carry(word)) {
        nest.carry(Path::new(word), None)?;
    }
    let script = format!("exec {}\n", quote_all(&words));
    if interactive {
        return nest.interact(&script);
    }
    let outcome = nest.run(&script)?;
    std::io::Write::write_all(&mut std::io::stdout(), &outcome.output)?;
    Ok(outcome.status)
}

/// This program itself, though its file may be another by now: the tests' build makes it anew.
pub fn this_program() -> PathBuf {
    PathBuf::from(format!("/proc/{}/exe", std::process::id()))
}

/// A path of a file here, as opposed to a word, a folder, or one of the kernel's files that L1 has too.
pub fn is_file_to_carry(word: &str) -> bool {
    let path = Path::new(word);
    word.contains('/')
        && path.is_file()
        && !["/dev", "/proc", "/sys"].iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let words = ["it's", "a $HOME", "*", ""];
        let script = format!("printf '%s|' {}", quote_all(&words));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's|a $HOME|*||");
    }

    #[test]
    fn status_follows_the_last_mark() {
        assert_eq!(status_in(b"noise\r\n=== NEST END status=7\r\n[4.9] reboot: Power down\r\n").unwrap(), 7);
        assert!(status_in(b"Kernel panic\r\n").unwrap_err().to_string().contains("Kernel panic"));
    }

    #[test]
    fn relative_places_are_in_the_working_folder() {
        assert_eq!(path_in_l1(Path::new("/usr/bin/x")).unwrap(), "usr/bin/x");
        assert_eq!(path_in_l1(Path::new("./target/x")).unwrap(), "root/target/x");
        assert!(path_in_l1(Path::new("../x")).is_err());
    }
}
