//! What unmodified Linux guests must see, as a table, and the harness that runs it on any VMM.

mod debian;
mod disk;
mod machine;
mod net;

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::console::{Console, Failure};
use crate::deps;
use crate::guest::{self, PROMPT};
use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, RAW_TERMINAL, quote, quote_all};
use crate::vmm::Vmm;

/// What the guest is.
#[derive(Clone, Copy)]
enum Format {
    BzImage,
    /// ELF, entered as its PVH note says.
    Vmlinux,
    /// The kernel with all drivers.
    Generic,
    /// A bare-metal guest that the local KVM may not be able to run.
    Bare(&'static str),
}

/// The bare-metal guests among them.
const BARE: &[&str] = &["smm"];

enum Step {
    /// Text must appear on the console.
    Expect(&'static str),
    /// Text is typed.
    Type(&'static str),
}

/// A guest, what is typed at it, and what must come of it.
pub struct Scenario {
    /// What `cargo xtask test NAME` picks.
    pub name: &'static str,
    format: Format,
    /// Options of the VMM.
    arguments: &'static [&'static str],
    /// What L1's shell does before.
    before: &'static str,
    /// What it does after.
    after: &'static str,
    /// More for the kernel's command line.
    append: &'static str,
    /// The kernel's initramfs.
    initrd: &'static str,
    steps: &'static [Step],
    /// The VMM's exit status.
    status: u8,
    /// Whether Debian's gdb debugs the guest's kernel meanwhile.
    gdb: bool,
    /// Whether it runs only where it is named: it takes too long.
    by_name: bool,
    /// How many times as long as others its guest may take.
    patience: u32,
}

use Format::{BzImage, Generic, Vmlinux};
use Step::{Expect, Type};

/// What a plain guest looks like; each scenario says where it differs.
const PLAIN: Scenario = Scenario {
    name: "",
    format: BzImage,
    arguments: &[],
    before: "",
    after: "",
    append: "",
    initrd: "initrd",
    steps: &[],
    status: 0,
    gdb: false,
    by_name: false,
    patience: 1,
};

/// The modules in [`WITH_MODULES`], besides those that they need.
const MODULES: [&str; 10] = [
    "virtio_pci",
    "virtio-rng",
    "virtio_balloon",
    "virtio_console",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "virtio_net",
    "pvpanic-mmio",
];
/// Those that only the generic kernel has.
const GENERIC_MODULES: [&str; 9] = [
    "i6300esb",
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "crc32c_generic",
    "ext4",
];
/// Images for guests with disks: name, format and size.
const IMAGES: [(&str, &str, &str); 2] = [("disk.qcow2", "qcow2", "64M"), ("disk.raw", "raw", "64M")];
/// The initramfs with modules, which the command `load` loads.
const WITH_MODULES: &str = "initrd-modules";
/// The generic kernel's initramfs, with those of [`GENERIC_MODULES`].
const WITH_GENERIC_MODULES: &str = "initrd-generic";

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    machine::SCENARIOS.iter().chain(disk::SCENARIOS).chain(net::SCENARIOS).chain(debian::SCENARIOS)
}

/// How long a guest may take from one step to the next.
const STEP: Duration = Duration::from_secs(180);
/// After that the VMM is killed.
const GUEST_SECONDS: u32 = 400;
/// L1 hangs now and then: few guests in each.
const GUESTS_PER_L1: usize = 3;
const ATTEMPTS: u32 = 3;

/// The shell function that debugs a guest with the kernel of the machine it runs in.
const GDB: &str = r#"debug() {
    symbol() { awk -v name=$1 '$3 == name { print "0x" $1; exit }' /proc/kallsyms; }
    # Without KASLR a kernel is where it was linked.
    linked() { echo "$(symbol $1) - $(symbol _text) + 0xffffffff81000000"; }
    until [ -s /tmp/ready ]; do sleep 1; done
    gdb -nx -batch -ex "set \$utsname = $(linked init_uts_ns)" -ex "set \$jiffies = $(linked jiffies)" \
        -ex "set \$write_cr4 = $(linked native_write_cr4)" -x /guest/kernel.gdb </dev/null
}
"#;

const START_MARK: &str = "=== SCENARIO ";
const STATUS_MARK: &str = "=== STATUS ";

/// Why a scenario did not pass.
struct Failed {
    reason: String,
    /// Whether L1 can go on with the next scenario.
    l1_is_well: bool,
    /// A hang, or the end of L1, which may be L1's fault: such a scenario is tried again.
    again: bool,
}

