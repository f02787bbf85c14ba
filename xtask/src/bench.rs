//! `cargo xtask bench`: this project's VMM against QEMU, by a clock that counts instructions.
//!
//! The VMMs take turns in nested machines, so that what slows one down slows all of them down. What they
//! print under a heading `=== bench VMM SUBJECT` and ends in a number is a sample.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::args::Args;
use crate::bench_block;
use crate::bench_net;
use crate::guest;
use crate::initramfs::Initramfs;
use crate::kernel::{Flavour, Kernel};
use crate::nested::{Nest, quote, quote_all, this_program};
use crate::round_trip;
use crate::vmm::Vmm;

const HEADING: &str = "=== bench ";
/// The last line of a nested run that was not cut short.
const END: &str = "=== bench end";
/// What one nested run may take; it hangs now and then.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Where this program and the guests are in the nested machine.
pub const PLACE: &str = "/bench";
/// The Debian guest's init says it, then powers off.
const IN_USERSPACE: &str = "in userspace";
const LINUX_RAM_KIB: u32 = 512 * 1024;
/// Seconds until the guest's shell must be there.
const SHELL_SECONDS: u32 = 180;

/// The VMMs measured: QEMU with its usual machine.
pub const PC: &str = "QEMU pc";
/// QEMU's microvm.
pub const MICROVM: &str = "QEMU microvm";
/// This project's.
pub const OURS: &str = "ours";

/// The Linux guests' command lines.
pub const QUIET: &str = "console=ttyS0 quiet nowatchdog panic=-1";
const VERBOSE: &str = "console=ttyS0 nowatchdog panic=-1";

/// Options of every guest.
const COMMON: &[&str] = &["-accel", "kvm", "-nodefaults", "-display", "none", "-serial", "stdio"];
/// Options of the bare-metal guests.
pub const BARE_METAL: &[&str] = &["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4", "-m", "128"];
/// What QEMU's `microvm` loads beside the files of `pc`.
const MICROVM_FIRMWARE: &str = "/usr/share/qemu/bios-microvm.bin";

/// How the project is to do.
pub enum Target {
    /// At most this part of what QEMU's `pc` takes.
    Ratio(f64),
    /// At most this, in the row's unit.
    Value(f64),
    /// No aim.
    None,
}

/// A line of the table.
pub struct Row {
    /// What is measured.
    pub title: &'static str,
    /// The samples' subject, and the words before their number.
    pub key: &'static str,
    /// What a sample is divided by to be in the unit.
    pub scale: f64,
    /// Printed behind the number.
    pub unit: &'static str,
    /// The aim.
    pub target: Target,
    /// Whether QEMU's `microvm` has what is measured.
    pub in_microvm: bool,
}

/// Nanoseconds in a microsecond.
pub const THOUSAND: f64 = 1e3;
/// Instructions in the table's unit.
pub const MILLION: f64 = 1e6;
/// KiB in a MB.
pub const MEGABYTE: f64 = 1e6 / 1024.0;

const START: &[Row] = &[
    Row {
        title: "exec to the guest's first instruction",
        key: "first first",
        scale: MILLION,
        unit: "M",
        target: Target::Ratio(0.08),
        in_microvm: true,
    },
    Row {
        title: "`in` from a UART's LSR, per exit",
        key: "exits cycles lsr",
        scale: 1.0,
        unit: "",
        target: Target::Ratio(0.68),
        in_microvm: true,
    },
    Row {
        title: "`out` to port 0x80, per exit",
        key: "exits cycles port80",
        scale: 1.0,
        unit: "",
        target: Target::Ratio(0.68),
        in_microvm: true,
    },
    Row {
        title: "MMIO read of an HPET register, per exit",
        key: "exits cycles hpet",
        scale: 1.0,
        unit: "",
        target: Target::Ratio(0.82),
        in_microvm: false,
    },
    Row {
        title: "CPU time of exec to exit of the first row's guest, local KVM",
        key: "local cpu",
        scale: MILLION,
        unit: "ms",
        target: Target::None,
        in_microvm: true,
    },
];

