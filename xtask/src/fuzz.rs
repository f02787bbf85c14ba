//! `cargo xtask fuzz`: a target of the crate `fuzz` under libFuzzer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Args;
use crate::deps;
use crate::test::root;

/// What `cargo xtask fuzz` takes.
pub const USAGE: &str = "\
cargo xtask fuzz TARGET [OPTION]...
Runs a target under libFuzzer until it finds something or the time is over. It begins with the files in
fuzz/corpus/TARGET and what earlier runs found, which is kept in the cache.
  --seconds N               how long (600)
";

/// What `cargo fuzz --sanitizer none` has rustc do: count edges, and show comparisons to the fuzzer. It works
/// with stable Rust.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
const SECONDS: u32 = 600;
const PROGRAM: &str = "fuzz/libfuzzer/target/x86_64-unknown-linux-gnu/release/libfuzzer";

/// `cargo xtask fuzz`.
pub fn command(mut args: Args) -> Result<u8> {
    let Some(target) = args.word() else { bail!("fuzz: which of {}?\n{USAGE}", targets()?.join(", ")) };
    let mut seconds = SECONDS;
    while let Some(option) = args.next_option() {
        match option.as_str() {
            "--seconds" => seconds = args.parsed(&option)?,
            other => return Err(Args::unknown("fuzz", other)),
        }
    }
    ensure!(args.rest().is_empty(), "fuzz takes one target\n{USAGE}");
    ensure!(targets()?.contains(&target), "no target '{target}'; there are {}", targets()?.join(", "));
    deps::ensure_installed(deps::FUZZ)?;
    build()?;
    run(&target, seconds)
}

/// Each has a corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in std::fs::read_dir(root()?.join("fuzz/corpus"))? {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build() -> Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--release"])
        .current_dir(root()?.join("fuzz/libfuzzer"))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the fuzzer does not build ({status})");
    Ok(())
}

fn run(target: &str, seconds: u32) -> Result<u8> {
    let kept = deps::cache()?.join("fuzz").join(target);
    let (found, failed) = (kept.join("corpus"), kept.join("failed"));
    for folder in [&found, &failed] {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    let words = kept.join("words");
    let option = |name: &str, value: &Path| format!("-{name}={}", value.display());
    let status = Command::new(root()?.join(PROGRAM))
        .args(["-print_final_stats=1", "-rss_limit_mb=1024", "-timeout=10"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(option("dict", &words))
        .arg(format!("{}/", option("artifact_prefix", &failed)))
        .args([found, root()?.join("fuzz/corpus").join(target)])
        .env("FUZZ_TARGET", target)
        .env("FUZZ_WORDS", &words)
        .status()
        .context(PROGRAM)?;
    if !status.success() {
        eprintln!("xtask: {target} failed; the input is in {}", failed.display());
    }
    Ok(u8::from(!status.success()))
}
