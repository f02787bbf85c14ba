//! `check DIRECTORY VMM [ARGUMENT…]`: runs every case in every kernel format from a directory that
//! `pack` filled, under a VMM that has QEMU's command line.
//! CHECK=NAME runs one guest only.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use pack::Format;
use pack::cases::{BASE, CASES, Case, judge};

/// A guest that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, vmm @ ..] = arguments.as_slice() else { return usage() };
    if vmm.is_empty() {
        return usage();
    }
    let only = std::env::var("CHECK").ok();
    let mut failed = 0;
    for case in CASES.iter().filter(|case| only.as_deref().is_none_or(|only| only == case.guest)) {
        for format in Format::ALL {
            let name = format!(
                "{}.{} {:?} {}",
                case.guest,
                format.extension(),
                case.append,
                case.arguments.join(" ")
            );
            match run(Path::new(directory), vmm, case, format) {
                Ok(()) => println!("pass {name}"),
                Err(why) => {
                    failed += 1;
                    println!("fail {name}: {why}");
                }
            }
        }
    }
    println!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: check DIRECTORY VMM [ARGUMENT...]");
    ExitCode::FAILURE
}

fn run(directory: &Path, vmm: &[String], case: &Case, format: Format) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let output = directory.join("output");
    let mut child = Command::new(&vmm[0])
        .args(&vmm[1..])
        .args(BASE)
        .arg("-kernel")
        .arg(directory.join(case.guest).with_extension(format.extension()))
        .args(["-append", case.append])
        .args(case.arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&output).map_err(text)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(text)? {
            break status;
        }
        if start.elapsed() > TIMEOUT {
            child.kill().map_err(text)?;
            child.wait().map_err(text)?;
            return Err("timeout".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let bytes = std::fs::read(&output).map_err(text)?;
    judge(case, &String::from_utf8_lossy(&bytes), status.code())
}