const LINUX: &[Row] = &[
    Row {
        title: "memory beyond the guest's own at an idle shell, PSS",
        key: "idle pss",
        scale: MEGABYTE,
        unit: "MB",
        target: Target::Value(6.0),
        in_microvm: true,
    },
    Row {
        title: "Debian's vmlinux, exec to its exit after reaching userspace",
        key: "debian total",
        scale: MILLION,
        unit: "M",
        target: Target::Ratio(0.80),
        in_microvm: true,
    },
    Row {
        title: "the same with the kernel's messages on its serial port (no `quiet`)",
        key: "verbose total",
        scale: MILLION,
        unit: "M",
        target: Target::Ratio(0.80),
        in_microvm: true,
    },
];

/// The table's rows, by what `--only` calls them.
const GROUPS: [(&str, &[Row]); 5] = [
    ("start", START),
    ("linux", LINUX),
    ("trips", round_trip::ROWS),
    ("block", bench_block::ROWS),
    ("net", bench_net::ROWS),
];

/// A VMM with a machine.
pub struct Subject {
    /// Its name in the table.
    pub name: &'static str,
    /// Its path.
    pub program: String,
    /// The `-M` option's value.
    pub machine: &'static str,
}

impl Subject {
    /// The command line that runs it with these options.
    pub fn line(&self, arguments: &[&str]) -> Vec<String> {
        let machine = [self.program.as_str(), "-M", self.machine];
        machine.iter().chain(COMMON).chain(arguments).map(|word| (*word).to_owned()).collect()
    }

    /// The line that says whose samples of what follow.
    pub fn title(&self, what: &str) -> String {
        format!("{HEADING}{} {what}\n", self.name.replace(' ', "_"))
    }

    /// The shell command that prints it.
    pub fn heading(&self, what: &str) -> String {
        format!("echo {}\n", quote(self.title(what).trim_end()))
    }
}

/// What was measured, by the VMM's name and a row's key.
#[derive(Default)]
pub struct Samples(BTreeMap<(String, String), Vec<f64>>);

impl Samples {
    /// Takes what a run printed.
    pub fn add(&mut self, output: &str) {
        let mut heading = None;
        for line in output.lines() {
            if let Some(text) = line.strip_prefix(HEADING) {
                heading = text.split_once(' ');
            } else if let Some((name, what)) = heading
                && let Some((words, number)) = line.trim().rsplit_once(' ')
                && let Ok(value) = number.parse()
            {
                let key = (name.replace('_', " "), format!("{what} {words}"));
                self.0.entry(key).or_default().push(value);
            }
        }
    }

