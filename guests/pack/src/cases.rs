//! How each guest is run and what it must answer: by QEMU as by any VMM that takes its place.

/// One run of a guest. It goes for every kernel format.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The guest's name.
    pub guest: &'static str,
    /// The kernel's command line.
    pub append: &'static str,
    /// Further arguments of the VMM; see [`BASE`].
    pub arguments: &'static [&'static str],
    /// The VMM's exit status.
    pub status: i32,
    /// Lines that must come, in this order, others between them. No line may start with `FAIL`.
    pub lines: &'static [&'static str],
}

/// Arguments of every run; `-kernel`, `-append` and [`Case::arguments`] follow.
pub const BASE: &[&str] = &[
    "-nodefaults",
    "-display",
    "none",
    "-serial",
    "stdio",
    "-device",
    "isa-debug-exit,iobase=0xf4,iosize=0x4",
];

const TESTDEV: &[&str] = &["-device", "pc-testdev"];
/// The status when a guest leaves through the debug-exit port with 0.
const PASSED: i32 = 1;

const fn case(guest: &'static str, append: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { guest, append, arguments, status: PASSED, lines: &[] }
}

const fn with_lines(case: Case, lines: &'static [&'static str]) -> Case {
    Case { lines, ..case }
}

/// A reset, which `-no-reboot` must not be given with.
const fn reset(append: &'static str) -> Case {
    with_lines(case("reset", append, &[]), &["rebooted", "ok ram-kept", "ok acpi-tables-again"])
}

/// The runs.
pub const CASES: &[Case] = &[
    with_lines(case("first", "", &[]), &["F"]),
    with_lines(
        case("hello", "one two=2", &["-m", "64"]),
        &["modules 0", "ok memory-map-has-1m", "high-ram 0"],
    ),
    // 5 GiB: 2 GiB of them above 4 GiB.
    with_lines(case("hello", "", &["-m", "5G"]), &["ok high-ram-word", "high-ram 2147483648"]),
    with_lines(case("exits", "", TESTDEV), &["ok outsb-serial", "ok mmio-8-across-page", "ok hlt-woken"]),
    with_lines(
        case("irq", "", TESTDEV),
        &["ok pic-level-until-lowered", "ok ioapic-hpet-periodic", "ok lint0-extint"],
    ),
    with_lines(case("apic", "", &[]), &["ok cluster-another", "ok masked-counts"]),
    with_lines(case("smp", "", &["-smp", "1"]), &["cpus 1", "ok aps-started", "ok time-passes"]),
    with_lines(case("smp", "", &["-smp", "2"]), &["cpus 2", "ok aps-started", "ok time-passes"]),
    with_lines(case("smp", "broadcast", &["-smp", "8"]), &["cpus 8", "ok aps-started", "ok time-passes"]),
    with_lines(case("rtc", "", &["-m", "48"]), &["ok alarm-interrupt", "ok cmos-cpus"]),
    with_lines(case("rtc", "", &["-m", "5G", "-smp", "3"]), &["ok alarm-interrupt", "ok cmos-cpus"]),
    with_lines(
        case("platform", "", &["-smp", "2"]),
        &["ok fw-cfg-dma-signature", "ok mp-length", "ok pit-not-fast"],
    ),
    with_lines(
        case("platform", "debugcon", &["-device", "isa-debugcon,chardev=d", "-chardev", "null,id=d"]),
        &["ok debugcon-readback", "ok pit-not-fast"],
    ),
    with_lines(case("debug", "released", &["-smp", "2"]), &["ready", "ok counter"]),
    Case { status: 0, ..with_lines(case("poweroff", "", &[]), &["ok sci-enabled", "poweroff"]) },
    with_lines(case("suspend", "", &["-smp", "2"]), &["asleep", "W"]),
    reset("how=cf9"),
    reset("how=92"),
    reset("how=i8042"),
    reset("how=triple"),
    // -no-reboot: the reset ends the program with status 0.
    Case { status: 0, ..with_lines(case("reset", "how=cf9", &["-no-reboot"]), &["resetting by cf9"]) },
    Case { status: 0, ..with_lines(case("reset", "how=triple", &["-no-reboot"]), &["resetting by triple"]) },
    with_lines(
        case("vmport", "", &["-m", "96", "-uuid", "00112233-4455-6677-8899-aabbccddeeff"]),
        &["ok version", "ok uuid-edx", "ok vcpu-info", "ok plain-read"],
    ),
    with_lines(case("vmport", "vmport=off", &["-machine", "vmport=off"]), &["ok no-backdoor"]),
    with_lines(case("bench", "n=10", &[]), &["n 10", "mark lsr start", "mark hpet end"]),
];

/// What is wrong with a run's output and status, if anything.
pub fn judge(case: &Case, output: &str, status: Option<i32>) -> Result<(), String> {
    let mut lines = output.lines().map(|line| line.trim_end_matches('\r'));
    if let Some(line) = lines.clone().find(|line| line.starts_with("FAIL")) {
        return Err(line.to_owned());
    }
    if status != Some(case.status) {
        return Err(format!("status {status:?}, not {}", case.status));
    }
    match case.lines.iter().find(|&&wanted| !lines.any(|line| line == wanted)) {
        Some(missing) => Err(format!("no line {missing:?}, or not in order")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_judged_by_lines_in_order_failures_and_status() {
        let case = with_lines(case("x", "", &[]), &["a", "b"]);
        assert_eq!(judge(&case, "a\r\nother\r\nb\r\n", Some(1)), Ok(()));
        assert!(judge(&case, "b\na\n", Some(1)).is_err());
        assert!(judge(&case, "a\nb\n", Some(3)).is_err());
        assert!(judge(&case, "a\nb\n", None).is_err());
        assert_eq!(judge(&case, "a\nFAIL c got=0x1\nb\n", Some(1)), Err("FAIL c got=0x1".to_owned()));
    }
}
