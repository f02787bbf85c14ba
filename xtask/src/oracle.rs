//! QEMU as the oracle: what Linux reports under a VMM's `-M pc` and under QEMU's, in nested machines of one make.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::nested::retry;
use crate::scenario::{command_line, nest_for};
use crate::vmm::Vmm;
use crate::{guest, test};

/// What the guest is asked. Each section begins with `--- NAME`. Compressed, for the console is slow, and
/// with that under a checksum.
pub const GUEST_SCRIPT: &str = r#"
section() { echo "--- $1"; }
{
section cpuinfo; sed '/^$/q' /proc/cpuinfo
section topology; grep . /sys/devices/system/cpu/cpu*/topology/core_cpus_list /sys/devices/system/cpu/cpu*/cache/index*/size
section iomem; cat /proc/iomem
section ioports; cat /proc/ioports
section e820; for r in /sys/firmware/memmap/*; do echo $(cat $r/start $r/end $r/type); done
section interrupts; cat /proc/interrupts
section mtrr; cat /proc/mtrr
section clocksources; cat /sys/devices/system/clocksource/clocksource0/available_clocksource
section pci; for d in /sys/bus/pci/devices/*; do
    echo "${d##*/} $(cat $d/vendor $d/device $d/class $d/irq $d/subsystem_vendor $d/subsystem_device | tr '\n' ' ')"
    sed "s|^|${d##*/} bar |" $d/resource; hexdump -C $d/config | sed "s|^|${d##*/} |"; done
section pnp; for d in /sys/bus/pnp/devices/*; do echo "${d##*/} $(cat $d/id $d/resources | tr '\n' ' ')"; done
section dmi; grep . /sys/class/dmi/id/[bcps]* 2>/dev/null
section dmesg; dmesg -r
for t in /sys/firmware/acpi/tables/[A-Z]*; do section acpi:${t##*/}; base64 $t; done
} > report
gzip -c report | base64
"#;

/// One comparison.
pub struct Check {
    /// What `cargo xtask test NAME` picks.
    pub name: &'static str,
    differences: fn(&Report, &Report) -> Result<Vec<String>>,
}

/// All of them.
pub const CHECKS: &[Check] =
    &[Check { name: "dmesg-complaints", differences: complaints }, Check { name: "oracle", differences }];

/// A guest's answers, by section.
type Report = BTreeMap<String, Vec<String>>;

const ARGUMENTS: &[&str] = &["-smp", "2"];
/// How long a guest and its L1 may take.
const GUEST_TIME: Duration = Duration::from_secs(240);

