//! `cargo xtask kvm-unit-tests`: KVM's own tests under this program and, where one does not pass, under QEMU, here
//! or in a nested machine.
//!
//! The tests are in no package: whoever runs this has built them, and names the folder.

mod list;
mod run;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::deps;
use crate::vmm::Vmm;
use list::Test;
use run::{Outcome, Runner};

/// What `cargo xtask kvm-unit-tests` takes.
pub const USAGE: &str = "\
cargo xtask kvm-unit-tests --tests DIR [OPTION]... [NAME]...
Runs kvm-unit-tests, all that DIR/unittests.cfg has for 64 bits or those named; DIR is the folder `x86` of its tree after
`configure` and `make`. What does not pass runs under QEMU, too; the command fails if a test passes there only.
  --nested                  runs them in a nested machine
  --both                    runs all of them under QEMU, too
  --vmm FILE                another program to test
  --logs DIR                keeps what each test printed in DIR, as TEST.VMM.log
  --timeout SECONDS         how long a test may take whose entry does not ask for more (90)
";

/// `cargo xtask kvm-unit-tests`.
pub fn command(mut args: Args) -> Result<u8> {
    let (mut folder, mut nested, mut both, mut vmm, mut seconds) = (None, false, false, None, 90);
    let mut logs = None;
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--tests" => folder = Some(PathBuf::from(args.value(&option)?)),
            "--nested" => nested = true,
            "--both" => both = true,
            "--vmm" => vmm = Some(args.value(&option)?),
            "--logs" => logs = Some(PathBuf::from(args.value(&option)?)),
            "--timeout" => seconds = args.parsed(&option)?,
            other => return Err(Args::unknown("kvm-unit-tests", other)),
        }
    }
    let folder = folder.context("kvm-unit-tests: --tests DIR is missing (see cargo xtask help)")?;
    let tests = chosen(list::read(&folder)?, &args.rest())?;
    deps::ensure_installed(deps::NESTED)?;
    let (ours, qemu) = (Vmm::chosen(vmm.as_deref())?, Vmm::qemu()?);
    let runner = Runner::new(&folder, &tests, nested.then_some([&ours, &qemu]), logs)?;
    let jobs = |vmm, tests: &[&Test]| tests.iter().map(|test| runner.job(test, vmm, seconds)).collect();
    let all: Vec<&Test> = tests.iter().collect();
    let here = run::run(&runner, jobs(&ours, &all))?;
    let rest: Vec<&Test> =
        all.into_iter().filter(|test| both || here[&test.name] != Outcome::Passed).collect();
    let there = run::run(&runner, jobs(&qemu, &rest))?;
    Ok(u8::from(!report(&tests, &here, &there)))
}

/// The tests that are named, or all that run by default.
fn chosen(tests: Vec<Test>, names: &[String]) -> Result<Vec<Test>> {
    for name in names {
        ensure!(tests.iter().any(|test| test.name == *name), "kvm-unit-tests: no test '{name}'");
    }
    let wanted = |test: &Test| if names.is_empty() { test.by_default } else { names.contains(&test.name) };
    Ok(tests.into_iter().filter(wanted).collect())
}

/// Prints how each test went; whether none passed under QEMU only.
fn report(tests: &[Test], here: &HashMap<String, Outcome>, there: &HashMap<String, Outcome>) -> bool {
    let mut missed = Vec::new();
    for Test { name, .. } in tests {
        let (ours, qemu) = (&here[name], there.get(name));
        println!("{name:42} {ours:22} {}", qemu.map_or_else(String::new, |qemu| format!("QEMU: {qemu}")));
        if *ours != Outcome::Passed && qemu == Some(&Outcome::Passed) {
            missed.push(name.as_str());
        }
    }
    let passed = here.values().filter(|outcome| **outcome == Outcome::Passed).count();
    println!("{passed} of {} passed; QEMU alone passed {}: {}", tests.len(), missed.len(), missed.join(" "));
    missed.is_empty()
}
