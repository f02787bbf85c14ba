//! Every bare-metal guest, in every kernel format, on the local KVM.

mod common;

use common::{guest, run, softmmu};
use pack::Format;
use pack::cases::{BASE, CASES, Case, judge};

/// Runs a case and fails with what the guest said.
fn check(case: &Case, format: Format) {
    let kernel = guest(case.guest, format);
    let mut command = softmmu(BASE);
    command.arg("-kernel").arg(kernel).args(["-append", case.append]).args(case.arguments);
    let ended = run(&mut command);
    if let Err(why) = judge(case, &ended.stdout, ended.status) {
        panic!("{case:?} as {format:?}: {why}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
    }
    assert_eq!(ended.complaints(), [] as [&str; 0], "{case:?} as {format:?}");
}

/// Runs all cases of a guest.
fn check_all(name: &str, format: Format) {
    let mut cases = CASES.iter().filter(|case| case.guest == name).peekable();
    assert!(cases.peek().is_some(), "{name} has cases");
    cases.for_each(|case| check(case, format));
}

/// A test for each guest, in a module for each format.
macro_rules! guests {
    ($(($format:ident, $which:expr)),* for $guests:tt) => {
        $(guests!(@format $format, $which, $guests);)*
        guests!(@names $guests);
    };
    (@format $format:ident, $which:expr, [$($guest:ident)*]) => {
        mod $format {
            $(#[test]
            fn $guest() {
                super::check_all(stringify!($guest), $which);
            })*
        }
    };
    (@names [$($guest:ident)*]) => {
        /// The guests that have tests.
        const TESTED: &[&str] = &[$(stringify!($guest)),*];
    };
}

guests!(
    (elf, pack::Format::Linked), (multiboot, pack::Format::Multiboot),
    (pvh, pack::Format::Pvh), (bzimage, pack::Format::BzImage)
    for [first hello exits irq apic smp rtc platform debug poweroff suspend reset vmport bench]
);

#[test]
fn no_case_is_left_out() {
    for case in CASES {
        assert!(TESTED.contains(&case.guest), "{} has no test", case.guest);
    }
}

/// The same guests with the interrupt controllers in the kernel in part, and not at all.
mod irqchip {
    use super::*;

    fn check_with(guest: &'static str, how: &str) {
        let arguments: &[&str] = if guest == "smp" { &["-smp", "2"] } else { &["-device", "pc-testdev"] };
        let kernel = super::guest(guest, Format::Pvh);
        let mut command = softmmu(BASE);
        command
            .arg("-kernel")
            .arg(kernel)
            .args(arguments)
            .args(["-machine", &format!("kernel-irqchip={how}")]);
        let ended = run(&mut command);
        let lines: &[&str] = match guest {
            "irq" => &["ok pic-level-until-lowered", "ok ioapic-hpet-periodic", "ok lint0-extint"],
            "apic" => &["ok cluster-another", "ok masked-counts"],
            "smp" => &["cpus 2", "ok aps-started", "ok time-passes"],
            _ => &["ok hlt-woken"],
        };
        let case = Case { guest, append: "", arguments: &[], status: 1, lines };
        if let Err(why) = judge(&case, &ended.stdout, ended.status) {
            panic!("{guest} with {how}: {why}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
        }
        let deprecated = "softmmu: warning: Userspace local APIC is deprecated for KVM.";
        assert_eq!(ended.complaints().contains(&deprecated), how == "off");
    }

    #[test]
    fn split_takes_interrupts_of_the_boards_own_chips() {
        ["exits", "irq", "apic", "smp"].into_iter().for_each(|guest| check_with(guest, "split"));
    }

    #[test]
    fn off_has_local_apics_of_the_boards_own_too() {
        ["exits", "irq", "apic", "smp"].into_iter().for_each(|guest| check_with(guest, "off"));
    }
}

/// Where QEMU differs from the hardware, this machine is like the hardware.
#[test]
fn the_platform_is_as_the_data_sheets_say() {
    let strict = Case {
        guest: "platform",
        append: "strict debugcon",
        arguments: &["-smp", "2", "-device", "isa-debugcon,chardev=d", "-chardev", "null,id=d"],
        status: 1,
        lines: &["ok pit-not-fast"],
    };
    check(&strict, Format::Pvh);
}

/// The FADT names a reset register, which QEMU's `pc` lacks.
#[test]
fn the_acpi_reset_register_resets() {
    let acpi = Case {
        guest: "reset",
        append: "how=acpi",
        arguments: &[],
        status: 1,
        lines: &["resetting by acpi", "rebooted", "ok ram-kept"],
    };
    check(&acpi, Format::Pvh);
}