/// Runs scenarios and says on stdout how each went; the names of those that failed.
pub fn run(vmm: &Vmm, scenarios: Vec<&'static Scenario>) -> Result<Vec<&'static str>> {
    let mut nest = nest_for(vmm)?;
    let debian = carry(&mut nest, &scenarios)?;
    nest.timeout(STEP * 6 * scenarios.iter().map(|scenario| scenario.patience).max().unwrap_or(1));
    let (mut failed, mut to_check) = (Vec::new(), Vec::new());
    let mut queue: VecDeque<_> = scenarios.into_iter().map(|scenario| (scenario, 1)).collect();
    while !queue.is_empty() {
        let batch: Vec<_> = queue.drain(..queue.len().min(GUESTS_PER_L1)).collect();
        let script: String = batch.iter().map(|(scenario, _)| scenario.script(vmm)).collect();
        let mut l1 = nest.start(&script)?;
        let mut batch = batch.into_iter();
        for (scenario, attempt) in batch.by_ref() {
            let Err(failure) = scenario.drive(&mut l1.console) else {
                if scenario.initrd == debian::INITRD {
                    to_check.push(scenario.name);
                } else {
                    println!("PASS {}", scenario.name);
                }
                continue;
            };
            if failure.again && attempt < ATTEMPTS {
                let words = l1.console.last_words();
                eprintln!("xtask: {}: trying again: {}\n{words}", scenario.name, failure.reason);
                queue.push_back((scenario, attempt + 1));
            } else {
                println!("FAIL {}: {}\n{}", scenario.name, failure.reason, l1.console.last_words());
                failed.push(scenario.name);
            }
            if !failure.l1_is_well {
                break;
            }
        }
        queue.extend(batch);
    }
    // No L1 has the disk any more.
    for (name, disk) in to_check.into_iter().zip(debian.iter().cycle()) {
        match disk.check(name) {
            Ok(()) => println!("PASS {name}"),
            Err(error) => {
                println!("FAIL {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    Ok(failed)
}

/// Carries into the nested machine what `scenarios` need; Debian's disk, where one of them boots from it.
fn carry(nest: &mut Nest, scenarios: &[&Scenario]) -> Result<Option<debian::Disk>> {
    let any_has = |initrd| scenarios.iter().any(|scenario| scenario.initrd == initrd);
    let guests = tempfile::tempdir()?;
    guest::pack(BARE, guests.path())?;
    for name in BARE {
        let file = format!("{name}.pvh");
        nest.carry(&guests.path().join(&file), Some(&format!("/guest/{file}")))?;
    }
    if any_has(WITH_MODULES) {
        let modules = Kernel::fetch(Flavour::Cloud)?.modules(&MODULES.map(str::to_owned))?;
        nest.carry(&guest::initramfs(&[], &modules)?.path(), Some("/guest/initrd-modules"))?;
        for (name, format, size) in IMAGES {
            let image = guests.path().join(name);
            let made =
                Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(&image).arg(size).status();
            ensure!(made.context("qemu-img")?.success(), "qemu-img made no image");
            nest.carry(&image, Some(&format!("/guest/{name}")))?;
        }
    }
    if any_has(WITH_GENERIC_MODULES) {
        let kernel = Kernel::fetch(Flavour::Generic)?;
        let modules = kernel.modules(&GENERIC_MODULES.map(str::to_owned))?;
        nest.carry(&kernel.vmlinuz()?, Some("/guest/vmlinuz-generic"))?;
        nest.carry(&guest::initramfs(&[], &modules)?.path(), Some("/guest/initrd-generic"))?;
    }
    if scenarios.iter().any(|scenario| scenario.gdb) {
        // It has fewer files than the package gdb, and shares its libraries.
        nest.carry(&deps::unpacked("gdb-minimal")?.join("usr/bin/gdb"), Some("/bin/gdb"))?;
        nest.text("/guest/kernel.gdb", include_str!("kernel.gdb"))?;
    }
    // For a file system in memory that keeps attributes.
    nest.modules("loop");
    net::carry(nest, scenarios)?;
    any_has(debian::INITRD).then(|| debian::Disk::carried_into(nest)).transpose()
}

/// A nested machine with a VMM and guests.
pub fn nest_for(vmm: &Vmm) -> Result<Nest> {
    let kernel = Kernel::fetch(Flavour::Cloud)?;
    let mut nest = Nest::new()?;
    vmm.carry_into(&mut nest)?;
    nest.carry(&kernel.vmlinuz()?, Some("/guest/vmlinuz"))?;
    nest.carry(&kernel.vmlinux()?, Some("/guest/vmlinux"))?;
    let scripts = [("report", crate::oracle::GUEST_SCRIPT), ("clock", crate::clock::GUEST_SCRIPT)];
    nest.carry(&guest::initramfs(&scripts, &[])?.path(), Some("/guest/initrd"))?;
    Ok(nest)
}

/// The shell command that runs a VMM in the machine of [`nest_for`].
pub fn command_line(vmm: &Vmm, kernel: &str, initrd: &str, append: &str, arguments: &[&str]) -> String {
    patient_command_line(vmm, (kernel, initrd, append), arguments, 1)
}

/// The same for a guest that may take `patience` times as long.
fn patient_command_line(
    vmm: &Vmm,
    (kernel, initrd, append): (&str, &str, &str),
    arguments: &[&str],
    patience: u32,
) -> String {
    let append = format!("console=ttyS0 quiet {append}");
    let guest = Path::new("/guest");
    let mut line = vmm.command_line(&guest.join(kernel), &guest.join(initrd), &append);
    line.extend(arguments.iter().map(|word| (*word).to_owned()));
    format!("stty {RAW_TERMINAL}; timeout -s KILL {} {}", GUEST_SECONDS * patience, quote_all(&line))
}

impl Scenario {
    fn script(&self, vmm: &Vmm) -> String {
        let kernel = match self.format {
            BzImage => "vmlinuz",
            Vmlinux => "vmlinux",
            Generic => "vmlinuz-generic",
            Format::Bare(name) => name,
        };
        let start = quote(&format!("{START_MARK}{}", self.name));
        let boot = (kernel, self.initrd, self.append);
        let line = patient_command_line(vmm, boot, self.arguments, self.patience);
        let beside = if self.gdb { format!("{GDB}debug &\n") } else { String::new() };
        let Self { name, before, after, .. } = self;
        format!(
            "echo {start}\nNAME={name}\n{before}{beside}{line}\nSTATUS=$?\n{after}echo '{STATUS_MARK}'$STATUS\n"
        )
    }

    /// Types and waits as the steps say.
    fn drive(&self, console: &mut Console) -> Result<(), Failed> {
        let start = format!("{START_MARK}{}\n", self.name);
        console.expect(&start, STEP).map_err(|failure| Failed::by(&failure, "it started"))?;
        let patience = STEP * self.patience;
        for step in self.steps {
            match step {
                Type(text) => console.send(text).map_err(|error| Failed::by(&error, "it was typed at"))?,
                Expect(text) => {
                    let wait = console.expect_any(&[text, STATUS_MARK], patience);
                    let (which, _) =
                        wait.map_err(|failure| Failed::by(&failure, &format!("{text:?} appeared")))?;
                    if which == 1 {
                        let status = exit_status(console)?;
                        return Err(Failed::for_good(format!(
                            "the VMM ended ({status}) before {text:?} appeared"
                        )));
                    }
                }
            }
        }
        console.expect(STATUS_MARK, patience).map_err(|failure| Failed::by(&failure, "the VMM ended"))?;
        let status = exit_status(console)?;
        if status == self.status.to_string() {
            return Ok(());
        }
        Err(Failed::for_good(format!("the VMM's exit status is {status}, not {}", self.status)))
    }
}

impl Failed {
    fn by(failure: &dyn std::fmt::Display, event: &str) -> Self {
        Self { reason: format!("{failure} before {event}"), l1_is_well: false, again: true }
    }

    /// The VMM ended by itself, and wrongly.
    fn for_good(reason: String) -> Self {
        Self { reason, l1_is_well: true, again: false }
    }
}

/// What follows the status mark.
fn exit_status(console: &mut Console) -> Result<String, Failed> {
    let status =
        console.expect("\n", STEP).map_err(|failure: Failure| Failed::by(&failure, "a status came"))?;
    Ok(String::from_utf8_lossy(&status).trim().to_owned())
}

/// The scenarios whose names contain one of the given texts; if none is given, all that need not be named.
pub fn matching(filters: &[String]) -> Vec<&'static Scenario> {
    let runs = |scenario: &&Scenario| !(scenario.by_name && filters.is_empty());
    all().filter(runs).filter(|scenario| is_wanted(scenario.name, filters)).collect()
}

/// Whether a name contains one of the texts, or there is no text.
pub fn is_wanted(name: &str, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(steps: &'static [Step], script: &str) -> Result<(), Failed> {
        let scenario = Scenario { name: "x", steps, ..PLAIN };
        let script = format!("echo '{START_MARK}x'\n{script}");
        let mut command = std::process::Command::new("sh");
        scenario.drive(&mut Console::spawn(command.args(["-c", &script]), STEP).unwrap())
    }

    #[test]
    fn a_scenario_passes_when_all_appears_and_the_status_is_right() {
        let script = format!("read name; echo hello $name; echo '{STATUS_MARK}0'");
        assert!(drive(&[Type("guest\n"), Expect("hello guest")], &script).is_ok());
    }

    #[test]
    fn a_wrong_status_is_final() {
        let failed = drive(&[], &format!("echo '{STATUS_MARK}3'")).err().unwrap();
        assert!(
            !failed.again && failed.l1_is_well && failed.reason.contains("status is 3"),
            "{}",
            failed.reason
        );
    }

    #[test]
    fn a_vmm_that_ends_early_is_told_from_an_l1_that_does() {
        let failed = drive(&[Expect("prompt")], &format!("echo '{STATUS_MARK}0'")).err().unwrap();
        assert!(!failed.again && failed.reason.contains("before \"prompt\" appeared"), "{}", failed.reason);
        let failed = drive(&[Expect("prompt")], "exit").err().unwrap();
        assert!(failed.again && !failed.l1_is_well, "{}", failed.reason);
    }
}
