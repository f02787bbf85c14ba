//! The project's chores: `cargo xtask help` lists them.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod bench_block;
mod bench_net;
mod boot;
mod clock;
mod console;
mod deps;
mod fuzz;
mod guest;
mod image;
mod initramfs;
mod kernel;
mod kvm_unit_tests;
mod libguestfs;
mod nested;
mod oracle;
mod qtest_diff;
mod qtests;
mod round_trip;
mod scenario;
mod terminal;
mod test;
mod vmm;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::args::Args;

fn main() -> ExitCode {
    match chore(Args::of_program()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(mut args: Args) -> Result<u8> {
    let Some(name) = args.word() else {
        print!("{}", help());
        return Ok(2);
    };
    match name.as_str() {
        "boot" => boot::command(args),
        "test" => test::command(args),
        "bench" => bench::command(args),
        // A helper that `bench` runs, too, in nested machines.
        "time-first" => bench::time_first(args),
        // One that `test` runs in them.
        "compare-clocks" => clock::compare(args),
        "ci" => test::ci(),
        "fuzz" => fuzz::command(args),
        "qtests" => qtests::command(args),
        "qtest-diff" => qtest_diff::command(args),
        "kvm-unit-tests" => kvm_unit_tests::command(args),
        "nested" => nested::command(args),
        "help" | "-h" | "--help" => {
            print!("{}", help());
            Ok(0)
        }
        other => bail!("no chore '{other}' (see cargo xtask help)"),
    }
}

fn help() -> String {
    [
        boot::USAGE,
        test::USAGE,
        qtests::USAGE,
        qtest_diff::USAGE,
        kvm_unit_tests::USAGE,
        bench::USAGE,
        fuzz::USAGE,
        nested::USAGE,
    ]
    .join("\n")
}