    /// The median of a row's samples, in its unit.
    pub fn median(&self, name: &str, row: &Row) -> Option<f64> {
        if name == MICROVM && !row.in_microvm {
            return None;
        }
        let mut values = self.0.get(&(name.to_owned(), row.key.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = values.get(middle)?;
        let lower = if values.len() % 2 == 0 { values.get(middle - 1)? } else { upper };
        Some(f64::midpoint(*lower, *upper) / row.scale)
    }

    /// The markdown table.
    fn table(&self) -> String {
        let mut table = format!("| | {PC} | {MICROVM} | ratio | {OURS} | ratio | at most |\n");
        table += "|---|---|---|---|---|---|---|\n";
        for row in GROUPS.iter().flat_map(|(_, rows)| *rows) {
            let [pc, microvm, ours] = [PC, MICROVM, OURS].map(|name| self.median(name, row));
            if [pc, microvm, ours].iter().all(Option::is_none) {
                continue;
            }
            let value = |value: Option<f64>| {
                let digits = if row.scale > 1.0 { 1 } else { 0 };
                value.map(|value| format!("{value:.digits$} {}", row.unit).trim_end().to_owned())
            };
            let ratio = |value: Option<f64>| Some(format!("{:.3}", value? / pc?));
            let at_most = match row.target {
                Target::Ratio(most) => Some(format!("{most:.2}")),
                Target::Value(most) => value(Some(most)),
                Target::None => None,
            };
            let cells = [value(pc), value(microvm), ratio(microvm), value(ours), ratio(ours), at_most];
            let cells = cells.map(Option::unwrap_or_default).join(" | ");
            table += &format!("| {} | {cells} |\n", row.title);
        }
        table
    }

    /// What should have been measured and was not.
    fn missing(&self, rows: &'static [Row]) -> Vec<String> {
        let all = rows.iter().flat_map(|row| [PC, MICROVM, OURS].map(|name| (name, row)));
        all.filter(|(name, row)| (*name != MICROVM || row.in_microvm) && self.median(name, row).is_none())
            .map(|(name, row)| format!("{name}: {}", row.title))
            .collect()
    }
}

/// What `cargo xtask bench` takes.
pub const USAGE: &str = "\
cargo xtask bench [OPTION]...
Measures this project's VMM and QEMU's `pc` and `microvm` in turn, by a clock that counts instructions (in
nested machines), and their CPU time on the local KVM; prints medians and ratios to `pc`.
  --runs N                  how often each is measured (5)
  --quick                   3 runs, and one of the Linux guests
  --only GROUP              only start (start-up, exits), linux (boots, memory), trips (QMP, qtest), block or
                            net
  --vmm FILE                measures another VMM instead of this project's release build
";

/// `cargo xtask bench`.
pub fn command(mut args: Args) -> Result<u8> {
    let (mut runs, mut quick, mut vmm, mut only) = (None, false, None, None);
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--runs" => runs = Some(args.parsed::<u32>(&option)?),
            "--quick" => quick = true,
            "--only" => only = Some(args.value(&option)?),
            "--vmm" => vmm = Some(args.value(&option)?),
            other => return Err(Args::unknown("bench", other)),
        }
    }
    ensure!(args.rest().is_empty(), "bench takes options only\n{USAGE}");
    let runs = runs.unwrap_or(if quick { 3 } else { 5 }).max(1);
    let bench = Bench::new(vmm.as_deref())?;
    let mut samples = Samples::default();
    let chosen = || GROUPS.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name));
    ensure!(chosen().next().is_some(), "bench --only: no such group of rows\n{USAGE}");
    for (name, _) in chosen() {
        match *name {
            "start" => bench.start(runs, &mut samples),
            "linux" => (0..if quick { 1 } else { runs }).for_each(|_| bench.linux(&mut samples)),
            "trips" => round_trip::measure(&bench.subjects, runs, &mut samples),
            "net" => bench_net::measure(&bench, runs, &mut samples),
            _ => bench_block::measure(&bench, runs, &mut samples),
        }
    }
    print!("{}", samples.table());
    if let Some(line) = bench_block::summary(&samples) {
        println!("{line}");
    }
    for missing in chosen().flat_map(|(_, rows)| samples.missing(rows)) {
        println!("missing: {missing}");
    }
    Ok(0)
}

/// What the measurements have in common.
pub struct Bench {
    /// The VMMs.
    pub subjects: [Subject; 3],
    /// Its clock counts instructions.
    pub clocked: Nest,
    /// For what no clock measures: quicker, and hangs less.
    pub plain: Nest,
    /// Holds the bare-metal guests.
    guests: tempfile::TempDir,
}

impl Bench {
    fn new(vmm: Option<&str>) -> Result<Self> {
        let (ours, qemu) = (Vmm::chosen(vmm)?, Vmm::qemu()?);
        let guests = tempfile::tempdir()?;
        guest::pack(&["first", "bench", "disk", "net"], guests.path())?;
        let nest = || -> Result<Nest> {
            let mut nest = Nest::new()?;
            nest.timeout(TIMEOUT);
            ours.carry_into(&mut nest)?;
            qemu.carry_into(&mut nest)?;
            nest.carry(Path::new(MICROVM_FIRMWARE), None)?;
            nest.carry(&Kernel::fetch(Flavour::Cloud)?.vmlinux()?, Some(&format!("{PLACE}/vmlinux")))?;
            Ok(nest)
        };
        let (mut clocked, mut plain) = (nest()?, nest()?);
        plain.carry(&guest::initramfs(&[], &[])?.path(), Some(&format!("{PLACE}/shell")))?;
        let mut carry =
            |source: &Path, name: &str| clocked.carry(source, Some(&format!("{PLACE}/{name}"))).map(|_| ());
        carry(&this_program(), "xtask")?;
        carry(&guests.path().join("first.pvh"), "first.pvh")?;
        carry(&guests.path().join("bench.pvh"), "bench.pvh")?;
        let mut tree = Initramfs::with_busybox()?;
        // The kernel opens its console for init.
        tree.text("init", &format!("#!/bin/sh\necho {IN_USERSPACE}\npoweroff -f\n"));
        carry(&tree.into_lz4()?.path(), "poweroff")?;
        bench_block::carry(&mut clocked, guests.path())?;
        bench_net::carry(&mut clocked, guests.path())?;
        bench_block::carry_linux(&mut plain)?;
        clocked.icount();
        let subject = |name, vmm: &Vmm, machine| Subject {
            name,
            program: vmm.program.to_string_lossy().into_owned(),
            machine,
        };
        let subjects =
            [subject(PC, &qemu, "pc"), subject(MICROVM, &qemu, "microvm,rtc=on"), subject(OURS, &ours, "pc")];
        Ok(Self { subjects, clocked, plain, guests })
    }

