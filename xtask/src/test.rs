//! `cargo xtask test`: every test there is, and what the tests need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::args::Args;
use crate::vmm::Vmm;
use crate::{clock, deps, libguestfs, oracle, scenario};

/// What `cargo xtask test` takes.
pub const USAGE: &str = "\
cargo xtask test [OPTION]... [NAME]...
Runs all tests: format, lints, unit and integration tests, and Linux guests in a nested machine.
NAMEs pick nested tests by a part of their name, and leave out the rest.
  --no-nested               leaves out the Linux guests
  --vmm FILE                runs the nested tests on another VMM, such as qemu-system-x86_64
  --list                    lists the nested tests

cargo xtask ci
Does what the CI server does: .ci/run, which ends in cargo xtask test.
";

/// `cargo xtask test`.
pub fn command(mut args: Args) -> Result<u8> {
    let (mut nested, mut vmm) = (true, None);
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--no-nested" => nested = false,
            "--vmm" => vmm = Some(args.value(&option)?),
            "--list" => {
                names().for_each(|name| println!("{name}"));
                return Ok(0);
            }
            other => return Err(Args::unknown("test", other)),
        }
    }
    let filters = args.rest();
    for filter in &filters {
        ensure!(
            names().any(|name| name.contains(filter.as_str())),
            "no nested test is named like '{filter}'"
        );
    }
    deps::ensure_installed(&[deps::NESTED, deps::ACPI, deps::CLIENTS, deps::NETWORK, deps::SYSTEM].concat())?;
    if filters.is_empty() && vmm.is_none() {
        workspace()?;
    }
    if nested { nested_tests(&Vmm::chosen(vmm.as_deref())?, &filters) } else { Ok(0) }
}

fn names() -> impl Iterator<Item = &'static str> {
    let checks = oracle::CHECKS.iter().map(|check| check.name);
    let clocks = clock::CHECKS.iter().map(|check| check.name);
    scenario::all().map(|scenario| scenario.name).chain(checks).chain(clocks).chain([libguestfs::NAME])
}

/// What cargo itself tests.
fn workspace() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    // Integration tests boot the guests.
    let mut guests = Command::new("cargo");
    guests.args(["build", "--release"]).current_dir(root()?.join("guests"));
    step("building the bare-metal guests", &mut guests)?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    deps::python()?;
    let has_nextest = Command::new("cargo").args(["nextest", "--version"]).output()?.status.success();
    if has_nextest {
        cargo(&["nextest", "run", "--workspace", "--no-fail-fast"])?;
    } else {
        cargo(&["test", "--workspace", "--lib", "--bins", "--tests", "--examples"])?;
    }
    cargo(&["test", "--workspace", "--doc"])?;
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").current_dir(root()?);
    step("cargo doc", &mut doc)
}

/// `cargo xtask ci`.
pub fn ci() -> Result<u8> {
    step(".ci/run", Command::new(root()?.join(".ci/run")).current_dir(root()?))?;
    Ok(0)
}

/// What fails is run once more before it counts: the machine around the guests is emulated, and now and then loses an
/// interrupt, or so much time that a guest complains.
fn nested_tests(vmm: &Vmm, filters: &[String]) -> Result<u8> {
    let (count, mut failed) = nested_round(vmm, filters)?;
    if !failed.is_empty() {
        println!("once more: {}", failed.join(" "));
        let names: Vec<_> = failed.iter().map(|name| (*name).to_owned()).collect();
        let again = nested_round(vmm, &names)?.1;
        failed.retain(|name| again.contains(name));
    }
    println!("{} passed, {} failed", count - failed.len(), failed.len());
    Ok(u8::from(!failed.is_empty()))
}

/// Runs what the filters pick: how many there were, and the names of those that failed.
fn nested_round(vmm: &Vmm, filters: &[String]) -> Result<(usize, Vec<&'static str>)> {
    let scenarios = scenario::matching(filters);
    let checks: Vec<_> =
        oracle::CHECKS.iter().filter(|check| scenario::is_wanted(check.name, filters)).collect();
    let clocks = clock::matching(filters);
    let libguestfs = libguestfs::is_wanted(filters);
    let count = scenarios.len() + checks.len() + clocks.len() + usize::from(libguestfs);
    let mut failed = scenario::run(vmm, scenarios)?;
    failed.extend(oracle::run(vmm, &checks)?);
    failed.extend(clock::run(vmm, &clocks)?);
    if libguestfs {
        failed.extend(libguestfs::run(vmm)?);
    }
    Ok((count, failed))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    step(
        &format!("cargo {}", arguments.join(" ")),
        Command::new("cargo").args(arguments).current_dir(root()?),
    )
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("xtask: {name}");
    let status = command.status().with_context(|| name.to_owned())?;
    ensure!(status.success(), "{name}: failed ({status})");
    Ok(())
}

/// The project's folder.
pub fn root() -> Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).context("xtask is in no folder")
}
