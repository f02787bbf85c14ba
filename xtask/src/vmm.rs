//! The program under test: this project's own, or one that takes the same options.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::nested::Nest;

/// A virtual machine monitor with QEMU's command line.
pub struct Vmm {
    /// The binary.
    pub program: PathBuf,
    /// Files that it needs beside its shared libraries.
    firmware: Vec<PathBuf>,
    /// Devices of its default machine that the guests here do without.
    arguments: &'static [&'static str],
}

/// What Debian's QEMU loads for `-M pc` with a kernel.
const QEMU_FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/kvmvapic.bin",
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/multiboot_dma.bin",
    "/usr/share/qemu/pvh.bin",
];

impl Vmm {
    /// Builds this project's release binary.
    pub fn built() -> Result<Self> {
        let output = Command::new("cargo")
            .args(["build", "--release", "-p", "softmmu", "--message-format=json-render-diagnostics"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cargo")?;
        ensure!(output.status.success(), "cargo build failed ({})", output.status);
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let executable = messages.lines().filter_map(executable_named_softmmu).next_back();
        Ok(Self {
            program: executable.context("cargo build names no binary 'softmmu'")?,
            firmware: Vec::new(),
            arguments: &[],
        })
    }

    /// A program of this machine; QEMU's system emulator gets what it needs to boot a kernel.
    pub fn at(program: &Path) -> Result<Self> {
        let program = std::fs::canonicalize(program).with_context(|| format!("{}", program.display()))?;
        let is_qemu = program.file_name().is_some_and(|name| name == "qemu-system-x86_64");
        let (firmware, arguments): (_, &'static [_]) =
            if is_qemu { (QEMU_FIRMWARE, &["-vga", "none", "-nic", "none"]) } else { (&[][..], &[]) };
        Ok(Self { program, firmware: firmware.iter().map(PathBuf::from).collect(), arguments })
    }

    /// The one that a chore's `--vmm` names, or this project's own.
    pub fn chosen(program: Option<&str>) -> Result<Self> {
        program.map_or_else(Self::built, |program| Self::at(Path::new(program)))
    }

    /// QEMU itself, the reference.
    pub fn qemu() -> Result<Self> {
        Self::at(Path::new("/usr/bin/qemu-system-x86_64"))
    }

    /// The program's file name.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Makes it runnable, by the same path, in a nested machine.
    pub fn carry_into(&self, nest: &mut Nest) -> Result<()> {
        nest.carry(&self.program, None)?;
        for file in &self.firmware {
            nest.carry(file, None)?;
        }
        Ok(())
    }

    /// The command line that boots a kernel with a console on stdio; more options may follow.
    pub fn command_line(&self, kernel: &Path, initrd: &Path, append: &str) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut line = vec![text(&self.program)];
        line.extend(["-M", "pc", "-accel", "kvm", "-m", "512M", "-nographic"].map(String::from));
        line.extend(self.arguments.iter().map(|word| (*word).to_owned()));
        line.extend(["-kernel".to_owned(), text(kernel), "-initrd".to_owned(), text(initrd)]);
        line.extend(["-append".to_owned(), append.to_owned()]);
        line
    }
}

/// The executable in one of cargo's JSON messages, if it is that of the program.
fn executable_named_softmmu(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    if message["target"]["name"] != "softmmu" {
        return None;
    }
    message["executable"].as_str().map(PathBuf::from)
}