    fn start(&self, runs: u32, samples: &mut Samples) {
        self.local(runs, samples);
        Self::nested(&self.clocked, &self.bare_metal(runs), samples);
    }

    /// CPU time of a start-up where the guests run on this machine's KVM.
    fn local(&self, runs: u32, samples: &mut Samples) {
        let kernel = self.guests.path().join("first.pvh");
        for subject in (0..runs).flat_map(|_| &self.subjects) {
            let line = subject.line(&[BARE_METAL, &["-kernel", &kernel.to_string_lossy()]].concat());
            match timed_by(&this_program(), &line) {
                Ok(output) => samples.add(&(subject.title("local") + &output)),
                Err(error) => eprintln!("xtask: {} on the local KVM: {error:#}", subject.name),
            }
        }
    }

    /// Runs a script, and once more if it is cut short: what was measured until then counts.
    pub fn nested(nest: &Nest, script: &str, samples: &mut Samples) {
        let script = format!("{script}echo '{END}'\n");
        for _ in 0..2 {
            let mut output = Vec::new();
            let mut sink = |bytes: &[u8]| {
                output.extend(bytes);
                // To be watched, and to see what went wrong.
                eprint!("{}", String::from_utf8_lossy(bytes));
            };
            let outcome = nest.start(&script).and_then(|running| running.console.drain(&mut sink));
            let output = String::from_utf8_lossy(&output);
            samples.add(&output);
            if output.lines().any(|line| line == END) {
                return;
            }
            let reason = outcome.err().map_or_else(|| "it ended early".to_owned(), |e| format!("{e:#}"));
            eprintln!("xtask: the nested machine failed: {}", reason.lines().next().unwrap_or_default());
        }
    }

    fn bare_metal(&self, runs: u32) -> String {
        let (first, exits) = (format!("{PLACE}/first.pvh"), format!("{PLACE}/bench.pvh"));
        let mut script = String::new();
        for subject in (0..runs).flat_map(|_| &self.subjects) {
            let line = subject.line(&[BARE_METAL, &["-kernel", &first]].concat());
            script += &subject.heading("first");
            script += &timed("--status 1 --output F", &line);
            let line = subject.line(&[BARE_METAL, &["-kernel", &exits, "-append", "n=300"]].concat());
            script += &subject.heading("exits");
            script += &format!("{} </dev/null\n", quote_all(&line));
        }
        script
    }

    /// Boots Debian three times under each VMM: to its exit, quietly and not, and to an idle shell. A nested machine
    /// for each boot: the longer one runs, the likelier it hangs.
    fn linux(&self, samples: &mut Samples) {
        let (kernel, initrd) = (format!("{PLACE}/vmlinux"), format!("{PLACE}/poweroff"));
        for (what, append) in [("debian", QUIET), ("verbose", VERBOSE)] {
            for subject in &self.subjects {
                let line = subject.line(&linux(&kernel, &initrd, append));
                let script = timed(&format!("--status 0 --output '{IN_USERSPACE}'"), &line);
                Self::nested(&self.clocked, &(subject.heading(what) + &script), samples);
            }
        }
        for subject in &self.subjects {
            let line = subject.line(&linux(&kernel, &format!("{PLACE}/shell"), QUIET));
            Self::nested(&self.plain, &(subject.heading("idle") + &idle(&quote_all(&line), "")), samples);
        }
    }
}

/// Options of the Linux guests.
pub fn linux<'a>(kernel: &'a str, initrd: &'a str, append: &'a str) -> [&'a str; 9] {
    ["-no-reboot", "-m", "512M", "-kernel", kernel, "-initrd", initrd, "-append", append]
}

