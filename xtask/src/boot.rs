//! `cargo xtask boot`: a guest from nothing, here if this machine's KVM can run it, else nested.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::console::{Console, tied};
use crate::guest;
use crate::initramfs::AnonymousFile;
use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, Outcome, RAW_TERMINAL, is_file_to_carry, quote_all};
use crate::terminal::Terminal;
use crate::vmm::Vmm;

/// What `cargo xtask boot` takes.
pub const USAGE: &str = "\
cargo xtask boot [OPTION]... [-- ARG...]
Boots Debian's cloud kernel to a shell on this terminal; ARGs are further options of the VMM.
  --exec 'CMD'              runs CMD in the guest instead, prints its output, exits with its status
  --kernel FILE|cloud|generic  another kernel
  --vmlinux                 the kernel as an ELF file, through its PVH entry
  --initrd FILE             another initramfs; not with --exec
  --direct, --nested        where the VMM runs (default: --direct if this machine's KVM runs Linux)
  --vmm FILE                another VMM with the same options, such as qemu-system-x86_64
  --timeout SECONDS         how long --exec may take (600)
";

/// How long a guest may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Request {
    exec: Option<String>,
    kernel: Option<String>,
    vmlinux: bool,
    initrd: Option<PathBuf>,
    direct: Option<bool>,
    vmm: Option<String>,
    timeout: Option<u64>,
    arguments: Vec<String>,
}

/// `cargo xtask boot`.
pub fn command(mut args: Args) -> Result<u8> {
    let mut request = Request::default();
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--exec" => request.exec = Some(args.value(&option)?),
            "--kernel" => request.kernel = Some(args.value(&option)?),
            "--vmlinux" => request.vmlinux = true,
            "--initrd" => request.initrd = Some(args.value(&option)?.into()),
            "--direct" => request.direct = Some(true),
            "--nested" => request.direct = Some(false),
            "--vmm" => request.vmm = Some(args.value(&option)?),
            "--timeout" => request.timeout = Some(args.parsed(&option)?),
            other => return Err(Args::unknown("boot", other)),
        }
    }
    request.arguments = args.rest();
    ensure!(
        request.exec.is_none() || request.initrd.is_none(),
        "--exec needs the initramfs made here, not --initrd"
    );
    request.run()
}

impl Request {
    fn run(&self) -> Result<u8> {
        crate::deps::ensure_installed(crate::deps::KERNEL)?;
        let kernel = self.kernel()?;
        let vmm = Vmm::chosen(self.vmm.as_deref())?;
        let (_made, initrd) = self.initrd()?;
        let append = self.kernel_command_line();
        let line = |kernel: &Path, initrd: &Path| {
            let mut line = vmm.command_line(kernel, initrd, &append);
            if self.exec.is_some() {
                line.push("-no-reboot".to_owned());
            }
            line.extend(self.arguments.iter().cloned());
            line
        };
        match self.direct.map_or_else(why_not_direct, |direct| (!direct).then(|| "asked for".to_owned())) {
            None => self.run_direct(&line(&kernel, &initrd)),
            Some(reason) => {
                eprintln!("xtask: running in a nested machine ({reason})");
                let mut nest = Nest::new()?;
                vmm.carry_into(&mut nest)?;
                nest.carry(&kernel, Some("/guest/kernel"))?.carry(&initrd, Some("/guest/initrd"))?;
                for word in self.arguments.iter().filter(|word| is_file_to_carry(word)) {
                    nest.carry(Path::new(word), None)?;
                }
                self.run_nested(nest, &line(Path::new("/guest/kernel"), Path::new("/guest/initrd")))
            }
        }
    }

    fn kernel(&self) -> Result<PathBuf> {
        let flavour = match self.kernel.as_deref() {
            Some(file) if Path::new(file).exists() => {
                ensure!(!self.vmlinux, "--vmlinux is for Debian's kernels, not for --kernel FILE");
                return Ok(file.into());
            }
            Some(name) => name.parse()?,
            None => Flavour::Cloud,
        };
        let kernel = Kernel::fetch(flavour)?;
        if self.vmlinux { kernel.vmlinux() } else { kernel.vmlinuz() }
    }

    /// The initramfs, and what keeps it in existence.
    fn initrd(&self) -> Result<(Option<AnonymousFile>, PathBuf)> {
        if let Some(initrd) = &self.initrd {
            return Ok((None, initrd.clone()));
        }
        let made = guest::initramfs(&[("exec", self.exec.as_deref().unwrap_or_default())], &[])?;
        let path = made.path();
        Ok((Some(made), path))
    }

    fn kernel_command_line(&self) -> String {
        if self.exec.is_some() {
            return "console=ttyS0 quiet nowatchdog panic=-1 script=exec".to_owned();
        }
        // The kernel knows double quotes only.
        let variables = Terminal::of_program().variables().join(" ").replace('\'', "\"");
        format!("console=ttyS0 quiet {variables}")
    }

    fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, Duration::from_secs)
    }

    fn run_direct(&self, line: &[String]) -> Result<u8> {
        let mut command = tied(&line[0]);
        command.args(&line[1..]);
        if self.exec.is_none() {
            let terminal = Terminal::of_program();
            let status = command.status().with_context(|| line[0].clone())?;
            terminal.restore();
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        let mut output = Vec::new();
        let (_, log) =
            Console::spawn(&mut command, self.timeout())?.drain(&mut |bytes| output.extend(bytes))?;
        std::io::Write::write_all(&mut std::io::stderr(), &log)?;
        report(&guest::outcome(&output)?)
    }

    fn run_nested(&self, mut nest: Nest, line: &[String]) -> Result<u8> {
        let script = format!("stty {RAW_TERMINAL}; exec {}\n", quote_all(line));
        if self.exec.is_none() {
            return nest.interact(&script);
        }
        report(&guest::outcome(&nest.timeout(self.timeout()).run(&script)?.output)?)
    }
}

fn report(outcome: &Outcome) -> Result<u8> {
    std::io::Write::write_all(&mut std::io::stdout(), &outcome.output)?;
    Ok(outcome.status)
}

/// Why this machine's KVM cannot run a Linux, if so: `None` where hardware virtualization stands behind it.
fn why_not_direct() -> Option<String> {
    let module = |name: &str| Path::new("/sys/module").join(name).exists();
    if !module("kvm_intel") && !module("kvm_amd") {
        return Some("this machine's KVM has no hardware virtualization behind it".to_owned());
    }
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => None,
        Err(error) => Some(format!("/dev/kvm: {error}")),
    }
}