/// Runs comparisons and says on stdout how each went; the names of those that failed.
pub fn run(vmm: &Vmm, checks: &[&'static Check]) -> Result<Vec<&'static str>> {
    if checks.is_empty() {
        return Ok(Vec::new());
    }
    let (ours, qemu) = reports(vmm)?;
    let mut failed = Vec::new();
    for check in checks {
        let differences = (check.differences)(&ours, &qemu)?;
        if differences.is_empty() {
            println!("PASS {}", check.name);
        } else {
            println!("FAIL {}: these differ (- QEMU, + ours):\n{}", check.name, differences.join("\n"));
            failed.push(check.name);
        }
    }
    Ok(failed)
}

/// The reports of our guest and of QEMU's, from a machine each: the longer one runs, the likelier it hangs.
fn reports(vmm: &Vmm) -> Result<(Report, Report)> {
    Ok((report(vmm, "ours")?, report(&Vmm::qemu()?, "qemu")?))
}

fn report(vmm: &Vmm, whose: &str) -> Result<Report> {
    let mut nest = nest_for(vmm)?;
    nest.timeout(GUEST_TIME);
    let script =
        command_line(vmm, "vmlinuz", "initrd", "nokaslr nowatchdog panic=-1 script=report", ARGUMENTS);
    let text = retry(|| {
        let console = nest.attempt(&script)?.output;
        decompressed(&guest::outcome(&console)?.output).with_context(|| format!("{whose} guest"))
    })?;
    // For people, who may want to know more than the checks say.
    let folder = test::root()?.join("target");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let file = folder.join(format!("oracle-{whose}.txt"));
    std::fs::write(&file, &text).with_context(|| format!("{}", file.display()))?;
    Ok(parse(&text))
}

/// What `gzip | base64` made.
fn decompressed(base64: &[u8]) -> Result<String> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(base64)?;
    let path = file.path();
    let output =
        Command::new("sh").args(["-c", "base64 -d \"$0\" | gzip -d"]).arg(path).output().context("sh")?;
    ensure!(
        output.status.success(),
        "the report is damaged: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(text: &str) -> Report {
    let mut report = Report::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("--- ") {
            section = name.to_owned();
            report.insert(section.clone(), Vec::new());
        } else if let Some(lines) = report.get_mut(&section) {
            lines.push(line.trim_end().to_owned());
        }
    }
    report
}

/// Complaints about ACPI, clocks, interrupts and MTRRs that only our guest has.
fn complaints(ours: &Report, qemu: &Report) -> Result<Vec<String>> {
    let of = |report: &Report| -> Vec<String> {
        let log = report.get("dmesg").map(Vec::as_slice).unwrap_or_default();
        log.iter().filter(|line| is_complaint(line)).map(|line| without_numbers(line)).collect()
    };
    let theirs = of(qemu);
    Ok(of(ours).into_iter().filter(|line| !theirs.contains(line)).map(|line| format!("+ {line}")).collect())
}

/// A line of `dmesg -r`, `<PRIORITY>[ TIME] TEXT`, that complains about one of the subjects.
fn is_complaint(line: &str) -> bool {
    const SUBJECTS: &[&str] =
        &["acpi", "apic", "clock", "tsc", "hpet", "rtc", "timer", "irq", "mtrr", "x86/pat"];
    const COMPLAINTS: &[&str] = &[
        "error",
        "fail",
        "bug",
        "invalid",
        "unable",
        "unstable",
        "broken",
        "bad ",
        "missing",
        "conflict",
        "mismatch",
        "not found",
        "spurious",
        "warn",
        "incorrect",
        "nobody cared",
        "unexpected",
        "no irq",
    ];
    /// Says that the machine is slow, which emulated ones are.
    const SPEED: &[&str] = &[
        "hrtimer: interrupt took",
        "perf: interrupt took",
        " usecs",
        // Late interrupts: a calibration 1 % off, a tick that came with the next.
        "not consistent with pm-timer",
        "rtc interrupts",
    ];
    const WARNING: u32 = 4;

    let text = line.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let priority = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let level =
        priority.and_then(|(number, _)| number.parse::<u32>().ok()).map_or(WARNING, |number| number & 7);
    has(SUBJECTS) && !has(SPEED) && (level <= WARNING || has(COMPLAINTS))
}

/// The text of a kernel message with its addresses and counts blanked.
fn without_numbers(line: &str) -> String {
    let text = line.split_once("] ").map_or(line, |(_, text)| text);
    let is_number = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        word.starts_with(|c: char| c.is_ascii_digit())
    };
    text.split_whitespace().map(|word| if is_number(word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

/// What differs between the reports, other than what README.md lists.
fn differences(ours: &Report, qemu: &Report) -> Result<Vec<String>> {
    let accepted = accepted()?;
    let (ours, qemu) = (comparable(ours)?, comparable(qemu)?);
    let mut differences = Vec::new();
    let none = Vec::new();
    let names: std::collections::BTreeSet<_> = ours.keys().chain(qemu.keys()).collect();
    for name in names {
        let (left, right) = (qemu.get(name).unwrap_or(&none), ours.get(name).unwrap_or(&none));
        for line in difference(left, right) {
            if !accepted.iter().any(|(section, text)| section == name && line.contains(text.as_str())) {
                differences.push(format!("{name}: {line}"));
            }
        }
    }
    Ok(differences)
}

/// The sections with what changes from boot to boot taken out, and ACPI tables disassembled.
fn comparable(report: &Report) -> Result<Report> {
    let mut comparable = Report::new();
    for (name, lines) in report {
        let lines = match name.as_str() {
            "dmesg" => continue,
            "cpuinfo" => lines.iter().flat_map(|line| cpuinfo(line)).collect(),
            "interrupts" => lines.iter().map(|line| interrupt(line)).collect(),
            table if table.starts_with("acpi:") => disassembled(table, lines)?,
            _ => lines.clone(),
        };
        comparable.insert(name.clone(), lines);
    }
    Ok(comparable)
}

/// A line of `/proc/cpuinfo`: the lists a word a line, and no measured frequency.
fn cpuinfo(line: &str) -> Vec<String> {
    let (key, value) = line.split_once(':').unwrap_or((line, ""));
    match key.trim() {
        "cpu MHz" | "bogomips" => Vec::new(),
        key @ ("flags" | "bugs") => value.split_whitespace().map(|word| format!("{key}: {word}")).collect(),
        key => vec![format!("{key}: {}", value.trim())],
    }
}

/// A line of `/proc/interrupts` without the counts.
fn interrupt(line: &str) -> String {
    let mut words = line.split_whitespace();
    let label = words.next().unwrap_or_default().to_owned();
    let rest: Vec<_> = words.skip_while(|word| word.bytes().all(|byte| byte.is_ascii_digit())).collect();
    format!("{label} {}", rest.join(" "))
}

/// A table, given in base64, as `iasl -d` prints it.
fn disassembled(name: &str, base64: &[String]) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("table");
    std::fs::write(folder.path().join("base64"), base64.join("\n"))?;
    let decoded = Command::new("base64").arg("-d").arg(folder.path().join("base64")).output()?;
    ensure!(decoded.status.success(), "{name}: not base64");
    std::fs::write(&table, decoded.stdout)?;
    let output =
        Command::new("iasl").args(["-p", "table", "-d", "table"]).current_dir(folder.path()).output();
    let output = output.context("iasl")?;
    let listing = folder.path().join("table.dsl");
    ensure!(listing.exists(), "{name}: iasl: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(std::fs::read_to_string(listing)?.lines().filter_map(table_line).collect())
}

/// A line of iasl's listing without its place in the table; nothing for comments and for fields that tell
/// where a table is rather than what it says.
fn table_line(line: &str) -> Option<String> {
    const PLACEMENT: &[&str] = &["Checksum", "FACS Address", "DSDT Address", "Firmware Waking Vector"];
    let line = line.trim();
    let comment = ["/*", "*", "//"].iter().any(|start| line.starts_with(start));
    // What iasl prints of the bytes themselves has been decoded above it.
    let raw =
        line.split_once(": ").is_some_and(|(at, _)| at.len() == 4 && u32::from_str_radix(at, 16).is_ok());
    if line.is_empty() || comment || raw || PLACEMENT.iter().any(|field| line.contains(field)) {
        return None;
    }
    // "[024h 0036   4]  FACS Address : …"
    let line =
        line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(line, |(_, rest)| rest.trim());
    Some(line.to_owned())
}

/// The lines of one list that the other has less often, in order, as `- left` and `+ right`.
fn difference(left: &[String], right: &[String]) -> Vec<String> {
    let only = |of: &[String], other: &[String], sign: &str| -> Vec<String> {
        let mut counts = HashMap::new();
        other.iter().for_each(|line| *counts.entry(line.clone()).or_insert(0u32) += 1);
        let is_extra = |line: &&String| match counts.get_mut(*line) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        of.iter().filter(is_extra).map(|line| format!("{sign} {line}")).collect()
    };
    [only(left, right, "-"), only(right, left, "+")].concat()
}

/// The accepted differences: rows `| section | text in the differing line | reason |` of the table that
/// follows this comment in README.md, so that each is listed there with its reason.
fn accepted() -> Result<Vec<(String, String)>> {
    let readme = std::fs::read_to_string(test::root()?.join("README.md")).context("README.md")?;
    Ok(accepted_in(&readme))
}

fn accepted_in(readme: &str) -> Vec<(String, String)> {
    const COMMENT: &str = "<!-- cargo xtask test oracle reads this table -->";
    let Some((_, table)) = readme.split_once(COMMENT) else { return Vec::new() };
    let rows = table.trim_start().lines().take_while(|line| line.starts_with('|')).skip(2);
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|');
        Some((cell(cells.next()?), cell(cells.next()?)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(String::from).collect()
    }

    #[test]
    fn repeated_lines_count() {
        let left = lines("a\nb\nb\nc");
        let right = lines("b\na\nd");
        assert_eq!(difference(&left, &right), ["- b", "- c", "+ d"]);
    }

    #[test]
    fn complaints_are_ours_alone_and_on_the_subject() {
        let report = |text: &str| Report::from([("dmesg".to_owned(), lines(text))]);
        let qemu = report("<4>[    0.1] ACPI BIOS Warning (bug): at 0x10\n<6>[    0.2] ACPI: fine");
        let ours = report(
            "<4>[    0.3] ACPI BIOS Warning (bug): at 0x20\n<6>[    0.2] ACPI: fine\n\
             <3>[    1.0] usb: no such thing\n<6>[    2.0] tsc: Marking TSC unstable due to 7\n\
             <4>[    3.0] hrtimer: interrupt took 99 ns",
        );
        assert_eq!(complaints(&ours, &qemu).unwrap(), ["+ tsc: Marking TSC unstable due to #"]);
    }

    #[test]
    fn counts_and_frequencies_do_not_differ() {
        assert_eq!(interrupt("  4:    12   3  IO-APIC   4-edge  ttyS0"), "4: IO-APIC 4-edge ttyS0");
        assert!(cpuinfo("cpu MHz\t\t: 2445.4").is_empty());
        assert_eq!(cpuinfo("flags\t\t: fpu vme"), ["flags: fpu", "flags: vme"]);
    }

    #[test]
    fn readme_rows_are_read_up_to_the_end_of_the_table() {
        let readme = "x\n<!-- cargo xtask test oracle reads this table -->\n\n| section | text | reason |\n|---|---|---|\n\
                      | dmi | `bios_version` | no SeaBIOS |\n\n| other | table | here |\n";
        assert_eq!(accepted_in(readme), [("dmi".to_owned(), "bios_version".to_owned())]);
    }
}