/// The shell command that runs and times a command in the nested machine.
pub fn timed(expected: &str, line: &[String]) -> String {
    format!("{PLACE}/xtask time-first {expected} -- {}\n", quote_all(line))
}

/// The shell commands that boot a guest to its shell, type a line there and print the VMM's PSS without the guest's memory,
/// which is the mappings beside each other that are of its size together: the fullest ones, if several are.
pub fn idle(line: &str, typed: &str) -> String {
    let (prompt, typed) = (guest::PROMPT.trim_end(), quote(typed));
    format!(
        r#"mkfifo in; : >console; sleep 100000 >in & sleeper=$!
{line} <in >console 2>&1 & vmm=$!
left={SHELL_SECONDS}
until grep -q '{prompt}' console || [ $left = 0 ]; do sleep 1; left=$((left - 1)); done
echo {typed} >in
until [ $(grep -c '{prompt}' console) -ge 2 ] || [ $left = 0 ]; do sleep 1; left=$((left - 1)); done
sleep 2
if [ $left = 0 ]; then echo 'xtask: no shell'; head -n 5 console; fi
awk -v left=$left -v ram={LINUX_RAM_KIB} '
    /^[0-9a-f]+-/ {{ split($1, at, "-"); n++; touches[n] = at[1] == last; last = at[2] }}
    $1 == "Size:" {{ size[n] = $2 }}
    $1 == "Pss:" {{ pss[n] = $2; all += $2 }}
    END {{
        guest = -1
        for (i = 1; i <= n; i++) {{
            kib = sum = 0
            for (j = i; j <= n && kib < ram && (j == i || touches[j]); j++) {{ kib += size[j]; sum += pss[j] }}
            if (kib == ram && sum > guest) guest = sum
        }}
        if (left > 0 && guest >= 0) print "pss", all - guest; else print "xtask: no guest memory of " ram " kB"
    }}' /proc/$vmm/smaps
kill -9 $vmm $sleeper
wait
"#
    )
}

/// What `time-first` prints of a start-up on this machine. A process of its own, for the CPU time of a
/// process's children comes as one sum.
fn timed_by(this: &Path, line: &[String]) -> Result<String> {
    let output = Command::new(this)
        .args(["time-first", "--status", "1", "--output", "F", "--"])
        .args(line)
        .stderr(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// `xtask time-first [--status N] [--output TEXT] -- CMD…`, for the nested machine: runs a command and
/// prints the nanoseconds from its start to its first output and to its end, and its CPU time. Prints
/// none of them for a command that ends with another status or without the text in its output.
pub fn time_first(mut args: Args) -> Result<u8> {
    let (mut wanted_status, mut wanted_output) = (0, String::new());
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--status" => wanted_status = args.parsed(&option)?,
            "--output" => wanted_output = args.value(&option)?,
            other => return Err(Args::unknown("time-first", other)),
        }
    }
    let words = args.rest();
    let (program, arguments) = words.split_first().context("time-first: no command given")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| program.clone())?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let mut output = vec![0];
    let length = stdout.read(&mut output)?;
    let first = start.elapsed();
    output.truncate(length);
    stdout.read_to_end(&mut output)?;
    let status = child.wait()?;
    let total = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    let output = String::from_utf8_lossy(&output);
    ensure!(
        status.code() == Some(wanted_status) && output.contains(&wanted_output),
        "{program}: {status}, output {output:?}"
    );
    println!("first {}\ntotal {}\ncpu {}", first.as_nanos(), total.as_nanos(), cpu.num_nanoseconds());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_from_the_lines_under_their_heading() {
        let mut samples = Samples::default();
        samples.add("n 7\n=== bench QEMU_pc exits\nmark lsr start\ncycles lsr 40\n");
        samples.add("=== bench QEMU_pc exits\ncycles lsr 60\n=== bench ours exits\ncycles lsr 25\n");
        let table = samples.table();
        assert!(
            table.contains("| `in` from a UART's LSR, per exit | 50 |  |  | 25 | 0.500 | 0.68 |\n"),
            "{table}"
        );
        assert!(samples.missing(START).contains(&format!("{MICROVM}: `in` from a UART's LSR, per exit")));
        assert!(
            !samples.missing(START).contains(&format!("{MICROVM}: MMIO read of an HPET register, per exit"))
        );
    }
}
